#pragma once
// The host's memory as it is now, and whether another VM fits into it.

#include <cstdint>
#include <optional>
#include <string>

namespace infrastructure_sdk::qemu {

struct HostMemory {
    std::uint64_t total_bytes = 0;      ///< 0 = not known
    std::uint64_t available_bytes = 0;  ///< without swapping, as the kernel estimates it
    std::optional<double> pressure;     ///< per cent of the last 10 s in which all processes waited for memory
};

/// Pure. @param meminfo the text of /proc/meminfo. @param stalls that of /proc/pressure/memory; empty without PSI
HostMemory parse_host_memory(const std::string& meminfo, const std::string& stalls);
HostMemory look_at_memory();

/// What is left to the host itself: 1/32 of its memory, at least 128 MiB.
std::uint64_t memory_reserve(const HostMemory& memory);
/// Pure. A host that does not tell refuses nothing.
/// @throws Error(capacity, reason=HostMemoryPressure) when `needed` bytes are not there, or everybody waits for memory
void check_free_memory(std::uint64_t needed, const HostMemory& memory);

}  // namespace infrastructure_sdk::qemu
