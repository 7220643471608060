#pragma once
// The words of the VM layer: states, specification, status, capabilities.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

enum class VmState {
    creating,
    starting,
    running,
    paused,  ///< vCPUs stopped, RAM held
    suspending,
    suspended,  ///< process gone, memory in a file
    stopping,
    stopped,
    deleting,
    deleted,
    failed,
    unknown,  ///< could not look: never treated as dead
};
const char* name_of(VmState state) noexcept;
/// @throws Error(validation)
VmState parse_vm_state(const std::string& name);

/// Chosen by the engine before any side effect: an RFC 4122 UUID, lower case.
struct VmId {
    std::string value;
    friend auto operator<=>(const VmId&, const VmId&) = default;
};

enum class NetworkMode {
    none,      ///< no network card
    isolated,  ///< a card that reaches no host, no other guest and no internet
    internet,  ///< outbound to public addresses only; private ranges, metadata services, host and guests are not
    bridge,    ///< a port of a bridge of the host: whatever is there, but no other guest's port
};
const char* name_of(NetworkMode mode) noexcept;
/// @throws Error(validation), with a suggestion
NetworkMode parse_network_mode(const std::string& name);
/// All, in the order of the enumeration.
const std::vector<std::string>& network_mode_names();
/// A name that the kernel takes for an interface: 1 to 15 of [A-Za-z0-9._-], not "." or "..". Pure.
bool is_interface_name(const std::string& name) noexcept;

/// What starts a guest before its own boot loader or kernel.
enum class Firmware {
    bios,
    uefi,
    secure_boot,  ///< UEFI that starts only what is signed by the keys of the host's OVMF package (Microsoft's)
};
const char* name_of(Firmware firmware) noexcept;
/// @throws Error(validation)
Firmware parse_firmware(const std::string& name);

/// What the guest takes its hardware clock for.
enum class ClockBase { utc, localtime };
const char* name_of(ClockBase base) noexcept;
/// @throws Error(validation)
ClockBase parse_clock_base(const std::string& name);

/// What of a VM is encrypted when it is stored, from least to most. Memory files and disks have keys of their own,
/// which the key of the VM's user wraps.
enum class Encryption {
    off,
    memory,  ///< memory files
    all,     ///< memory files, the VM's disk and snapshots of it
};
const char* name_of(Encryption encryption) noexcept;
/// @throws Error(validation)
Encryption parse_encryption(const std::string& name);

/// What a snapshot holds.
enum class SnapshotMode {
    disk,    ///< a VM from it boots
    memory,  ///< and the memory of the same instant: a VM from it goes on from there
};
const char* name_of(SnapshotMode mode) noexcept;
/// @throws Error(validation)
SnapshotMode parse_snapshot_mode(const std::string& name);

/// The Hyper-V enlightenments that a VM may be given, in QEMU's words, without "hv-".
/// Source: QEMU's docs/system/i386/hyperv.rst
const std::vector<std::string>& hyperv_enlightenments();
/// Those that `name` cannot do without. Pure.
std::vector<std::string> needs_of_enlightenment(const std::string& name);

/// The boot files and disk of an image, as absolute host paths. Empty = absent.
struct ImageFiles {
    std::string name;
    std::string version;
    std::string kernel;
    std::string initrd;
    std::string kernel_arguments;
    std::string disk;                   ///< read-only base of the VM's own overlay
    std::string disk_format;            ///< "qcow2" or "raw"; always explicit, never probed
    std::uint64_t disk_size_bytes = 0;  ///< virtual
    std::string disc;                   ///< an ISO file that the guest may read: drivers, or a cloud-init seed
};

/// What a VM may take of its host at most, beside its memory and its disk's size. 0 = not limited.
struct VmLimits {
    std::int64_t cpu_milli = 0;                  ///< thousandths of a CPU for the guest; 0 = all of its CPUs
    std::uint64_t disk_iops = 0;                 ///< reads and writes together, a second
    std::uint64_t disk_bytes_per_second = 0;     ///< read and written together
    std::uint64_t network_bytes_per_second = 0;  ///< sent and received together
    friend bool operator==(const VmLimits&, const VmLimits&) = default;
};

/// What holds a VM to a limit, or why nothing does.
struct LimitStatus {
    /// "cpu" (thousandths of a CPU), "memory" (bytes of its process), "processes" (a count), "disk" (bytes),
    /// "disk_iops", "disk_bandwidth", "network_bandwidth" (both bytes a second)
    std::string resource;
    std::uint64_t limit = 0;  ///< in the unit of `resource`; 0 in capabilities
    std::string enforced_by;  ///< "cgroup v1", "cgroup v2", "qemu", "nftables"; empty = unavailable
    std::string reason;       ///< why it is unavailable; empty otherwise
    friend bool operator==(const LimitStatus&, const LimitStatus&) = default;
};

