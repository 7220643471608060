#pragma once
// The seam between the engines and whatever makes VMs.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/deadline.hpp>
#include <infrastructure_sdk/vm/display.hpp>
#include <infrastructure_sdk/vm/evidence_source.hpp>
#include <infrastructure_sdk/vm/guest_agent.hpp>
#include <infrastructure_sdk/vm/key_store.hpp>
#include <infrastructure_sdk/vm/vm.hpp>
#include <infrastructure_sdk/vm/vm_activity.hpp>
#include <infrastructure_sdk/vm/vm_place.hpp>

namespace infrastructure_sdk {

/// What a rotation wrapped anew.
struct KeyRotation {
    std::string user_id;
    std::string key;  ///< id of the new one
    std::size_t vms = 0;
    std::size_t disks = 0;  ///< of them, those whose disk has a new passphrase
    std::size_t snapshots = 0;
};

struct VmEvent {
    VmId id;
    VmState state = VmState::unknown;  ///< the state after it
    std::string reason;                ///< "GuestShutdown", "ProcessKilled", "GuestPanicked", ...
    std::string message;
};

/// All verbs are idempotent: asked again after they took effect they complete at once. Each is keyed by a VmId that the
/// caller chose before. When a verb completes the effect was observed. On error nothing half-made is left by `create`.
/// All calls come from the Environment's executor.
class VmProvider {
public:
    virtual ~VmProvider() = default;
    virtual const Capabilities& capabilities() const = 0;

    /// Refuses what cannot run here, before anything is made. `create` asks it too. Accepts all unless overridden.
    /// @throws Error(unsupported) with the capability, and the package where one is missing; Error(capacity)
    virtual void check_spec(const VmSpec& spec) const;
    /// Where this VM fits now, with what is free there; its own choice is the first. More than one is a choice for
    /// `VmSpec::place`. None unless overridden.
    virtual std::vector<VmPlace> places(const VmSpec& spec) const;
    /// Makes disk, directory and records; starts nothing.
    virtual Task<void> create(VmSpec spec, Call call) = 0;
    /// Starts the process; completes when it answers its control channel. The guest is not booted yet.
    virtual Task<void> start(VmId id, std::string execution_id, Call call) = 0;
    /// Completes when every channel of the spec answered. @throws Error(not_ready) naming the first channel that did
    /// not, Error(vm_provisioning) at once when the VM ends meanwhile.
    virtual Task<void> wait_ready(VmId id, Call call) = 0;
    virtual Task<void> pause(VmId id, Call call) = 0;
    virtual Task<void> unpause(VmId id, Call call) = 0;
    /// Memory to a file inside the VM's directory, then the process ends.
    virtual Task<void> suspend(VmId id, Call call) = 0;
    /// From the memory file; the guest's clock is set. @throws Error(provider, reason=MemoryFileCorrupted)
    virtual Task<void> resume(VmId id, std::string execution_id, Call call) = 0;
    /// Asks the guest; completes when the process ended. @throws Error(timeout)
    virtual Task<void> shutdown(VmId id, Call call) = 0;
    /// Ends the process at once, and forgets a memory file: the VM is `stopped`, its disk is kept.
    virtual Task<void> power_off(VmId id, Call call) = 0;
    /// Ends the process and removes everything of the VM. Unknown ids are fine.
    virtual Task<void> destroy(VmId id, Call call) = 0;
    /// Looks; never guesses. An id that never existed is `deleted`.
    virtual Task<VmStatus> inspect(VmId id, Call call) = 0;
    /// What is seen of its use. What cannot be seen is absent, with the reason; throws only when nothing can.
    virtual Task<VmActivity> activity(VmId id, Call call) = 0;
    /// Cuts off the clients of its display and ports. @throws Error(unsupported) without capability `disconnect`.
    virtual Task<void> disconnect_clients(VmId id, Call call) = 0;
    /// A stream to a TCP port that the guest listens on. Without a listener there it ends at once.
    /// @throws Error(unsupported, capability=forward) when the VM has no such way in.
    virtual Task<GuestStreamPtr> open_port(VmId id, std::uint16_t port, Call call);
    /// Everything of this installation, for adoption.
    virtual Task<std::vector<VmStatus>> list_owned(Call call) = 0;

    /// Copies the disk as it is at one moment under an id that the caller chose ("snap-" and hex digits); a running VM
    /// goes on. With SnapshotMode::memory the VM must run: it is stopped for as long as its memory is written, and disk
    /// and memory are of that moment. Completes when the copy is on disk; on error, or when the VM is ended meanwhile,
    /// nothing is left and the VM goes on. A copy of a disk depends on no VM and no image; one of memory also needs the
    /// same image, machine and provider version. A VM whose `spec.snapshot` has memory becomes another guest (name,
    /// keys, addresses, clock) before `start` completes.
    /// @throws Error(unsupported, capability=snapshot or memory_snapshot) unless overridden.
    virtual Task<void> snapshot(VmId id, std::string snapshot_id, SnapshotMode mode, Call call);
    /// nullopt when there is none, or none that is complete.
    virtual Task<std::optional<VmSnapshot>> inspect_snapshot(std::string snapshot_id, Call call);
    /// Ids of all of this installation, half-made ones too.
    virtual Task<std::vector<std::string>> list_snapshots(Call call);
    /// VMs that began from it keep what they need. Unknown ids are fine.
    virtual Task<void> delete_snapshot(std::string snapshot_id, Call call);

    /// From now on the VM is this user's: its keys are wrapped by the user's key. Does nothing unless overridden.
    /// @throws Error(provider, reason=KeyMissing or WrongKey)
    virtual Task<void> assign(VmId id, std::string user_id, Call call);
    /// Gives the user a new key: wraps the keys of all VMs and snapshots of the user by it, gives disks a new
    /// passphrase, then forgets the older keys. Cut off, it is finished by asking again.
    /// @throws Error(unsupported, capability=encryption) unless overridden
    virtual Task<KeyRotation> rotate_keys(std::string user_id, Call call);
    /// Forgets all keys of the user: memory files, disks and snapshots that they wrapped are lost for good.
    virtual Task<void> erase_keys(std::string user_id, Call call);
    virtual Task<std::vector<UserKeys>> list_keys(Call call);

    virtual std::shared_ptr<GuestAgent> agent(VmId id) = 0;
    virtual std::shared_ptr<Display> display(VmId id) = 0;
    virtual std::shared_ptr<EvidenceSource> evidence(VmId id) = 0;

    /// Called on the executor for changes that nobody asked for (a killed process, a guest's own shutdown).
    virtual void on_event(std::function<void(VmEvent)> handler) = 0;
    /// Called on the executor when something was heard of a VM that may have changed what isolates it: a viewer, a
    /// device, a filter of its card, its disks, a migration. Never called unless overridden.
    virtual void on_suspicion(std::function<void(VmId)> handler);
    /// Lets go of every VM without touching it. Completes when no child coroutine is left.
    virtual Task<void> close() = 0;
};

}  // namespace infrastructure_sdk
