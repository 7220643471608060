#pragma once
// The session's state machine, pure: a table of (state, input) -> next state. What is not in the table is illegal.

#include <optional>
#include <vector>

#include <infrastructure_sdk/session/session.hpp>

namespace infrastructure_sdk {

enum class SessionInput {
    provision,       ///< capacity was found
    channels_ready,  ///< every advertised channel answered
    startup_failed,  ///< the VM could not be made or booted, or a channel stayed silent
    suspend,         ///< asked for
    memory_saved,    ///< the VM is in its memory file
    suspend_failed,  ///< and the VM still runs
    resume,          ///< asked for
    resume_failed,
    terminate,         ///< asked for
    vm_gone,           ///< death was observed and everything of the VM removed
    terminate_failed,  ///< the provider could not end it
    vm_lost,           ///< the VM ended without being asked
    recover,           ///< asked for, by hand or by the restart rule
    resume_refused,    ///< before anything happened: it is suspended as before, and may be resumed later
};
const char* name_of(SessionInput input) noexcept;

struct SessionTransition {
    SessionState from;
    SessionInput input;
    SessionState to;
};

/// The whole table.
const std::vector<SessionTransition>& session_transitions();

/// nullopt = illegal in this state.
std::optional<SessionState> next_state(SessionState state, SessionInput input);

/// True when the verb has already taken or is taking effect, so that asking again changes nothing.
bool is_already(SessionState state, SessionInput verb);

/// States that end by themselves (by success, failure or deadline).
bool is_transient(SessionState state);

/// "session.lifecycle.ready", ... the event that a transition writes.
const char* event_type(SessionState from, SessionState to);

}  // namespace infrastructure_sdk
