#pragma once
// The shell around limit_plan: looks at this process's control groups, makes those of VMs, removes them. Blocking.

#include <cstdint>
#include <string>
#include <vector>

#include "providers/qemu/limit_plan.hpp"

namespace infrastructure_sdk::qemu {

/// What an installation calls its groups: 12 hex digits from the path of its state directory.
std::string installation_name(const std::string& state_directory);

/// What this process may use. Changes nothing. Groups of VMs lie inside our own group (version 1) or beside it
/// (version 2), so that what limits us limits them too.
GroupOffers look_at_groups();

/// Makes the groups and writes their limits; asked again it does the same. A limit that cannot be written becomes
/// unavailable in `plan.limits`, with the reason, and its group is left out. Throws nothing.
void make_groups(LimitPlan& plan);
/// Moves a process. @returns why not; empty when it is in every group.
std::string join_groups(const std::vector<std::string>& folders, std::int64_t pid);
/// How many processes of these groups the kernel has killed for want of memory.
std::uint64_t killed_for_memory(const std::vector<std::string>& folders);
/// What is gone already is fine; what still has a process in it stays. @returns those that stayed.
std::vector<std::string> remove_groups(const std::vector<std::string>& folders);
/// Empty groups of this installation whose VM has no folder in `vms`.
void sweep_groups(const GroupOffers& offers, const std::string& installation, const std::string& vms);

}  // namespace infrastructure_sdk::qemu
