#include "session/policy_requests.hpp"

#include <algorithm>
#include <cmath>

#include <infrastructure_sdk/session/cost.hpp>

namespace infrastructure_sdk {
namespace {

double money(std::int64_t micros) { return static_cast<double>(micros) / 1e6; }

std::int64_t spent_by(const std::map<std::string, std::int64_t>& spent, const std::string& subject) {
    auto found = spent.find(subject);
    return found == spent.end() ? 0 : found->second;
}

}  // namespace

PolicySession policy_session(const Session& session) {
    PolicySession told;
    told.id = session.id;
    told.user_id = session.user_id;
    told.tenant = session.tenant;
    told.template_name = session.template_name;
    told.session_type = session.session_type;
    told.state = name_of(session.state);
    told.cpu_cores = static_cast<double>(session.cpu.milli()) / 1000;
    told.memory_bytes = session.memory.value();
    told.disk_bytes = session.disk_size.value();
    told.gpu_count = session.gpu_count;
    told.gpu_type = session.gpu_type;
    told.tags = session.tags;
    told.created_at = session.created_at;
    told.last_activity_at = session.last_activity_at;
    told.expires_at = session.expires_at;
    told.price_per_hour = money(session.charge.price_per_hour_micros);
    return told;
}

PolicySession planned_policy_session(const Session& session) {
    auto told = policy_session(session);
    told.id.clear();
    return told;
}

SessionAction session_action(OnExpiry action) noexcept {
    if (action == OnExpiry::disconnect) return SessionAction::disconnect;
    return action == OnExpiry::suspend ? SessionAction::suspend : SessionAction::terminate;
}

OnExpiry on_expiry(SessionAction action) noexcept {
    if (action == SessionAction::disconnect) return OnExpiry::disconnect;
    return action == SessionAction::suspend ? OnExpiry::suspend : OnExpiry::terminate;
}

SessionRequest resized(SessionRequest request, const SizeDecision& decision) {
    constexpr std::int64_t mebibyte = 1 << 20;
    if (decision.cpu_cores)
        request.resources.cpu =
            Quantity::from_milli(std::max<std::int64_t>(1, std::llround(*decision.cpu_cores * 1000)));
    if (decision.memory_bytes)
        request.resources.memory = Quantity::from_units((*decision.memory_bytes + mebibyte - 1) / mebibyte * mebibyte);
    return request;
}

std::optional<double> monthly_limit(const std::vector<Limit>& limits, LimitScope scope, const std::string& subject) {
    const Limit* found = nullptr;
    for (const auto& limit : limits) {
        if (limit.scope != scope || limit.resource != LimitResource::money_per_month) continue;
        if (limit.subject == subject) return money(limit.value);
        if (limit.subject == "*") found = &limit;
    }
    return found ? std::optional(money(found->value)) : std::nullopt;
}

IsolationRequest isolation_request(const Session& session, const IsolationReport& report, WallTime now) {
    IsolationRequest request;
    request.now = now;
    request.session = policy_session(session);
    request.verdict = name_of(report.score.verdict);
    request.score_lower = report.score.lower;
    request.score_upper = report.score.upper;
    for (const auto& finding : report.findings)
        if (finding.status() == FindingStatus::fail) request.failed_checks.push_back(finding.check().id);
    std::sort(request.failed_checks.begin(), request.failed_checks.end());
    return request;
}

BudgetRequest budget_request(const Session& session, const MonthSpent& spent, const std::vector<Limit>& limits,
                             const std::string& currency, WallTime now) {
    BudgetRequest request;
    request.now = now;
    request.session = policy_session(session);
    request.spent_by_session = money(cost_in_month(session.charge, month_of(now), now));
    request.spent_by_user = money(spent_by(spent.by_user, session.user_id));
    request.limit_of_user = monthly_limit(limits, LimitScope::user, session.user_id);
    request.currency = currency;
    if (session.tenant.empty()) return request;
    request.spent_by_tenant = money(spent_by(spent.by_tenant, session.tenant));
    request.limit_of_tenant = monthly_limit(limits, LimitScope::tenant, session.tenant);
    return request;
}

}  // namespace infrastructure_sdk
