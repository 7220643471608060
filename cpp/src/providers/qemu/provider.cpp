#include "providers/qemu/provider.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/sha256.hpp"
#include "core/unix_socket.hpp"
#include "providers/qemu/command_line.hpp"
#include "providers/qemu/control_groups.hpp"
#include "providers/qemu/debris.hpp"
#include "providers/qemu/descriptors.hpp"
#include "providers/qemu/gpu.hpp"
#include "providers/qemu/key_purposes.hpp"
#include "providers/qemu/probe_port.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/qcow2_overlay.hpp"

namespace infrastructure_sdk::qemu {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

int open_for_vm(const std::string& path) {
    int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        throw Error(Errc::vm_provisioning,
                    "an image file cannot be opened: " + path + ": " + std::strerror(errno) +
                        "; build or import the image again",
                    {{"field", "image"}, {"value", path}});
    return fd;
}

/// Which files the image consists of. Blocking.
std::string identity_of(const ImageFiles& image) {
    std::vector<std::string> paths{image.kernel, image.initrd, image.disk};
    if (!image.disc.empty()) paths.push_back(image.disc);
    return identity_of_files(paths);
}

/// The group that opens a device to its members; nullopt when there is none, or when it is root's.
std::optional<unsigned> group_of(const char* path) {
    struct stat status{};
    if (::stat(path, &status) != 0 || (status.st_mode & 0060) != 0060 || status.st_gid == 0) return std::nullopt;
    return status.st_gid;
}

/// What people are told of an end that nobody asked for.
std::string words_for_end(const std::string& event) {
    if (event == "GuestShutdown") return "the guest shut itself down";
    if (event == "GuestRebooted") return "the guest rebooted itself, as Linux does after a panic";
    if (event == "GuestPanicked") return "the guest's kernel panicked";
    if (event == "GuestHung") return "the guest stopped feeding its watchdog";
    if (event == "MemoryLimitReached") return "the VM needed more memory than its control group allows";
    return "the VM's process ended without being asked";
}

/// Nobody listens there any more.
void remove_sockets(const VmPtr& vm) {
    for (const char* name : {file_name::qmp, file_name::agent, file_name::vnc}) ::unlink(vm->path(name).c_str());
}

/// The snapshot's disk gets a second name in the VM's folder, so that the snapshot may be deleted.
void begin_from_snapshot(VmRecord& record, const SnapshotFolder& snapshots, KeyStore& keys, const std::string& folder) {
    const auto& id = record.spec.snapshot;
    auto found = is_snapshot_name(id) ? snapshots.find(id) : std::nullopt;
    if (!found)
        throw Error(Errc::not_found, "there is no snapshot '" + id + "'",
                    {{"field", "snapshot"}, {"value", id}, {"reason", "SnapshotMissing"}});
    snapshots.verify(id);
    auto key = snapshots.key_of(id);
    if (!key.wrapped.empty()) {
        auto passphrase = keys.unwrap(key.user, purpose_of_snapshot(id), key.wrapped);
        record.base_key = keys.wrap(record.spec.owner_user, purpose_of_base(record), passphrase);
    }
    link_or_copy(snapshots.disk_of(id), guest_folder(folder) + "/" + file_name::base);
    record.spec.image.disk_format = "qcow2";
    record.spec.image.disk_size_bytes = found->virtual_size_bytes;
    auto memory = snapshots.memory_of(id);
    if (!memory) return;
    record.memory_sha256 = memory->sha256;
    record.origin = memory->origin;
    if (!key.memory.empty()) {
        auto opens = keys.unwrap(key.user, purpose_of_snapshot_memory(id), key.memory);
        record.memory_key = keys.wrap(record.spec.owner_user, purpose_of_memory(record), opens);
    }
    link_or_copy(snapshots.memory_file_of(id), guest_folder(folder) + "/" + file_name::memory);
}

void write_whole(const std::string& path, const std::string& bytes) {
    int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool good = fd >= 0 && ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
    auto why = std::string(std::strerror(errno));
    if (fd >= 0) ::close(fd);
    if (!good) throw Error(Errc::store, "the VM's disk cannot be made: " + why, {{"path", path}});
}

std::string tail_of(const std::string& path, std::size_t most) {
    std::ifstream file(path, std::ios::binary);
    std::string text((std::istreambuf_iterator<char>(file)), {});
    return text.size() > most ? text.substr(text.size() - most) : text;
}

std::uint64_t disk_size_of(const VmRecord& record) {
    return std::max(record.spec.disk_size_bytes, record.spec.image.disk_size_bytes);
}

void give_disk_to_vm(const VmRecord& record, const std::string& disk) {
    if (record.uid && ::chown(disk.c_str(), *record.uid, *record.uid) != 0)
        throw Error(Errc::permission_denied,
                    "the disk cannot be given to its uid: " + std::string(std::strerror(errno)));
}

}  // namespace

