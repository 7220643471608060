#include "policy/policy_rules.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr std::array<const char*, 3> mode_names{"enforce", "shadow", "canary"};

}  // namespace

const char* name_of(PolicyMode mode) noexcept { return mode_names[static_cast<std::size_t>(mode)]; }

PolicyMode parse_policy_mode(const std::string& name) {
    for (std::size_t i = 0; i < mode_names.size(); ++i)
        if (name == mode_names[i]) return static_cast<PolicyMode>(i);
    throw Error(Errc::validation, "mode: '" + name + "' is not allowed; enforce, shadow, canary",
                {{"field", "mode"}, {"value", name}, {"allowed", "enforce, shadow, canary"}});
}

namespace policy {
namespace {

/// What the engine would do by itself.
SessionAction standard_of(const PolicyRequest& request) {
    if (auto idle = std::get_if<IdleRequest>(&request)) return idle->standard;
    if (auto isolation = std::get_if<IsolationRequest>(&request)) return isolation->standard;
    if (auto interruption = std::get_if<InterruptionRequest>(&request)) return interruption->standard;
    return SessionAction::keep;
}

bool is_start(const PolicyRequest& request) {
    auto isolation = std::get_if<IsolationRequest>(&request);
    return isolation && isolation->is_start;
}

/// In the order of the enum each is stricter than the one before.
int strictness(SessionAction action) { return static_cast<int>(action); }
static_assert(SessionAction::keep < SessionAction::disconnect && SessionAction::disconnect < SessionAction::suspend &&
              SessionAction::suspend < SessionAction::terminate);

[[noreturn]] void refuse(const char* field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, std::string(field) + ": '" + value + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

void check_share(const char* field, double share) {
    if (!(share >= 0 && share <= 1)) refuse(field, std::to_string(share), "0 to 1");
}

void check_span(const char* field, Duration span) {
    if (span <= Duration::zero()) refuse(field, std::to_string(span.count()) + "ns", "above 0");
}

}  // namespace

bool CircuitBreaker::try_pass(MonotonicTime now) {
    if (!opened_at_) return true;
    if (trying_ || now - *opened_at_ < settings_.rest) return false;
    return trying_ = true;
}

void CircuitBreaker::note_failure(MonotonicTime now) {
    ++failures_;
    if (trying_ || failures_ >= settings_.failures) opened_at_ = now;
    trying_ = false;
}

CircuitBreaker::State CircuitBreaker::state(MonotonicTime now) const {
    if (!opened_at_) return State::closed;
    return now - *opened_at_ < settings_.rest ? State::open : State::half_open;
}

const char* name_of(CircuitBreaker::State state) noexcept {
    constexpr std::array names{"closed", "open", "half_open"};
    return names[static_cast<std::size_t>(state)];
}

bool StopLimit::try_take(WallTime now, std::size_t running) {
    forget_old(now);
    if (limit_.share <= 0) return false;
    // Those that were stopped ran when the window began.
    const auto base = static_cast<double>(running + stopped_at_.size());
    const auto most = std::max(std::floor(limit_.share * base), 1.0);
    if (static_cast<double>(taken_ + stopped_at_.size()) + 1 > most) return false;
    ++taken_;
    return true;
}

void StopLimit::forget_old(WallTime now) {
    std::erase_if(stopped_at_, [&](WallTime at) {
        // A clock that was set back must not hold a place for ever.
        return now - at >= limit_.window || at - now > limit_.window;
    });
}

bool trips(const PolicyGuard& guard, std::size_t suspensions, std::size_t came_back) {
    return came_back >= guard.least && static_cast<double>(came_back) >= guard.share * static_cast<double>(suspensions);
}

bool is_stop(const PolicyDecision& decision, const PolicyRequest& request) {
    auto given = std::get_if<SessionDecision>(&decision);
    return given && !is_start(request) && strictness(given->action) >= strictness(SessionAction::suspend) &&
           strictness(given->action) > strictness(standard_of(request));
}

const char* obstacle_to(const PolicyDecision& decision, const PolicyRequest& request, const PolicyQuestion& question) {
    auto given = std::get_if<SessionDecision>(&decision);
    if (!given || given->action == SessionAction::standard) return nullptr;
    if (question.only_stricter && strictness(given->action) < strictness(standard_of(request)))
        return "weaker_than_demanded";
    // A start is refused or not, whatever the provider can do.
    if (is_start(request)) return given->action == SessionAction::disconnect ? "nobody_is_connected" : nullptr;
    if (given->action == SessionAction::disconnect && !question.can_disconnect) return "cannot_disconnect";
    if (given->action == SessionAction::suspend && !question.can_suspend) return "cannot_suspend";
    return nullptr;
}

bool is_in_force(PolicyMode mode, const std::vector<std::string>& canary_tenants, const std::string& tenant) {
    if (mode == PolicyMode::enforce) return true;
    return mode == PolicyMode::canary && !tenant.empty() &&
           std::find(canary_tenants.begin(), canary_tenants.end(), tenant) != canary_tenants.end();
}

void check(const PolicyEngineOptions& options) {
    check_span("policy.time_budget", options.time_budget);
    if (options.memory_budget_bytes <= 0)
        refuse("policy.memory_budget", std::to_string(options.memory_budget_bytes), "above 0");
    if (options.breaker.failures < 1)
        refuse("policy.breaker_failures", std::to_string(options.breaker.failures), "1 or more");
    check_span("policy.breaker_rest", options.breaker.rest);
    check_share("policy.rate_limit_share", options.rate_limit.share);
    check_span("policy.rate_limit_window", options.rate_limit.window);
    check_share("policy.guard_share", options.guard.share);
    if (options.guard.least < 1) refuse("policy.guard_least", "0", "1 or more");
    check_span("policy.guard_resumed_within", options.guard.resumed_within);
    check_span("policy.guard_window", options.guard.window);
    check_span("policy.schedule_interval", options.schedule_interval);
    check_span("policy.budget_interval", options.budget_interval);
    for (const auto& source : options.sources) {
        if (source.mode == PolicyMode::canary && source.canary_tenants.empty())
            refuse("canary_tenants", "[]", "at least one tenant for the mode canary of '" + source.source + "'");
        if (source.mode != PolicyMode::canary && !source.canary_tenants.empty())
            refuse("mode", name_of(source.mode),
                   "canary where there are canary_tenants, as of '" + source.source + "'");
    }
}

}  // namespace policy
}  // namespace infrastructure_sdk
