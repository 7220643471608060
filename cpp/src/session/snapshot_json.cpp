#include <nlohmann/json.hpp>

#include <array>

#include "core/document.hpp"
#include "session/session_plan.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/session/snapshot.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

constexpr std::array<const char*, 3> state_names{"creating", "ready", "deleting"};

}  // namespace

const char* name_of(SnapshotState state) noexcept { return state_names[static_cast<std::size_t>(state)]; }

SnapshotState parse_snapshot_state(const std::string& name) {
    for (std::size_t i = 0; i < state_names.size(); ++i)
        if (name == state_names[i]) return static_cast<SnapshotState>(i);
    throw Error(Errc::validation, "unknown snapshot state '" + name + "'; allowed: creating, ready, deleting",
                {{"field", "state"}, {"value", name}, {"allowed", "creating, ready, deleting"}});
}

void to_json(json& document, const Snapshot& snapshot) {
    document = {{"id", snapshot.id},
                {"name", snapshot.name},
                {"session_id", snapshot.session_id},
                {"user_id", snapshot.user_id},
                {"tenant", snapshot.tenant},
                {"template", snapshot.template_name},
                {"session_type", snapshot.session_type},
                {"session_state", name_of(snapshot.session_state)},
                {"state", name_of(snapshot.state)},
                {"mode", name_of(snapshot.mode)},
                {"consistent", snapshot.consistent},
                {"temporary", snapshot.temporary},
                {"vm_id", snapshot.vm_id.value},
                {"resources",
                 {{"cpu", snapshot.cpu.to_string()},
                  {"memory", snapshot.memory.to_string()},
                  {"disk_size", snapshot.disk_size.to_string()},
                  {"gpu_count", snapshot.gpu_count},
                  {"gpu_type", snapshot.gpu_type}}},
                {"network", snapshot.network ? json{{"mode", name_of(*snapshot.network)}, {"bridge", snapshot.bridge}}
                                             : json(nullptr)},
                {"encryption", name_of(snapshot.encryption)},
                {"memory_size_bytes", snapshot.memory_size_bytes},
                {"size_bytes", snapshot.size_bytes},
                {"virtual_size_bytes", snapshot.virtual_size_bytes},
                {"sha256", snapshot.sha256},
                {"created_at", to_rfc3339(snapshot.created_at)},
                {"version", snapshot.version}};
    for (const auto& limit : resource_limits)
        document["resources"][limit.name] = snapshot.limits ? json((*snapshot.limits).*limit.place) : json(nullptr);
}

Snapshot snapshot_from_json(const json& document) try {
    Snapshot snapshot;
    snapshot.id = document.at("id");
    snapshot.name = document.at("name");
    snapshot.session_id = document.at("session_id");
    snapshot.user_id = document.at("user_id");
    snapshot.tenant = document.value("tenant", "");
    snapshot.template_name = document.at("template");
    snapshot.session_type = document.at("session_type");
    snapshot.session_state = parse_session_state(document.at("session_state"));
    snapshot.state = parse_snapshot_state(document.at("state"));
    snapshot.mode = parse_snapshot_mode(document.at("mode"));
    snapshot.consistent = document.at("consistent");
    snapshot.temporary = document.at("temporary");
    snapshot.vm_id.value = document.at("vm_id");
    const auto& resources = document.at("resources");
    snapshot.cpu = Quantity::parse(resources.at("cpu").get<std::string>(), "resources.cpu");
    snapshot.memory = Quantity::parse(resources.at("memory").get<std::string>(), "resources.memory");
    snapshot.disk_size = Quantity::parse(resources.at("disk_size").get<std::string>(), "resources.disk_size");
    snapshot.gpu_count = resources.value("gpu_count", std::int64_t{0});
    snapshot.gpu_type = resources.value("gpu_type", "");
    if (auto iops = resources.value("disk_iops", json(nullptr)); !iops.is_null()) {
        snapshot.limits.emplace();
        for (const auto& limit : resource_limits) (*snapshot.limits).*limit.place = resources.at(limit.name);
    }
    if (auto network = document.value("network", json(nullptr)); !network.is_null()) {
        snapshot.network = parse_network_mode(network.at("mode"));
        snapshot.bridge = network.at("bridge");
    }
    snapshot.encryption = parse_encryption(document.value("encryption", "off"));
    snapshot.memory_size_bytes = document.value("memory_size_bytes", std::uint64_t{0});
    snapshot.size_bytes = document.at("size_bytes");
    snapshot.virtual_size_bytes = document.at("virtual_size_bytes");
    snapshot.sha256 = document.at("sha256");
    snapshot.created_at = parse_rfc3339(document.at("created_at"));
    snapshot.version = document.value("version", std::uint64_t{0});
    return snapshot;
} catch (const json::exception& error) {
    throw Error(Errc::validation, std::string("a stored snapshot cannot be read: ") + error.what());
}

}  // namespace infrastructure_sdk
