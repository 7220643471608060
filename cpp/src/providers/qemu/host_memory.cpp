#include "providers/qemu/host_memory.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

std::string shown(std::uint64_t bytes) { return std::to_string(bytes >> 20) + "Mi"; }

std::string read_all(const char* path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

HostMemory parse_host_memory(const std::string& meminfo, const std::string& stalls) {
    HostMemory memory;
    std::istringstream lines(meminfo);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string name;
        std::uint64_t kib = 0;
        if (!(words >> name >> kib)) continue;
        if (name == "MemTotal:") memory.total_bytes = kib << 10;
        if (name == "MemAvailable:") memory.available_bytes = kib << 10;
    }
    // "full avg10=0.00 avg60=0.00 ...": nobody could run for want of memory.
    const std::string start = "full avg10=";
    if (auto at = stalls.find(start); at != std::string::npos)
        memory.pressure = std::strtod(stalls.c_str() + at + start.size(), nullptr);
    return memory;
}

HostMemory look_at_memory() { return parse_host_memory(read_all("/proc/meminfo"), read_all("/proc/pressure/memory")); }

std::uint64_t memory_reserve(const HostMemory& memory) {
    constexpr std::uint64_t least = 128ull << 20;
    return std::max(memory.total_bytes / 32, least);
}

void check_free_memory(std::uint64_t needed, const HostMemory& memory) {
    if (memory.total_bytes == 0 || memory.available_bytes == 0) return;
    constexpr double stalled = 20.0;
    const auto reserve = memory_reserve(memory);
    const auto free = memory.available_bytes > reserve ? memory.available_bytes - reserve : 0;
    const bool stalls = memory.pressure.value_or(0) >= stalled;
    if (needed <= free && !stalls) return;
    auto why = stalls ? std::string("the host's processes are waiting for memory")
                      : "the VM needs " + shown(needed) + " with QEMU's own, and the host has " + shown(free) +
                            " free (" + shown(reserve) + " are kept for itself)";
    throw Error(Errc::capacity, "memory: " + why + "; suspend or end sessions, or ask for less",
                {{"field", "resources.memory"},
                 {"value", shown(needed)},
                 {"allowed", "at most " + shown(free)},
                 {"reason", "HostMemoryPressure"}});
}

}  // namespace infrastructure_sdk::qemu
