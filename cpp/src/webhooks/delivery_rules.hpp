#pragma once
// Pure decisions about deliveries: what is sent to whom, how it is signed, and what an answer means.

#include <optional>
#include <string>
#include <string_view>

#include <infrastructure_sdk/event.hpp>
#include <infrastructure_sdk/webhooks/webhook.hpp>

namespace infrastructure_sdk {

/// "session.lifecycle.*" matches what begins with "session.lifecycle."; "*" everything; else the type itself.
bool matches_event(std::string_view pattern, std::string_view type);
/// Whether a text is such a pattern.
bool is_event_pattern(std::string_view pattern);
bool wants(const Webhook& webhook, const Event& event);

/// A `pending` delivery that is due now, with its body.
Delivery plan_delivery(const Webhook& webhook, const Event& event, WallTime now);

/// The key of "whsec_<base64>"; nullopt when it is not one.
std::optional<std::string> webhook_key(const Secret& secret);
/// The `webhook-signature` header of Standard Webhooks: "v1,<base64>", with two secrets both, separated by a space.
std::string webhook_signature(const Webhook& webhook, const std::string& id, std::int64_t timestamp,
                              const std::string& body);

/// What came of one attempt.
struct AttemptOutcome {
    int status = 0;  ///< 0 = no answer
    std::optional<Duration> retry_after;
    std::string error;  ///< why there was no answer
};
/// The value of a Retry-After header: seconds, or a date. nullopt = neither.
std::optional<Duration> parse_retry_after(const std::string& text, WallTime now);

/// From the first retry 5 s, each 4 times the one before, at most 8 h; the upper half of each by chance.
/// @param attempts made so far, 1 or more. @param chance from 0 to 1
Duration retry_delay(int attempts, double chance);

struct DeliveryVerdict {
    enum class Action {
        delivered,
        retry,    ///< after `delay`
        give_up,  ///< it was the last attempt
        disable,  ///< the receiver wants no more (410)
    };
    Action action = Action::delivered;
    Duration delay{};
    bool hold = false;  ///< the receiver asked for quiet: nothing else is sent to it during `delay` either
    friend bool operator==(const DeliveryVerdict&, const DeliveryVerdict&) = default;
};
/// @param attempts made so far, this one included
DeliveryVerdict judge(const AttemptOutcome& outcome, int attempts, int max_attempts, double chance);

/// `delivery` after an attempt at `now`.
Delivery after_attempt(Delivery delivery, const AttemptOutcome& outcome, const DeliveryVerdict& verdict, WallTime now);

}  // namespace infrastructure_sdk
