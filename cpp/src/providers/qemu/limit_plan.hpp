#pragma once
// Which limits hold a VM, and what is to be written for it. Pure: (specification, what the host offers) -> groups to
// make, files to write, and what to tell of each limit.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk::qemu {

/// One controller of the kernel's control groups ("cpu", "memory", "pids") as this process may use it.
struct GroupOffer {
    int version = 0;     ///< 1 or 2; 0 = not usable
    std::string folder;  ///< groups of VMs are made below this one
    std::string reason;  ///< why it is not usable
    friend bool operator==(const GroupOffer&, const GroupOffer&) = default;
};
using GroupOffers = std::map<std::string, GroupOffer>;

/// A group of version 2, or what is above it, as it was found.
struct GroupLevel {
    std::string folder;
    std::vector<std::string> controllers;  ///< that may be given to groups below
    std::vector<std::string> given;        ///< that are given to them already
    bool writable = false;
    bool has_processes = false;
    bool is_root = false;
};
/// Version 2: the nearest group, from our own upwards, that gives the controller to groups below it. A group with
/// processes of its own gives none, but the root.
/// @param levels our own first. Source: the kernel's Documentation/admin-guide/cgroup-v2.rst, "No Internal Process
/// Constraint".
GroupOffer choose_parent(const std::vector<GroupLevel>& levels, const std::string& controller);

struct GroupWrite {
    std::string file;
    std::string value;
    bool optional = false;  ///< kernels without the file do without it
    friend bool operator==(const GroupWrite&, const GroupWrite&) = default;
};
/// One control group of a VM: below `parent` one of this installation, and in it the VM's.
struct PlannedGroup {
    std::string parent;
    std::string folder;
    int version = 1;
    std::vector<std::string> resources;  ///< of LimitStatus, that depend on it
    std::string controllers;             ///< version 2: what the groups above give, e.g. "+cpu +memory"
    std::vector<GroupWrite> writes;
    friend bool operator==(const PlannedGroup&, const PlannedGroup&) = default;
};

struct LimitPlan {
    std::vector<PlannedGroup> groups;
    std::vector<LimitStatus> limits;  ///< if every write succeeds
};

/// What the limits are made of beside the specification.
struct LimitBasis {
    GroupOffers offers;
    std::string installation;  ///< names the group of this installation: 12 hex digits
    std::uint64_t memory_ceiling = 0;
    std::string network_refusal = {};  ///< why no rules of the host can hold a network's bandwidth; empty = they can
};

/// Thousandths of a CPU: the guest's share, and a quarter more (at most one CPU) for QEMU's own threads.
std::int64_t cpu_ceiling(const VmSpec& spec);
LimitPlan plan_limits(const VmSpec& spec, const LimitBasis& basis);
/// The process is in no group: what groups would hold is unavailable. Nothing without a reason.
void note_not_joined(std::vector<LimitStatus>& limits, const std::string& reason);
/// For capabilities: by what each limit would be held, with no value.
std::vector<LimitStatus> limits_on_offer(const LimitBasis& basis);
/// The folder in which one installation keeps its VMs' groups, given a parent.
std::string installation_group(const std::string& parent, const std::string& installation);

}  // namespace infrastructure_sdk::qemu
