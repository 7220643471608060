#pragma once
// The inside of the policy engine: policy_engine.cpp (questions and what is written of them), policy_loading.cpp (where
// policies come from, what is stored, who is enabled).

#include <array>
#include <map>
#include <memory>
#include <set>
#include <string>

#include <infrastructure_sdk/policy/policy_engine.hpp>

#include "core/async_tools.hpp"
#include "policy/policy_rules.hpp"

namespace infrastructure_sdk {

inline constexpr const char* policy_kind = "policy";              // by name: who is enabled, rolled back, loaded
inline constexpr const char* policy_state_kind = "policy_state";  // by session and policy
inline constexpr const char* policy_stop_kind = "policy_stop";    // by session and number: which policy stopped it

/// What is known of a policy by its name, whichever version of it is loaded.
struct PolicyBook {
    bool enabled = true;
    std::string rolled_back_sha256;             // of the version that its guard took back; empty = none
    std::string loaded_sha256;                  // of the last version that was loaded
    std::map<std::string, std::string> states;  // by session
    /// What was told last of a session at a point, so that what is said again and again is told once.
    std::map<std::pair<std::string, DecisionPoint>, std::string> told;
};

/// One policy that is loaded.
struct LoadedPolicy {
    LoadedPolicy(std::shared_ptr<PolicyHost> loaded, PolicySource from, PolicyBreakerSettings settings,
                 Executor executor)
        : host(std::move(loaded)),
          source(std::move(from)),
          identity(host->identity()),
          points(host->points()),
          breaker(settings),
          came_back(std::move(executor)) {}
    std::shared_ptr<PolicyHost> host;
    PolicySource source;
    PolicyIdentity identity;
    std::vector<DecisionPoint> points;
    policy::CircuitBreaker breaker;
    std::size_t under_way = 0;  // questions that it has not come back from, in time or late
    std::size_t overdue = 0;    // of them, those that nobody waits for any more
    bool watched = false;       // whether it comes back from those
    bool retired = false;       // a reload took its place
    Signal came_back;           // from a question
    std::uint64_t asked = 0, decided = 0, shadowed = 0, overruled = 0, failed = 0;
    std::string last_failure;
    std::optional<WallTime> last_failure_at;
};
using LoadedPolicyPtr = std::shared_ptr<LoadedPolicy>;

/// Questions that nobody waits for any more and that it has not come back from.
inline std::size_t overdue_of(const LoadedPolicy& policy) { return policy.overdue + policy.host->overdue(); }

/// A session that a policy stopped.
struct PolicyStop {
    std::string policy;
    std::string sha256;
    WallTime at;
    bool suspends = true;  // else it ended
    bool came_back = false;
};

struct PolicyEngine::Impl : std::enable_shared_from_this<PolicyEngine::Impl> {
    Impl(Environment e, std::shared_ptr<Store> s, PolicyEngineOptions o)
        : env(std::move(e)),
          store(std::move(s)),
          options(std::move(o)),
          stop_limit(std::make_shared<policy::StopLimit>(options.rate_limit)),
          tasks(env.executor) {}

    Environment env;
    std::shared_ptr<Store> store;
    PolicyEngineOptions options;
    std::vector<LoadedPolicyPtr> policies;  // in their order
    std::array<std::vector<LoadedPolicyPtr>, decision_point_count> by_point;
    std::map<std::string, PolicyBook> books;
    std::map<std::string, PolicyStop> stops;  // by session/number, numbers in order
    std::shared_ptr<policy::StopLimit> stop_limit;
    TaskGroup tasks;
    std::uint64_t revision = 0;
    bool closed = false;

    WallTime now() const { return env.clock->wall_now(); }
    LoadedPolicyPtr find(const std::string& name) const;
    LoadedPolicyPtr need(const std::string& name) const;
    PolicyBook& book_of(const LoadedPolicy& policy) { return books[policy.identity.name]; }
    bool is_rolled_back(const LoadedPolicy& policy) const;
    bool is_shadow_for(const LoadedPolicy& policy, const std::string& tenant) const;
    PolicyStatus status_of(const LoadedPolicy& policy) const;
    std::pair<std::size_t, std::size_t> stopped_by(const LoadedPolicy& policy) const;

    // policy_engine.cpp
    Task<std::optional<PolicyAnswer>> ask(LoadedPolicyPtr policy, const PolicyRequest& request,
                                          const std::string& session, bool dry_run, Call call);
    Task<bool> ask_each(const PolicyRequest& request, const PolicyQuestion& question, Call call,
                        PolicyVerdict& verdict);
    Task<PolicyAnswer> ask_and_wait(LoadedPolicyPtr policy, PolicyRequest request, std::string state, Call call);
    Task<void> tell_when_stuck(LoadedPolicyPtr policy, DecisionPoint point);
    Task<void> tell_stuck(LoadedPolicyPtr policy, DecisionPoint point);
    void take(LoadedPolicy& policy, PolicyAnswer answer, const PolicyRequest& request, const PolicyQuestion& question,
              PolicyVerdict& verdict);
    void judge(const PolicyJudgement& judged, bool dry_run) const;
    void take_failure(LoadedPolicy& policy, const PolicyAnswer& answer, const PolicyRequest& request,
                      PolicyVerdict& verdict);
    const char* take_place(const PolicyDecision& decision, const PolicyRequest& request, const PolicyQuestion& question,
                           PolicyVerdict& verdict);
    void tell(LoadedPolicy& policy, const char* type, const PolicyAnswer& answer, const PolicyRequest& request,
              const char* why, PolicyVerdict& verdict);
    void note_stop(const PolicyVerdict& verdict, Batch& batch);
    auto stops_of(const std::string& session);
    void forget_old_stops(Batch& batch);

    // policy_loading.cpp
    Task<std::vector<LoadedPolicyPtr>> load(std::vector<PolicySource> sources, Call call);
    Task<std::vector<LoadedPolicyPtr>> load_source(PolicySource source, Call call);
    Task<void> restore();
    Task<void> replace(std::vector<LoadedPolicyPtr> loaded);
    void write_book(const std::string& name, Batch& batch) const;
    Event event_of(const LoadedPolicy& policy, const char* type, std::string data) const;
};

}  // namespace infrastructure_sdk
