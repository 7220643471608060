#include <nlohmann/json.hpp>

#include "session/amounts.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

json amount_json(LimitResource resource, std::int64_t amount) {
    return is_count(resource) ? json(amount) : json(amount_text(resource, amount));
}

[[noreturn]] void reject(const std::string& field, const std::string& allowed) {
    throw Error(Errc::validation, "a stored reservation cannot be read: " + field + ": " + allowed,
                {{"field", field}, {"allowed", allowed}});
}

const json& member(const json& document, const std::string& path, const char* key) {
    if (!document.is_object()) reject(path.empty() ? "reservation" : path, "an object is needed");
    auto found = document.find(key);
    if (found == document.end()) reject(path.empty() ? key : path + "." + key, "it is missing");
    return *found;
}

std::string text(const json& document, const char* key) {
    const auto& value = member(document, "", key);
    if (!value.is_string()) reject(key, "a text is needed");
    return value.get<std::string>();
}

std::int64_t read_amount(const json& document, LimitResource resource) {
    const char* key = name_of(resource);
    const auto& value = member(document, "amounts", key);
    auto field = std::string("amounts.") + key;
    if (is_count(resource) ? !value.is_number_integer() : !value.is_string())
        reject(field, is_count(resource) ? "an integer is needed" : "a text is needed");
    return parse_amount(resource, value.is_string() ? value.get<std::string>() : value.dump(), field);
}

}  // namespace

void to_json(json& document, const Amounts& amounts) {
    document = json::object();
    for (auto resource : limit_resources) document[name_of(resource)] = amount_json(resource, amounts.of(resource));
}

void to_json(json& document, const Limit& limit) {
    document = {{"scope", name_of(limit.scope)},
                {"subject", limit.subject},
                {"resource", name_of(limit.resource)},
                {"value", amount_json(limit.resource, limit.value)}};
}

void to_json(json& document, const Reservation& reservation) {
    document = json::object();
    document["session_id"] = reservation.session_id;
    document["user_id"] = reservation.user_id;
    document["tenant"] = reservation.tenant;
    document["template"] = reservation.template_name;
    document["warm"] = reservation.warm;
    document["amounts"] = reservation.amounts;
    document["gpu_type"] = reservation.gpu_type;
}

void to_json(json& document, const Denial& denial) {
    if (!denial.policy.empty()) {
        document = {{"policy", denial.policy},
                    {"reason", denial.reason},
                    {"help", denial.help()},
                    {"code", name_of(denial.to_error().errc())},
                    {"message", denial.message()}};
        return;
    }
    auto amount = [&](std::int64_t value) { return amount_json(denial.limit.resource, value); };
    document = {{"limit", denial.limit},           {"subject", denial.subject},
                {"in_use", amount(denial.in_use)}, {"requested", amount(denial.requested)},
                {"holders", denial.holders},       {"holder_count", denial.holder_count},
                {"help", denial.help()},           {"code", name_of(denial.to_error().errc())},
                {"message", denial.message()}};
    if (!is_money(denial.limit.resource)) return;
    document["spent"] = amount(denial.spent);
    document["currency"] = denial.currency;
    document["renews_at"] = denial.renews_at ? json(to_rfc3339(*denial.renews_at)) : json(nullptr);
}

void to_json(json& document, const UsageLine& line) {
    auto amount = [&](std::int64_t value) { return amount_json(line.limit.resource, value); };
    document = {{"limit", line.limit},         {"subject", line.subject},           {"in_use", amount(line.in_use)},
                {"free", amount(line.free)},   {"holder_count", line.holder_count}, {"warm", amount(line.warm)},
                {"spent", amount(line.spent)}, {"currency", line.currency}};
}

Reservation reservation_from_json(const json& document) {
    Reservation reservation;
    reservation.session_id = text(document, "session_id");
    reservation.user_id = text(document, "user_id");
    reservation.tenant = text(document, "tenant");
    reservation.template_name = text(document, "template");
    const auto& warm = member(document, "", "warm");
    if (!warm.is_boolean()) reject("warm", "true or false is needed");
    reservation.warm = warm.get<bool>();
    const auto& amounts = member(document, "", "amounts");
    for (auto resource : limit_resources) reservation.amounts.of(resource) = read_amount(amounts, resource);
    // Earlier releases did not know it.
    if (document.contains("gpu_type")) reservation.gpu_type = text(document, "gpu_type");
    return reservation;
}

}  // namespace infrastructure_sdk