std::string identity_of_files(const std::vector<std::string>& paths) {
    std::string identity;
    for (const auto& path : paths) {
        struct stat status{};
        if (!path.empty() && ::stat(path.c_str(), &status) == 0)
            identity += std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino) + ":" +
                        std::to_string(status.st_size) + ":" + std::to_string(status.st_mtim.tv_sec) + "." +
                        std::to_string(status.st_mtim.tv_nsec);
        identity += "/";
    }
    return identity;
}

void make_disk_file(const VmRecord& record, const std::string& guest, const std::string& from) {
    auto disk = guest + "/" + file_name::disk;
    // Made anew: an old one belongs to the VM's uid, which may have put anything in its place.
    ::unlink(disk.c_str());
    if (from.empty()) write_whole(disk, empty_qcow2(disk_size_of(record)));
    else copy_file(from, disk);
    give_disk_to_vm(record, disk);
}

void make_own_disk(const VmRecord& record, const std::string& guest, const Secret& passphrase, Random& random) {
    if (passphrase.empty()) {
        make_disk_file(record, guest, std::string());
        return;
    }
    auto disk = guest + "/" + file_name::disk;
    ::unlink(disk.c_str());
    make_encrypted_disk(disk, disk_size_of(record), passphrase, random);
    ::chmod(disk.c_str(), 0600);
    give_disk_to_vm(record, disk);
}

QemuProvider::QemuProvider(Environment environment, QemuOptions options, std::string program, std::string image_tool,
                           Accelerator accelerator)
    : environment_(environment),
      options_(std::move(options)),
      program_(std::move(program)),
      image_tool_(std::move(image_tool)),
      vms_(options_.state_directory + "/vms"),
      snapshots_(options_.state_directory + "/snapshots"),
      keys_(make_file_key_store(options_.state_directory + "/keys", options_.master_key, environment.clock,
                                environment.random)),
      accelerator_(std::move(accelerator)),
      host_(look_at_host(options_.firmware_directory, options_.tpm_binary)),
      offers_(look_at_groups()),
      installation_(installation_name(options_.state_directory)),
      creating_(environment.executor),
      rotating_(environment.executor),
      keeping_keys_(environment.executor),
      adopting_(environment.executor),
      templating_(environment.executor),
      template_folder_(options_.state_directory + "/templates"),
      tasks_(environment.executor) {
    capabilities_.provider = "qemu";
    capabilities_.accelerator = accelerator_.name;
    capabilities_.accelerator_reason = accelerator_.reason;
    capabilities_.timeout_scale = accelerator_.timeout_scale();
    capabilities_.suspend_modes = {"memory"};
    // A boot keeps a core busy; with KVM it waits for disks as well.
    const std::size_t cores = static_cast<std::size_t>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
    capabilities_.concurrent_boots = accelerator_.name == "kvm" ? 2 * cores : cores;
    capabilities_.pause = capabilities_.screenshot = capabilities_.guest_exec = capabilities_.snapshot = true;
    capabilities_.memory_snapshot = true;
    capabilities_.input = capabilities_.console = capabilities_.disconnect = capabilities_.forward = true;
    if (host_.uefi) capabilities_.firmware.push_back(name_of(Firmware::uefi));
    if (host_.secure_boot) capabilities_.firmware.push_back(name_of(Firmware::secure_boot));
    capabilities_.encryption = true;
    capabilities_.tpm = !host_.tpm_program.empty();
    capabilities_.watchdog = capabilities_.pin_cpus = true;
    capabilities_.gpu_reason = judge_gpus(look_at_gpus()).reason;
    capabilities_.separate_uids = ::geteuid() == 0;
    std::error_code error;
    fs::create_directories(vms_, error);
    if (error)
        throw Error(Errc::store, "the folder " + vms_ + " cannot be made: " + error.message(),
                    {{"field", "store.state_directory"}, {"value", options_.state_directory}});
    ::chmod(vms_.c_str(), 0711);
    offer_networks();
    capabilities_.limits = limits_on_offer({offers_, installation_, 0, refusal_of_limits(network_host_)});
}

std::string QemuProvider::directory_of(const VmId& id) const { return vms_ + "/" + id.value; }

// ---- finding and keeping -------------------------------------------------------------------------------------------

Task<VmPtr> QemuProvider::find(VmId id) {
    auto self = shared_from_this();
    if (auto it = known_.find(id); it != known_.end()) co_return it->second;
    if (!is_uuid(id.value)) co_return nullptr;
    // Nobody sees a VM whose process was not looked for yet.
    Call no_limit;
    auto guard = co_await adopting_.lock(*environment_.clock, no_limit, "looking for a VM");
    if (auto it = known_.find(id); it != known_.end()) co_return it->second;
    auto directory = directory_of(id);
    auto work = [directory] { return load_record(directory); };
    auto record = co_await run_blocking(environment_.blocking, work);
    if (!record) co_return nullptr;
    auto vm = std::make_shared<Vm>(std::move(*record), directory, environment_.executor);
    vm->agent = make_guest_agent(environment_, vm->path(file_name::agent));
    co_await adopt(vm);
    known_[id] = vm;
    co_return vm;
}

