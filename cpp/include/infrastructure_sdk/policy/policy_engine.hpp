#pragma once
// Runs policies: who is asked and for how long, which answers count, and what is told of them.
//
// The policies of a point are asked in their order. The first one in force whose answer is valid and not `standard`
// decides; the others in force are not asked any more. Policies in shadow are all asked, and their answers are written
// and not carried out. What fails, takes too long, is invalid or not allowed counts as `standard`.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/policy/policy_host.hpp>
#include <infrastructure_sdk/store/store.hpp>

namespace infrastructure_sdk {

enum class PolicyMode {
    enforce,  ///< for everybody
    shadow,   ///< evaluated and written only
    canary,   ///< in force for `canary_tenants`, in shadow for all others
};
const char* name_of(PolicyMode mode) noexcept;
/// @throws Error(validation)
PolicyMode parse_policy_mode(const std::string& name);

/// Where policies come from: one entry of the configuration.
struct PolicySource {
    std::string source;           ///< "builtin:NAME", or what the host factory knows: a file, "entry:NAME"
    std::string name;             ///< of built-in rules, instead of their own, so that one can be there twice
    std::string settings = "{}";  ///< a JSON object; of built-in rules
    PolicyMode mode = PolicyMode::enforce;
    std::vector<std::string> canary_tenants;
    bool untrusted = false;                ///< run it in a process of its own, without files and network
    Duration time_budget{};                ///< for one answer; 0 = that of the options
    std::int64_t memory_budget_bytes = 0;  ///< 0 = that of the options
    friend bool operator==(const PolicySource&, const PolicySource&) = default;
};

/// Loads what a source names: one host for each policy in it. Called on the engine's executor, with budgets filled in.
/// Not called for built-in rules. @throws Error(policy) or Error(configuration) telling why it cannot be loaded.
using PolicyHostFactory = std::function<Task<std::vector<std::shared_ptr<PolicyHost>>>(PolicySource, Call)>;

/// A policy that does not answer is left alone for a while.
struct PolicyBreakerSettings {
    int failures = 5;                         ///< in a row
    Duration rest = std::chrono::minutes(5);  ///< then one question is tried
};

/// How much all policies together may do to running sessions: a suspension or termination that the engine would not
/// have done by itself. What is decided at the point `isolation` is a matter of safety: it is never held back by the
/// limit, though it counts for it. A start that is refused stops nothing and does not count.
struct PolicyRateLimit {
    double share = 0.2;  ///< of the running sessions, 0..1; above 0 one is always allowed
    Duration window = std::chrono::minutes(10);
};

/// When a canary is taken back: too many of the sessions that it suspended came back at once.
struct PolicyGuard {
    double share = 0.25;    ///< of its suspensions in the window, 0..1
    std::size_t least = 4;  ///< so many must have come back
    Duration resumed_within = std::chrono::minutes(15);
    Duration window = std::chrono::hours(24);
};

/// What became of an answer.
struct PolicyJudgement {
    enum class Effect {
        applied,    ///< it is in force: a decision that was carried out, or one that leaves it to the engine
        shadowed,   ///< the policy is in shadow
        overruled,  ///< it was not allowed, or turned out to be impossible
        failed,     ///< there was none that counts
    };
    std::string policy;
    DecisionPoint point = DecisionPoint::admit;
    std::string answer;  ///< as `action_of`; of `failed` the name of the outcome
    Effect effect = Effect::applied;
    friend bool operator==(const PolicyJudgement&, const PolicyJudgement&) = default;
};

struct PolicyEngineOptions {
    std::vector<PolicySource> sources;
    PolicyHostFactory make_hosts;  ///< none = built-in rules only
    Duration time_budget = standard_time_budget;
    std::int64_t memory_budget_bytes = standard_memory_budget;
    PolicyBreakerSettings breaker;
    PolicyRateLimit rate_limit;
    PolicyGuard guard;
    Duration schedule_interval = std::chrono::minutes(1);
    Duration budget_interval = std::chrono::minutes(5);
    /// Told of each answer once it is known what becomes of it; not of dry runs. Called on the executor.
    std::function<void(const PolicyJudgement&)> on_judged;
};

/// What one policy did since it was loaded.
struct PolicyStatus {
    PolicyIdentity identity;
    std::string source;
    PolicyMode mode = PolicyMode::enforce;
    std::vector<std::string> canary_tenants;
    std::vector<DecisionPoint> points;
    bool enabled = true;
    bool rolled_back = false;        ///< in shadow since its guard took it back; `set_enabled` ends it
    std::string breaker = "closed";  ///< "closed", "open", "half_open"
    std::uint64_t asked = 0;
    std::uint64_t decided = 0;    ///< not standard, and carried out
    std::uint64_t shadowed = 0;   ///< not standard, in shadow
    std::uint64_t overruled = 0;  ///< not standard, and not allowed
    std::uint64_t failed = 0;
    std::string last_failure;
    std::optional<WallTime> last_failure_at;
    std::size_t suspensions = 0;  ///< by it, within the guard's window
    std::size_t came_back = 0;    ///< of them
    std::size_t overdue = 0;      ///< questions that nobody waits for any more and that it has not come back from
    std::vector<std::string> missing_protections;  ///< of an untrusted one; see PolicyHost
};

/// What follows from a question.
class PolicyVerdict {
public:
    PolicyDecision decision;           ///< the standard one unless a policy decided
    std::optional<PolicyIdentity> by;  ///< who decided
    /// How long nobody needs to be asked again, at most a day: as who decided says, or less if one ahead said less.
    /// When nobody decided, the shortest that one of those who were asked said; zero when one of them said none.
    Duration ask_again_after{};
    bool is_standard() const { return !by; }
    /// Whether there is anything to be written: a decision, what shadows said, failures, states.
    bool has_news() const { return !news_.empty() || !states_.empty(); }
    /// "NAME: reason", for people.
    std::string reason() const;

private:
    friend class PolicyEngine;
    struct State {
        std::string policy;
        std::string json;
    };
    std::string session_;
    DecisionPoint point_ = DecisionPoint::admit;
    struct News {
        std::string policy;
        std::optional<std::string> said;  // what is remembered as told; none = it is told each time
        Event event;
    };
    std::vector<News> news_;
    std::vector<State> states_;
    std::optional<PolicyJudgement> judged_;  // told when it is recorded, or overruled
    bool stops_ = false;                     // it suspends or ends a session
    std::shared_ptr<void> place_;            // within the rate limit; given back unless it is recorded
};

/// How a question is asked.
struct PolicyQuestion {
    std::string session;         ///< whose state it has; empty = that of the request, which may not exist yet
    std::size_t running = 0;     ///< sessions, for the rate limit
    bool only_stricter = false;  ///< than the request's `standard`
    bool dry_run = false;        ///< nothing is written, counted or learnt
    /// Which session actions can be carried out; standard and keep always can.
    bool can_disconnect = true;
    bool can_suspend = true;
};

/// Every method must be called on the Environment's executor.
class PolicyEngine {
public:
    /// @throws Error(validation) naming what is out of bounds in the options.
    PolicyEngine(Environment environment, std::shared_ptr<Store> store, PolicyEngineOptions options);
    ~PolicyEngine();

