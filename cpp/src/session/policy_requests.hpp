#pragma once
// What policies are told of sessions. Pure.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/isolation/isolation.hpp>
#include <infrastructure_sdk/policy/decision.hpp>
#include <infrastructure_sdk/session/limits.hpp>
#include <infrastructure_sdk/session/session.hpp>

namespace infrastructure_sdk {

PolicySession policy_session(const Session& session);
/// Of what is not recorded yet: without an id.
PolicySession planned_policy_session(const Session& session);

SessionAction session_action(OnExpiry action) noexcept;
/// Of disconnect, suspend and terminate.
OnExpiry on_expiry(SessionAction action) noexcept;

/// The request with the size that a policy wants, memory rounded up to whole mebibytes.
SessionRequest resized(SessionRequest request, const SizeDecision& decision);

/// The monthly money limit of a user or tenant, in the currency: its own, else that for "*".
std::optional<double> monthly_limit(const std::vector<Limit>& limits, LimitScope scope, const std::string& subject);

IsolationRequest isolation_request(const Session& session, const IsolationReport& report, WallTime now);

/// What has been spent in a calendar month, in millionths of the currency.
struct MonthSpent {
    std::map<std::string, std::int64_t> by_user, by_tenant;
};
BudgetRequest budget_request(const Session& session, const MonthSpent& spent, const std::vector<Limit>& limits,
                             const std::string& currency, WallTime now);

}  // namespace infrastructure_sdk