Task<VmPtr> QemuProvider::need(VmId id, Call call) {
    check(call, *environment_.clock, "a VM verb");
    auto vm = co_await find(id);
    if (!vm) throw Error(Errc::not_found, "there is no VM " + id.value, {{"field", "vm"}, {"value", id.value}});
    co_return vm;
}

Task<AsyncMutex::Guard> QemuProvider::turn(VmPtr vm, Call call, const char* doing) {
    co_return co_await vm->mutex.lock(*environment_.clock, call, doing);
}

Task<void> QemuProvider::save(VmPtr vm) {
    Call no_limit;
    auto guard = co_await vm->writing.lock(*environment_.clock, no_limit, "saving a VM's record");
    if (vm->removed) co_return;
    auto directory = vm->directory;
    auto record = vm->record;
    auto work = [directory, record] {
        save_record(directory, record);
        return true;
    };
    co_await run_blocking(environment_.blocking, work);
}

/// The process of a record that was just read: found again, watched.
Task<void> QemuProvider::adopt(VmPtr vm) {
    auto& record = vm->record;
    bool maybe = record.phase == VmState::starting || record.phase == VmState::running ||
                 record.phase == VmState::paused || record.phase == VmState::suspending ||
                 record.phase == VmState::stopping;
    auto leavings = [vm, maybe] {
        ::unlink((vm->directory + "/" + file_name::record + ".new").c_str());
        ::unlink(vm->path(file_name::screen).c_str());
        // The memory of a VM that runs again, or that never will from it.
        bool unused = vm->record.memory_sha256.empty() && vm->record.phase != VmState::suspending;
        if (unused) ::unlink(vm->path(file_name::memory).c_str());
        if (!maybe) remove_sockets(vm);
        return true;
    };
    co_await run_blocking(environment_.blocking, leavings);
    if (!maybe) {
        co_await end_tpm(vm);
        co_await release_groups(vm);
        co_return;
    }
    if (!record.process || record.process->boot_id != boot_id() || !is_alive(*record.process)) {
        // The record may be older than the process, as after a restored backup: it is found by what it calls itself.
        auto uuid = record.spec.id.value;
        auto work = [uuid] { return find_vm_process(uuid); };
        record.process = co_await run_blocking(environment_.blocking, work);
    }
    if (record.process) begin_watch(vm);
    vm->may_have_probe = vm->alive;
    if (vm->alive) co_await reconnect_network(vm);
    else co_await release_host(vm);
    if (vm->alive && !record.snapshotting.empty())
        tasks_.spawn(environment_.logger, "clear a snapshot of VM " + record.spec.id.value, clear_after_crash(vm));
}

void QemuProvider::begin_watch(VmPtr vm) {
    int pidfd = open_pidfd(vm->record.process->pid);
    // The pid may have been given to another process between the look and the open.
    if (pidfd >= 0 && !is_alive(*vm->record.process)) {
        ::close(pidfd);
        pidfd = -1;
    }
    if (pidfd < 0) return;
    vm->alive = true;
    vm->expected = false;
    vm->last_event.clear();
    vm->life = std::stop_source();
    tasks_.spawn(environment_.logger, "watch VM " + vm->record.spec.id.value, watch(vm, pidfd));
}

/// Until the process dies or the provider lets go.
Task<void> QemuProvider::watch(VmPtr vm, int pidfd) {
    auto self = shared_from_this();
    asio::posix::stream_descriptor descriptor(environment_.executor, pidfd);
    std::stop_callback stop(tasks_.stop_source().get_token(),
                            [&] { asio::post(environment_.executor, [&descriptor] { descriptor.cancel(); }); });
    boost::system::error_code error;
    co_await descriptor.async_wait(asio::posix::stream_descriptor::wait_read,
                                   asio::redirect_error(asio::use_awaitable, error));
    if (error || closing_) co_return;
    // Ours if we started it; otherwise init reaps it.
    ::waitpid(static_cast<pid_t>(vm->record.process->pid), nullptr, WNOHANG);
    co_await release_host(vm);
    vm->alive = false;
    vm->life.request_stop();
    if (vm->qmp) vm->qmp->close();
    vm->qmp.reset();
    vm->agent->disconnect();
    vm->changed.notify_all();
    if (vm->expected) co_return;
    auto state = settle(vm->record, false, "");
    vm->record.phase = state;
    if (state == VmState::failed) {
        vm->record.memory_sha256.clear();
        vm->record.memory_key.clear();
    }
    vm->record.reason = vm->last_event.empty() ? "ProcessKilled" : vm->last_event;
    vm->record.message = words_for_end(vm->last_event);
    vm->record.process.reset();
    co_await save(vm);
    if (handler_) handler_({vm->record.spec.id, state, vm->record.reason, vm->record.message});
}

