#pragma once
// Tries a policy before it touches anyone: the session engine, its store, the simulator provider and the policy's host
// on a virtual clock, with people who come, work, leave and come back as a workload says.
//
// The same workload, policy, options and seed give the same result, byte for byte, on every build: whole numbers of
// nanoseconds and millionths of the currency are summed, nothing depends on an unordered container, a locale or the
// wall clock. A policy that is not a function of its request spoils that.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <infrastructure_sdk/policy/policy_engine.hpp>
#include <infrastructure_sdk/providers/simulator.hpp>
#include <infrastructure_sdk/session/session_engine.hpp>
#include <infrastructure_sdk/simulation/workload.hpp>

namespace infrastructure_sdk {

/// Suspended after 30 minutes without use; a ttl of 14 days that terminates; the other clocks are off.
SessionClocks simulated_clocks();
/// "desktop": 2 CPUs, 4 GiB, 0.12 an hour.
std::map<std::string, Template> simulated_templates();
/// Boots in 30 s, suspends in 3 s, resumes in 5 s; one verb in fifty takes ten times as long.
SimulatorOptions simulated_provider();

/// What is tried: the engine's own rules, and who is asked at the decision points.
struct SimulatedPolicy {
    std::string name = "builtin";
    SessionClocks clocks = simulated_clocks();
    IdleSettings idleness;  ///< how often is looked, and what counts as use; `idle_timeout` is that of `clocks`
    std::vector<Limit> limits;
    std::vector<Pool> pools;
    /// Who is asked at the decision points: built-in rules and what `make_hosts` loads, with modes and rate limits as
    /// in production. Time budgets do not count: the clock stands still while a policy is asked.
    PolicyEngineOptions policies;
    /// More of them, in force, before those of `policies`; they are not closed.
    std::vector<std::shared_ptr<PolicyHost>> hosts;
};

struct SimulationOptions {
    std::uint64_t seed = 1;
    std::map<std::string, Template> templates = simulated_templates();
    std::string default_template = "desktop";          ///< of planned sessions that name none, or one that is not there
    SimulatorOptions provider = simulated_provider();  ///< its seed is drawn from `seed`
    /// A session that is wanted again this soon after it was suspended or ended was wrongly suspended.
    Duration came_back_within = std::chrono::minutes(15);
    /// Who was denied tries again after this, while the need lasts.
    Duration retry_after = std::chrono::minutes(10);
    std::string currency = "USD";
    /// Told the share that is done, 0 to 1, some hundred times; false stops. Called on the caller's thread.
    std::function<bool(double)> progress;
    /// Looks at sessions that would see nothing new are left out. False is slower and gives the same bytes.
    bool leave_out_looks = true;
};

/// Of waits in order of their length: the smallest that at least so many percent do not exceed (nearest rank).
struct WaitingTimes {
    std::size_t count = 0;
    Duration p50{}, p95{}, p99{}, longest{}, total{};
    friend bool operator==(const WaitingTimes&, const WaitingTimes&) = default;
};

/// What became of one planned session, or of all together. Hours run and money are those of the meter: from a session's
/// record to its suspension, failure or end, and again from each resume.
struct SimulatedOutcome {
    Duration ran{};
    Duration used{};    ///< of `ran`: somebody or something used it
    Duration missed{};  ///< use that was planned while the session did not run
    std::int64_t cost_micros = 0;
    std::uint64_t sessions = 0;          ///< created; more than 1 when it was ended under its user
    std::uint64_t lost = 0;              ///< ended, not by its user, with planned use ahead: memory is gone
    std::uint64_t cold_starts = 0;       ///< a VM was booted
    std::uint64_t warm_starts = 0;       ///< a unit of a warm pool was claimed
    std::uint64_t resumes = 0;           ///< somebody waited for a suspended session
    std::uint64_t suspensions = 0;       ///< by clocks and policies
    std::uint64_t suspended_in_use = 0;  ///< of them: somebody or something was using it
    /// Suspended or ended by clocks and policies while not in use, but wanted again within `came_back_within`.
    std::uint64_t wanted_again = 0;
    std::uint64_t denied = 0;   ///< times that somebody was refused
    std::uint64_t gave_up = 0;  ///< waits without an end: the need was over first. They are in no waiting time
    std::uint64_t failed = 0;   ///< VMs lost or starts failed
    Duration waited{};          ///< of people, for a session to be active
    std::uint64_t wrongly_suspended() const { return suspended_in_use + wanted_again; }
    SimulatedOutcome& operator+=(const SimulatedOutcome& other);
    friend bool operator==(const SimulatedOutcome&, const SimulatedOutcome&) = default;
};

/// One planned session of the workload, at the same place in every result.
struct SimulatedSession {
    std::string user_id;
    std::string tenant;
    std::string template_name;
    WallTime start;
    SimulatedOutcome outcome;
    Duration baseline_ran{};  ///< had it run from its start until its user ended it, or to the horizon
    std::int64_t baseline_cost_micros = 0;
    std::string ended;  ///< how the last of its sessions ended: "user", a clock, "policy", ...; "" = it lives
};

/// How often a policy answered what, and what became of it. What was not carried out, since its session went on to
/// something else meanwhile, is not counted.
struct DecisionCount {
    DecisionPoint point = DecisionPoint::admit;
    std::string answer;           ///< "standard", "deny", "suspend", ...; "failed", "invalid", ... when there was none
    std::uint64_t count = 0;      ///< in force
    std::uint64_t shadowed = 0;   ///< said by a policy in shadow, or by a canary about others than its tenants
    std::uint64_t overruled = 0;  ///< not allowed, or not possible
    friend bool operator==(const DecisionCount&, const DecisionCount&) = default;
};

/// Means over one hour of the virtual clock.
struct SimulatedHour {
    Duration ran{};       ///< of all sessions: an hour for each that ran all the time
    Duration used{};      ///< of it
    Duration baseline{};  ///< as SimulatedSession::baseline_ran
};

struct SimulationResult {
    std::string policy;
    std::vector<PolicyIdentity> identities;  ///< of the policies that were asked
    std::uint64_t seed = 0;
    WallTime start;
    Duration length{};
    std::string currency;
    SimulatedOutcome total;
    Duration baseline_ran{};
    std::int64_t baseline_cost_micros = 0;
    Duration existed{};                    ///< of all sessions, from record to end, suspended or not
    WaitingTimes waits;                    ///< all
    WaitingTimes start_waits;              ///< of them: for a new session
    WaitingTimes resume_waits;             ///< of them: for a suspended one
    std::vector<DecisionCount> decisions;  ///< by point, then answer
    std::vector<SimulatedHour> hours;
    std::vector<SimulatedSession> sessions;  ///< in the order of the workload
    std::vector<std::string> notes;          ///< of the workload, and what else the reader must know
};

/// Blocks; touches no wall clock, thread or file. May run on any thread, several at once when their hosts allow it.
/// @throws Error(validation) for a bad workload or policy, Error(cancelled) when `progress` said so.
SimulationResult simulate(const Workload& workload, const SimulatedPolicy& policy, const SimulationOptions& options);

/// One planned session whose outcome is not the same.
struct SessionDifference {
    std::size_t index = 0;  ///< into both results' `sessions`
    SimulatedOutcome before;
    SimulatedOutcome after;
};
/// Sessions that differ, the largest difference in hours run first.
/// @throws Error(validation) when the results are not of the same workload, seed and currency.
std::vector<SessionDifference> compare(const SimulationResult& before, const SimulationResult& after);

/// Stable JSON with sorted keys: durations in seconds, money in the currency, times RFC 3339.
/// @param with_sessions also a line for each planned session.
std::string to_json(const SimulationResult& result, bool with_sessions = true);
std::string comparison_json(const SimulationResult& before, const SimulationResult& after);

/// A workload as a document: {"fleet": {...}} or {"trace": TEXT, "format": "csv"|"jsonl", "source": NAME} or
/// {"events": TEXT, "source": NAME}. @param seed of a fleet.
/// @param go_on as of `synthesize`
/// @throws Error(validation) naming the field.
Workload workload_from_json(const std::string& json, std::uint64_t seed, const std::function<bool()>& go_on = {});
/// {"name", "idle_timeout", "disconnect_timeout", "ttl", "retention" ("0s" = off), "on_expiry": {CLOCK: ACTION},
/// "sample_interval", "arming_delay", "schedule_interval", "budget_interval", "limits": [...], "pools": [...],
/// "policies": [...]}; the lists as in their documents.
/// @throws Error(validation) naming the field.
SimulatedPolicy simulated_policy_from_json(const std::string& json);
/// {"came_back_within", "retry_after", "default_template", "currency", "boot_time", "start_time", "suspend_time",
/// "resume_time", "slow_share", "concurrent_boots", "templates": [{template document}, ...]}
/// @throws Error(validation) naming the field.
SimulationOptions simulation_options_from_json(const std::string& json);

}  // namespace infrastructure_sdk
