#include "webhooks/delivery_rules.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>

#include <nlohmann/json.hpp>

#include "core/base64.hpp"
#include "core/hmac.hpp"
#include "core/sha256.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {

using nlohmann::json;
using namespace std::chrono_literals;

namespace {

constexpr Duration longest_retry = 24h;
constexpr std::string_view prefix = "whsec_";

bool is_word(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(),
                                        [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
}

/// Sorts as the events do, and is the same whenever it is made again. No full stop: it is signed with one after it.
std::string delivery_id(const std::string& webhook, const Event& event) {
    char sequence[17];
    std::snprintf(sequence, sizeof sequence, "%012llx", static_cast<unsigned long long>(event.sequence));
    auto all = webhook + '\0' + sequence + '\0' + to_rfc3339(event.time) + '\0' + event.type + '\0' + event.subject;
    return std::string("msg_") + sequence + "_" + sha256_hex(all).substr(0, 20);
}

std::string body_of(const Event& event, const std::string& id) {
    auto data = json::parse(event.data, nullptr, false);
    json body{{"id", id},
              {"type", event.type},
              {"version", 1},
              {"timestamp", to_rfc3339(event.time)},
              {"session_id", event.subject},
              {"execution_id", event.execution_id},
              {"sequence", event.sequence},
              {"data", data.is_discarded() ? json::object() : data}};
    return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

bool is_event_pattern(std::string_view pattern) {
    if (pattern == "*") return true;
    if (pattern.ends_with(".*")) pattern.remove_suffix(2);
    while (true) {
        auto dot = pattern.find('.');
        if (!is_word(pattern.substr(0, dot))) return false;
        if (dot == std::string_view::npos) return true;
        pattern.remove_prefix(dot + 1);
    }
}

bool matches_event(std::string_view pattern, std::string_view type) {
    if (pattern == "*") return true;
    if (pattern.ends_with(".*")) return type.starts_with(pattern.substr(0, pattern.size() - 1));
    return pattern == type;
}

bool wants(const Webhook& webhook, const Event& event) {
    return std::any_of(webhook.events.begin(), webhook.events.end(),
                       [&](const std::string& pattern) { return matches_event(pattern, event.type); });
}

Delivery plan_delivery(const Webhook& webhook, const Event& event, WallTime now) {
    Delivery delivery;
    delivery.id = delivery_id(webhook.name, event);
    delivery.webhook = webhook.name;
    delivery.event_type = event.type;
    delivery.session_id = event.subject;
    delivery.execution_id = event.execution_id;
    delivery.sequence = event.sequence;
    delivery.max_attempts = webhook.max_attempts;
    delivery.created_at = delivery.due_at = now;
    delivery.body = body_of(event, delivery.id);
    return delivery;
}

std::optional<std::string> webhook_key(const Secret& secret) {
    std::string_view text = secret.reveal();
    if (!text.starts_with(prefix)) return std::nullopt;
    auto key = base64_decode(text.substr(prefix.size()));
    if (!key || key->size() < 24 || key->size() > 64) return std::nullopt;
    return key;
}

std::string webhook_signature(const Webhook& webhook, const std::string& id, std::int64_t timestamp,
                              const std::string& body) {
    auto signed_text = id + "." + std::to_string(timestamp) + "." + body;
    std::string signatures;
    for (const auto* secret : {&webhook.secret, &webhook.previous_secret}) {
        if (secret->empty()) continue;
        auto key = webhook_key(*secret);
        if (!key)
            throw Error(Errc::validation, "the secret of webhook '" + webhook.name + "' is not one",
                        {{"field", "secret"}, {"value", Secret::redacted()}});
        signatures += (signatures.empty() ? "v1," : " v1,") + base64_encode(hmac_sha256(*key, signed_text));
    }
    return signatures;
}

std::optional<Duration> parse_retry_after(const std::string& text, WallTime now) {
    bool number = !text.empty() && text.size() <= 9 &&
                  std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); });
    if (number) return std::chrono::seconds(std::stoll(text));
    // RFC 9110: "Wed, 21 Oct 2015 07:28:00 GMT".
    constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char month[4] = {};
    int day = 0, year = 0, hour = 0, minute = 0, second = 0, used = 0;
    if (std::sscanf(text.c_str(), "%*3s, %2d %3s %4d %2d:%2d:%2d GMT%n", &day, month, &year, &hour, &minute, &second,
                    &used) != 6 ||
        static_cast<std::size_t>(used) != text.size())
        return std::nullopt;
    auto at = months.find(month);
    if (at == std::string_view::npos || at % 3 != 0) return std::nullopt;
    std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(at / 3 + 1)),
                                     std::chrono::day(static_cast<unsigned>(day))};
    if (!date.ok() || hour > 23 || minute > 59 || second > 60) return std::nullopt;
    WallTime when = std::chrono::sys_days(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
                    std::chrono::seconds(second);
    return std::max(Duration::zero(), when - now);
}

Duration retry_delay(int attempts, double chance) {
    constexpr Duration first = 5s, most = 8h;
    auto full = first;
    for (int i = 1; i < attempts && full < most; ++i) full *= 4;
    full = std::min(full, most);
    auto half = full / 2;
    return half + std::chrono::duration_cast<Duration>(half * std::clamp(chance, 0.0, 1.0));
}

DeliveryVerdict judge(const AttemptOutcome& outcome, int attempts, int max_attempts, double chance) {
    using Action = DeliveryVerdict::Action;
    if (outcome.status / 100 == 2) return {Action::delivered, {}, false};
    if (outcome.status == 410) return {Action::disable, {}, false};
    bool busy = outcome.status == 429 || outcome.status == 503;
    bool asked = busy && outcome.retry_after && *outcome.retry_after > Duration::zero();
    auto delay = retry_delay(attempts, chance);
    if (asked) delay = std::max(delay, std::min(*outcome.retry_after, longest_retry));
    return {attempts >= max_attempts ? Action::give_up : Action::retry, delay, asked};
}

Delivery after_attempt(Delivery delivery, const AttemptOutcome& outcome, const DeliveryVerdict& verdict, WallTime now) {
    using Action = DeliveryVerdict::Action;
    ++delivery.attempts;
    delivery.last_attempt_at = now;
    delivery.last_status = outcome.status;
    delivery.last_error = verdict.action == Action::delivered ? ""
                          : outcome.status != 0               ? "HTTP " + std::to_string(outcome.status)
                                                              : outcome.error;
    delivery.due_at = now + verdict.delay;
    if (verdict.action == Action::retry) return delivery;
    delivery.state = verdict.action == Action::delivered ? DeliveryState::delivered : DeliveryState::dead;
    delivery.finished_at = delivery.due_at = now;
    return delivery;
}

}  // namespace infrastructure_sdk