Task<std::shared_ptr<QmpClient>> QemuProvider::qmp(VmPtr vm, Call call) {
    if (!vm->alive) throw Error(Errc::not_ready, "the VM does not run", {{"channel", "qmp"}});
    if (vm->qmp && vm->qmp->connected()) co_return vm->qmp;
    auto guard = co_await vm->connecting.lock(*environment_.clock, call, "connecting to a VM");
    if (vm->qmp && vm->qmp->connected()) co_return vm->qmp;
    if (!vm->alive) throw Error(Errc::not_ready, "the VM's process ended", {{"channel", "qmp"}});
    std::stop_source either;
    std::stop_callback by_caller(call.stop, [either]() mutable { either.request_stop(); });
    std::stop_callback by_death(vm->life.get_token(), [either]() mutable { either.request_stop(); });
    Call linked{call.deadline, either.get_token(), call.correlation_id};
    std::shared_ptr<QmpClient> client;
    try {
        client = co_await QmpClient::connect(environment_, vm->path(file_name::qmp), linked);
    } catch (const Error& error) {
        if (error.errc() != Errc::cancelled || call.stop.stop_requested()) throw;
    }
    if (!client) throw Error(Errc::not_ready, "the VM's process ended", {{"channel", "qmp"}});
    std::weak_ptr<Vm> weak = vm;
    client->on_event([weak, owner = weak_from_this()](const json& event) {
        auto provider = owner.lock();
        auto target = weak.lock();
        if (provider && target && event["event"].is_string()) provider->take_event(target, event);
    });
    auto answer = co_await client->execute("query-uuid", no_arguments, call);
    auto uuid = answer.is_object() ? answer.value("UUID", "") : std::string();
    if (uuid != vm->record.spec.id.value) {
        client->close();
        throw Error(Errc::provider, "another VM (" + uuid + ") answers on the socket of VM " + vm->record.spec.id.value,
                    {{"reason", "IdentityMismatch"}});
    }
    if (std::exchange(vm->may_have_probe, false)) co_await clear_probe_port(environment_, client);
    vm->qmp = client;
    co_return client;
}

Task<std::string> QemuProvider::query_status(VmPtr vm, Call call) {
    auto client = co_await qmp(vm, call);
    auto answer = co_await client->execute("query-status", no_arguments, call);
    co_return answer.is_object() ? answer.value("status", "") : std::string();
}

/// Empty when the process died while it was asked.
Task<std::string> QemuProvider::status_unless_dead(VmPtr vm, Call call) {
    std::string status;
    std::exception_ptr failure;
    try {
        status = co_await query_status(vm, call);
    } catch (const Error&) {
        failure = std::current_exception();
    }
    if (failure && vm->alive) {
        // The connection may break a moment before the death is seen.
        auto soon = call.within(Deadline::after(*environment_.clock, std::chrono::seconds(1)));
        co_await vm->changed.wait(*environment_.clock, soon);
    }
    if (failure && vm->alive) std::rethrow_exception(failure);
    co_return status;
}

VmStatus QemuProvider::status_of(const VmPtr& vm, VmState state) const {
    VmStatus status;
    status.id = vm->record.spec.id;
    status.state = state;
    status.reason = vm->record.reason;
    status.message = vm->record.message;
    status.accelerator = vm->record.accelerator;
    if (vm->alive) status.process = vm->record.process;
    status.owner_session = vm->record.spec.owner_session;
    status.execution_id = vm->record.execution_id;
    status.launch = vm->record.launch;
    status.limits = vm->record.limits;
    status.host_cpus = vm->record.host_cpus;
    status.observed_at = environment_.clock->wall_now();
    return status;
}

/// A VM without a record that can be read. Gone only when nothing of it is there.
Task<VmStatus> QemuProvider::inspect_unrecorded(VmId id, std::string trouble) {
    auto self = shared_from_this();
    VmStatus status;
    status.id = id;
    auto directory = directory_of(id);
    auto uuid = is_uuid(id.value) ? id.value : std::string();
    auto work = [directory, uuid] {
        std::error_code error;
        return !uuid.empty() && fs::exists(directory, error) && find_vm_process(uuid).has_value();
    };
    bool runs = co_await run_blocking(environment_.blocking, work);
    bool there = runs || !trouble.empty();
    status.state = there ? VmState::unknown : VmState::deleted;
    if (there) status.reason = trouble.empty() ? "RecordMissing" : "RecordUnreadable";
    status.message = std::move(trouble);
    status.observed_at = environment_.clock->wall_now();
    co_return status;
}

Task<VmStatus> QemuProvider::inspect(VmId id, Call call) {
    auto self = shared_from_this();
    VmPtr vm;
    std::string trouble;
    try {
        vm = co_await find(id);
    } catch (const Error& error) {
        if (error.errc() != Errc::provider) throw;
        trouble = error.message();
    }
    if (!vm) co_return co_await inspect_unrecorded(id, trouble);
    std::string status;
    if (vm->alive) {
        auto soon = call.within(Deadline::after(*environment_.clock, std::chrono::seconds(5)));
        try {
            status = co_await query_status(vm, soon);
            // Stopped while nobody listened.
            if (status == "io-error") expect_space(vm);
        } catch (const Error& error) {
            if (call.stop.stop_requested()) throw;
            environment_.logger->log(LogLevel::warning, "vm.qemu", "a VM could not be looked at",
                                     {{"vm", id.value}, {"detail", error.message()}});
        }
    }
    co_return status_of(vm, settle(vm->record, vm->alive, status));
}

