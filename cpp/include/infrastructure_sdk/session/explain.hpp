#pragma once
// Why a session is alive, why it is suspended, what would end it and when, and what another timeout would have done.
// Pure: everything is worked out anew from recorded inputs, which the answer carries with it.

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <infrastructure_sdk/session/idleness.hpp>
#include <infrastructure_sdk/session/session.hpp>

namespace infrastructure_sdk {

/// The last change of state, as recorded when it was decided.
struct TransitionRecord {
    WallTime at;
    SessionState from = SessionState::pending;
    SessionState to = SessionState::pending;
    std::string reason;                   ///< stable word: "request", "idle", "ttl", "disconnect", ...
    std::vector<SignalReading> readings;  ///< what was seen then; may be empty
    friend bool operator==(const TransitionRecord&, const TransitionRecord&) = default;
};

struct ExplainInputs {
    WallTime now;
    SessionState state = SessionState::active;
    SessionClocks clocks;
    IdleSettings settings;
    std::vector<ActivitySample> samples;  ///< recorded, oldest first; of a suspended session: up to the decision
    IdleMemory before;                    ///< the detector's memory ahead of the first sample
    std::optional<TransitionRecord> last_transition;
    friend bool operator==(const ExplainInputs&, const ExplainInputs&) = default;
};

/// What another idle timeout would have said to the same samples.
struct WhatIf {
    Duration idle_timeout{};
    IdleState state = IdleState::unknown;  ///< after the last sample
    std::optional<WallTime> due_at;        ///< the first `due`, if there was one
    std::optional<WallTime> due_at_now;    ///< the first `due` with the present timeout
    WallTime earliest;                     ///< without one: when it would be due, if nothing happened any more
    friend bool operator==(const WhatIf&, const WhatIf&) = default;
};
/// nullopt = no samples. Exact to the spacing of the samples. @throws Error(validation) on a timeout of zero or less.
std::optional<WhatIf> what_if(const ExplainInputs& inputs, Duration idle_timeout);

struct Explanation {
    ExplainInputs inputs;
    std::optional<IdleVerdict> verdict;   ///< on the last sample
    std::vector<SignalReading> readings;  ///< of the last sample
    /// Of a session that idleness ended: whether the recorded samples end in `due` again.
    std::optional<bool> reproduced;
    std::vector<ClockDeadline> deadlines;
    std::vector<WhatIf> what_ifs;
    std::vector<std::string> sentences;  ///< for people, in order of interest
    friend bool operator==(const Explanation&, const Explanation&) = default;
};
Explanation explain(const ExplainInputs& inputs, const std::vector<Duration>& other_timeouts = {});

/// The sentences of an explanation whose other fields are filled in.
std::vector<std::string> sentences_of(const Explanation& explanation);

void to_json(nlohmann::json& document, const TransitionRecord& record);
void to_json(nlohmann::json& document, const ExplainInputs& inputs);
void to_json(nlohmann::json& document, const WhatIf& what_if);
/// Holds `inputs`, from which `explain` gives the same again.
void to_json(nlohmann::json& document, const Explanation& explanation);
/// @throws Error(validation)
ExplainInputs explain_inputs_from_json(const nlohmann::json& document);

}  // namespace infrastructure_sdk
