#pragma once
// Webhooks: which events are sent to whom, and what became of each.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/secret.hpp>

namespace infrastructure_sdk {

/// A receiver. Any address is allowed, private ones too: whoever writes the webhooks document is trusted with that.
struct Webhook {
    std::string name;
    std::string url;
    /// "whsec_" and the base64 of 24 to 64 bytes.
    Secret secret;
    /// While a secret is replaced: signed with both. May be empty.
    Secret previous_secret;
    /// Event types; "session.lifecycle.*" is all that begin so, "*" is everything.
    std::vector<std::string> events{"*"};
    int max_attempts = 10;
    Duration timeout = std::chrono::seconds(15);  ///< of one attempt
    std::string ca_file;                          ///< PEM; trusted instead of what the system trusts
};

/// A webhooks document: {"webhooks": [{"name", "url", "secret": "env:NAME" or "file:/path", ...}]}. Reads the secrets.
/// @throws Error(validation) with every problem and its line; secrets are never quoted.
std::vector<Webhook> parse_webhooks(const std::string& yaml, const std::string& source);

enum class DeliveryState {
    pending,    ///< not yet answered with a 2xx status; tried again at `due_at`
    delivered,  ///< answered with a 2xx status
    dead,       ///< given up
};
const char* name_of(DeliveryState state) noexcept;
/// @throws Error(validation)
DeliveryState parse_delivery_state(const std::string& name);

/// One event on its way to one webhook.
struct Delivery {
    /// The `webhook-id` header: the same at every attempt, so that a receiver can drop repeats.
    std::string id;
    std::string webhook;
    std::string event_type;
    std::string session_id;
    std::string execution_id;
    std::uint64_t sequence = 0;  ///< of the event; 0 for a test
    DeliveryState state = DeliveryState::pending;
    int attempts = 0;
    int max_attempts = 0;
    WallTime created_at;
    WallTime due_at;  ///< of the next attempt, while pending
    std::optional<WallTime> last_attempt_at;
    std::optional<WallTime> finished_at;
    int last_status = 0;  ///< HTTP; 0 = no answer
    std::string last_error;
    std::string body;  ///< the bytes that are sent and signed
};

/// One webhook and how it does.
struct WebhookStatus {
    std::string name;
    std::string url;  ///< without its query
    std::vector<std::string> events;
    int max_attempts = 0;
    Duration timeout{};
    std::optional<WallTime> disabled_at;
    std::string disabled_reason;
    std::uint64_t cursor = 0;  ///< events up to this sequence were looked at
    std::size_t pending = 0;
    std::size_t delivered = 0;  ///< of those that are kept
    std::size_t dead = 0;       ///< likewise
    std::optional<WallTime> last_attempt_at;
    int last_status = 0;
    std::string last_error;
};

void to_json(nlohmann::json& json, const Delivery& delivery);
void to_json(nlohmann::json& json, const WebhookStatus& status);
/// The stored form. @throws Error(store)
Delivery delivery_from_json(const nlohmann::json& json);

}  // namespace infrastructure_sdk
