#include <infrastructure_sdk/webhooks/webhook.hpp>

#include <array>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {

using nlohmann::json;

namespace {

constexpr std::array states{DeliveryState::pending, DeliveryState::delivered, DeliveryState::dead};

json optional_time(const std::optional<WallTime>& time) { return time ? json(to_rfc3339(*time)) : json(nullptr); }

std::optional<WallTime> read_time(const json& value) {
    if (value.is_null()) return std::nullopt;
    return parse_rfc3339(value.get<std::string>());
}

}  // namespace

const char* name_of(DeliveryState state) noexcept {
    constexpr std::array names{"pending", "delivered", "dead"};
    return names[static_cast<std::size_t>(state)];
}

DeliveryState parse_delivery_state(const std::string& name) {
    for (auto state : states)
        if (name == name_of(state)) return state;
    throw Error(Errc::validation, "state: '" + name + "' is not allowed; pending, delivered, dead",
                {{"field", "state"}, {"value", name}, {"allowed", "pending, delivered, dead"}});
}

void to_json(json& document, const Delivery& delivery) {
    document = {{"id", delivery.id},
                {"webhook", delivery.webhook},
                {"event_type", delivery.event_type},
                {"session_id", delivery.session_id},
                {"execution_id", delivery.execution_id},
                {"sequence", delivery.sequence},
                {"state", name_of(delivery.state)},
                {"attempts", delivery.attempts},
                {"max_attempts", delivery.max_attempts},
                {"created_at", to_rfc3339(delivery.created_at)},
                {"due_at", to_rfc3339(delivery.due_at)},
                {"last_attempt_at", optional_time(delivery.last_attempt_at)},
                {"finished_at", optional_time(delivery.finished_at)},
                {"last_status", delivery.last_status},
                {"last_error", delivery.last_error},
                {"body", delivery.body}};
}

Delivery delivery_from_json(const json& document) {
    try {
        Delivery delivery;
        delivery.id = document.at("id").get<std::string>();
        delivery.webhook = document.at("webhook").get<std::string>();
        delivery.event_type = document.at("event_type").get<std::string>();
        delivery.session_id = document.at("session_id").get<std::string>();
        delivery.execution_id = document.at("execution_id").get<std::string>();
        delivery.sequence = document.at("sequence").get<std::uint64_t>();
        delivery.state = parse_delivery_state(document.at("state").get<std::string>());
        delivery.attempts = document.at("attempts").get<int>();
        delivery.max_attempts = document.at("max_attempts").get<int>();
        delivery.created_at = parse_rfc3339(document.at("created_at").get<std::string>());
        delivery.due_at = parse_rfc3339(document.at("due_at").get<std::string>());
        delivery.last_attempt_at = read_time(document.at("last_attempt_at"));
        delivery.finished_at = read_time(document.at("finished_at"));
        delivery.last_status = document.at("last_status").get<int>();
        delivery.last_error = document.at("last_error").get<std::string>();
        delivery.body = document.at("body").get<std::string>();
        return delivery;
    } catch (const json::exception& error) {
        throw Error(Errc::store, std::string("a stored delivery cannot be read: ") + error.what());
    } catch (const Error& error) {
        throw Error(Errc::store, "a stored delivery cannot be read: " + error.message());
    }
}

void to_json(json& document, const WebhookStatus& status) {
    document = {{"name", status.name},
                {"url", status.url},
                {"events", status.events},
                {"max_attempts", status.max_attempts},
                {"timeout", to_string(status.timeout)},
                {"state", status.disabled_at ? "disabled" : "enabled"},
                {"disabled_at", optional_time(status.disabled_at)},
                {"disabled_reason", status.disabled_reason},
                {"cursor", status.cursor},
                {"pending", status.pending},
                {"delivered", status.delivered},
                {"dead", status.dead},
                {"last_attempt_at", optional_time(status.last_attempt_at)},
                {"last_status", status.last_status},
                {"last_error", status.last_error}};
}

}  // namespace infrastructure_sdk
