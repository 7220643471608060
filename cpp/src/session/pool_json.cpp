#include "session/pool_json.hpp"

#include <array>
#include <cstdio>

#include <nlohmann/json.hpp>

#include "core/money.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

constexpr std::array<const char*, 3> state_names{"booting", "ready", "discarding"};
constexpr std::array<const char*, 7> day_names{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

json optional_time(const std::optional<WallTime>& time) { return time ? json(to_rfc3339(*time)) : json(nullptr); }

std::string time_of_day(int minute) {
    char text[16];
    std::snprintf(text, sizeof text, "%02d:%02d", minute / 60, minute % 60);
    return text;
}

}  // namespace

const char* name_of(UnitState state) noexcept { return state_names[static_cast<std::size_t>(state)]; }

void to_json(json& document, const PoolWindow& window) {
    json days = json::array();
    for (int day : window.days) days.push_back(day_names[static_cast<std::size_t>(day)]);
    document = {{"days", days},
                {"from", time_of_day(window.from_minute)},
                {"to", time_of_day(window.to_minute)},
                {"min", window.min}};
}

void to_json(json& document, const Pool& pool) {
    document = {{"name", pool.name}, {"template", pool.template_name},     {"min", pool.min},
                {"max", pool.max},   {"max_age", to_string(pool.max_age)}, {"schedule", pool.schedule}};
}

void to_json(json& document, const PoolUnit& unit) {
    document = {{"id", unit.id},
                {"pool", unit.pool},
                {"template", unit.template_name},
                {"state", name_of(unit.state)},
                {"vm_id", unit.vm_id.value},
                {"execution_id", unit.execution_id},
                {"resources",
                 {{"cpu", unit.cpu.to_string()},
                  {"memory", unit.memory.to_string()},
                  {"disk_size", unit.disk_size.to_string()}}},
                {"price_per_hour", money_text(unit.price_per_hour_micros)},
                {"mac_address", unit.mac_address},
                {"fingerprint", unit.fingerprint},
                {"files_suffice", unit.files_suffice},
                {"created_at", to_rfc3339(unit.created_at)},
                {"ready_at", optional_time(unit.ready_at)},
                {"reason", unit.reason}};
}

void to_json(json& document, const PoolStatus& status) {
    document = status.pool;
    document.update({{"drained", status.drained},
                     {"wanted", status.wanted},
                     {"ready", status.ready},
                     {"booting", status.booting},
                     {"discarding", status.discarding},
                     {"claimed", status.claimed},
                     {"warm_starts", status.warm_starts},
                     {"cold_starts", status.cold_starts},
                     {"problem", status.problem},
                     {"retry_at", optional_time(status.retry_at)},
                     {"units", status.units}});
}

PoolUnit pool_unit_from_json(const json& document) try {
    PoolUnit unit;
    unit.id = document.at("id");
    unit.pool = document.at("pool");
    unit.template_name = document.at("template");
    auto state = document.at("state").get<std::string>();
    for (std::size_t i = 0; i < state_names.size(); ++i)
        if (state == state_names[i]) unit.state = static_cast<UnitState>(i);
    unit.vm_id.value = document.at("vm_id");
    unit.execution_id = document.at("execution_id");
    const auto& resources = document.at("resources");
    unit.cpu = Quantity::parse(resources.at("cpu").get<std::string>(), "resources.cpu");
    unit.memory = Quantity::parse(resources.at("memory").get<std::string>(), "resources.memory");
    unit.disk_size = Quantity::parse(resources.at("disk_size").get<std::string>(), "resources.disk_size");
    unit.price_per_hour_micros = parse_money(document.value("price_per_hour", "0"), "price_per_hour");
    unit.mac_address = document.at("mac_address");
    unit.fingerprint = document.at("fingerprint");
    unit.files_suffice = document.value("files_suffice", false);
    unit.created_at = parse_rfc3339(document.at("created_at"));
    if (const auto& ready = document.at("ready_at"); !ready.is_null()) unit.ready_at = parse_rfc3339(ready);
    unit.reason = document.at("reason");
    return unit;
} catch (const json::exception& error) {
    throw Error(Errc::validation, std::string("a stored unit of a pool cannot be read: ") + error.what());
}

}  // namespace infrastructure_sdk
