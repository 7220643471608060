#include "providers/qemu/cpu_placement.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include <sched.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {

std::vector<int> place_cpus(const HostCpus& host, const std::set<int>& taken, int count) {
    std::set<int> busy_cores;
    for (const auto& [cpu, core] : host)
        if (taken.contains(cpu)) busy_cores.insert(core);
    std::vector<int> quiet, shared;
    for (const auto& [cpu, core] : host)
        if (!taken.contains(cpu)) (busy_cores.contains(core) ? shared : quiet).push_back(cpu);
    // Threads of one core stay together.
    std::stable_sort(quiet.begin(), quiet.end(), [&](int a, int b) { return host.at(a) < host.at(b); });
    quiet.insert(quiet.end(), shared.begin(), shared.end());
    const auto wanted = static_cast<std::size_t>(count);
    const auto free = quiet.empty() ? 0 : quiet.size() - 1;
    if (wanted > free)
        throw Error(Errc::capacity,
                    "pin_cpus: '" + std::to_string(count) + "' CPUs cannot be pinned: the host has " +
                        std::to_string(host.size()) + ", " + std::to_string(taken.size()) +
                        " are other VMs' and one stays free; at most " + std::to_string(free),
                    {{"field", "pin_cpus"},
                     {"value", std::to_string(count)},
                     {"allowed", "at most " + std::to_string(free)},
                     {"reason", "NoFreeCpus"}});
    quiet.resize(wanted);
    return quiet;
}

HostCpus look_at_cpus() {
    HostCpus cpus;
    cpu_set_t allowed;
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return cpus;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        // The first of "0,4" or "0-1" names the core.
        std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
        int core = cpu;
        if (!(file >> core)) core = cpu;
        cpus[cpu] = core;
    }
    return cpus;
}

std::string pin_threads(const std::vector<std::int64_t>& threads, const std::vector<int>& cpus) {
    if (threads.empty()) return "QEMU names no thread of a CPU";
    for (std::size_t i = 0; i < threads.size(); ++i) {
        cpu_set_t chosen;
        CPU_ZERO(&chosen);
        if (threads.size() == cpus.size()) CPU_SET(cpus[i], &chosen);
        else
            for (int cpu : cpus) CPU_SET(cpu, &chosen);
        if (::sched_setaffinity(static_cast<pid_t>(threads[i]), sizeof chosen, &chosen) != 0)
            return "thread " + std::to_string(threads[i]) + ": " + std::strerror(errno);
    }
    return {};
}

}  // namespace infrastructure_sdk::qemu