Task<std::vector<VmStatus>> QemuProvider::list_owned(Call call) {
    auto self = shared_from_this();
    auto folder = vms_;
    auto work = [folder] {
        std::vector<VmId> ids;
        std::error_code error;
        for (const auto& entry : fs::directory_iterator(folder, error)) {
            auto name = entry.path().filename().string();
            if (is_uuid(name)) ids.push_back({name});
        }
        std::sort(ids.begin(), ids.end());
        return ids;
    };
    auto ids = co_await run_blocking(environment_.blocking, work);
    std::vector<VmStatus> statuses;
    for (const auto& id : ids) {
        if (auto it = known_.find(id); it != known_.end() && it->second->record.donor) continue;
        auto status = co_await inspect(id, call);
        if (auto it = known_.find(id); it != known_.end() && it->second->record.donor) continue;
        if (status.state != VmState::deleted) statuses.push_back(std::move(status));
    }
    co_return statuses;
}

Task<void> QemuProvider::sweep_debris() {
    auto self = shared_from_this();
    auto folder = vms_;
    auto offers = offers_;
    auto installation = installation_;
    auto work = [folder, offers, installation] {
        auto left = sweep(folder);
        sweep_groups(offers, installation, folder);
        return left;
    };
    auto left = co_await run_blocking(environment_.blocking, work);
    for (const auto& name : left)
        environment_.logger->log(LogLevel::warning, "vm.qemu",
                                 "an entry in the folder of VMs is not known to be ours and is left alone",
                                 {{"path", folder + "/" + name}});
    co_await sweep_networks();
    co_await sweep_templates();
}

// ---- create, start -------------------------------------------------------------------------------------------------

Task<unsigned> QemuProvider::free_uid() {
    auto self = shared_from_this();
    auto folder = vms_;
    // Each guest folder belongs to its VM's uid, whether the record can be read or not.
    auto work = [folder] {
        std::set<unsigned> owners;
        std::error_code error;
        for (const auto& entry : fs::directory_iterator(folder, error)) {
            struct stat status{};
            if (::lstat((entry.path() / file_name::guest).c_str(), &status) == 0) owners.insert(status.st_uid);
        }
        return owners;
    };
    auto used = co_await run_blocking(environment_.blocking, work);
    for (unsigned uid = options_.uid_base; uid < options_.uid_base + options_.uid_count; ++uid)
        if (!used.contains(uid)) co_return uid;
    throw Error(Errc::capacity, "all " + std::to_string(options_.uid_count) + " uids for VMs are in use",
                {{"field", "providers.qemu_uid_base"}});
}

Task<void> QemuProvider::create(VmSpec spec, Call call) { return create_vm(std::move(spec), false, std::move(call)); }

Task<void> QemuProvider::create_vm(VmSpec spec, bool donor, Call call) {
    auto self = shared_from_this();
    auto guard = co_await creating_.lock(*environment_.clock, call, "creating a VM");
    auto existing = co_await find(spec.id);
    if (existing) co_return;
    check_spec(spec);
    VmRecord record;
    record.spec = spec;
    record.donor = donor;
    record.accelerator = accelerator_.name;
    record.program = program_;
    if (spec.network == NetworkMode::internet || spec.network == NetworkMode::bridge)
        record.network_interface = interface_name(network_prefix_, spec.id);
    if (::geteuid() == 0) record.uid = co_await free_uid();
    auto target = directory_of(spec.id);
    auto scratch = vms_ + "/" + scratch_prefix + spec.id.value;
    auto snapshots = snapshots_;
    auto work = [record, target, scratch, snapshots, self]() mutable {
        fs::remove_all(scratch);
        try {
            const auto guest = guest_folder(scratch);
            // The VM's uid passes through the outer folder and has the inner one.
            if (::mkdir(scratch.c_str(), 0700) != 0 || ::chmod(scratch.c_str(), 0711) != 0 ||
                ::mkdir(guest.c_str(), 0700) != 0)
                throw Error(Errc::store, "the VM's folder cannot be made: " + std::string(std::strerror(errno)),
                            {{"path", scratch}});
            self->passed(Effect::folder_made);
            if (!record.spec.snapshot.empty()) begin_from_snapshot(record, snapshots, *self->keys_, scratch);
            if (record.origin) self->check_origin(record);
            record.image_identity = identity_of(files_of(record, scratch));
            if (!record.spec.image.disk.empty()) {
                // No backing file in the header: QEMU is told the base at every start, by descriptor.
                Secret passphrase;
                if (record.spec.encryption == Encryption::all) {
                    passphrase = new_passphrase(*self->environment_.random);
                    record.disk_key = self->keys_->wrap(record.spec.owner_user, purpose_of_disk(record), passphrase);
                }
                make_own_disk(record, guest, passphrase, *self->environment_.random);
                self->passed(Effect::disk_made);
            }
            make_machine_files(record, self->host_, guest);
            save_record(scratch, record);
            self->passed(Effect::record_written);
            if (record.uid && ::chown(guest.c_str(), *record.uid, *record.uid) != 0)
                throw Error(Errc::permission_denied,
                            "the VM's folder cannot be given to its uid: " + std::string(std::strerror(errno)));
            fs::rename(scratch, target);
            self->passed(Effect::folder_placed);
        } catch (const fs::filesystem_error& error) {
            std::error_code ignored;
            fs::remove_all(scratch, ignored);
            throw Error(Errc::store, std::string("the VM's folder cannot be made: ") + error.what());
        } catch (...) {
            std::error_code ignored;
            fs::remove_all(scratch, ignored);
            throw;
        }
        return record;
    };
    record = co_await run_blocking(environment_.blocking, work);
    auto vm = std::make_shared<Vm>(std::move(record), target, environment_.executor);
    vm->agent = make_guest_agent(environment_, vm->path(file_name::agent));
    known_[spec.id] = vm;
}