    /// Loads all sources, and what is stored: states, who is disabled or rolled back, what was done lately.
    /// @throws Error(policy), Error(configuration) naming the source that cannot be loaded; then none is.
    Task<void> open(Call call);
    /// Loads these sources instead of the present ones, or the same anew. All are loaded and checked before one is
    /// replaced; on an error everything stays as it is. Stored states stay with the name of their policy. Questions
    /// that are under way are answered by whom they were put to, within its time budget; those that get no answer that
    /// counts are put to the new ones. @throws as `open`; Error(validation); Error(cancelled) when it was closed
    /// meanwhile
    Task<std::vector<PolicyStatus>> reload(std::vector<PolicySource> sources, Call call);

    /// Whether anybody wants to be asked. Cheap: nothing needs to be prepared when nobody does.
    bool asks(DecisionPoint point) const;
    /// Another number whenever others may be asked than before: what a verdict said of later questions ends then.
    std::uint64_t revision() const noexcept;
    /// Never throws for what policies do, and takes no longer than the time budgets of those that it asks.
    /// @throws Error(cancelled) when the call is stopped.
    Task<PolicyVerdict> decide(PolicyRequest request, PolicyQuestion question, Call call);
    /// Puts the news of a verdict into the batch that its decision becomes true with; call it right before the commit,
    /// once. A verdict that is not recorded did not happen.
    void record(PolicyVerdict& verdict, Batch& batch);
    /// What was decided turned out to be impossible: the verdict is standard, and its news tell why.
    void overrule(PolicyVerdict& verdict, const std::string& why);
    /// Somebody had the session resumed: into the same batch what follows for the policy that suspended it.
    void note_resumed(const std::string& session_id, Batch& batch);
    /// The session is terminated: into the same batch that its states are erased.
    void forget(const std::string& session_id, Batch& batch);
    /// That batch is on disk: nothing is remembered of the session any more.
    void note_forgotten(const std::string& session_id);

    std::vector<PolicyStatus> list() const;
    /// @throws Error(not_found)
    PolicyStatus status(const std::string& name) const;
    /// Completes when it is on disk; holds for later owners too. Enabling ends a rollback and closes the breaker.
    /// @throws Error(not_found)
    Task<PolicyStatus> set_enabled(std::string name, bool enabled, Call call);
    const PolicyEngineOptions& options() const;

    /// Lets go of the hosts; one that does not come back is left to itself after two seconds.
    Task<void> close();

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

/// What built-in rules there are, each with what its settings mean.
struct BuiltinPolicy {
    std::string name;  ///< "business-hours"; its source is "builtin:business-hours"
    std::string description;
    std::vector<DecisionPoint> points;
    std::string settings_schema;  ///< JSON Schema of its settings
};
std::vector<BuiltinPolicy> builtin_policies();
/// @throws Error(configuration) naming the setting.
std::shared_ptr<PolicyHost> make_builtin_policy(const PolicySource& source);

/// Reads a YAML or JSON document:
///
///     policies:
///       - {source: "builtin:business-hours", settings: {hours: ["mon-fri 08:00-18:00"], utc_offset: "+01:00"}}
///       - {source: patient.py, mode: canary, canary_tenants: [physics], time_budget: 20ms, untrusted: true}
///
/// A file's path is relative to the document's folder. @param source named in errors: the document's path.
/// @throws Error(validation) with all problems at once.
std::vector<PolicySource> parse_policies(const std::string& yaml, const std::string& source);

void to_json(nlohmann::json& json, const PolicyIdentity& identity);
void to_json(nlohmann::json& json, const PolicyStatus& status);
void to_json(nlohmann::json& json, const BuiltinPolicy& policy);

}  // namespace infrastructure_sdk
