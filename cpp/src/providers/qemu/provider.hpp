#pragma once
// The shell around command_line, process, vm_record and QMP: asks them, does what they say.

#include <map>
#include <memory>
#include <set>
#include <string>

#include "core/async_tools.hpp"
#include "core/sha256.hpp"
#include "providers/qemu/accelerator.hpp"
#include "providers/qemu/activity.hpp"
#include "providers/qemu/connections.hpp"
#include "providers/qemu/descriptors.hpp"
#include "providers/qemu/effects.hpp"
#include "providers/qemu/guest_agent.hpp"
#include "providers/qemu/host_check.hpp"
#include "providers/qemu/network_plan.hpp"
#include "providers/qemu/limit_plan.hpp"
#include "providers/qemu/memory_stream.hpp"
#include "providers/qemu/qmp_client.hpp"
#include "providers/qemu/ram_template.hpp"
#include "providers/qemu/snapshot_files.hpp"
#include "providers/qemu/vm_record.hpp"
#include <infrastructure_sdk/providers/qemu.hpp>

namespace infrastructure_sdk::qemu {

inline const nlohmann::json no_arguments = nlohmann::json::object();

/// One VM in memory. The record is a copy of the file's; all on the executor.
struct Vm {
    Vm(VmRecord r, std::string d, Executor executor)
        : record(std::move(r)),
          directory(std::move(d)),
          mutex(executor),
          writing(executor),
          connecting(executor),
          typing(executor),
          viewing(executor),
          forwarding(executor),
          changed(executor) {}
    VmRecord record;
    std::string directory;
    AsyncMutex mutex;         ///< one verb at a time
    AsyncMutex writing;       ///< one write to the directory at a time: the watcher writes beside the verbs
    AsyncMutex connecting;    ///< QEMU serves one connection at a time
    AsyncMutex typing;        ///< texts of two callers do not mix
    AsyncMutex viewing;       ///< who comes and who is cut off, one after the other
    AsyncMutex forwarding;    ///< one rule of its network at a time
    Connections connections;  ///< to ports of the guest
    bool removed = false;     ///< the directory is gone and stays so
    Signal changed;           ///< the process died
    std::shared_ptr<QmpClient> qmp;
    std::shared_ptr<QemuGuestAgent> agent;
    bool alive = false;                         ///< a watcher is on the process
    bool expected = false;                      ///< we asked for its end
    std::stop_source interrupt;                 ///< stops a snapshot, for a verb that ends the VM
    std::stop_source life;                      ///< stopped when the process dies: nobody waits for the dead
    std::string last_event;                     ///< why, if QMP told
    LimitPlan limits;                           ///< of the start that is under way
    std::shared_ptr<GrowingFileDigest> digest;  ///< of the plain memory file that was written
    bool waits_for_space = false;
    bool may_have_probe = false;  ///< of the owner before us
    /// Of a file in the guest folder.
    std::string path(const char* name) const { return guest_folder(directory) + "/" + name; }
};
using VmPtr = std::shared_ptr<Vm>;
using DescriptorsPtr = std::shared_ptr<Descriptors>;

/// @throws Error(not_ready, reason=NotNamed) for a guest that nobody may speak to (`is_unnamed`)
void need_named(const VmRecord& record);

/// The memory that a snapshot gets, and its key; empty = a plain file.
struct CopiedMemory {
    std::optional<SnapshotMemory> memory;
    Secret key;
};

/// The identity of files by their paths: device, inode, size and time of change of each. Blocking.
std::string identity_of_files(const std::vector<std::string>& paths);

/// The VM's own firmware variables and TPM folder, in its new guest folder. Blocking. @throws Error,
/// fs::filesystem_error
void make_machine_files(VmRecord& record, const HostFacts& host, const std::string& guest);

/// The VM's own layer over its base: empty, or a copy of a template's. Blocking. @throws Error
void make_disk_file(const VmRecord& record, const std::string& guest, const std::string& from);
/// The same, empty; encrypted by a passphrase that is not empty.
void make_own_disk(const VmRecord& record, const std::string& guest, const Secret& passphrase, Random& random);

class QemuProvider final : public VmProvider, public std::enable_shared_from_this<QemuProvider> {
public:
    QemuProvider(Environment environment, QemuOptions options, std::string program, std::string image_tool,
                 Accelerator accelerator);

