#pragma once
// Raw facts about one VM and its surroundings, or why they could not be had.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <infrastructure_sdk/deadline.hpp>
#include <infrastructure_sdk/error.hpp>

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

/// A frame that passed between a VM's card and its network.
struct PortFrame {
    bool from_guest = false;
    std::string bytes;  ///< an Ethernet frame, without a checksum
};

/// The place where a VM's card meets its network, for probes. While it is open, copies of all frames come out, and
/// frames can be put in as if the card had sent them; the guest's own go on as before. Facts that are collected
/// meanwhile may show its parts, whose names begin with "probe-". On the Environment's executor.
class ProbePort {
public:
    virtual ~ProbePort() = default;
    /// @throws Error(not_ready) when the VM is gone, Error(timeout), Error(cancelled)
    virtual Task<void> send(std::string frame, Call call) = 0;
    /// What has passed since it was opened, at most 4096 frames.
    virtual const std::vector<PortFrame>& seen() const = 0;
    /// False once frames may have been missed: the connection ended, what came made no sense, or it was too much.
    virtual bool sees_all() const = 0;
    /// Undoes everything. Before the last reference goes.
    virtual Task<void> close() = 0;
};

/// Names served by the QEMU provider:
///   process.identity   {"boot_id","pid","start_time_ticks","vm_uuid"}
///   process.paths      {"vm_directory","image_directory"}: host paths that belong to the VM
///   process.promises   {"exclusive","encrypted","confidential": bool, "ports": [N], "network": mode}: what was
///   promised qmp:<command>      the "return" of an argument-less query command, e.g. qmp:query-kvm, qmp:query-chardev
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
    /// The port of the VM's network card. @throws Error(unsupported) where there is no such thing, Error(not_ready),
    /// Error(provider), Error(timeout), Error(cancelled)
    virtual Task<std::shared_ptr<ProbePort>> open_probe_port(Call) {
        throw Error(Errc::unsupported, "this source gives no way into the VM's network", {{"capability", "probes"}});
        co_return nullptr;
    }
};

}  // namespace infrastructure_sdk