/// Starts the process of a saved record. What fails leaves nothing of the host with the VM.
Task<void> QemuProvider::launch_process(VmPtr vm, bool from_memory, int memory_fd, int ram_fd) {
    std::exception_ptr failure;
    try {
        co_await make_process(vm, from_memory, memory_fd, ram_fd);
    } catch (const Error&) {
        failure = std::current_exception();
    }
    if (!failure) co_return;
    co_await release_host(vm);
    std::rethrow_exception(failure);
}

/// Sockets, TPM, network and groups of a VM whose process has ended or never ran.
Task<void> QemuProvider::release_host(VmPtr vm) {
    remove_sockets(vm);
    co_await end_tpm(vm);
    co_await disconnect_network(vm);
    co_await release_groups(vm);
}

Task<void> QemuProvider::make_process(VmPtr vm, bool from_memory, int memory_fd, int ram_fd) {
    co_await make_groups_of(vm);
    passed(Effect::groups_made);
    Descriptors descriptors;
    Launch request;
    request.program = vm->record.program;
    request.arguments = from_memory ? incoming(vm->record.arguments) : vm->record.arguments;
    if (ram_fd >= 0)
        request.arguments = with_ram_file(request.arguments, vm->record.spec.memory_bytes, vm->record.donor);
    request.directory = guest_folder(vm->directory);
    request.log_file = file_name::log;
    request.uid = vm->record.uid;
    request.own_network = vm->record.spec.network == NetworkMode::internet;
    if (vm->record.accelerator == "kvm") request.group = group_of("/dev/kvm");
    auto give = [&](int fd, int number) { request.descriptors.emplace_back(fd, number); };
    give(descriptors.add(listen_unix(vm->path(file_name::qmp))), inherited::qmp);
    give(descriptors.add(listen_unix(vm->path(file_name::agent))), inherited::agent);
    const auto image = files_of(vm->record, vm->directory);
    if (identity_of(image) != vm->record.image_identity)
        throw Error(Errc::provider,
                    "image '" + image.name + "' was replaced after VM " + vm->record.spec.id.value +
                        " was made, and its disk fits only the old one; keep images that are in use and "
                        "import new ones under another name",
                    {{"reason", "ImageReplaced"}, {"image", image.name}});
    if (!image.kernel.empty()) give(descriptors.add(open_for_vm(image.kernel)), inherited::kernel);
    if (!image.initrd.empty()) give(descriptors.add(open_for_vm(image.initrd)), inherited::initrd);
    if (!image.disk.empty()) give(descriptors.add(open_for_vm(image.disk)), inherited::base_disk);
    if (!image.disc.empty()) give(descriptors.add(open_for_vm(image.disc)), inherited::disc);
    if (!vm->record.firmware_code.empty())
        give(descriptors.add(open_for_vm(vm->record.firmware_code)), inherited::firmware);
    if (memory_fd >= 0) give(memory_fd, inherited::memory);
    if (ram_fd >= 0) give(ram_fd, inherited::ram);
    std::function<void(int, int)> give_own = [&](int fd, int number) { give(descriptors.add(fd), number); };
    co_await give_disk_keys(vm, give_own);

    passed(Effect::sockets_bound);
    if (vm->record.spec.tpm) {
        give(descriptors.add(co_await start_tpm(vm)), inherited::tpm);
        passed(Effect::tpm_started);
    }
    if (int tap = co_await prepare_network(vm); tap >= 0) give(descriptors.add(tap), inherited::tap);
    {
        Call no_limit;
        auto guard = co_await vm->writing.lock(*environment_.clock, no_limit, "saving a VM's record");
        auto self = shared_from_this();
        auto record = vm->record;
        auto directory = vm->directory;
        // Who the process is stands on disk before it runs anything.
        auto work = [request, record, directory, self]() mutable {
            auto note = [&](int pid) {
                self->passed(Effect::process_forked);
                record.process =
                    ProcessIdentity{boot_id(), pid, start_time_ticks(pid).value_or(0), record.spec.id.value};
                note_not_joined(record.limits, join_groups(record.groups, pid));
                save_record(directory, record);
                self->passed(Effect::process_recorded);
            };
            launch(request, note);
            return std::pair(*record.process, record.limits);
        };
        auto started = co_await run_blocking(environment_.blocking, work);
        vm->record.process = started.first;
        vm->record.limits = started.second;
    }
}