    const Capabilities& capabilities() const override { return capabilities_; }
    void check_spec(const VmSpec& spec) const override;
    Task<void> create(VmSpec spec, Call call) override;
    Task<void> start(VmId id, std::string execution_id, Call call) override;
    Task<void> wait_ready(VmId id, Call call) override;
    Task<void> pause(VmId id, Call call) override;
    Task<void> unpause(VmId id, Call call) override;
    Task<void> suspend(VmId id, Call call) override;
    Task<void> resume(VmId id, std::string execution_id, Call call) override;
    Task<void> shutdown(VmId id, Call call) override;
    Task<void> power_off(VmId id, Call call) override;
    Task<void> destroy(VmId id, Call call) override;
    Task<VmStatus> inspect(VmId id, Call call) override;
    Task<std::vector<VmStatus>> list_owned(Call call) override;
    Task<VmActivity> activity(VmId id, Call call) override;
    Task<void> disconnect_clients(VmId id, Call call) override;
    Task<GuestStreamPtr> open_port(VmId id, std::uint16_t port, Call call) override;
    Task<void> snapshot(VmId id, std::string snapshot_id, SnapshotMode mode, Call call) override;
    Task<std::optional<VmSnapshot>> inspect_snapshot(std::string snapshot_id, Call call) override;
    Task<std::vector<std::string>> list_snapshots(Call call) override;
    Task<void> delete_snapshot(std::string snapshot_id, Call call) override;
    Task<void> assign(VmId id, std::string user_id, Call call) override;
    Task<KeyRotation> rotate_keys(std::string user_id, Call call) override;
    Task<void> erase_keys(std::string user_id, Call call) override;
    Task<std::vector<UserKeys>> list_keys(Call call) override;
    std::shared_ptr<GuestAgent> agent(VmId id) override;
    std::shared_ptr<Display> display(VmId id) override;
    std::shared_ptr<EvidenceSource> evidence(VmId id) override;
    void on_event(std::function<void(VmEvent)> handler) override { handler_ = std::move(handler); }
    void on_suspicion(std::function<void(VmId)> handler) override { suspect_ = std::move(handler); }
    Task<void> close() override;

