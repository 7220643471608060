// Snapshots of a disk: by QEMU's own backup job while the VM runs, by qemu-img when it does not.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "providers/qemu/command_line.hpp"
#include "providers/qemu/key_purposes.hpp"
#include "providers/qemu/provider.hpp"

namespace infrastructure_sdk::qemu {
using nlohmann::json;
namespace {

// One name for the job, its nodes and its descriptor, so that whoever comes after a crash finds them.
constexpr const char* job = "snapshot";
constexpr const char* file_node = "snapshot-file";

/// QEMU's "there is no such thing" is what was wanted.
Task<void> execute_if_there(std::shared_ptr<QmpClient> client, std::string command, json arguments, Call call) {
    try {
        co_await client->execute(command, arguments, call);
    } catch (const Error& error) {
        if (error.errc() != Errc::provider) throw;
    }
}

/// The state of the job; empty when there is none. @throws Error(provider) when it failed.
Task<std::string> job_status(std::shared_ptr<QmpClient> client, bool throws, Call call) {
    json none = json::object();
    auto jobs = co_await client->execute("query-jobs", none, call);
    if (!jobs.is_array()) co_return std::string();
    for (const auto& found : jobs) {
        if (!found.is_object() || found.value("id", "") != job) continue;
        if (throws && found.contains("error"))
            throw Error(Errc::provider, "the disk could not be copied; is the host's disk full?",
                        {{"reason", "SnapshotFailed"}})
                .with_remote_message(found.value("error", ""));
        co_return found.value("status", "");
    }
    co_return std::string();
}

std::uint64_t disk_size(const VmSpec& spec) { return std::max(spec.disk_size_bytes, spec.image.disk_size_bytes); }

}  // namespace

Task<void> QemuProvider::snapshot(VmId id, std::string snapshot_id, SnapshotMode mode, Call call) {
    auto self = shared_from_this();
    if (!is_snapshot_name(snapshot_id))
        throw Error(Errc::validation, "snapshot: '" + snapshot_id + "' is not allowed; snap- and letters or digits",
                    {{"field", "snapshot"}, {"value", snapshot_id}, {"allowed", "snap-[a-z0-9]+"}});
    if (co_await inspect_snapshot(snapshot_id, call)) co_return;
    auto vm = co_await need(id, call);
    if (vm->record.spec.image.disk.empty())
        throw Error(Errc::unsupported, "VM " + id.value + " has no disk", {{"capability", "disk"}, {"vm", id.value}});
    const bool whole = mode == SnapshotMode::memory;
    if (auto why = whole ? why_no_memory_snapshot(vm->record.spec) : std::string(); !why.empty())
        throw Error(Errc::unsupported, "the memory of VM " + id.value + " cannot be copied: " + why,
                    {{"capability", "memory_snapshot"}, {"vm", id.value}});
    std::stop_source either;
    std::stop_callback by_caller(call.stop, [either]() mutable { either.request_stop(); });
    Call linked{call.deadline, either.get_token(), call.correlation_id};
    VmSnapshot made;
    made.id = snapshot_id;
    made.mode = mode;
    made.consistent = whole ? "memory" : "crash";
    CopiedMemory memory;
    std::exception_ptr failure;
    try {
        auto first = co_await turn(vm, linked, "taking a snapshot");
        std::optional<AsyncMutex::Guard> guard(std::move(first));
        if (vm->removed) throw Error(Errc::not_found, "there is no VM " + id.value, {{"field", "vm"}});
        vm->interrupt = std::stop_source();
        std::stop_callback by_ending(vm->interrupt.get_token(), [either]() mutable { either.request_stop(); });
        Secret passphrase;
        if (vm->record.spec.encryption == Encryption::all || !vm->record.base_key.empty())
            passphrase = new_passphrase(*environment_.random);
        auto source = co_await collect_disk(vm, &made, passphrase, &memory, linked);
        // What was copied is ours alone; the disk of a VM that does not run must not be started under the copy.
        if (source.disk.empty() || source.base_format.empty() || memory.memory) guard.reset();
        co_await keep_snapshot(vm, made, source, passphrase, memory);
        check(linked, *environment_.clock, "taking a snapshot");
    } catch (...) {
        failure = std::current_exception();
    }
    if (!failure) co_return;
    auto undo = [folder = snapshots_, snapshot_id] {
        folder.remove(snapshot_id);
        return true;
    };
    co_await run_blocking(environment_.blocking, undo);
    if (vm->interrupt.stop_requested() && !call.stop.stop_requested())
        throw Error(Errc::invalid_transition, "VM " + id.value + " was ended while its disk was copied",
                    {{"vm", id.value}, {"reason", "VmEnded"}});
    std::rethrow_exception(failure);
}

/// The copy becomes a snapshot. What it is wrapped by is that user's newest key until it is recorded.
Task<void> QemuProvider::keep_snapshot(VmPtr vm, VmSnapshot made, DiskSource source, Secret passphrase,
                                       CopiedMemory memory) {
    Call no_limit;
    auto guard = co_await keeping_keys_.lock(*environment_.clock, no_limit, "keeping a snapshot's key");
    SnapshotKey key;
    if (!passphrase.empty()) {
        key.user = vm->record.spec.owner_user;
        key.wrapped = co_await wrap(key.user, purpose_of_snapshot(made.id), passphrase);
    }
    if (!memory.key.empty()) {
        key.user = vm->record.spec.owner_user;
        key.memory = co_await wrap(key.user, purpose_of_snapshot_memory(made.id), memory.key);
    }
    source.virtual_size_bytes = disk_size(vm->record.spec);
    auto finish = [folder = snapshots_, made, source, passphrase, key, kept = memory.memory, tool = image_tool_,
                   random = environment_.random] {
        return folder.finish(made, source, passphrase, key, kept, tool, *random);
    };
    co_await run_blocking(environment_.blocking, finish);
}

/// Where the disk's content is: in the scratch folder, copied by QEMU, or still in the files of a VM at rest.
Task<DiskSource> QemuProvider::collect_disk(VmPtr vm, VmSnapshot* snapshot, Secret passphrase, CopiedMemory* memory,
                                            Call call) {
    auto begin = [folder = snapshots_, id = snapshot->id] {
        folder.begin(id);
        return true;
    };
    co_await run_blocking(environment_.blocking, begin);
    DiskSource source;
    const bool whole = snapshot->mode == SnapshotMode::memory;
    if (whole) co_await copy_with_memory(vm, snapshot->id, memory, call);
    if (vm->alive && !whole) {
        co_await copy_live_disk(vm, snapshot, passphrase, call);
        if (!passphrase.empty()) {
            source.disk = snapshots_.sealed_of(snapshot->id);
            source.disk_key = passphrase;
        }
    } else {
        auto files = files_of(vm->record, vm->directory);
        source.disk = whole ? snapshots_.copy_of(snapshot->id) : vm->path(file_name::disk);
        source.base = files.disk;
        source.base_format = files.disk_format;
        source.disk_key = co_await passphrase_of_disk(vm);
        source.base_key = co_await passphrase_of_base(vm);
    }
    co_return source;
}

Task<void> QemuProvider::copy_live_disk(VmPtr vm, VmSnapshot* snapshot, Secret passphrase, Call call) {
    auto client = co_await qmp(vm, call);
    vm->record.snapshotting = snapshot->id;
    co_await save(vm);
    int file = -1;
    std::exception_ptr failure;
    try {
        co_await clear_backup(client, call);
        const bool sealed = !passphrase.empty();
        auto path = sealed ? snapshots_.sealed_of(snapshot->id) : snapshots_.raw_of(snapshot->id);
        auto size = disk_size(vm->record.spec);
        auto make = [random = environment_.random, path, size, passphrase] {
            make_encrypted_disk(path, size, passphrase, *random);
            return true;
        };
        if (sealed) co_await run_blocking(environment_.blocking, make);
        int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (sealed ? 0 : O_CREAT | O_EXCL);
        file = ::open(path.c_str(), flags, 0600);
        if (file < 0 || (!sealed && ::ftruncate(file, static_cast<off_t>(size)) != 0))
            throw Error(Errc::store, "a snapshot's file cannot be made: " + std::string(std::strerror(errno)),
                        {{"path", path}});
        co_await start_backup(vm, client, snapshot, file, passphrase, call);
        co_await await_backup(client, call);
    } catch (...) {
        failure = std::current_exception();
    }
    if (file >= 0) ::close(file);
    Call rescue{Deadline::after(*environment_.clock, std::chrono::seconds(30)), {}, call.correlation_id};
    std::string left;
    try {
        if (vm->alive) co_await clear_backup(client, rescue);
        // A guest that did not say that it thawed stays noted until it does.
        if (vm->record.snapshotting == snapshot->id) vm->record.snapshotting.clear();
        co_await save(vm);
    } catch (const Error& error) {
        left = error.message();
    }
    if (!left.empty())
        environment_.logger->log(LogLevel::warning, "vm.qemu", "a snapshot left something in a VM",
                                 {{"vm", vm->record.spec.id.value}, {"detail", left}}, call.correlation_id);
    if (failure) std::rethrow_exception(failure);
}

/// The moment of the snapshot: when the job is there, QEMU keeps what the guest overwrites until it is copied.
Task<void> QemuProvider::start_backup(VmPtr vm, std::shared_ptr<QmpClient> client, VmSnapshot* snapshot, int file,
                                      Secret passphrase, Call call) {
    json slot{{"opaque", job}};
    auto given = co_await client->execute("add-fd", slot, call, file);
    if (!given.is_object() || !given.value("fdset-id", json()).is_number_integer())
        throw Error(Errc::provider, "QEMU did not take the snapshot's file", {{"reason", "SnapshotFailed"}});
    // Raw, and written by QEMU through a descriptor: nothing that the VM's process could have shaped is parsed later.
    json raw_file{{"driver", "file"},
                  {"node-name", file_node},
                  {"filename", "/dev/fdset/" + std::to_string(given["fdset-id"].get<std::int64_t>())},
                  {"discard", "unmap"}};
    co_await client->execute("blockdev-add", raw_file, call);
    // An encrypted copy is a qcow2 file of ours: its header is looked at before anybody else reads it.
    json copy{{"node-name", job}, {"file", file_node}, {"discard", "unmap"}, {"detect-zeroes", "unmap"}};
    copy["driver"] = passphrase.empty() ? "raw" : "qcow2";
    if (!passphrase.empty()) {
        json secret{{"qom-type", "secret"}, {"id", job}, {"data", passphrase.reveal()}};
        co_await client->execute("object-add", secret, call);
        copy["encrypt"] = {{"format", "luks"}, {"key-secret", job}};
    }
    co_await client->execute("blockdev-add", copy, call);
    std::function<Task<void>()> start = [client, call]() -> Task<void> {
        json backup{{"job-id", job}, {"device", "disk"}, {"target", job}, {"sync", "full"}, {"auto-dismiss", false}};
        co_await client->execute("blockdev-backup", backup, call);
    };
    const auto& channels = vm->record.spec.channels;
    bool has_agent = std::find(channels.begin(), channels.end(), "agent") != channels.end();
    auto status = co_await query_status(vm, call);
    if (!has_agent || status != "running") {
        co_await start();
        co_return;
    }
    auto freeze = co_await vm->agent->while_frozen(start, call);
    if (freeze.frozen) snapshot->consistent = "frozen";
    if (freeze.thawed) co_return;
    environment_.logger->log(LogLevel::warning, "vm.qemu", "a guest did not say that it thawed",
                             {{"vm", vm->record.spec.id.value}}, call.correlation_id);
    vm->record.snapshotting = "thaw";
    tasks_.spawn(environment_.logger, "thaw VM " + vm->record.spec.id.value, thaw(vm));
}

Task<void> QemuProvider::await_backup(std::shared_ptr<QmpClient> client, Call call) {
    Duration pause = std::chrono::milliseconds(2);
    for (;;) {
        auto status = co_await job_status(client, true, call);
        if (status == "concluded") co_return;
        if (status.empty()) throw Error(Errc::provider, "QEMU's backup job is gone", {{"reason", "SnapshotFailed"}});
        check(call, *environment_.clock, "copying a disk");
        auto next = Deadline::after(*environment_.clock, pause).earlier(call.deadline);
        co_await environment_.clock->sleep_until(next.when(), call.stop);
        pause = std::min<Duration>(pause * 2, std::chrono::milliseconds(100));
    }
}

/// No job, no node, no descriptor of a snapshot is left in QEMU.
Task<void> QemuProvider::clear_backup(std::shared_ptr<QmpClient> client, Call call) {
    json id{{"id", job}};
    auto status = co_await job_status(client, false, call);
    if (!status.empty() && status != "concluded") co_await execute_if_there(client, "job-cancel", id, call);
    while (!status.empty() && status != "concluded") {
        auto next = Deadline::after(*environment_.clock, std::chrono::milliseconds(5)).earlier(call.deadline);
        co_await environment_.clock->sleep_until(next.when(), call.stop);
        check(call, *environment_.clock, "ending a backup job");
        status = co_await job_status(client, false, call);
    }
    co_await execute_if_there(client, "job-dismiss", id, call);
    for (const char* node : {job, file_node}) {
        json name{{"node-name", node}};
        co_await execute_if_there(client, "blockdev-del", name, call);
    }
    co_await execute_if_there(client, "object-del", id, call);
    json none = json::object();
    auto sets = co_await client->execute("query-fdsets", none, call);
    if (!sets.is_array()) co_return;
    for (const auto& set : sets) {
        if (!set.is_object() || !set.contains("fds") || !set["fds"].is_array()) continue;
        bool ours = std::any_of(set["fds"].begin(), set["fds"].end(),
                                [](const json& fd) { return fd.is_object() && fd.value("opaque", "") == job; });
        json number{{"fdset-id", set.value("fdset-id", json(-1))}};
        if (ours) co_await execute_if_there(client, "remove-fd", number, call);
    }
}

/// Asks until the guest says that its file systems are free, the VM is gone or its owner lets go; then the next owner
/// asks.
Task<void> QemuProvider::thaw(VmPtr vm) {
    auto self = shared_from_this();
    auto noted = vm->record.snapshotting;
    const auto& channels = vm->record.spec.channels;
    bool thawed = std::find(channels.begin(), channels.end(), "agent") == channels.end();
    auto stop = tasks_.stop_source().get_token();
    while (!thawed && vm->alive && !closing_) {
        Call soon{Deadline::after(*environment_.clock, std::chrono::seconds(10)), stop, {}};
        try {
            co_await vm->agent->thaw(soon);
            thawed = true;
        } catch (const Error& error) {
            // A guest that cannot thaw was never frozen.
            thawed = error.errc() == Errc::provider;
        }
        auto next = Deadline::after(*environment_.clock, std::chrono::seconds(1));
        if (!thawed) co_await environment_.clock->sleep_until(next.when(), stop);
    }
    if (!thawed || vm->record.snapshotting != noted) co_return;
    vm->record.snapshotting.clear();
    co_await save(vm);
}

/// What a snapshot left in QEMU and in the guest when its maker died or could not clear it: the guest is tried until it
/// runs or is gone.
Task<void> QemuProvider::clear_after_crash(VmPtr vm) {
    auto self = shared_from_this();
    Call no_limit{Deadline(), tasks_.stop_source().get_token(), {}};
    Duration pause = std::chrono::milliseconds(100);
    bool runs = false;
    std::string left;
    while (!runs && vm->alive && !closing_) {
        auto last = std::exchange(left, std::string());
        try {
            auto guard = co_await turn(vm, no_limit, "clearing a snapshot");
            auto soon = no_limit.within(Deadline::after(*environment_.clock, std::chrono::seconds(10)));
            // Its memory may have been copied: it stands still.
            if (vm->record.phase == VmState::running) co_await go_on(vm, soon);
            runs = true;
            auto client = co_await qmp(vm, soon);
            co_await clear_backup(client, soon);
        } catch (const Error& error) {
            if (error.errc() == Errc::cancelled) throw;
            left = error.message();
        }
        if (!left.empty() && left != last)
            environment_.logger->log(LogLevel::warning, "vm.qemu", "a snapshot left something in a VM",
                                     {{"vm", vm->record.spec.id.value}, {"detail", left}});
        auto next = Deadline::after(*environment_.clock, pause);
        if (!runs) co_await environment_.clock->sleep_until(next.when(), no_limit.stop);
        pause = std::min<Duration>(pause * 2, std::chrono::seconds(5));
    }
    // A guest that stands still could not answer.
    if (runs) co_await thaw(vm);
}

Task<std::optional<VmSnapshot>> QemuProvider::inspect_snapshot(std::string snapshot_id, Call call) {
    auto self = shared_from_this();
    check(call, *environment_.clock, "looking at a snapshot");
    if (!is_snapshot_name(snapshot_id)) co_return std::nullopt;
    auto look = [folder = snapshots_, snapshot_id] { return folder.find(snapshot_id); };
    co_return co_await run_blocking(environment_.blocking, look);
}

Task<std::vector<std::string>> QemuProvider::list_snapshots(Call call) {
    auto self = shared_from_this();
    check(call, *environment_.clock, "looking at all snapshots");
    auto look = [folder = snapshots_] { return folder.ids(); };
    co_return co_await run_blocking(environment_.blocking, look);
}

Task<void> QemuProvider::delete_snapshot(std::string snapshot_id, Call call) {
    auto self = shared_from_this();
    check(call, *environment_.clock, "removing a snapshot");
    if (!is_snapshot_name(snapshot_id)) co_return;
    auto work = [folder = snapshots_, snapshot_id] {
        folder.remove(snapshot_id);
        return true;
    };
    co_await run_blocking(environment_.blocking, work);
}

}  // namespace infrastructure_sdk::qemu
