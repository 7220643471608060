#include <infrastructure_sdk/session/limits.hpp>

#include "session/amounts.hpp"

namespace infrastructure_sdk {
namespace {

/// "the host", "the host's 'a100'", "user 'alice'"
std::string shown_subject(LimitScope scope, const std::string& subject) {
    if (scope == LimitScope::host) return subject.empty() ? "the host" : "the host's '" + subject + "'";
    return name_of(scope) + (" '" + subject + "'");
}

std::string join(const std::vector<std::string>& words) {
    std::string text;
    for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
    return text;
}

Errc code_of(const Limit& limit) {
    if (is_money(limit.resource)) return Errc::budget_exceeded;
    return limit.scope == LimitScope::host ? Errc::capacity : Errc::quota_exceeded;
}

}  // namespace

std::string Denial::message() const {
    if (!policy.empty())
        return "policy '" + policy + "' does not admit the session" + (reason.empty() ? "" : ": " + reason);
    auto amount = [&](std::int64_t value) {
        return amount_text(limit.resource, value) + (currency.empty() ? "" : " " + currency);
    };
    std::string text =
        std::string("the ") + name_of(limit.resource) + " limit of " + shown_subject(limit.scope, subject);
    if (limit.subject == "*") text += std::string(" (as of every ") + name_of(limit.scope) + ")";
    text += " is " + amount(limit.value) + ": " + amount(in_use) + " in use, " + amount(requested) + " requested";
    if (!holders.empty()) text += "; held by " + join(holders);
    if (holder_count > holders.size()) text += " and " + std::to_string(holder_count - holders.size()) + " more";
    if (spent > 0) text += "; " + amount(spent) + " of it spent by sessions that have ended";
    return text + "; what would help: " + help();
}

std::string Denial::help() const {
    if (!policy.empty()) return "ask whoever is responsible for the policy";
    if (requested > limit.value) {
        if (limit.value == 0) return "a higher limit; this one allows none at all";
        if (limit.resource != LimitResource::money_per_month)
            return "ask for at most " + amount_text(limit.resource, limit.value) + ", or a higher limit";
    }
    const std::string those = holder_count == 0 ? "" : holder_count == 1 ? " it" : " one of them";
    std::string text;
    switch (limit.resource) {
        case LimitResource::sessions: text = "end" + those; break;
        case LimitResource::disk: text = "end" + those + ", delete snapshots or ask for less"; break;
        case LimitResource::cpu:
        case LimitResource::memory:
        case LimitResource::gpu: text = "suspend or end" + those + ", or ask for less"; break;
        case LimitResource::money_per_hour: text = "suspend or end" + those; break;
        case LimitResource::money_per_month: text = "a shorter ttl, or suspend or end" + those; break;
    }
    if (holder_count == 0) text = limit.resource == LimitResource::money_per_month ? "a shorter ttl" : "ask for less";
    if (renews_at) text += ", or wait until " + to_rfc3339(*renews_at).substr(0, 10);
    return text + ", or a higher limit";
}

Error Denial::to_error() const {
    if (!policy.empty()) return Error(Errc::admission_denied, message(), {{"policy", policy}, {"reason", reason}});
    ErrorContext context{{"scope", name_of(limit.scope)},
                         {"subject", subject},
                         {"resource", name_of(limit.resource)},
                         {"limit", amount_text(limit.resource, limit.value)},
                         {"in_use", amount_text(limit.resource, in_use)},
                         {"requested", amount_text(limit.resource, requested)},
                         {"holders", join(holders)},
                         {"holder_count", std::to_string(holder_count)},
                         {"help", help()}};
    if (is_money(limit.resource)) {
        context["spent"] = amount_text(limit.resource, spent);
        context["currency"] = currency;
        if (renews_at) context["renews_at"] = to_rfc3339(*renews_at);
    }
    return Error(code_of(limit), message(), std::move(context));
}

Amounts held_by(SessionState state, const Amounts& full) {
    switch (state) {
        case SessionState::pending:
        case SessionState::provisioning:
        case SessionState::active:
        case SessionState::suspending:
        case SessionState::resuming:
        case SessionState::terminating: return full;
        case SessionState::suspended:
        case SessionState::failed: {
            Amounts kept;
            kept.sessions = full.sessions;
            kept.disk_bytes = full.disk_bytes;
            kept.money_per_month_micros = full.money_per_month_micros;
            return kept;
        }
        case SessionState::terminated: return {};
    }
    return full;
}

}  // namespace infrastructure_sdk