    /// Removes what a dead owner left half made. For the owner of the state directory, before the first verb.
    Task<void> sweep_debris();
    /// A connected client of a living VM. @throws Error(not_ready, channel=qmp)
    Task<std::shared_ptr<QmpClient>> qmp(VmPtr vm, Call call);
    /// nullptr when it does not exist.
    Task<VmPtr> find(VmId id);
    Task<std::string> screenshot(VmId id, Call call);
    Task<void> input(VmId id, std::vector<InputEvent> events, Call call);
    Task<GuestStreamPtr> console(VmId id, bool alone, Call call);
    Task<Fact> collect(VmId id, std::string name, Call call);
    Task<std::shared_ptr<ProbePort>> open_probe_port(VmId id, Call call);

private:
    Task<VmPtr> need(VmId id, Call call);
    Task<AsyncMutex::Guard> turn(VmPtr vm, Call call, const char* doing);
    Task<void> save(VmPtr vm);
    Task<void> save_later(VmPtr vm);
    Task<void> create_vm(VmSpec spec, bool donor, Call call);
    void begin_start(VmPtr vm, std::string execution_id);
    Task<void> spawn(VmPtr vm, bool from_memory, int memory_fd, Call call, int ram_fd = -1);
    Task<void> launch_process(VmPtr vm, bool from_memory, int memory_fd, int ram_fd);
    Task<void> make_process(VmPtr vm, bool from_memory, int memory_fd, int ram_fd);
    Task<void> release_host(VmPtr vm);
    // provider_clones.cpp
    Task<std::string> start_from_template(VmPtr vm, std::string execution_id, Call call);
    Task<void> start_clone(VmPtr vm, RamTemplatePtr source, std::string execution_id, Call call);
    Task<void> load_memory(VmPtr vm, MemoryStreamPtr sealed, Call call);
    Task<void> give_identity(VmPtr vm, TemplateRecord source, Call call);
    Task<std::string> forward_target_of(VmPtr vm, Call call);
    Task<void> plug_network(VmPtr vm, bool in, Call call);
    Task<void> install_reseed(VmPtr vm, Call call);
    Task<std::string> interface_of(VmPtr vm, std::string address, Call call);
    Task<void> give_address(VmPtr vm, std::string interface, std::string address, Call call);
    Task<void> undo_clone(VmPtr vm);
    Task<void> make_disk(VmPtr vm, std::string from);
    // provider_templates.cpp
    Task<RamTemplatePtr> template_for(VmPtr vm, Call call);
    Task<RamTemplatePtr> build_template(VmPtr vm, TemplateRecord record, Call call);
    Task<void> drop_donor(VmId id, Call call);
    Task<void> boot_donor(VmPtr vm, int memory, Call call);
    Task<void> settle_guest(VmPtr vm, Call call);
    Task<TemplateRecord> rehearse_identity(VmPtr vm, TemplateRecord record, Call call);
    Task<void> save_devices(VmPtr vm, int file, Call call);
    Task<void> sweep_templates();
    RamTemplatePtr keep_at_hand(RamTemplatePtr used);
    Task<void> watch(VmPtr vm, int pidfd);
    void begin_watch(VmPtr vm);
    Task<void> adopt(VmPtr vm);
    Task<std::string> query_status(VmPtr vm, Call call);
    Task<void> end(VmPtr vm, Call call);
    Task<void> wait_dead(VmPtr vm, Call call, const char* doing);
    Task<std::uint32_t> viewers(VmPtr vm, Call call);
    Task<void> send_input(std::shared_ptr<QmpClient> client, InputEvent event, Call call);
    // provider_limits.cpp
    LimitBasis basis_of(const VmSpec& spec) const;
    void intend_limits(VmPtr vm);
    Task<void> make_groups_of(VmPtr vm);
    Task<void> release_groups(VmPtr vm);
    // provider_health.cpp
    void take_event(VmPtr vm, const nlohmann::json& event);
    void expect_space(VmPtr vm);
    Task<void> await_space(VmPtr vm);
    Task<bool> continue_after_error(VmPtr vm, Call call);
    Task<void> pin_cpus(VmPtr vm, Call call);
    std::set<int> taken_cpus(const VmId& but) const;
    // provider_keys.cpp
    Task<std::string> wrap(std::string user, std::string purpose, Secret key);
    Task<Secret> unwrap(std::string user, std::string purpose, std::string wrapped);
    Task<Secret> passphrase_of_disk(VmPtr vm);
    Task<Secret> passphrase_of_base(VmPtr vm);
    Task<void> give_disk_keys(VmPtr vm, std::function<void(int fd, int number)> give);
    Task<void> wrap_anew(VmPtr vm, std::string user);
    Task<void> change_passphrase(VmPtr vm, Call call);
    Task<void> clear_amendment(std::shared_ptr<QmpClient> client, std::string name);
    Task<void> amend_live(VmPtr vm, Secret other, bool adds, Call call);
    Task<void> amend(VmPtr vm, Secret other, bool adds, Call call);
    Task<void> remove_stray_passphrase(VmPtr vm, bool surely_there, Call call);
    Task<void> rotate_vm(VmPtr vm, KeyRotation* rotation, Call call);
    Task<void> rotate_snapshots(KeyRotation* rotation);
    Task<std::optional<Secret>> new_memory_key(VmPtr vm);
    Task<Secret> memory_key_of(VmPtr vm);
    MemoryStreamPtr stream_of(VmPtr vm, const Secret& key, MemoryStream::Direction direction, int file);
    // provider_tpm.cpp
    Task<int> start_tpm(VmPtr vm);
    Task<void> end_tpm(VmPtr vm);
    // provider_network.cpp
    void offer_networks();
    void check_network(const VmSpec& spec) const;
    Task<int> prepare_network(VmPtr vm);
    Task<void> connect_network(VmPtr vm);
    Task<void> reconnect_network(VmPtr vm);
    Task<void> disconnect_network(VmPtr vm);
    Task<void> sweep_networks();
    // provider_snapshots.cpp
    Task<DiskSource> collect_disk(VmPtr vm, VmSnapshot* snapshot, Secret passphrase, CopiedMemory* memory, Call call);
    Task<void> keep_snapshot(VmPtr vm, VmSnapshot made, DiskSource source, Secret passphrase, CopiedMemory memory);
    Task<void> copy_live_disk(VmPtr vm, VmSnapshot* snapshot, Secret passphrase, Call call);
    Task<void> start_backup(VmPtr vm, std::shared_ptr<QmpClient> client, VmSnapshot* snapshot, int file,
                            Secret passphrase, Call call);
    Task<void> await_backup(std::shared_ptr<QmpClient> client, Call call);
    Task<void> clear_backup(std::shared_ptr<QmpClient> client, Call call);
    Task<void> clear_after_crash(VmPtr vm);
    // provider_memory_copies.cpp
    MemoryTerms terms_of(const VmRecord& record) const;
    void check_origin(const VmRecord& record) const;
    Task<void> copy_with_memory(VmPtr vm, std::string snapshot_id, CopiedMemory* memory, Call call);
    Task<void> end_copy(VmPtr vm, MemoryStreamPtr sealed, Call call);
    Task<void> go_on(VmPtr vm, Call call);
    Task<void> renew_disk(VmPtr vm);
    Task<void> start_from_memory(VmPtr vm, std::string execution_id, Call call);
    Task<void> become_another(VmPtr vm, MemoryOrigin origin, Call call);
    Task<void> thaw(VmPtr vm);
    VmStatus status_of(const VmPtr& vm, VmState state) const;
    std::string directory_of(const VmId& id) const;
    Task<unsigned> free_uid();
    Task<VmStatus> inspect_unrecorded(VmId id, std::string trouble);
    Task<std::string> status_unless_dead(VmPtr vm, Call call);
    Task<void> set_guest_time(VmPtr vm, Call call);
    Task<void> save_memory(VmPtr vm, int file, MemoryStreamPtr sealed, Call call);
    Task<std::string> bring_to_disk(VmPtr vm, int file, MemoryStreamPtr sealed);
    Task<DescriptorsPtr> spawn_with_memory(VmPtr vm, Call call);
    Task<void> finish_suspend(VmPtr vm, Call call);
    Task<void> clear_migration(VmPtr vm, std::string status, Call call);
    Task<bool> finish_resume(VmPtr vm, std::string status, Call call);
    Task<void> forget_memory(VmPtr vm);
    template <class Kind>
    void passed(Kind effect) const {
        if (options_.after_effect) options_.after_effect(name_of(effect));
    }
    Error died(VmPtr vm, std::string what);

    Environment environment_;
    QemuOptions options_;
    std::string program_;
    std::string image_tool_;
    std::string vms_;
    SnapshotFolder snapshots_;
    std::shared_ptr<KeyStore> keys_;
    Accelerator accelerator_;
    HostFacts host_;
    NetworkHost network_host_;
    std::string network_prefix_;
    GroupOffers offers_;
    std::string installation_;
    Capabilities capabilities_;
    std::map<VmId, VmPtr> known_;
    AsyncMutex creating_;
    AsyncMutex rotating_;      ///< one rotation or erasure at a time; taken before a VM's own
    AsyncMutex keeping_keys_;  ///< a rotation sees every key that was wrapped
    AsyncMutex adopting_;
    AsyncMutex templating_;  ///< one template is made or read at a time
    TemplateFolder template_folder_;
    std::vector<RamTemplatePtr> at_hand_;  ///< the last used first
    TaskGroup tasks_;
    std::function<void(VmEvent)> handler_;
    std::function<void(VmId)> suspect_;
    bool closing_ = false;
};

}  // namespace infrastructure_sdk::qemu
