// Snapshots of memory: taken of a guest that stands still for it, and guests that go on from one as somebody else.
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "providers/qemu/command_line.hpp"
#include "providers/qemu/descriptors.hpp"
#include "providers/qemu/disk_copy.hpp"
#include "providers/qemu/key_purposes.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/provider.hpp"

namespace infrastructure_sdk::qemu {
using nlohmann::json;

MemoryTerms QemuProvider::terms_of(const VmRecord& record) const {
    const auto& image = record.spec.image;
    // The processor of a host may have changed at its start.
    auto host = accelerator_.name == "kvm" ? boot_id() : std::string();
    return memory_terms(record.spec, accelerator_.name, identity_of_files({image.kernel, image.initrd, image.disc}),
                        host);
}

/// A VM whose snapshot has memory, before anything of it is there. Blocking.
void QemuProvider::check_origin(const VmRecord& record) const {
    if (auto why = why_no_memory_snapshot(record.spec); !why.empty())
        throw Error(Errc::unsupported, "the memory of snapshot " + record.spec.snapshot + " cannot be used: " + why,
                    {{"capability", "memory_snapshot"}, {"reason", "MemoryDoesNotFit"}});
    auto memory = snapshots_.memory_of(record.spec.snapshot);
    if (memory) check_terms(record.spec.snapshot, memory->terms, terms_of(record));
}

/// The guest goes on after its memory was copied, or could not be.
Task<void> QemuProvider::go_on(VmPtr vm, Call call) {
    auto self = shared_from_this();
    auto status = co_await query_status(vm, call);
    if (status == "running") co_return;
    co_await clear_migration(vm, status, call);
    auto client = co_await qmp(vm, call);
    co_await client->execute("cont", no_arguments, call);
    status = co_await query_status(vm, call);
    // One that lacks room goes on when there is some.
    if (status != "running" && status != "io-error")
        throw Error(Errc::provider, "the guest did not go on: it is " + status, {{"state", status}});
}

/// Into the scratch folder: memory, and the VM's own disk file as it is at that moment. The guest stands still
/// meanwhile, and goes on whatever happens.
Task<void> QemuProvider::copy_with_memory(VmPtr vm, std::string snapshot_id, CopiedMemory* memory, Call call) {
    auto self = shared_from_this();
    const auto& spec = vm->record.spec;
    std::string status = "not there";
    if (vm->alive) status = co_await query_status(vm, call);
    if (vm->record.phase != VmState::running || status != "running")
        throw Error(Errc::invalid_transition,
                    "the memory of VM " + spec.id.value + " cannot be copied: it is " + status + ", not running",
                    {{"vm", spec.id.value}, {"state", status}});
    auto client = co_await qmp(vm, call);
    auto version = co_await client->execute("query-version", no_arguments, call);
    SnapshotMemory made{{}, 0, {spec.id.value, ++vm->record.memory_epoch, spec.mac_address, version.dump()}, {}};
    auto look = [self, record = vm->record] { return self->terms_of(record); };
    made.terms = co_await run_blocking(environment_.blocking, look);
    vm->record.snapshotting = snapshot_id;
    co_await save(vm);
    Descriptors descriptors;
    MemoryStreamPtr sealed;
    std::exception_ptr failure;
    int file = -1;
    try {
        auto path = snapshots_.new_memory_of(snapshot_id);
        file = descriptors.add(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (file < 0)
            throw Error(Errc::store, "a snapshot's memory file cannot be made: " + std::string(std::strerror(errno)),
                        {{"path", path}});
        if (spec.encryption != Encryption::off) {
            memory->key = new_key(*environment_.random);
            sealed = stream_of(vm, memory->key, MemoryStream::Direction::to_file, file);
        }
        co_await save_memory(vm, file, sealed, call);
        // QEMU has let go of its disks: what is in the file is all of them.
        auto copy = [from = vm->path(file_name::disk), to = snapshots_.copy_of(snapshot_id), stop = call.stop,
                     owner = vm->record.uid.value_or(::geteuid())] {
            copy_disk(from, to, owner, stop);
            return true;
        };
        co_await run_blocking(environment_.blocking, copy);
        passed(CopyEffect::disk_copied);
    } catch (...) {
        failure = std::current_exception();
    }
    // First the room, which guest and record need.
    if (failure && file >= 0) (void)::ftruncate(file, 0);
    co_await end_copy(vm, sealed, call);
    if (failure) std::rethrow_exception(failure);
    made.sha256 = co_await bring_to_disk(vm, file, sealed);
    struct stat size{};
    ::fstat(file, &size);
    made.size_bytes = static_cast<std::uint64_t>(size.st_size);
    memory->memory = made;
}

/// The guest runs again, also after a failure; if it does not, it is tried until it does.
Task<void> QemuProvider::end_copy(VmPtr vm, MemoryStreamPtr sealed, Call call) {
    auto self = shared_from_this();
    Call rescue{Deadline::after(*environment_.clock, std::chrono::seconds(30)), {}, call.correlation_id};
    Call forever;
    std::string left;
    if (sealed) sealed->stop();
    try {
        if (vm->alive) co_await go_on(vm, rescue);
        passed(CopyEffect::guest_continued);
    } catch (const Error& error) {
        // Of a VM that died there is nobody to go on.
        if (vm->alive) left = error.message();
    }
    if (left.empty()) vm->record.snapshotting.clear();
    if (sealed) co_await sealed->wait(forever);
    if (!left.empty())
        environment_.logger->log(LogLevel::error, "vm.qemu", "a VM did not go on after its memory was copied",
                                 {{"vm", vm->record.spec.id.value}, {"detail", left}}, call.correlation_id);
    if (!left.empty())
        tasks_.spawn(environment_.logger, "let VM " + vm->record.spec.id.value + " go on", clear_after_crash(vm));
    co_await save(vm);
}

/// The first start of a VM that begins with a snapshot's memory. Cut off, it is made again from the beginning: nobody
/// has used the guest.
Task<void> QemuProvider::start_from_memory(VmPtr vm, std::string execution_id, Call call) {
    auto self = shared_from_this();
    const auto origin = *vm->record.origin;
    begin_start(vm, std::move(execution_id));
    vm->record.cloning = true;
    co_await save(vm);
    passed(Effect::start_intended);
    std::exception_ptr failure;
    DescriptorsPtr descriptors;
    try {
        co_await renew_disk(vm);
        descriptors = co_await spawn_with_memory(vm, call);
        auto client = co_await qmp(vm, call);
        auto version = co_await client->execute("query-version", no_arguments, call);
        if (version.dump() != origin.qemu)
            throw Error(Errc::conflict, "the snapshot's memory was written by another version of QEMU: " + origin.qemu,
                        {{"reason", "MemoryDoesNotFit"}, {"field", "QEMU version"}, {"value", version.dump()}});
        passed(Effect::memory_loaded);
        // It is still the guest of the snapshot, which may run too.
        co_await plug_network(vm, false, call);
        co_await client->execute("cont", no_arguments, call);
        passed(Effect::guest_continued);
        co_await become_another(vm, origin, call);
        co_await plug_network(vm, true, call);
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        Call rescue{Deadline::after(*environment_.clock, std::chrono::seconds(10)), {}, call.correlation_id};
        if (vm->alive) co_await end(vm, rescue);
        vm->record.phase = VmState::stopped;
        vm->record.process.reset();
        co_await save(vm);
        std::rethrow_exception(failure);
    }
    vm->record.cloning = false;
    vm->record.origin.reset();
    vm->record.launch = {"snapshot", ""};
    co_await forget_memory(vm);
    passed(Effect::start_recorded);
    asio::post(environment_.blocking, [last = std::move(descriptors)] {});
}

/// A disk of its own as before the first start.
Task<void> QemuProvider::renew_disk(VmPtr vm) {
    auto passphrase = co_await passphrase_of_disk(vm);
    auto work = [record = vm->record, guest = guest_folder(vm->directory), passphrase, random = environment_.random] {
        make_own_disk(record, guest, passphrase, *random);
        return true;
    };
    co_await run_blocking(environment_.blocking, work);
}

/// Nothing that the guest was known by is left.
Task<void> QemuProvider::become_another(VmPtr vm, MemoryOrigin origin, Call call) {
    auto self = shared_from_this();
    co_await vm->agent->ping(call);
    co_await install_reseed(vm, call);
    TemplateRecord source;
    if (vm->record.spec.network != NetworkMode::none)
        source.interface = co_await interface_of(vm, origin.mac_address, call);
    co_await give_identity(vm, source, call);
}

}  // namespace infrastructure_sdk::qemu
