#pragma once
// When a policy is not asked, and which of its answers do not count. Pure; times come in as arguments.

#include <deque>
#include <optional>
#include <string>

#include <infrastructure_sdk/policy/policy_engine.hpp>

namespace infrastructure_sdk::policy {

/// Open after failures in a row; after a rest one question is tried, and its outcome closes or opens it.
class CircuitBreaker {
public:
    enum class State { closed, open, half_open };
    explicit CircuitBreaker(PolicyBreakerSettings settings) : settings_(settings) {}

    /// Whether to ask now. Whoever is let through tells how it went, once.
    bool try_pass(MonotonicTime now);
    void note_success() { *this = CircuitBreaker(settings_); }
    void note_failure(MonotonicTime now);
    /// Nobody will know how it went.
    void note_abandoned() { trying_ = false; }
    State state(MonotonicTime now) const;

private:
    PolicyBreakerSettings settings_;
    int failures_ = 0;
    bool trying_ = false;
    std::optional<MonotonicTime> opened_at_;
};
const char* name_of(CircuitBreaker::State state) noexcept;

/// How many sessions were stopped within a window, and whether one more may be.
class StopLimit {
public:
    explicit StopLimit(PolicyRateLimit limit) : limit_(limit) {}

    /// Takes a place; false = there is none. @param running sessions now
    bool try_take(WallTime now, std::size_t running);
    void give_back() { --taken_; }
    /// A session was stopped then. Of a place that was taken, give it back.
    void note(WallTime at) { stopped_at_.push_back(at); }

private:
    void forget_old(WallTime now);
    PolicyRateLimit limit_;
    std::size_t taken_ = 0;
    std::deque<WallTime> stopped_at_;  // ascending, as far as the clock does
};

/// Whether a canary is taken back.
bool trips(const PolicyGuard& guard, std::size_t suspensions, std::size_t came_back);

/// Suspends or terminates a running session, and more than the engine would without the policy.
bool is_stop(const PolicyDecision& decision, const PolicyRequest& request);
/// Why a valid decision may not be carried out: "weaker_than_demanded", "cannot_disconnect", "cannot_suspend",
/// "nobody_is_connected" (at a start); null = it may.
const char* obstacle_to(const PolicyDecision& decision, const PolicyRequest& request, const PolicyQuestion& question);

/// Whether the answers of a policy count for a tenant.
bool is_in_force(PolicyMode mode, const std::vector<std::string>& canary_tenants, const std::string& tenant);

/// @throws Error(validation) naming the option, its value and what is allowed.
void check(const PolicyEngineOptions& options);

}  // namespace infrastructure_sdk::policy
