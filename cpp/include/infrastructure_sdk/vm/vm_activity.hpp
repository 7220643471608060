#pragma once
// What can be seen of a VM's use from outside and from its agent.

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace infrastructure_sdk {

/// One look. A field without a value means "could not look"; `reasons` says why. Cumulative counters start anywhere and
/// grow within one execution. What comes from the guest's agent (network, users, input) is the guest's word.
struct VmActivity {
    std::optional<std::uint64_t> guest_cpu_ns;      ///< cumulative, all vCPUs together
    std::optional<std::uint64_t> network_rx_bytes;  ///< cumulative
    std::optional<std::uint64_t> network_tx_bytes;  ///< cumulative
    std::optional<std::uint64_t> disk_read_bytes;   ///< cumulative
    std::optional<std::uint64_t> disk_write_bytes;  ///< cumulative
    std::optional<std::uint64_t> input_events;      ///< cumulative: keys and pointer
    std::optional<std::uint32_t> vnc_clients;
    std::optional<std::uint32_t> forwarded_connections;
    std::optional<std::uint32_t> logged_in_users;
    std::optional<bool> agent_answered;
    /// By the name of the signal: guest_cpu, network, disk, input, connection, users, heartbeat.
    std::map<std::string, std::string> reasons;
};

}  // namespace infrastructure_sdk
