#pragma once
// Raw facts about one VM and its surroundings, or why they could not be had.

#include <map>
#include <string>
#include <vector>

#include <infrastructure_sdk/deadline.hpp>

namespace infrastructure_sdk {

/// Exactly one of `json` and `could_not_look` is non-empty.
struct Fact {
    std::string name;     ///< see `EvidenceSource`
    std::string source;   ///< "procfs", "sysfs", "qmp", "file-stat", "provider"
    std::string locator;  ///< "/proc/4711/task/*/status:Seccomp", "qmp:query-kvm"
    std::string vantage = "node";
    std::string json;            ///< the value
    std::string could_not_look;  ///< the reason
    WallTime collected_at;
    /// "boot id/pid/start time/uuid" of whom it was read; empty when the source does not know. One of another instance
    /// is refused.
    std::string instance;
};

/// Names served by the QEMU provider:
///   process.identity   {"boot_id","pid","start_time_ticks","vm_uuid"}
///   process.paths      {"vm_directory","image_directory"}: host paths that belong to the VM
///   process.promises   {"exclusive","encrypted","confidential": bool, "ports": [N]}: what was promised of the VM
///   qmp:<command>      the "return" of an argument-less query command, e.g. qmp:query-kvm, qmp:query-chardev
///   hmp:info <what>    the text of a monitor's info command, e.g. hmp:info network
///   qom:<path>:<property>   the value of a QOM property, e.g. qom:/machine:dump-guest-core
///   qomlist:<path>     the children of a QOM path, e.g. qomlist:/machine/peripheral
///   agent.identity     {"machine_id","host_keys": [text]}: digests of what tells guests apart, told by the guest
/// An unknown name, a dead VM or a refused connection gives `could_not_look`; nothing is thrown but Error(cancelled).
class EvidenceSource {
public:
    virtual ~EvidenceSource() = default;
    virtual Task<Fact> collect(std::string name, Call call) = 0;
    /// "local" or "kubernetes": which column of the catalogue applies.
    virtual const char* platform() const { return "local"; }
};

}  // namespace infrastructure_sdk
