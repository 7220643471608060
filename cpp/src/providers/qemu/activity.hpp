#pragma once
// Answers of QEMU, the kernel and the guest, read as numbers. Pure: what does not fit is nullopt.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/vm/guest_agent.hpp>

namespace infrastructure_sdk::qemu {

/// The threads of the vCPUs, each once (emulated CPUs may share one), from `query-cpus-fast`.
std::optional<std::vector<std::int64_t>> vcpu_threads(const nlohmann::json& answer);
/// Nanoseconds on a CPU, from /proc/PID/task/TID/schedstat.
std::optional<std::uint64_t> cpu_nanoseconds(const std::string& schedstat);

struct Transferred {
    std::uint64_t in = 0;   ///< read, received
    std::uint64_t out = 0;  ///< written, sent
    friend bool operator==(const Transferred&, const Transferred&) = default;
};
/// Bytes of all disks together, from `query-blockstats`.
std::optional<Transferred> disk_bytes(const nlohmann::json& answer);
/// Bytes of all interfaces but the loopback. nullopt when one does not count.
std::optional<Transferred> network_bytes(const std::vector<GuestInterface>& interfaces);
/// From `query-vnc`.
std::optional<std::uint32_t> vnc_clients(const nlohmann::json& answer);
/// Interrupts of the keyboard and pointer that QEMU gives a PC and of its virtio tablet, from the guest's
/// /proc/interrupts and /proc/bus/input/devices.
std::optional<std::uint64_t> input_interrupts(const std::string& interrupts, const std::string& devices);

}  // namespace infrastructure_sdk::qemu
