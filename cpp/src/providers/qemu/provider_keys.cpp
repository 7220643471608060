// The keys of VMs: drawn here, kept in their records, wrapped by the keys of their users.
#include <unistd.h>

#include "core/aead.hpp"
#include "core/base64.hpp"
#include "providers/qemu/command_line.hpp"
#include "providers/qemu/key_purposes.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/provider.hpp"

namespace infrastructure_sdk::qemu {
using nlohmann::json;

std::string purpose_of_memory(const VmRecord& record) {
    return "memory " + record.spec.id.value + " " + std::to_string(record.memory_epoch);
}
std::string purpose_of_disk(const VmRecord& record) { return "disk " + record.spec.id.value; }
std::string purpose_of_base(const VmRecord& record) { return "base " + record.spec.id.value; }
std::string purpose_of_snapshot(const std::string& id) { return "snapshot " + id; }
std::string purpose_of_snapshot_memory(const std::string& id) { return "snapshot memory " + id; }

Secret new_key(Random& random) {
    std::string bytes(Aead::key_bytes, '\0');
    random.fill({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
    return Secret(std::move(bytes));
}

Secret new_passphrase(Random& random) { return Secret(base64_encode(new_key(random).reveal())); }

Task<std::string> QemuProvider::wrap(std::string user, std::string purpose, Secret key) {
    auto work = [keys = keys_, user, purpose, key] { return keys->wrap(user, purpose, key); };
    co_return co_await run_blocking(environment_.blocking, work);
}

Task<Secret> QemuProvider::unwrap(std::string user, std::string purpose, std::string wrapped) {
    auto work = [keys = keys_, user, purpose, wrapped] { return keys->unwrap(user, purpose, wrapped); };
    co_return co_await run_blocking(environment_.blocking, work);
}

// ---- memory files --------------------------------------------------------------------------------------------------

/// For the memory file that is about to be written; in the record, not yet saved. nullopt = it will be a plain one.
Task<std::optional<Secret>> QemuProvider::new_memory_key(VmPtr vm) {
    auto self = shared_from_this();
    std::optional<Secret> key;
    vm->record.memory_key.clear();
    if (vm->record.spec.encryption == Encryption::off) co_return key;
    key = new_key(*environment_.random);
    ++vm->record.memory_epoch;
    auto purpose = purpose_of_memory(vm->record);
    vm->record.memory_key = co_await wrap(vm->record.spec.owner_user, purpose, *key);
    co_return key;
}

Task<Secret> QemuProvider::memory_key_of(VmPtr vm) {
    auto purpose = purpose_of_memory(vm->record);
    co_return co_await unwrap(vm->record.spec.owner_user, purpose, vm->record.memory_key);
}

MemoryStreamPtr QemuProvider::stream_of(VmPtr vm, const Secret& key, MemoryStream::Direction direction, int file) {
    StreamIdentity identity{vm->record.spec.id.value, vm->record.memory_epoch};
    if (const auto& origin = vm->record.origin) identity = {origin->vm, origin->epoch};
    return std::make_shared<MemoryStream>(environment_, direction, file, key, identity);
}

// ---- disks ---------------------------------------------------------------------------------------------------------

/// Empty when its disk is not encrypted.
Task<Secret> QemuProvider::passphrase_of_disk(VmPtr vm) {
    Secret none;
    if (vm->record.disk_key.empty()) co_return none;
    auto purpose = purpose_of_disk(vm->record);
    co_return co_await unwrap(vm->record.spec.owner_user, purpose, vm->record.disk_key);
}

Task<Secret> QemuProvider::passphrase_of_base(VmPtr vm) {
    Secret none;
    if (vm->record.base_key.empty()) co_return none;
    auto purpose = purpose_of_base(vm->record);
    co_return co_await unwrap(vm->record.spec.owner_user, purpose, vm->record.base_key);
}

/// Pipes for a process that is about to start.
Task<void> QemuProvider::give_disk_keys(VmPtr vm, std::function<void(int fd, int number)> give) {
    auto disk = co_await passphrase_of_disk(vm);
    auto base = co_await passphrase_of_base(vm);
    for (const auto& [secret, number] : {std::pair{&disk, inherited::disk_key}, {&base, inherited::base_key}}) {
        if (secret->empty()) continue;
        int fd = pipe_of(*secret);
        if (fd < 0) throw Error(Errc::internal, "a pipe for a passphrase cannot be made");
        give(fd, number);
        // QEMU opens it again by its name in /proc, as the VM's uid.
        if (vm->record.uid && ::fchown(fd, *vm->record.uid, *vm->record.uid) != 0)
            throw Error(Errc::permission_denied, "a pipe cannot be given to the VM's uid");
    }
}

// ---- users ---------------------------------------------------------------------------------------------------------

/// All that is wrapped of a VM, by the newest key of `user`; not yet saved.
Task<void> QemuProvider::wrap_anew(VmPtr vm, std::string user) {
    auto& record = vm->record;
    const std::pair<std::string*, std::string> wrapped[] = {{&record.memory_key, purpose_of_memory(record)},
                                                            {&record.disk_key, purpose_of_disk(record)},
                                                            {&record.stray_disk_key, purpose_of_disk(record)},
                                                            {&record.base_key, purpose_of_base(record)}};
    std::vector<std::pair<std::string*, std::string>> renewed;
    for (const auto& [text, purpose] : wrapped) {
        if (text->empty()) continue;
        auto key = co_await unwrap(record.spec.owner_user, purpose, *text);
        auto anew = co_await wrap(user, purpose, key);
        renewed.emplace_back(text, anew);
    }
    // All or none.
    for (const auto& [text, anew] : renewed) *text = anew;
    record.spec.owner_user = user;
}

/// With nothing wrapped the record is saved by the verb that follows: cut off in between, it is asked again.
Task<void> QemuProvider::assign(VmId id, std::string user_id, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    auto guard = co_await turn(vm, call, "giving a VM to its user");
    if (vm->record.spec.owner_user == user_id) co_return;
    co_await wrap_anew(vm, user_id);
    if (vm->record.spec.encryption != Encryption::off) co_await save(vm);
}

/// Also when the call is over: the next one needs the names. What is not there is fine.
Task<void> QemuProvider::clear_amendment(std::shared_ptr<QmpClient> client, std::string name) {
    constexpr Duration patience = std::chrono::seconds(5);
    Call own{Deadline::after(*environment_.clock, patience), {}, {}};
    json id{{"id", name}};
    for (const char* command : {"job-dismiss", "object-del"}) {
        try {
            co_await client->execute(command, id, own);
        } catch (const Error& error) {
            if (error.errc() != Errc::provider)
                environment_.logger->log(LogLevel::warning, "vm.qemu", "a disk's old passphrase may still be loaded",
                                         {{"detail", error.message()}});
        }
    }
}

/// Adds a passphrase to the disk of a VM that runs, or takes one away.
Task<void> QemuProvider::amend_live(VmPtr vm, Secret other, bool adds, Call call) {
    constexpr const char* name = "rekey";
    auto client = co_await qmp(vm, call);
    json secret{{"qom-type", "secret"}, {"id", name}, {"data", other.reveal()}};
    // What an owner that died, or a call that was stopped, left behind.
    co_await clear_amendment(client, name);
    co_await client->execute("object-add", secret, call);
    std::exception_ptr failure;
    std::string problem;
    try {
        json slot{{"format", "luks"}, {"state", adds ? "active" : "inactive"}};
        slot[adds ? "new-secret" : "old-secret"] = name;
        if (adds) slot["iter-time"] = 10;
        json amend{{"job-id", name}, {"node-name", "disk"}, {"options", {{"driver", "qcow2"}, {"encrypt", slot}}}};
        co_await client->execute("x-blockdev-amend", amend, call);
        for (std::string status; status != "concluded";) {
            auto next = Deadline::after(*environment_.clock, std::chrono::milliseconds(5)).earlier(call.deadline);
            co_await environment_.clock->sleep_until(next.when(), call.stop);
            check(call, *environment_.clock, "changing a disk's passphrase");
            auto jobs = co_await client->execute("query-jobs", no_arguments, call);
            status = "concluded";
            for (const auto& job : jobs)
                if (job.value("id", "") == name) {
                    status = job.value("status", "");
                    problem = job.value("error", "");
                }
        }
    } catch (const Error&) {
        failure = std::current_exception();
    }
    co_await clear_amendment(client, name);
    if (failure) std::rethrow_exception(failure);
    if (!problem.empty())
        throw Error(Errc::provider, "a disk's passphrase cannot be changed", {{"reason", "AmendFailed"}})
            .with_remote_message(problem);
}

Task<void> QemuProvider::amend(VmPtr vm, Secret other, bool adds, Call call) {
    if (vm->alive) {
        co_await amend_live(vm, other, adds, call);
        co_return;
    }
    auto opens = co_await passphrase_of_disk(vm);
    auto work = [tool = image_tool_, path = vm->path(file_name::disk), opens, other, adds] {
        if (adds) add_passphrase(tool, path, opens, other);
        else remove_passphrase(tool, path, opens, other);
        return true;
    };
    co_await run_blocking(environment_.blocking, work);
}

/// The disk opens by its own passphrase alone again. One that a dead owner may have added or not is added first: to
/// remove what is not there is an error that looks like any other.
Task<void> QemuProvider::remove_stray_passphrase(VmPtr vm, bool surely_there, Call call) {
    if (vm->record.stray_disk_key.empty()) co_return;
    auto purpose = purpose_of_disk(vm->record);
    auto stray = co_await unwrap(vm->record.spec.owner_user, purpose, vm->record.stray_disk_key);
    if (!surely_there) co_await amend(vm, stray, true, call);
    co_await amend(vm, stray, false, call);
    vm->record.stray_disk_key.clear();
    co_await save(vm);
}

/// The new one opens the disk before the old one stops to: whoever dies in between leaves a disk that opens.
Task<void> QemuProvider::change_passphrase(VmPtr vm, Call call) {
    co_await remove_stray_passphrase(vm, false, call);
    auto added = new_passphrase(*environment_.random);
    auto purpose = purpose_of_disk(vm->record);
    vm->record.stray_disk_key = co_await wrap(vm->record.spec.owner_user, purpose, added);
    co_await save(vm);
    passed(KeyEffect::passphrase_intended);
    co_await amend(vm, added, true, call);
    passed(KeyEffect::passphrase_added);
    std::swap(vm->record.disk_key, vm->record.stray_disk_key);
    co_await save(vm);
    passed(KeyEffect::passphrase_changed);
    co_await remove_stray_passphrase(vm, true, call);
}

Task<void> QemuProvider::rotate_vm(VmPtr vm, KeyRotation* rotation, Call call) {
    auto guard = co_await turn(vm, call, "rotating a VM's keys");
    auto user = rotation->user_id;
    if (vm->removed || vm->record.spec.owner_user != user) co_return;
    co_await wrap_anew(vm, user);
    co_await save(vm);
    passed(KeyEffect::keys_wrapped);
    ++rotation->vms;
    if (vm->record.disk_key.empty()) co_return;
    co_await change_passphrase(vm, call);
    ++rotation->disks;
}

Task<void> QemuProvider::rotate_snapshots(KeyRotation* rotation) {
    auto user = rotation->user_id;
    auto work = [folder = snapshots_, keys = keys_, user] {
        std::size_t count = 0;
        for (const auto& id : folder.ids()) {
            auto key = folder.key_of(id);
            if ((key.wrapped.empty() && key.memory.empty()) || key.user != user) continue;
            try {
                for (auto [text, purpose] :
                     {std::pair{&key.wrapped, purpose_of_snapshot(id)}, {&key.memory, purpose_of_snapshot_memory(id)}})
                    if (!text->empty()) *text = keys->wrap(user, purpose, keys->unwrap(user, purpose, *text));
            } catch (const Error& error) {
                // Of a key that was erased: nobody opens it again, and it hinders nobody.
                if (error.context().contains("reason") && error.context().at("reason") == "KeyMissing") continue;
                throw;
            }
            folder.set_key(id, key);
            ++count;
        }
        return count;
    };
    rotation->snapshots = co_await run_blocking(environment_.blocking, work);
}

Task<KeyRotation> QemuProvider::rotate_keys(std::string user_id, Call call) {
    auto self = shared_from_this();
    KeyRotation rotation;
    rotation.user_id = user_id;
    auto guard = co_await rotating_.lock(*environment_.clock, call, "rotating keys");
    auto add = [keys = keys_, user_id] {
        keys->add_key(user_id);
        return true;
    };
    co_await run_blocking(environment_.blocking, add);
    passed(KeyEffect::key_added);
    {
        // A VM that is being made may be wrapped by the older key: it is looked at when it is there.
        auto made = co_await creating_.lock(*environment_.clock, call, "rotating keys");
    }
    {
        // So may a snapshot.
        auto kept = co_await keeping_keys_.lock(*environment_.clock, call, "rotating keys");
    }
    auto statuses = co_await list_owned(call);
    for (const auto& status : statuses) {
        // A record that cannot be read may need an older key: `find` throws, and they are kept.
        auto vm = co_await find(status.id);
        if (vm) co_await rotate_vm(vm, &rotation, call);
    }
    co_await rotate_snapshots(&rotation);
    auto retire = [keys = keys_, user_id] {
        keys->retire_old_keys(user_id);
        for (const auto& user : keys->list())
            if (user.user_id == user_id && !user.keys.empty()) return user.keys.back().id;
        return std::string();
    };
    rotation.key = co_await run_blocking(environment_.blocking, retire);
    passed(KeyEffect::old_keys_retired);
    co_return rotation;
}

Task<void> QemuProvider::erase_keys(std::string user_id, Call call) {
    auto self = shared_from_this();
    auto rotation = co_await rotating_.lock(*environment_.clock, call, "erasing keys");
    auto guard = co_await keeping_keys_.lock(*environment_.clock, call, "erasing keys");
    auto erase = [keys = keys_, user_id] {
        keys->erase(user_id);
        return true;
    };
    co_await run_blocking(environment_.blocking, erase);
}

Task<std::vector<UserKeys>> QemuProvider::list_keys(Call call) {
    auto self = shared_from_this();
    check(call, *environment_.clock, "listing keys");
    auto list = [keys = keys_] { return keys->list(); };
    co_return co_await run_blocking(environment_.blocking, list);
}

}  // namespace infrastructure_sdk::qemu
