#include "session/session_fsm.hpp"

#include <array>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr std::array<const char*, 9> state_names{"pending",  "provisioning", "active",     "suspending", "suspended",
                                                 "resuming", "terminating",  "terminated", "failed"};
constexpr std::array<const char*, 14> reason_names{
    "request",       "ttl",      "idle",   "disconnect",    "retention",
    "quota",         "budget",   "policy", "preempted",     "isolation_failed",
    "provider_lost", "orphaned", "admin",  "startup_failed"};
constexpr std::array<const char*, 14> input_names{"provision",    "channels_ready", "startup_failed",   "suspend",
                                                  "memory_saved", "suspend_failed", "resume",           "resume_failed",
                                                  "terminate",    "vm_gone",        "terminate_failed", "vm_lost",
                                                  "recover",      "resume_refused"};

}  // namespace

const char* name_of(SessionState state) noexcept { return state_names[static_cast<std::size_t>(state)]; }
const char* name_of(TerminationReason reason) noexcept { return reason_names[static_cast<std::size_t>(reason)]; }
const char* name_of(SessionInput input) noexcept { return input_names[static_cast<std::size_t>(input)]; }

SessionState parse_session_state(const std::string& name) {
    std::string allowed;
    for (std::size_t i = 0; i < state_names.size(); ++i) {
        if (name == state_names[i]) return static_cast<SessionState>(i);
        allowed += (i ? ", " : "") + std::string(state_names[i]);
    }
    throw Error(Errc::validation, "unknown session state '" + name + "'; allowed: " + allowed,
                {{"field", "state"}, {"value", name}, {"allowed", allowed}});
}

const std::vector<SessionTransition>& session_transitions() {
    using S = SessionState;
    using I = SessionInput;
    static const std::vector<SessionTransition> table{
        {S::pending, I::provision, S::provisioning},
        {S::pending, I::startup_failed, S::failed},
        {S::pending, I::terminate, S::terminating},
        {S::provisioning, I::channels_ready, S::active},
        {S::provisioning, I::startup_failed, S::failed},
        {S::provisioning, I::vm_lost, S::failed},
        {S::provisioning, I::terminate, S::terminating},
        {S::active, I::suspend, S::suspending},
        {S::active, I::vm_lost, S::failed},
        {S::active, I::terminate, S::terminating},
        {S::suspending, I::memory_saved, S::suspended},
        {S::suspending, I::suspend_failed, S::active},
        {S::suspending, I::vm_lost, S::failed},
        {S::suspending, I::terminate, S::terminating},
        {S::suspended, I::resume, S::resuming},
        {S::suspended, I::vm_lost, S::failed},
        {S::suspended, I::terminate, S::terminating},
        {S::resuming, I::channels_ready, S::active},
        {S::resuming, I::resume_failed, S::failed},
        {S::resuming, I::resume_refused, S::suspended},
        {S::resuming, I::vm_lost, S::failed},
        {S::resuming, I::terminate, S::terminating},
        {S::terminating, I::vm_gone, S::terminated},
        {S::terminating, I::terminate_failed, S::failed},
        {S::failed, I::terminate, S::terminating},
        {S::failed, I::recover, S::provisioning},
    };
    return table;
}

std::optional<SessionState> next_state(SessionState state, SessionInput input) {
    for (const auto& row : session_transitions())
        if (row.from == state && row.input == input) return row.to;
    return std::nullopt;
}

bool is_already(SessionState state, SessionInput verb) {
    using S = SessionState;
    switch (verb) {
        case SessionInput::suspend: return state == S::suspending || state == S::suspended;
        case SessionInput::resume: return state == S::resuming || state == S::active;
        case SessionInput::recover: return state == S::provisioning || state == S::active;
        case SessionInput::terminate: return state == S::terminating || state == S::terminated;
        default: return false;
    }
}

bool is_transient(SessionState state) {
    using S = SessionState;
    return state == S::pending || state == S::provisioning || state == S::suspending || state == S::resuming ||
           state == S::terminating;
}

const char* event_type(SessionState from, SessionState to) {
    switch (to) {
        case SessionState::pending: return "session.lifecycle.created";
        case SessionState::provisioning:
            return from == SessionState::failed ? "session.lifecycle.recovering" : "session.lifecycle.started";
        case SessionState::active:
            return from == SessionState::suspending ? "session.lifecycle.suspend_failed"
                   : from == SessionState::resuming ? "session.lifecycle.resumed"
                                                    : "session.lifecycle.ready";
        case SessionState::suspending: return "session.lifecycle.suspending";
        case SessionState::suspended:
            return from == SessionState::resuming ? "session.lifecycle.resume_refused" : "session.lifecycle.suspended";
        case SessionState::resuming: return "session.lifecycle.resuming";
        case SessionState::terminating: return "session.lifecycle.terminating";
        case SessionState::terminated: return "session.lifecycle.terminated";
        case SessionState::failed: return "session.lifecycle.failed";
    }
    return "session.lifecycle.updated";
}

}  // namespace infrastructure_sdk
