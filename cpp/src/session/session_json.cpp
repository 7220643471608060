#include <nlohmann/json.hpp>

#include <algorithm>

#include "core/did_you_mean.hpp"
#include "core/money.hpp"
#include "session/activity_json.hpp"
#include "session/session_plan.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/event.hpp>
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/session/session.hpp>
#include <infrastructure_sdk/session/snapshot.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

json optional_time(const std::optional<WallTime>& time) { return time ? json(to_rfc3339(*time)) : json(nullptr); }

std::optional<WallTime> read_time(const json& document, const char* key) {
    auto it = document.find(key);
    if (it == document.end() || it->is_null()) return std::nullopt;
    return parse_rfc3339(it->get<std::string>());
}

[[noreturn]] void reject(const std::string& field, const std::string& value, const std::string& allowed,
                         const std::string& hint = {}) {
    throw Error(Errc::validation,
                field + ": '" + value + "' is not allowed; " + allowed + (hint.empty() ? "" : "; " + hint),
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

std::string shown(const json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump().substr(0, 200);
}

void only_known(const json& document, const std::string& where, const std::vector<std::string>& known) {
    if (!document.is_object()) reject(where.empty() ? "request" : where, shown(document), "an object is needed");
    for (const auto& [key, value] : document.items()) {
        if (std::find(known.begin(), known.end(), key) != known.end()) continue;
        std::string allowed = "known fields:";
        for (const auto& name : known) allowed += " " + name;
        auto guess = did_you_mean(key, known);
        reject(where.empty() ? key : where + "." + key, shown(value), allowed,
               guess.empty() ? "" : "did you mean '" + guess + "'?");
    }
}

std::string text(const json& document, const char* key, const std::string& fallback) {
    auto it = document.find(key);
    if (it == document.end() || it->is_null()) return fallback;
    if (!it->is_string()) reject(key, shown(*it), "a text is needed");
    return it->get<std::string>();
}

std::optional<Quantity> quantity(const json& document, const char* key) {
    auto it = document.find(key);
    if (it == document.end() || it->is_null()) return std::nullopt;
    auto field = "resources." + std::string(key);
    if (!it->is_string() && !it->is_number_integer())
        reject(field, shown(*it), "a Kubernetes quantity is needed, e.g. \"4Gi\"");
    auto value = Quantity::parse(it->is_string() ? it->get<std::string>() : it->dump(), field);
    if (value.milli() == 0) reject(field, shown(*it), "it must be above zero");
    return value;
}

void printable(const std::string& field, const std::string& value, std::size_t most) {
    bool good = !value.empty() && value.size() <= most &&
                std::none_of(value.begin(), value.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (!good)
        reject(field, json(value).dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 200),
               "1 to " + std::to_string(most) + " characters without control characters are needed");
}

/// Absent or empty = none.
std::string tenant(const json& document) {
    auto value = text(document, "tenant", "");
    if (!value.empty()) printable("tenant", value, 128);
    return value;
}

/// A mode, or {"mode", "bridge"}.
void read_network(const json& document, ResourceSpec& spec) {
    auto it = document.find("network");
    if (it == document.end() || it->is_null()) return;
    const auto value = it->is_string() ? json{{"mode", *it}} : *it;
    if (!value.is_object())
        reject("resources.network", shown(*it), "a mode, or an object of mode and bridge, is needed");
    only_known(value, "resources.network", {"mode", "bridge"});
    const auto mode = text(value, "mode", "");
    spec.bridge = text(value, "bridge", "");
    if (!mode.empty()) spec.network = parse_network_mode(mode);
    if (spec.network == NetworkMode::bridge) {
        if (!is_interface_name(spec.bridge))
            reject("resources.network.bridge", shown(spec.bridge), "the name of a bridge of the host is needed");
    } else if (!spec.bridge.empty()) {
        reject("resources.network.bridge", shown(spec.bridge), "only the mode bridge has one");
    }
}

ResourceSpec resources(const json& document) {
    only_known(document, "resources",
               {"cpu", "memory", "disk_size", "disk_iops", "disk_bandwidth", "network_bandwidth", "gpu_count",
                "gpu_type", "network"});
    ResourceSpec spec;
    spec.cpu = quantity(document, "cpu");
    spec.memory = quantity(document, "memory");
    spec.disk_size = quantity(document, "disk_size");
    spec.disk_iops = quantity(document, "disk_iops");
    spec.disk_bandwidth = quantity(document, "disk_bandwidth");
    spec.network_bandwidth = quantity(document, "network_bandwidth");
    read_network(document, spec);
    if (auto it = document.find("gpu_count"); it != document.end() && !it->is_null()) {
        if (!it->is_number_integer()) reject("resources.gpu_count", shown(*it), "an integer of 0 to 64 is needed");
        // What does not fit is refused by its text.
        auto count = it->is_number_unsigned() && it->get<std::uint64_t>() > 64 ? 65 : it->get<std::int64_t>();
        if (count < 0 || count > 64) reject("resources.gpu_count", shown(*it), "an integer of 0 to 64 is needed");
        spec.gpu_count = count;
    }
    if (auto it = document.find("gpu_type"); it != document.end() && !it->is_null()) {
        if (!it->is_string()) reject("resources.gpu_type", shown(*it), "a text is needed");
        spec.gpu_type = it->get<std::string>();
        if (!spec.gpu_type.empty()) printable("resources.gpu_type", spec.gpu_type, 64);
    }
    return spec;
}

Charge read_charge(const json& document) {
    Charge charge;
    // Sessions of earlier releases had no price and keep none.
    auto cost = document.find("cost");
    if (cost == document.end()) return charge;
    charge.price_per_hour_micros = parse_money(cost->at("price_per_hour").get<std::string>(), "cost.price_per_hour");
    charge.since = read_time(*cost, "since");
    for (const auto& [month, time] : cost->at("charged").items())
        charge.charged[parse_month(month, "cost.charged")] = parse_duration(time.get<std::string>(), "cost.charged");
    return charge;
}

std::optional<Duration> duration(const json& document, const char* field) {
    auto it = document.find(field);
    if (it == document.end() || it->is_null()) return std::nullopt;
    if (!it->is_string()) reject(field, shown(*it), "a duration is needed, e.g. \"2h\"");
    return parse_duration(it->get<std::string>(), field);
}

std::map<std::string, std::string> tags(const json& document) {
    std::map<std::string, std::string> result;
    auto it = document.find("tags");
    if (it == document.end() || it->is_null()) return result;
    if (!it->is_object()) reject("tags", shown(*it), "an object of texts is needed");
    for (const auto& [key, value] : it->items()) {
        printable("tags", key, 128);
        if (!value.is_string()) reject("tags." + key, shown(value), "a text is needed");
        result[key] = value.get<std::string>();
    }
    return result;
}

}  // namespace

// Key by key: an initializer list builds every value three times, and every transition writes a session.
void to_json(json& document, const Condition& condition) {
    document = json::object();
    document["type"] = condition.type;
    document["status"] = condition.status;
    document["reason"] = condition.reason;
    document["message"] = condition.message;
    document["since"] = to_rfc3339(condition.since);
}

void to_json(json& document, const Hold& hold) {
    document = {{"name", hold.name}, {"until", to_rfc3339(hold.until)}, {"note", hold.note}};
}

void to_json(json& document, const StateChange& change) {
    document = {{"at", to_rfc3339(change.at)},
                {"from", name_of(change.from)},
                {"to", name_of(change.to)},
                {"reason", change.reason}};
}

void to_json(json& document, const Charge& charge) {
    document = json::object();
    document["price_per_hour"] = money_text(charge.price_per_hour_micros);
    document["since"] = optional_time(charge.since);
    auto& charged = document["charged"] = json::object();
    for (const auto& [month, time] : charge.charged) charged[month_text(month)] = to_string(time);
}

void to_json(json& document, const Session& session) {
    document = json::object();
    document["id"] = session.id;
    document["user_id"] = session.user_id;
    document["tenant"] = session.tenant;
    document["template"] = session.template_name;
    document["session_type"] = session.session_type;
    document["state"] = name_of(session.state);
    document["desired"] = session.desired;
    document["generation"] = session.generation;
    document["observed_generation"] = session.observed_generation;
    document["suspend_mode"] = session.suspend_mode ? json(*session.suspend_mode) : json(nullptr);
    document["vm_id"] = session.vm_id.value;
    document["execution_id"] = session.execution_id;
    auto& resources = document["resources"];
    resources["cpu"] = session.cpu.to_string();
    resources["memory"] = session.memory.to_string();
    resources["disk_size"] = session.disk_size.to_string();
    for (const auto& limit : resource_limits)
        resources[limit.name] = session.limits ? json((*session.limits).*limit.place) : json(nullptr);
    resources["gpu_count"] = session.gpu_count;
    resources["gpu_type"] = session.gpu_type;
    resources["network"] =
        session.network ? json{{"mode", name_of(*session.network)}, {"bridge", session.bridge}} : json(nullptr);
    document["cost"] = session.charge;
    // For who reads it; the rest of `cost` is what it follows from.
    document["cost"]["this_month"] =
        money_text(cost_in_month(session.charge, month_of(session.observed_at), session.observed_at));
    document["snapshot"] = session.snapshot.empty() ? json(nullptr) : json(session.snapshot);
    document["encryption"] = name_of(session.encryption);
    document["provider"] = session.provider;
    document["accelerator"] = session.accelerator;
    document["mac_address"] = session.mac_address;
    document["launch_type"] = session.pool.empty() ? "cold" : "warm";
    document["launched_from"] = session.launch.from;
    document["launch_reason"] = session.launch.reason;
    document["pool"] = session.pool;
    document["pool_unit"] = session.pool_unit;
    document["created_at"] = to_rfc3339(session.created_at);
    document["updated_at"] = to_rfc3339(session.updated_at);
    document["observed_at"] = to_rfc3339(session.observed_at);
    document["expires_at"] = optional_time(session.expires_at);
    document["clocks"] = session.clocks;
    document["warned_until"] = to_rfc3339(session.warned_until);
    document["holds"] = session.holds;
    document["last_change"] = session.last_change ? json(*session.last_change) : json(nullptr);
    document["last_activity_at"] = optional_time(session.last_activity_at);
    document["termination_reason"] =
        session.termination_reason ? json(name_of(*session.termination_reason)) : json(nullptr);
    auto& failure = document["failure"];
    failure["reason"] = session.failure_reason;
    failure["message"] = session.failure_message;
    failure["channel"] = session.failure_channel;
    auto& restart = document["restart"];
    restart["attempts"] = session.restart.attempts;
    restart["next_at"] = optional_time(session.restart.next_at);
    document["tags"] = session.tags;
    document["conditions"] = session.conditions;
    document["version"] = session.version;
}

void to_json(json& document, const SessionPage& page) { document = {{"sessions", page.sessions}, {"next", page.next}}; }

void to_json(json& document, const Event& event) {
    document = {{"sequence", event.sequence},
                {"time", to_rfc3339(event.time)},
                {"type", event.type},
                {"subject", event.subject},
                {"execution_id", event.execution_id},
                {"correlation_id", event.correlation_id},
                {"data", json::parse(event.data, nullptr, false)}};
}

Session session_from_json(const json& document) try {
    Session session;
    session.id = document.at("id");
    session.user_id = document.at("user_id");
    session.tenant = document.value("tenant", "");
    session.template_name = document.at("template");
    session.session_type = document.at("session_type");
    session.state = parse_session_state(document.at("state"));
    session.desired = document.at("desired");
    session.generation = document.at("generation");
    session.observed_generation = document.at("observed_generation");
    if (!document.at("suspend_mode").is_null()) session.suspend_mode = document.at("suspend_mode").get<std::string>();
    session.vm_id.value = document.at("vm_id");
    session.execution_id = document.at("execution_id");
    const auto& resources = document.at("resources");
    session.cpu = Quantity::parse(resources.at("cpu").get<std::string>(), "resources.cpu");
    session.memory = Quantity::parse(resources.at("memory").get<std::string>(), "resources.memory");
    session.disk_size = Quantity::parse(resources.at("disk_size").get<std::string>(), "resources.disk_size");
    if (resources.contains("disk_iops") && !resources.at("disk_iops").is_null()) {
        session.limits.emplace();
        for (const auto& limit : resource_limits) (*session.limits).*limit.place = resources.at(limit.name);
    }
    session.gpu_count = resources.value("gpu_count", std::int64_t{0});
    session.gpu_type = resources.value("gpu_type", "");
    if (auto network = resources.value("network", json(nullptr)); !network.is_null()) {
        session.network = parse_network_mode(network.at("mode"));
        session.bridge = network.at("bridge");
    }
    session.charge = read_charge(document);
    session.snapshot = text(document, "snapshot", "");
    session.encryption = parse_encryption(document.value("encryption", "off"));
    session.provider = document.at("provider");
    session.accelerator = document.at("accelerator");
    session.mac_address = document.at("mac_address");
    session.launch = {text(document, "launched_from", ""), text(document, "launch_reason", "")};
    session.pool = document.value("pool", "");
    session.pool_unit = document.value("pool_unit", "");
    session.created_at = parse_rfc3339(document.at("created_at"));
    session.updated_at = parse_rfc3339(document.at("updated_at"));
    session.observed_at = parse_rfc3339(document.at("observed_at"));
    session.expires_at = read_time(document, "expires_at");
    session.clocks = session_clocks_from_json(document.at("clocks"));
    session.warned_until = parse_rfc3339(document.at("warned_until"));
    for (const auto& hold : document.at("holds"))
        session.holds.push_back({hold.at("name"), parse_rfc3339(hold.at("until")), hold.at("note")});
    if (const auto& change = document.at("last_change"); !change.is_null())
        session.last_change = StateChange{parse_rfc3339(change.at("at")), parse_session_state(change.at("from")),
                                          parse_session_state(change.at("to")), change.at("reason").get<std::string>()};
    session.last_activity_at = read_time(document, "last_activity_at");
    if (const auto& reason = document.at("termination_reason"); !reason.is_null()) {
        for (int i = 0; i <= static_cast<int>(TerminationReason::startup_failed); ++i)
            if (reason.get<std::string>() == name_of(static_cast<TerminationReason>(i)))
                session.termination_reason = static_cast<TerminationReason>(i);
    }
    const auto& failure = document.at("failure");
    session.failure_reason = failure.at("reason");
    session.failure_message = failure.at("message");
    session.failure_channel = failure.at("channel");
    if (auto restart = document.find("restart"); restart != document.end()) {
        session.restart.attempts = restart->at("attempts");
        session.restart.next_at = read_time(*restart, "next_at");
    }
    session.tags = document.at("tags").get<std::map<std::string, std::string>>();
    for (const auto& item : document.at("conditions")) {
        session.conditions.push_back({item.at("type"), item.at("status"), item.at("reason"), item.at("message"),
                                      parse_rfc3339(item.at("since"))});
    }
    session.version = document.value("version", std::uint64_t{0});
    return session;
} catch (const json::exception& error) {
    throw Error(Errc::validation, std::string("a stored session cannot be read: ") + error.what());
}

SessionRequest session_request_from_json(const json& document) {
    only_known(document, "",
               {"user_id", "tenant", "template", "snapshot", "session_type", "resources", "encryption", "ttl",
                "idle_timeout", "disconnect_timeout", "retention", "on_expiry", "tags"});
    SessionRequest request;
    request.user_id = text(document, "user_id", "");
    printable("user_id", request.user_id, 128);
    request.tenant = tenant(document);
    request.template_name = text(document, "template", request.template_name);
    request.snapshot = text(document, "snapshot", "");
    request.session_type = text(document, "session_type", request.session_type);
    if (request.session_type != "desktop" && request.session_type != "shell")
        reject("session_type", request.session_type, "allowed: desktop, shell");
    if (auto it = document.find("resources"); it != document.end() && !it->is_null())
        request.resources = resources(*it);
    if (auto it = document.find("encryption"); it != document.end() && !it->is_null())
        request.encryption = parse_encryption(it->is_string() ? it->get<std::string>() : shown(*it));
    request.ttl = duration(document, "ttl");
    if (request.ttl == Duration::zero()) reject("ttl", shown(document.at("ttl")), "it must be above zero");
    request.idle_timeout = duration(document, "idle_timeout");
    request.disconnect_timeout = duration(document, "disconnect_timeout");
    request.retention = duration(document, "retention");
    if (auto it = document.find("on_expiry"); it != document.end() && !it->is_null()) {
        only_known(*it, "on_expiry", {"ttl", "idle_timeout", "disconnect_timeout", "retention"});
        for (const auto& [clock, action] : it->items()) {
            if (!action.is_string())
                reject("on_expiry." + clock, shown(action), "allowed: disconnect, suspend, terminate");
            request.on_expiry[parse_clock_kind(clock)] = parse_on_expiry(action.get<std::string>());
        }
    }
    request.tags = tags(document);
    return request;
}

ForkRequest fork_request_from_json(const json& document) {
    only_known(document, "", {"source", "mode", "count", "user_id", "ttl", "tags"});
    ForkRequest request;
    request.source = text(document, "source", "");
    printable("source", request.source, 128);
    request.mode = parse_snapshot_mode(text(document, "mode", name_of(SnapshotMode::disk)));
    if (auto it = document.find("count"); it != document.end() && !it->is_null()) {
        if (!it->is_number_integer() || it->get<std::int64_t>() < 1 || it->get<std::int64_t>() > 100)
            reject("count", shown(*it), "1 to 100");
        request.count = it->get<int>();
    }
    if (auto user = document.find("user_id"); user != document.end() && !user->is_null()) {
        request.user_id = text(document, "user_id", "");
        printable("user_id", *request.user_id, 128);
    }
    if (auto it = document.find("ttl"); it != document.end() && !it->is_null()) {
        if (!it->is_string()) reject("ttl", shown(*it), "a duration is needed, e.g. \"2h\"");
        request.ttl = parse_duration(it->get<std::string>(), "ttl");
        if (*request.ttl == Duration::zero()) reject("ttl", shown(*it), "it must be above zero");
    }
    request.tags = tags(document);
    return request;
}

SessionFilter session_filter_from_json(const json& document) {
    only_known(document, "", {"user_id", "tenant", "states", "tags", "after", "limit"});
    SessionFilter filter;
    if (auto user = text(document, "user_id", ""); !user.empty()) filter.user_id = user;
    if (auto name = tenant(document); !name.empty()) filter.tenant = name;
    if (auto it = document.find("states"); it != document.end() && !it->is_null()) {
        if (!it->is_array()) reject("states", shown(*it), "a list of states is needed");
        for (const auto& name : *it) filter.states.push_back(parse_session_state(shown(name)));
    }
    filter.tags = tags(document);
    filter.after = text(document, "after", "");
    if (auto it = document.find("limit"); it != document.end() && !it->is_null()) {
        if (!it->is_number_integer() || it->get<std::int64_t>() < 1 || it->get<std::int64_t>() > 1000)
            reject("limit", shown(*it), "1 to 1000");
        filter.limit = it->get<std::size_t>();
    }
    return filter;
}

}  // namespace infrastructure_sdk