/// Starts the process of a saved record and learns its identity over QMP.
Task<void> QemuProvider::spawn(VmPtr vm, bool from_memory, int memory_fd, Call call, int ram_fd) {
    co_await launch_process(vm, from_memory, memory_fd, ram_fd);
    begin_watch(vm);
    if (!vm->alive) {
        ::waitpid(static_cast<pid_t>(vm->record.process->pid), nullptr, 0);
        remove_sockets(vm);
    }
    passed(Effect::process_started);
    std::exception_ptr failure;
    try {
        co_await qmp(vm, call);
    } catch (const Error&) {
        failure = std::current_exception();
    }
    if (failure) {
        if (!vm->alive) throw died(vm, "QEMU ended as soon as it was started");
        std::rethrow_exception(failure);
    }
    co_await connect_network(vm);
    co_await pin_cpus(vm, call);
    passed(Effect::handshake_done);
}

Error QemuProvider::died(VmPtr vm, std::string what) {
    auto log = tail_of(vm->path(file_name::log), 2000);
    Error error(
        Errc::vm_provisioning, what,
        {{"vm", vm->record.spec.id.value}, {"reason", vm->last_event.empty() ? "ProcessKilled" : vm->last_event}});
    error.with_remote_message(log);
    return error;
}

void QemuProvider::begin_start(VmPtr vm, std::string execution_id) {
    CommandLineOptions options{accelerator_.name, options_.translation_cache_mib, !vm->record.disk_key.empty(),
                               !vm->record.base_key.empty()};
    vm->record.arguments = command_line(vm->record.spec, options);
    vm->record.accelerator = accelerator_.name;
    vm->record.program = program_;
    vm->record.phase = VmState::starting;
    vm->record.resuming = false;
    vm->record.cloning = false;
    vm->record.reason.clear();
    vm->record.message.clear();
    vm->record.execution_id = std::move(execution_id);
    vm->record.process.reset();
    intend_limits(vm);
}

Task<void> QemuProvider::start(VmId id, std::string execution_id, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    auto guard = co_await turn(vm, call, "starting a VM");
    // An owner died over it: nobody has used it.
    if (vm->alive && vm->record.cloning) co_await end(vm, call);
    if (vm->alive) {
        auto status = co_await status_unless_dead(vm, call);
        if (vm->alive) {
            // The start before may have ended without a network.
            if (vm->record.phase == VmState::starting) co_await connect_network(vm);
            if (vm->record.execution_id != execution_id || vm->record.phase == VmState::starting) {
                vm->record.execution_id = execution_id;
                vm->record.phase = settle(vm->record, true, status);
                co_await save(vm);
            }
            co_return;
        }
    }
    if (settle(vm->record, false, "") == VmState::suspended)
        throw Error(Errc::invalid_transition, "VM " + id.value + " is suspended: resume it", {{"vm", id.value}});
    if (vm->record.origin) {
        co_await start_from_memory(vm, execution_id, call);
        co_return;
    }
    auto why_booted = co_await start_from_template(vm, execution_id, call);
    if (why_booted.empty()) co_return;
    begin_start(vm, execution_id);
    vm->record.launch = {"cold boot", why_booted};
    co_await save(vm);
    passed(Effect::start_intended);
    co_await spawn(vm, false, -1, call);
    vm->record.phase = VmState::running;
    co_await save(vm);
    passed(Effect::start_recorded);
}

Task<void> QemuProvider::wait_ready(VmId id, Call call) {
    auto self = shared_from_this();
    // Out of time is told by the channel, not here.
    Call looking{Deadline(), call.stop, call.correlation_id};
    auto vm = co_await need(id, looking);
    auto channels = vm->record.spec.channels;
    for (const auto& channel : channels) {
        std::exception_ptr failure;
        bool late = false;
        try {
            if (channel == "agent") {
                co_await vm->agent->ping(call);
            } else if (channel == "display") {
                co_await screenshot(id, call);
            } else {
                throw Error(Errc::unsupported, "channel '" + channel + "' is unknown to the qemu provider",
                            {{"capability", channel}});
            }
        } catch (const Error& error) {
            failure = std::current_exception();
            late = error.errc() == Errc::timeout;
        }
        if (!failure) continue;
        if (!vm->alive) throw died(vm, "the VM ended while it booted");
        if (late)
            throw Error(Errc::not_ready, "channel '" + channel + "' did not answer in time", {{"channel", channel}});
        std::rethrow_exception(failure);
    }
}

