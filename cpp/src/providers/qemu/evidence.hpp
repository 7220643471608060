#pragma once
// What facts are asked of QEMU's monitor and of the guest agent.

#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/vm/guest_agent.hpp>

namespace infrastructure_sdk::qemu {

struct MonitorRequest {
    std::string command;
    nlohmann::json arguments;
    std::string locator;
};
/// Of "qmp:query-x", "hmp:info x", "qom:<path>:<property>" and "qomlist:<path>"; nullopt for other names. These only
/// read. Pure.
std::optional<MonitorRequest> monitor_request(const std::string& fact);

/// {"machine_id","host_keys"}: digests. An absent file is an empty digest or no key. @throws what the agent throws.
Task<nlohmann::json> guest_identity(std::shared_ptr<GuestAgent> agent, Call call);

}  // namespace infrastructure_sdk::qemu
