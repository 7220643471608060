#pragma once
// Which CPUs of the host a pinned VM gets. The choice is pure; the shell asks the kernel and tells it.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace infrastructure_sdk::qemu {

/// The CPUs that this process may use, each with the core that it is a thread of.
using HostCpus = std::map<int, int>;

/// `count` CPUs that are not taken, whole free cores first, so that two VMs share a core only when they must. One CPU
/// is always left to the host.
/// @throws Error(capacity, field=pin_cpus) when there are not as many.
std::vector<int> place_cpus(const HostCpus& host, const std::set<int>& taken, int count);

HostCpus look_at_cpus();
/// Pins each thread to its CPU; a thread that serves several CPUs gets them all. @returns why not; empty = done
std::string pin_threads(const std::vector<std::int64_t>& threads, const std::vector<int>& cpus);

}  // namespace infrastructure_sdk::qemu
