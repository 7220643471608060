// Pausing a VM, its memory to a file, and back.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/sha256.hpp"
#include "providers/qemu/command_line.hpp"
#include "providers/qemu/descriptors.hpp"
#include "providers/qemu/provider.hpp"
#include <infrastructure_sdk/duration.hpp>

namespace infrastructure_sdk::qemu {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

Error memory_corrupted(const VmId& id, const std::string& path, const std::string& why) {
    return Error(Errc::provider, "the memory file of VM " + id.value + " " + why + "; its disk is kept",
                 {{"reason", "MemoryFileCorrupted"}, {"path", path}});
}

constexpr Duration tolerated_skew = std::chrono::seconds(1);

/// How far a clock is off at least that was read between two moments.
Duration clock_skew(WallTime before, WallTime read, WallTime after) {
    if (read < before) return before - read;
    return read > after ? Duration(read - after) : Duration::zero();
}

/// Why a sealed file was not loaded, when it was the file's fault.
std::optional<Error> refusal_of(const MemoryStream& stream, const VmId& id, const std::string& path) try {
    stream.rethrow();
    return std::nullopt;
} catch (const Error& error) {
    return memory_corrupted(id, path, "is not what was saved: " + error.message());
}

}  // namespace

Task<void> QemuProvider::pause(VmId id, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    auto guard = co_await turn(vm, call, "pausing a VM");
    auto client = co_await qmp(vm, call);
    co_await client->execute("stop", no_arguments, call);
    vm->record.phase = VmState::paused;
    co_await save(vm);
}

Task<void> QemuProvider::unpause(VmId id, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    auto guard = co_await turn(vm, call, "unpausing a VM");
    auto client = co_await qmp(vm, call);
    co_await client->execute("cont", no_arguments, call);
    vm->record.phase = VmState::running;
    // Of a living process QEMU is asked, not the record: nobody has to wait for the disk.
    tasks_.spawn(environment_.logger, "save VM " + id.value, save_later(vm));
}

Task<void> QemuProvider::save_later(VmPtr vm) {
    auto self = shared_from_this();
    co_await save(vm);
}

/// Stops the guest and carries its memory into the file. The guest stays stopped, its disk is complete.
Task<void> QemuProvider::save_memory(VmPtr vm, int file, MemoryStreamPtr sealed, Call call) {
    auto self = shared_from_this();
    auto client = co_await qmp(vm, call);
    // Without it QEMU keeps to 128 MiB/s, as if the file were somebody's network.
    json rate{{"max-bandwidth", std::uint64_t{1} << 40}};
    co_await client->execute("migrate-set-parameters", rate, call);
    co_await client->execute("stop", no_arguments, call);
    passed(Effect::guest_stopped);
    json name{{"fdname", "memory"}};
    co_await client->execute("getfd", name, call, sealed ? sealed->end() : file);
    json target{{"uri", "fd:memory"}};
    co_await client->execute("migrate", target, call);
    passed(Effect::migration_begun);
    if (sealed) {
        sealed->given();
        MemoryStream::start(sealed, tasks_);
    }
    // The file is hashed and goes to disk while QEMU writes it.
    auto digest = std::make_shared<GrowingFileDigest>(file);
    auto follow = [digest] { return digest->advance(); };
    Duration pause = std::chrono::milliseconds(1);
    for (;;) {
        if (sealed) sealed->rethrow();
        auto answer = co_await client->execute("query-migrate", no_arguments, call);
        auto status = answer.is_object() ? answer.value("status", "") : std::string();
        if (status == "completed") break;
        if (sealed && status == "failed") co_await sealed->wait(call);
        if (sealed) sealed->rethrow();
        if (status == "failed" || status == "cancelled")
            throw Error(Errc::provider, "the memory could not be saved (" + status + "); is the disk full?",
                        {{"reason", "MemorySaveFailed"}})
                .with_remote_message(answer.value("error-desc", ""));
        check(call, *environment_.clock, "saving memory");
        bool more = false;
        if (!sealed) more = co_await run_blocking(environment_.blocking, follow);
        if (more) continue;
        auto next = Deadline::after(*environment_.clock, pause).earlier(call.deadline);
        co_await environment_.clock->sleep_until(next.when(), call.stop);
        pause = std::min<Duration>(pause * 2, std::chrono::milliseconds(20));
    }
    passed(Effect::migration_done);
    if (sealed) {
        co_await sealed->wait(call);
        sealed->rethrow();
    }
    vm->digest = digest;
}

/// What `save_memory` wrote, to its last byte. @returns the digest
Task<std::string> QemuProvider::bring_to_disk(VmPtr vm, int file, MemoryStreamPtr sealed) {
    auto work = [digest = std::exchange(vm->digest, nullptr), sealed, file] {
        while (!sealed && digest->advance()) {
        }
        if (::fdatasync(file) != 0)
            throw Error(Errc::store, "the memory file cannot be written to disk: " + std::string(std::strerror(errno)));
        return sealed ? sealed->digest() : digest->finish();
    };
    co_return co_await run_blocking(environment_.blocking, work);
}

