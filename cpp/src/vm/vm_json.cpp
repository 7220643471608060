#include <nlohmann/json.hpp>

#include "core/money.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/vm/template.hpp>
#include <infrastructure_sdk/vm/vm.hpp>
#include <infrastructure_sdk/vm/vm_provider.hpp>

namespace infrastructure_sdk {

void to_json(nlohmann::json& document, const ProcessIdentity& identity) {
    document = {{"boot_id", identity.boot_id},
                {"pid", identity.pid},
                {"start_time_ticks", identity.start_time_ticks},
                {"vm_uuid", identity.vm_uuid}};
}

void to_json(nlohmann::json& document, const LimitStatus& status) {
    document = {{"resource", status.resource},
                {"limit", status.limit},
                {"enforced_by", status.enforced_by.empty() ? "unavailable" : status.enforced_by},
                {"reason", status.reason}};
}

void to_json(nlohmann::json& document, const VmStatus& status) {
    document = {{"id", status.id.value},
                {"state", name_of(status.state)},
                {"reason", status.reason},
                {"message", status.message},
                {"accelerator", status.accelerator},
                {"process", status.process ? nlohmann::json(*status.process) : nlohmann::json(nullptr)},
                {"owner_session", status.owner_session},
                {"execution_id", status.execution_id},
                {"launched_from", status.launch.from},
                {"launch_reason", status.launch.reason},
                {"limits", status.limits},
                {"host_cpus", status.host_cpus},
                {"observed_at", to_rfc3339(status.observed_at)}};
}

void to_json(nlohmann::json& document, const Capabilities& capabilities) {
    document = {{"provider", capabilities.provider},
                {"accelerator", capabilities.accelerator},
                {"accelerator_reason", capabilities.accelerator_reason},
                {"timeout_scale", capabilities.timeout_scale},
                {"suspend_modes", capabilities.suspend_modes},
                {"concurrent_boots", capabilities.concurrent_boots},
                {"pause", capabilities.pause},
                {"snapshot", capabilities.snapshot},
                {"memory_snapshot", capabilities.memory_snapshot},
                {"live_migration", capabilities.live_migration},
                {"console", capabilities.console},
                {"screenshot", capabilities.screenshot},
                {"input", capabilities.input},
                {"guest_exec", capabilities.guest_exec},
                {"forward", capabilities.forward},
                {"disconnect", capabilities.disconnect},
                {"gpus", capabilities.gpus},
                {"gpu_reason", capabilities.gpu_reason},
                {"limits", capabilities.limits},
                {"separate_uids", capabilities.separate_uids},
                {"pin_cpus", capabilities.pin_cpus},
                {"watchdog", capabilities.watchdog},
                {"firmware", capabilities.firmware},
                {"tpm", capabilities.tpm},
                {"networks", capabilities.networks},
                {"encryption", capabilities.encryption}};
}

void to_json(nlohmann::json& document, const UserKeys& user) {
    auto keys = nlohmann::json::array();
    for (const auto& key : user.keys) keys.push_back({{"id", key.id}, {"created_at", to_rfc3339(key.created_at)}});
    document = {{"user_id", user.user_id}, {"keys", keys}};
}

void to_json(nlohmann::json& document, const KeyRotation& rotation) {
    document = {{"user_id", rotation.user_id},
                {"key", rotation.key},
                {"vms", rotation.vms},
                {"disks", rotation.disks},
                {"snapshots", rotation.snapshots}};
}

void to_json(nlohmann::json& document, const Template& value) {
    document = {{"name", value.name},
                {"description", value.description},
                {"os", value.os},
                {"image", value.image},
                {"machine", value.machine},
                {"firmware", name_of(value.firmware)},
                {"tpm", value.tpm},
                {"enlightenments", value.enlightenments},
                {"clock", name_of(value.clock)},
                {"cpu", value.cpu.to_string()},
                {"memory", value.memory.to_string()},
                {"disk_size", value.disk_size.to_string()},
                {"disk_iops", value.limits.disk_iops},
                {"disk_bandwidth", value.limits.disk_bytes_per_second},
                {"network_bandwidth", value.limits.network_bytes_per_second},
                {"pin_cpus", value.pin_cpus},
                {"watchdog", value.watchdog},
                {"display", value.display},
                {"network", {{"mode", name_of(value.network)}, {"bridge", value.bridge}}},
                {"channels", value.channels},
                {"boot_timeout", to_string(value.boot_timeout)},
                {"encryption", name_of(value.encryption)},
                {"isolation", value.isolation == IsolationGate::report ? "report" : "isolated"},
                {"on_drift", value.on_drift == DriftAction::report ? "report" : "suspend"},
                {"price_per_hour", money_text(value.price_per_hour_micros)},
                {"gpu_price_per_hour", money_text(value.gpu_price_per_hour_micros)},
                {"restart",
                 {{"policy", value.restart.policy == RestartPolicy::never ? "never" : "on_failure"},
                  {"max_attempts", value.restart.max_attempts},
                  {"backoff", to_string(value.restart.backoff)},
                  {"window", to_string(value.restart.window)}}}};
}

}  // namespace infrastructure_sdk
