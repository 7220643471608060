#include <infrastructure_sdk/session/limits.hpp>

#include "session/amounts.hpp"

namespace infrastructure_sdk {
namespace {

/// "the host", "user 'alice'"
std::string shown_subject(LimitScope scope, const std::string& subject) {
    if (scope == LimitScope::host) return "the host";
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
    auto amount = [&](std::int64_t value) { return amount_text(limit.resource, value); };
    std::string text =
        std::string("the ") + name_of(limit.resource) + " limit of " + shown_subject(limit.scope, subject);
    if (limit.subject == "*") text += std::string(" (as of every ") + name_of(limit.scope) + ")";
    text += " is " + amount(limit.value) + ": " + amount(in_use) + " in use, " + amount(requested) + " requested";
    if (holders.empty()) return text;
    text += "; held by " + join(holders);
    if (holder_count > holders.size()) text += " and " + std::to_string(holder_count - holders.size()) + " more";
    return text;
}

Error Denial::to_error() const {
    return Error(code_of(limit), message(),
                 {{"scope", name_of(limit.scope)},
                  {"subject", subject},
                  {"resource", name_of(limit.resource)},
                  {"limit", amount_text(limit.resource, limit.value)},
                  {"in_use", amount_text(limit.resource, in_use)},
                  {"requested", amount_text(limit.resource, requested)},
                  {"holders", join(holders)},
                  {"holder_count", std::to_string(holder_count)}});
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