// ---- ending --------------------------------------------------------------------------------------------------------

Task<void> QemuProvider::wait_dead(VmPtr vm, Call call, const char* doing) {
    while (vm->alive) {
        check(call, *environment_.clock, doing);
        co_await vm->changed.wait(*environment_.clock, call);
    }
}

/// Ends the process at once; returns when its death was observed.
Task<void> QemuProvider::end(VmPtr vm, Call call) {
    if (!vm->alive) co_return;
    vm->expected = true;
    int pidfd = open_pidfd(vm->record.process->pid);
    if (pidfd >= 0) {
        if (is_alive(*vm->record.process)) kill_through(pidfd);
        ::close(pidfd);
    }
    co_await wait_dead(vm, call, "waiting for a VM's process to end");
    passed(Effect::process_ended);
}

Task<void> QemuProvider::shutdown(VmId id, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    auto guard = co_await turn(vm, call, "shutting a VM down");
    if (!vm->alive) co_return;
    vm->expected = true;
    auto client = co_await qmp(vm, call);
    co_await client->execute("system_powerdown", no_arguments, call);
    const auto& channels = vm->record.spec.channels;
    if (std::find(channels.begin(), channels.end(), "agent") != channels.end()) {
        // Guests without ACPI handling listen to their agent.
        ExecRequest request;
        request.arguments = {"/sbin/shutdown", "-h", "now"};
        try {
            co_await vm->agent->exec(request, call);
        } catch (const Error& error) {
            if (vm->alive && error.errc() != Errc::not_ready && error.errc() != Errc::not_found) throw;
        }
    }
    co_await wait_dead(vm, call, "waiting for the guest to shut down");
    vm->record.phase = VmState::stopped;
    vm->record.reason = "GuestShutdown";
    vm->record.process.reset();
    co_await save(vm);
}

Task<void> QemuProvider::power_off(VmId id, Call call) {
    auto self = shared_from_this();
    auto vm = co_await find(id);
    if (!vm) co_return;
    vm->interrupt.request_stop();
    auto guard = co_await turn(vm, call, "powering a VM off");
    bool suspended = settle(vm->record, vm->alive, "") == VmState::suspended;
    if (!vm->alive && !suspended) co_return;
    co_await end(vm, call);
    vm->record.phase = VmState::stopped;
    vm->record.reason = "PoweredOff";
    vm->record.process.reset();
    vm->record.memory_sha256.clear();
    vm->record.memory_key.clear();
    co_await save(vm);
    std::error_code ignored;
    fs::remove(vm->path(file_name::memory), ignored);
    passed(Effect::end_recorded);
}

Task<void> QemuProvider::destroy(VmId id, Call call) {
    auto self = shared_from_this();
    VmPtr vm;
    try {
        vm = co_await find(id);
    } catch (const Error& error) {
        if (error.errc() != Errc::provider) throw;
        environment_.logger->log(LogLevel::warning, "vm.qemu", "a VM with a damaged record is removed",
                                 {{"vm", id.value}, {"detail", error.message()}});
    }
    if (!vm) {
        if (!is_uuid(id.value)) co_return;
        auto directory = directory_of(id);
        auto work = [directory, id, self] {
            std::error_code error;
            if (!fs::exists(directory, error)) return true;
            remove_without_record(directory, id.value);
            sweep_groups(self->offers_, self->installation_, self->vms_);
            return true;
        };
        co_await run_blocking(environment_.blocking, work);
        co_return;
    }
    vm->interrupt.request_stop();
    auto guard = co_await turn(vm, call, "destroying a VM");
    co_await end(vm, call);
    co_await end_tpm(vm);
    co_await disconnect_network(vm);
    co_await release_groups(vm);
    vm->agent->disconnect();
    Call no_limit;
    auto last = co_await vm->writing.lock(*environment_.clock, no_limit, "removing a VM's folder");
    vm->removed = true;
    auto directory = vm->directory;
    auto work = [directory, self] {
        std::error_code error;
        if (!fs::exists(directory, error)) return true;
        auto aside = set_folder_aside(directory);
        self->passed(Effect::folder_set_aside);
        remove_set_aside(aside);
        self->passed(Effect::folder_removed);
        return true;
    };
    co_await run_blocking(environment_.blocking, work);
    known_.erase(id);
}

Task<void> QemuProvider::close() {
    auto self = shared_from_this();
    closing_ = true;
    for (const auto& entry : known_) {
        if (entry.second->qmp) entry.second->qmp->close();
        entry.second->agent->disconnect();
    }
    tasks_.stop_source().request_stop();
    co_await tasks_.join();
    known_.clear();
}

}  // namespace infrastructure_sdk::qemu
