// Encryption at rest with real QEMU: nothing is stored in the clear, nothing that was changed is used, and keys can be
// rotated at any time, by owners that die too.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/sealed_stream.hpp"
#include "providers/qemu/effects.hpp"
#include "support/qemu_owner.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/vm/image.hpp>

namespace infrastructure_sdk {
namespace {

namespace fs = std::filesystem;
using test::image_directory;
using test::reason_of;
using Owner = test::QemuOwner;

std::string bytes_in(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes(fs::exists(path) ? fs::file_size(path) : 0, '\0');
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return bytes;
}

void put_bytes(const fs::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

class EncryptionAtRest : public ::testing::Test {
protected:
    void SetUp() override { ::chmod(place_.path().c_str(), 0711); }
    VmSpec spec(Encryption encryption, const std::string& user = "alice") {
        VmSpec spec;
        spec.id.value = make_uuid(*make_system_random());
        spec.name = "sealed";
        spec.owner_session = "s-1";
        spec.owner_user = user;
        spec.encryption = encryption;
        spec.image = load_image(image_directory(), "linux-tiny");
        spec.mac_address = "02:00:00:00:00:01";
        spec.channels = {"agent"};
        return spec;
    }
    fs::path guest(const VmId& id) { return place_.path() + "/vms/" + id.value + "/guest"; }
    fs::path memory(const VmId& id) { return guest(id) / "memory.state"; }
    test::TemporaryDirectory place_;
};

constexpr const char* marker = "a-secret-of-the-guest-0123456789";

TEST_F(EncryptionAtRest, MemoryIsNeverInTheClearAndNeverUsedWhenItWasChanged) {
    const std::string master(32, 'm');
    auto owner = std::make_unique<Owner>(place_.path(), master);
    auto vm = spec(Encryption::memory);
    owner->run(owner->provider->create(vm, owner->call()));
    owner->run(owner->provider->start(vm.id, "e-1", owner->call()));
    owner->run(owner->provider->wait_ready(vm.id, owner->call()));
    // Put together in the guest, so that it is in no buffer of ours.
    owner->shell(vm.id, "x=a-secret-of-the-guest; echo $x-0123456789 > /tmp/note");
    owner->run(owner->provider->suspend(vm.id, owner->call()));
    const auto earlier = bytes_in(memory(vm.id));
    EXPECT_TRUE(earlier.starts_with("ISDKSEAL"));
    EXPECT_GT(earlier.size(), std::size_t{10} << 20);
    for (const char* text : {marker, "Linux version"}) EXPECT_EQ(earlier.find(text), std::string::npos) << text;
    struct stat status{};
    ASSERT_EQ(::stat(memory(vm.id).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    EXPECT_EQ(owner->resume(vm.id), "");
    EXPECT_FALSE(fs::exists(memory(vm.id)));

    // No room: the guest goes on.
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit before{}, little{8 << 20, RLIM_INFINITY};
    ::getrlimit(RLIMIT_FSIZE, &before);
    ::setrlimit(RLIMIT_FSIZE, &little);
    EXPECT_THROW(owner->run(owner->provider->suspend(vm.id, owner->call())), Error);
    ::setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_EQ(owner->state(vm.id), VmState::running);
    EXPECT_FALSE(fs::exists(memory(vm.id)));

    owner->run(owner->provider->suspend(vm.id, owner->call()));
    const auto good = bytes_in(memory(vm.id));
    auto flipped = good;
    flipped[good.size() / 2] = static_cast<char>(flipped[good.size() / 2] ^ 1);
    const std::pair<const char*, std::string> damaged[] = {
        {"the file of an earlier suspend", earlier},
        {"one bit", flipped},
        {"cut by a byte", good.substr(0, good.size() - 1)},
        {"cut between chunks", good.substr(0, sealed_header_bytes + 3 * sealed_chunk_bytes)},
        {"empty", ""},
        {"something appended", good + "x"},
    };
    for (const auto& [what, bytes] : damaged) {
        put_bytes(memory(vm.id), bytes);
        EXPECT_EQ(owner->resume(vm.id), "MemoryFileCorrupted") << what;
        EXPECT_EQ(owner->state(vm.id), VmState::suspended) << what;
    }
    put_bytes(memory(vm.id), good);

    // Without the right keys: the VM stays what it is, and says why.
    owner.reset();
    owner = std::make_unique<Owner>(place_.path(), std::string(32, 'x'));
    EXPECT_EQ(owner->resume(vm.id), "WrongKey");
    owner.reset();
    fs::rename(place_ / "keys", place_ / "elsewhere");
    owner = std::make_unique<Owner>(place_.path(), master);
    EXPECT_EQ(owner->resume(vm.id), "KeyMissing");
    EXPECT_EQ(owner->state(vm.id), VmState::suspended);
    owner.reset();
    fs::remove_all(place_ / "keys");
    fs::rename(place_ / "elsewhere", place_ / "keys");

    owner = std::make_unique<Owner>(place_.path(), master);
    auto rotation = owner->run(owner->provider->rotate_keys("alice", owner->call()));
    EXPECT_EQ(rotation.vms, 1u);
    EXPECT_EQ(owner->resume(vm.id), "") << "the key of a suspended VM was rotated";
    EXPECT_EQ(owner->shell(vm.id, "cat /tmp/note"), std::string(marker) + "\n");
    auto skew =
        std::stoll(owner->shell(vm.id, "date +%s")) -
        std::chrono::duration_cast<std::chrono::seconds>(owner->environment().clock->wall_now().time_since_epoch())
            .count();
    EXPECT_LE(std::abs(skew), 5);
    owner->run(owner->provider->destroy(vm.id, owner->call()));
}

TEST_F(EncryptionAtRest, DisksAndTheirSnapshotsAreEncryptedAndTakeNewPassphrases) {
    auto owner = std::make_unique<Owner>(place_.path());
    auto vm = spec(Encryption::all);
    owner->run(owner->provider->create(vm, owner->call()));
    owner->run(owner->provider->start(vm.id, "e-1", owner->call()));
    owner->run(owner->provider->wait_ready(vm.id, owner->call()));
    auto promises = owner->run(owner->provider->evidence(vm.id)->collect("process.promises", owner->call()));
    EXPECT_NE(promises.json.find(R"("encrypted":true)"), std::string::npos) << promises.json;
    auto nodes = owner->run(owner->provider->evidence(vm.id)->collect("qmp:query-named-block-nodes", owner->call()));
    EXPECT_NE(nodes.json.find(R"("encrypted":true)"), std::string::npos) << nodes.json;
    const std::string read = "dd if=/dev/vda bs=32 count=1 2>/dev/null";
    owner->shell(
        vm.id,
        "x=a-secret-of-the-guest; printf $x-0123456789 > /tmp/n; dd if=/tmp/n of=/dev/vda conv=fsync 2>/dev/null");
    ASSERT_EQ(owner->shell(vm.id, read), marker);
    EXPECT_EQ(bytes_in(guest(vm.id) / "disk.qcow2").find(marker), std::string::npos);

    owner->run(owner->provider->snapshot(vm.id, "snap-1", SnapshotMode::disk, owner->call()));
    auto snapshot = owner->run(owner->provider->inspect_snapshot("snap-1", owner->call()));
    ASSERT_TRUE(snapshot);
    EXPECT_TRUE(snapshot->encrypted);
    EXPECT_EQ(bytes_in(place_ / "snapshots/snap-1/disk.qcow2").find(marker), std::string::npos);

    auto live = owner->run(owner->provider->rotate_keys("alice", owner->call()));
    EXPECT_EQ(live.disks, 1u);
    EXPECT_EQ(live.snapshots, 1u);
    EXPECT_EQ(owner->run(owner->provider->list_keys(owner->call())).at(0).keys.size(), 1u);
    EXPECT_EQ(owner->shell(vm.id, read), marker);
    owner->run(owner->provider->suspend(vm.id, owner->call()));
    EXPECT_EQ(owner->resume(vm.id), "") << "a running disk's passphrase was changed";
    EXPECT_EQ(owner->shell(vm.id, read), marker);
    owner->run(owner->provider->power_off(vm.id, owner->call()));

    // Another user's VM from the snapshot: its keys are that user's.
    auto fork = spec(Encryption::all, "bob");
    fork.snapshot = "snap-1";
    owner->run(owner->provider->create(fork, owner->call()));
    owner->run(owner->provider->erase_keys("alice", owner->call()));
    owner->run(owner->provider->start(fork.id, "e-1", owner->call()));
    owner->run(owner->provider->wait_ready(fork.id, owner->call()));
    EXPECT_EQ(owner->shell(fork.id, read), marker);
    try {
        owner->run(owner->provider->start(vm.id, "e-3", owner->call()));
        ADD_FAILURE() << "a disk was opened without its key";
    } catch (const Error& error) {
        EXPECT_EQ(reason_of(error), "KeyMissing");
    }

    // A snapshot that was changed is not begun from.
    owner->run(owner->provider->snapshot(fork.id, "snap-2", SnapshotMode::disk, owner->call()));
    auto file = place_ / "snapshots/snap-2/disk.qcow2";
    ::chmod(file.c_str(), 0600);
    auto bytes = bytes_in(file);
    bytes[bytes.size() - 1] = static_cast<char>(bytes[bytes.size() - 1] ^ 1);
    put_bytes(file, bytes);
    auto third = spec(Encryption::all, "bob");
    third.snapshot = "snap-2";
    try {
        owner->run(owner->provider->create(third, owner->call()));
        ADD_FAILURE() << "a changed snapshot was used";
    } catch (const Error& error) {
        EXPECT_EQ(reason_of(error), "SnapshotCorrupted");
    }
    for (const auto& id : {vm.id, fork.id}) owner->run(owner->provider->destroy(id, owner->call()));
    EXPECT_TRUE(fs::is_empty(place_ / "vms"));
}

/// An owner that is killed right after the effect, while it copies the VM's memory.
void copy_and_die(const std::string& state, const VmId& id, const std::string& effect) {
    auto child = ::fork();
    if (child == 0) {
        auto hook = [effect](const char* passed) {
            if (effect == passed) ::kill(::getpid(), SIGKILL);
        };
        Owner owner(state, {}, hook);
        owner.run(owner.provider->snapshot(id, "snap-9", SnapshotMode::memory, owner.call()));
        ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the effect did not take place";
}

TEST_F(EncryptionAtRest, ACopyOfMemoryIsSealedAndItsGuestGoesOnWhateverBecomesOfItsOwner) {
    auto vm = spec(Encryption::memory);
    {
        Owner owner(place_.path());
        owner.run(owner.provider->create(vm, owner.call()));
        owner.run(owner.provider->start(vm.id, "e-1", owner.call()));
        owner.run(owner.provider->wait_ready(vm.id, owner.call()));
        owner.shell(vm.id, "x=a-secret-of-the-guest; echo $x-0123456789 > /tmp/note");
    }
    for (auto effect : {name_of(qemu::Effect::guest_stopped), name_of(qemu::Effect::migration_done),
                        name_of(qemu::CopyEffect::disk_copied), name_of(qemu::CopyEffect::guest_continued)}) {
        SCOPED_TRACE(effect);
        copy_and_die(place_.path(), vm.id, effect);
        Owner next(place_.path());
        // The first look finds it; its guest answers when it goes on.
        next.state(vm.id);
        EXPECT_EQ(next.shell(vm.id, "cat /tmp/note"), std::string(marker) + "\n");
        EXPECT_EQ(next.state(vm.id), VmState::running);
        EXPECT_FALSE(next.run(next.provider->inspect_snapshot("snap-9", next.call())));
    }
    Owner owner(place_.path());
    owner.state(vm.id);
    owner.run(owner.provider->snapshot(vm.id, "snap-9", SnapshotMode::memory, owner.call()));
    const auto file = place_ / "snapshots/snap-9/memory.state";
    const auto sealed = bytes_in(file);
    EXPECT_TRUE(sealed.starts_with("ISDKSEAL"));
    for (const char* text : {marker, "Linux version"}) EXPECT_EQ(sealed.find(text), std::string::npos) << text;
    EXPECT_EQ(owner.run(owner.provider->rotate_keys("alice", owner.call())).snapshots, 1u);

    auto refused = [&](const VmSpec& fork) -> std::string {
        try {
            owner.run(owner.provider->create(fork, owner.call()));
            owner.run(owner.provider->start(fork.id, "e-1", owner.call()));
        } catch (const Error& error) {
            return reason_of(error);
        }
        return {};
    };
    auto fork = [&] {
        auto next = spec(Encryption::memory);
        next.snapshot = "snap-9";
        next.mac_address = "02:00:00:00:00:02";
        return next;
    };
    auto larger = fork();
    larger.memory_bytes *= 2;
    EXPECT_EQ(refused(larger), "MemoryDoesNotFit");
    EXPECT_EQ(owner.state(larger.id), VmState::deleted) << "it is refused before anything is made";
    const auto changed = fork();
    owner.run(owner.provider->create(changed, owner.call()));
    auto bytes = sealed;
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    ::chmod(file.c_str(), 0600);
    // The same file under another name: what is changed here is changed there.
    std::fstream(file, std::ios::in | std::ios::out | std::ios::binary) << bytes;
    EXPECT_EQ(refused(changed), "MemoryFileCorrupted");
    EXPECT_EQ(owner.state(changed.id), VmState::stopped);
    std::fstream(file, std::ios::in | std::ios::out | std::ios::binary) << sealed;
    EXPECT_EQ(refused(changed), "") << "with its file as it was it begins after all";
    EXPECT_EQ(owner.shell(changed.id, "cat /tmp/note"), std::string(marker) + "\n");
    // It is a VM as any other now.
    owner.run(owner.provider->suspend(changed.id, owner.call()));
    EXPECT_EQ(owner.resume(changed.id), "");
    EXPECT_EQ(owner.shell(changed.id, "cat /tmp/note"), std::string(marker) + "\n");
    owner.run(owner.provider->erase_keys("alice", owner.call()));
    EXPECT_EQ(refused(fork()), "KeyMissing");
    for (const auto& id : {vm.id, changed.id}) owner.run(owner.provider->destroy(id, owner.call()));
    EXPECT_TRUE(fs::is_empty(place_ / "vms"));
}

/// An owner that is killed right after the effect.
void rotate_and_die(const std::string& state, const std::string& effect) {
    auto child = ::fork();
    if (child == 0) {
        auto hook = [effect](const char* passed) {
            if (effect == passed) ::kill(::getpid(), SIGKILL);
        };
        Owner owner(state, {}, hook);
        owner.run(owner.provider->rotate_keys("alice", owner.call()));
        ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the effect did not take place";
}

TEST_F(EncryptionAtRest, ARotationThatWasKilledAnywhereLosesNothingAndIsFinishedLater) {
    auto vm = spec(Encryption::all);
    {
        Owner owner(place_.path());
        owner.run(owner.provider->create(vm, owner.call()));
    }
    for (const char* effect : qemu::key_effect_names) {
        SCOPED_TRACE(effect);
        rotate_and_die(place_.path(), effect);
        // QEMU opens the disk before it answers.
        Owner next(place_.path());
        next.run(next.provider->start(vm.id, "e-1", next.call()));
        EXPECT_EQ(next.state(vm.id), VmState::running);
        next.run(next.provider->power_off(vm.id, next.call()));
    }
    Owner last(place_.path());
    last.run(last.provider->rotate_keys("alice", last.call()));
    EXPECT_EQ(last.run(last.provider->list_keys(last.call())).at(0).keys.size(), 1u);
    last.run(last.provider->start(vm.id, "e-2", last.call()));
    last.run(last.provider->destroy(vm.id, last.call()));
}

}  // namespace
}  // namespace infrastructure_sdk