Task<void> QemuProvider::suspend(VmId id, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    auto guard = co_await turn(vm, call, "suspending a VM");
    if (!vm->alive) {
        if (settle(vm->record, false, "") != VmState::suspended)
            throw Error(Errc::invalid_transition, "VM " + id.value + " does not run", {{"vm", id.value}});
        vm->record.phase = VmState::suspended;
        co_await save(vm);
        co_return;
    }
    auto client = co_await qmp(vm, call);
    if (vm->record.phase == VmState::suspending) {
        // An owner died over it. When the memory was complete, only the end of the process is missing.
        auto status = co_await query_status(vm, call);
        if (!vm->record.memory_sha256.empty() && status == "postmigrate") {
            co_await finish_suspend(vm, call);
            co_return;
        }
        co_await clear_migration(vm, status, call);
    }
    auto key = co_await new_memory_key(vm);
    vm->record.phase = VmState::suspending;
    vm->record.memory_sha256.clear();
    co_await save(vm);
    passed(Effect::suspend_intended);
    Descriptors descriptors;
    MemoryStreamPtr sealed;
    std::exception_ptr failure;
    int file = -1;
    try {
        auto path = vm->path(file_name::memory);
        // Made anew: the VM's uid may have put anything in its place.
        ::unlink(path.c_str());
        file = descriptors.add(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (file < 0)
            throw Error(Errc::store, "the memory file cannot be made: " + std::string(std::strerror(errno)),
                        {{"path", path}});
        if (key) sealed = stream_of(vm, *key, MemoryStream::Direction::to_file, file);
        // A sealed file is written by us alone.
        if (!sealed && vm->record.uid && ::fchown(file, *vm->record.uid, *vm->record.uid) != 0)
            throw Error(Errc::permission_denied,
                        "the memory file cannot be given to its uid: " + std::string(std::strerror(errno)));
        passed(Effect::memory_file_made);
        co_await save_memory(vm, file, sealed, call);
        vm->record.memory_sha256 = co_await bring_to_disk(vm, file, sealed);
        // From here on the file is the VM: a crash before the process ended resumes from it.
        co_await save(vm);
        passed(Effect::memory_recorded);
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        // The guest goes on as if nothing had been asked.
        vm->record.memory_sha256.clear();
        vm->record.memory_key.clear();
        Call rescue{Deadline::after(*environment_.clock, std::chrono::seconds(10)), {}, call.correlation_id};
        Call forever;
        if (sealed) {
            sealed->stop();
            co_await sealed->wait(forever);
        }
        try {
            co_await client->execute("migrate_cancel", no_arguments, rescue);
            // First the room, which guest and record need: QEMU keeps the file open for a while.
            if (file >= 0) (void)::ftruncate(file, 0);
            co_await client->execute("cont", no_arguments, rescue);
            vm->record.phase = VmState::running;
            co_await save(vm);
        } catch (const Error& second) {
            environment_.logger->log(LogLevel::error, "vm.qemu", "a VM did not go on after a failed suspend",
                                     {{"vm", id.value}, {"detail", second.message()}});
        }
        std::error_code ignored;
        fs::remove(vm->path(file_name::memory), ignored);
        std::rethrow_exception(failure);
    }
    co_await finish_suspend(vm, call);
}

/// The memory is in its file: ends the process.
Task<void> QemuProvider::finish_suspend(VmPtr vm, Call call) {
    auto self = shared_from_this();
    co_await end(vm, call);
    passed(Effect::process_suspended);
    vm->record.phase = VmState::suspended;
    vm->record.process.reset();
    co_await save(vm);
    passed(Effect::suspend_recorded);
}

/// Takes back a migration that a dead owner began, so that another one may begin.
Task<void> QemuProvider::clear_migration(VmPtr vm, std::string status, Call call) {
    auto self = shared_from_this();
    auto client = co_await qmp(vm, call);
    co_await client->execute("migrate_cancel", no_arguments, call);
    Duration pause = std::chrono::milliseconds(1);
    for (;;) {
        auto answer = co_await client->execute("query-migrate", no_arguments, call);
        auto migration = answer.is_object() ? answer.value("status", "none") : std::string("none");
        if (migration == "completed") status = "postmigrate";
        bool over =
            migration == "none" || migration == "completed" || migration == "failed" || migration == "cancelled";
        if (over) break;
        check(call, *environment_.clock, "waiting for an old migration to end");
        auto next = Deadline::after(*environment_.clock, pause).earlier(call.deadline);
        co_await environment_.clock->sleep_until(next.when(), call.stop);
        pause = std::min<Duration>(pause * 2, std::chrono::milliseconds(20));
    }
    // Only a guest that goes on has its disks back, which a complete migration takes away.
    if (status == "postmigrate") co_await client->execute("cont", no_arguments, call);
}

/// The guest goes on from its memory: from now on the file does not fit the disk any more.
Task<void> QemuProvider::forget_memory(VmPtr vm) {
    auto self = shared_from_this();
    vm->record.phase = VmState::running;
    vm->record.resuming = false;
    vm->record.memory_sha256.clear();
    vm->record.memory_key.clear();
    co_await save(vm);
    passed(Effect::memory_forgotten);
    ::unlink(vm->path(file_name::memory).c_str());
    passed(Effect::memory_removed);
}

/// What an owner that died in a resume left behind, when the memory is loaded and all that is missing are the last
/// steps. False = it has to be done again from the file.
Task<bool> QemuProvider::finish_resume(VmPtr vm, std::string status, Call call) {
    auto self = shared_from_this();
    bool loaded = vm->record.phase == VmState::running;
    if (status != "running" && !loaded) co_return false;
    if (status != "running") {
        auto client = co_await qmp(vm, call);
        co_await client->execute("cont", no_arguments, call);
    }
    co_await forget_memory(vm);
    co_return true;
}

/// What was inherited as `inherited::memory`, into a process that waits for it.
Task<void> QemuProvider::load_memory(VmPtr vm, MemoryStreamPtr sealed, Call call) {
    auto self = shared_from_this();
    auto client = co_await qmp(vm, call);
    json source{{"uri", "fd:" + std::to_string(inherited::memory)}};
    co_await client->execute("migrate-incoming", source, call);
    Duration pause = std::chrono::milliseconds(1);
    for (;;) {
        auto status = co_await query_status(vm, call);
        if (status != "inmigrate") break;
        if (sealed) sealed->rethrow();
        check(call, *environment_.clock, "loading memory");
        auto next = Deadline::after(*environment_.clock, pause).earlier(call.deadline);
        co_await environment_.clock->sleep_until(next.when(), call.stop);
        pause = std::min<Duration>(pause * 2, std::chrono::milliseconds(20));
    }
}

/// A process that holds the memory of the VM's file, checked to its last byte, and does not run yet. On error the
/// process may be there. @returns what keeps the file open: the last descriptor of a removed file gives its blocks
/// back, which takes a while
/// @throws Error(provider, reason=MemoryFileCorrupted)
Task<DescriptorsPtr> QemuProvider::spawn_with_memory(VmPtr vm, Call call) {
    auto self = shared_from_this();
    const auto& id = vm->record.spec.id;
    auto descriptors = std::make_shared<Descriptors>();
    auto path = vm->path(file_name::memory);
    std::exception_ptr failure;
    MemoryStreamPtr sealed;
    try {
        int file = descriptors->add(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
        auto corrupted = [&](const std::string& why) { return memory_corrupted(id, path, why); };
        if (file < 0) throw corrupted("cannot be opened: " + std::string(std::strerror(errno)));
        struct stat kind{};
        if (::fstat(file, &kind) != 0 || !S_ISREG(kind.st_mode)) throw corrupted("is not a file");
        if (!vm->record.memory_key.empty()) {
            auto key = co_await memory_key_of(vm);
            sealed = stream_of(vm, key, MemoryStream::Direction::from_file, file);
        }
        // QEMU starts while the file is checked; it reads nothing before it is told to.
        auto digest = std::make_shared<std::string>();
        auto hashed = std::make_shared<bool>(false);
        auto blocking = environment_.blocking;
        auto changed = std::make_shared<Signal>(environment_.executor);
        auto check_file = [](Executor pool, int fd, std::shared_ptr<std::string> out, std::shared_ptr<bool> done,
                             std::shared_ptr<Signal> signal) -> Task<void> {
            auto work = [fd] { return sha256_hex_of_file(fd); };
            try {
                *out = co_await run_blocking(pool, work);
            } catch (const Error&) {
                // No digest is a wrong digest.
            }
            *done = true;
            signal->notify_all();
        };
        // A sealed file is checked on its way.
        if (sealed) {
            *digest = vm->record.memory_sha256;
            *hashed = true;
        } else {
            int copy = descriptors->add(::fcntl(file, F_DUPFD_CLOEXEC, 0));
            auto checking = check_file(blocking, copy, digest, hashed, changed);
            tasks_.spawn(environment_.logger, "check a memory file", std::move(checking));
        }
        std::exception_ptr start_failure;
        try {
            co_await spawn(vm, true, sealed ? sealed->end() : file, call);
        } catch (...) {
            start_failure = std::current_exception();
        }
        Call forever;
        while (!*hashed) co_await changed->wait(*environment_.clock, forever);
        if (*digest != vm->record.memory_sha256) throw corrupted("is not what was saved");
        if (start_failure) std::rethrow_exception(start_failure);
        if (sealed) {
            sealed->given();
            MemoryStream::start(sealed, tasks_);
        }
        co_await load_memory(vm, sealed, call);
        // The guest does not run before the last byte of its memory was found authentic.
        if (sealed) {
            co_await sealed->wait(call);
            sealed->rethrow();
            if (sealed->digest() != vm->record.memory_sha256) throw corrupted("is not what was saved");
        }
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure && sealed) {
        sealed->stop();
        Call forever;
        co_await sealed->wait(forever);
        // Of a file that was refused QEMU saw an early end: that is not the cause.
        auto refused = refusal_of(*sealed, id, path);
        if (refused) failure = std::make_exception_ptr(*refused);
    }
    if (failure) std::rethrow_exception(failure);
    co_return descriptors;
}

Task<void> QemuProvider::resume(VmId id, std::string execution_id, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    auto guard = co_await turn(vm, call, "resuming a VM");
    if (vm->alive) {
        auto status = co_await status_unless_dead(vm, call);
        if (vm->alive) {
            if (status != "running" && vm->record.memory_sha256.empty())
                throw Error(Errc::invalid_transition, "VM " + id.value + " is " + status + ", not suspended",
                            {{"vm", id.value}});
            vm->record.execution_id = execution_id;
            bool finished = co_await finish_resume(vm, status, call);
            if (finished) {
                co_await set_guest_time(vm, call);
                co_return;
            }
            // A resume or suspend that was cut off: the memory file is complete, the process is of no use.
            co_await end(vm, call);
        }
    }
    if (vm->record.memory_sha256.empty() || settle(vm->record, false, "") != VmState::suspended)
        throw Error(Errc::invalid_transition, "VM " + id.value + " has no memory file", {{"vm", id.value}});
    intend_limits(vm);
    vm->record.phase = VmState::starting;
    vm->record.resuming = true;
    vm->record.execution_id = execution_id;
    vm->record.reason.clear();
    vm->record.message.clear();
    vm->record.process.reset();
    co_await save(vm);
    passed(Effect::resume_intended);

    auto path = vm->path(file_name::memory);
    DescriptorsPtr descriptors;
    bool may_have_run = false;
    std::exception_ptr failure;
    try {
        descriptors = co_await spawn_with_memory(vm, call);
        auto client = co_await qmp(vm, call);
        passed(Effect::memory_loaded);
        // Once the guest has run, going back to the file would put old memory over a newer disk.
        may_have_run = true;
        vm->record.phase = VmState::running;
        co_await save(vm);
        passed(Effect::resume_recorded);
        co_await client->execute("cont", no_arguments, call);
        passed(Effect::guest_continued);
        co_await forget_memory(vm);
        co_await set_guest_time(vm, call);
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        Call rescue{Deadline::after(*environment_.clock, std::chrono::seconds(10)), {}, call.correlation_id};
        if (vm->alive) co_await end(vm, rescue);
        vm->record.phase = may_have_run ? VmState::failed : VmState::suspended;
        if (may_have_run && vm->record.reason.empty()) vm->record.reason = "ResumeFailed";
        if (may_have_run) {
            vm->record.memory_sha256.clear();
            vm->record.memory_key.clear();
        }
        vm->record.process.reset();
        co_await save(vm);
        if (may_have_run) ::unlink(path.c_str());
        std::rethrow_exception(failure);
    }
    asio::post(environment_.blocking, [last = std::move(descriptors)] {});
}

/// The guest's clock stood still: it is stepped, and looked at. A guest that is still wrong after a second try is told
/// in the log; it runs all the same.
Task<void> QemuProvider::set_guest_time(VmPtr vm, Call call) {
    const auto& channels = vm->record.spec.channels;
    if (std::find(channels.begin(), channels.end(), "agent") == channels.end()) co_return;
    Duration skew{};
    for (int attempt = 0; attempt < 2; ++attempt) {
        co_await vm->agent->set_time(environment_.clock->wall_now(), call);
        auto asked = environment_.clock->wall_now();
        std::optional<WallTime> guest;
        try {
            guest = co_await vm->agent->time(call);
        } catch (const Error& error) {
            // Agents may be told to refuse it; that is no reason to end the guest.
            if (error.errc() != Errc::provider) throw;
        }
        if (!guest) co_return;
        skew = clock_skew(asked, *guest, environment_.clock->wall_now());
        if (skew <= tolerated_skew) co_return;
    }
    environment_.logger->log(LogLevel::warning, "vm.qemu", "a guest's clock is wrong after a resume",
                             {{"vm", vm->record.spec.id.value}, {"skew", to_string(skew)}});
}

}  // namespace infrastructure_sdk::qemu