struct VmSpec {
    VmId id;
    std::string name;  ///< for people; also the guest's hostname
    std::string owner_session;
    std::string owner_user;  ///< whose key wraps its keys; empty = the installation's own, for who has no user yet
    Encryption encryption = Encryption::off;
    ImageFiles image;
    std::string machine = "pc-q35-7.2";
    Firmware firmware = Firmware::bios;
    bool tpm = false;  ///< a TPM 2.0 of its own, whose state is kept with the VM
    /// Of `hyperv_enlightenments()`, for Windows. With any, the timers are set up for Windows too. Only KVM has them:
    /// under emulation such a guest gets the largest emulated processor instead.
    std::vector<std::string> enlightenments;
    ClockBase clock = ClockBase::utc;
    std::string place;  ///< the name of one of the provider's places; empty = it chooses
    int cpu_count = 1;
    bool pin_cpus = false;  ///< each of its CPUs has a CPU of the host that no other pinned VM has
    std::uint64_t memory_bytes = 128ull << 20;
    std::uint64_t disk_size_bytes = 0;  ///< 0 = the image's
    VmLimits limits;
    std::int64_t gpu_count = 0;
    std::string gpu_type;   ///< one of the capabilities' `gpus`
    bool watchdog = false;  ///< a watchdog device: a guest that stops feeding it is ended with reason "GuestHung"
    /// It begins as this snapshot: with its disk and, where the snapshot has it, with its memory; empty = as the image.
    std::string snapshot;
    bool display = true;
    NetworkMode network = NetworkMode::isolated;
    std::string bridge;  ///< of the host; for NetworkMode::bridge alone
    std::string mac_address;
    std::vector<std::string> channels;                 ///< "agent", "display": what must answer before the VM is ready
    Duration boot_timeout = std::chrono::seconds(60);  ///< as for KVM; the provider scales it by its accelerator
};

/// Who a VM process is. Two identities are the same only if all fields are.
struct ProcessIdentity {
    std::string boot_id;
    std::int64_t pid = 0;
    std::uint64_t start_time_ticks = 0;  ///< field 22 of /proc/PID/stat
    std::string vm_uuid;                 ///< as asked over QMP
    friend bool operator==(const ProcessIdentity&, const ProcessIdentity&) = default;
};

/// How a guest came to run.
struct VmLaunch {
    /// "template" (a copy of a guest that had booted), "snapshot" (it went on from a snapshot's memory) or "cold boot";
    /// empty = it never ran
    std::string from;
    std::string reason;  ///< why it was booted; empty otherwise
};

struct VmStatus {
    VmId id;
    VmState state = VmState::unknown;
    std::string reason;       ///< stable CamelCase word, e.g. "GuestShutdown", "ProcessKilled", "MemoryFileCorrupted"
    std::string message;      ///< for people
    std::string accelerator;  ///< "kvm", "tcg" or empty
    std::optional<ProcessIdentity> process;
    std::string owner_session;
    std::string execution_id;
    VmLaunch launch;
    std::vector<LimitStatus> limits;  ///< of its last start
    std::vector<int> host_cpus;       ///< that its CPUs are pinned to, in their order; empty = not pinned
    WallTime observed_at;
};

/// A copy of a VM's disk, or of disk and memory, that lives on its own. Complete: a half-made one is never shown.
struct VmSnapshot {
    std::string id;
    /// Of the disk: "frozen": the guest had flushed and held its file systems; "crash": as after a power cut;
    /// "memory": what is missing is in the memory of the same instant.
    std::string consistent;
    std::uint64_t size_bytes = 0;          ///< of the disk's file
    std::uint64_t virtual_size_bytes = 0;  ///< of the disk
    std::string sha256;                    ///< of the file, lower-case hex
    bool encrypted = false;                ///< the disk, by the key of the VM's user
    SnapshotMode mode = SnapshotMode::disk;
    std::uint64_t memory_size_bytes = 0;  ///< of the memory file; 0 without one
};

/// What a provider can do. A verb outside these is refused at once with Error(unsupported).
struct Capabilities {
    std::string provider;
    std::string accelerator;                 ///< "kvm" or "tcg"
    std::string accelerator_reason;          ///< why this one
    double timeout_scale = 1.0;              ///< multiply KVM timeouts by this
    std::vector<std::string> suspend_modes;  ///< "memory", "disk"
    std::size_t concurrent_boots = 0;        ///< how many VMs boot at once without slowing each other; 0 = any number
    bool pause = false;
    bool snapshot = false;
    bool memory_snapshot = false;  ///< of memory as well
    bool live_migration = false;
    bool console = false;
    bool screenshot = false;
    bool input = false;  ///< keys and pointer
    bool guest_exec = false;
    bool forward = false;                      ///< ports of the guest can be reached
    bool disconnect = false;                   ///< clients can be cut off while the VM runs on
    std::map<std::string, std::int64_t> gpus;  ///< how many of each type there are to give to VMs; empty = none
    std::string gpu_reason;                    ///< why there are none
    std::vector<LimitStatus> limits;           ///< which limits hold here, and by what
    bool separate_uids = false;                ///< every VM runs under a user id of its own
    bool pin_cpus = false;
    bool watchdog = false;
    std::vector<std::string> firmware{"bios"};  ///< names of `Firmware`
    bool tpm = false;
    /// Every name of `NetworkMode`, with why this host cannot give it; empty = it can.
    std::map<std::string, std::string> networks{{"none", ""}, {"isolated", ""}};
    bool encryption = false;  ///< every `Encryption`
};

}  // namespace infrastructure_sdk
