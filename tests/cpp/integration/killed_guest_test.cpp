// QEMU dies in the middle of a verb: the verb ends with an error or its effect, what the VM is afterwards is told, and
// it can be used or ended.

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include <sys/stat.h>
#include <unistd.h>

#include "providers/qemu/effects.hpp"
#include "providers/qemu/vm_record.hpp"
#include "support/child_process.hpp"
#include "support/qemu_owner.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/vm/image.hpp>

namespace infrastructure_sdk {
namespace {

using qemu::CopyEffect;
using qemu::Effect;

class KilledGuest : public testing::Test {
protected:
    void SetUp() override {
        ::chmod(place_.path().c_str(), 0711);
        vm_.id.value = make_uuid(*make_system_random());
        vm_.name = "killed";
        vm_.owner_session = "s-1";
        vm_.encryption = Encryption::memory;
        vm_.image = load_image(test::image_directory(), "linux-tiny");
        vm_.mac_address = "02:00:00:00:00:01";
        vm_.channels = {"agent"};
        auto hook = [this](const char* passed) {
            if (armed_ != passed) return;
            auto record = qemu::load_record(place_.path() + "/vms/" + vm_.id.value);
            if (record && record->process) ::kill(static_cast<pid_t>(record->process->pid), SIGKILL);
            armed_.clear();
        };
        owner_ = std::make_unique<test::QemuOwner>(place_.path(), std::string(), hook);
    }
    template <class Kind>
    void arm(Kind effect) {
        armed_ = name_of(effect);
    }
    Errc errc_of(Task<void> verb) {
        Errc errc{};
        try {
            owner_->run(std::move(verb));
        } catch (const Error& error) {
            errc = error.errc();
        }
        EXPECT_TRUE(armed_.empty()) << "the effect did not take place";
        return errc;
    }
    /// Its QEMU; the guest in it need not have booted.
    void start() { owner_->run(owner_->provider->start(vm_.id, make_uuid(*make_system_random()), call())); }
    Task<void> suspend() { return owner_->provider->suspend(vm_.id, call()); }
    Task<void> resume() { return owner_->provider->resume(vm_.id, "e-2", call()); }
    /// As soon as it can be told: the end of a connection may be seen before that of its process.
    VmState state() {
        auto seen = owner_->state(vm_.id);
        while (seen == VmState::unknown) seen = owner_->state(vm_.id);
        return seen;
    }
    Call call() { return owner_->call(); }

    test::TemporaryDirectory place_;
    VmSpec vm_;
    std::string armed_;
    std::unique_ptr<test::QemuOwner> owner_;
};

TEST_F(KilledGuest, InAnyVerbIsToldAndLeavesAVmThatCanBeUsed) {
    owner_->run(owner_->provider->create(vm_, call()));
    start();
    owner_->run(owner_->provider->wait_ready(vm_.id, call()));
    owner_->shell(vm_.id, "echo kept > /tmp/note");

    arm(Effect::memory_recorded);
    EXPECT_EQ(errc_of(suspend()), Errc{}) << "its memory was complete";
    EXPECT_EQ(state(), VmState::suspended);
    arm(Effect::handshake_done);
    EXPECT_NE(errc_of(resume()), Errc{});
    EXPECT_EQ(state(), VmState::suspended) << "it had not run: its memory is kept";
    owner_->run(resume());
    EXPECT_EQ(owner_->shell(vm_.id, "cat /tmp/note"), "kept\n");

    arm(Effect::guest_stopped);
    EXPECT_NE(errc_of(owner_->provider->snapshot(vm_.id, "snap-1", SnapshotMode::memory, call())), Errc{});
    EXPECT_EQ(state(), VmState::failed);
    EXPECT_TRUE(std::filesystem::is_empty(place_.path() + "/snapshots"));
    start();
    arm(CopyEffect::disk_copied);
    EXPECT_EQ(errc_of(owner_->provider->snapshot(vm_.id, "snap-1", SnapshotMode::memory, call())), Errc{})
        << "both were copied";
    EXPECT_EQ(state(), VmState::failed);
    EXPECT_TRUE(owner_->run(owner_->provider->inspect_snapshot("snap-1", call())));
    owner_->run(owner_->provider->delete_snapshot("snap-1", call()));
    start();
    for (auto effect : {Effect::guest_stopped, Effect::migration_begun}) {
        SCOPED_TRACE(name_of(effect));
        arm(effect);
        EXPECT_NE(errc_of(suspend()), Errc{});
        EXPECT_EQ(state(), VmState::failed);
        EXPECT_NE(errc_of(resume()), Errc{}) << "there is no memory to go on with";
        start();
        EXPECT_EQ(state(), VmState::running);
    }
    owner_->run(suspend());
    arm(Effect::guest_continued);
    errc_of(resume());
    EXPECT_EQ(state(), VmState::failed) << "its disk may be newer than its memory";
    arm(Effect::handshake_done);
    try {
        start();
    } catch (const Error&) {
        // It may be seen before the verb is over.
    }
    EXPECT_NE(state(), VmState::running);
    auto record = qemu::load_record(place_.path() + "/vms/" + vm_.id.value);
    EXPECT_EQ(record->memory_sha256 + record->memory_key, "") << "a lost memory file's key is lost too";
    owner_->run(owner_->provider->destroy(vm_.id, call()));
    EXPECT_TRUE(std::filesystem::is_empty(place_.path() + "/vms"));
}

/// Whether QEMU has anything of a probe at the VM's card.
bool has_probe(test::QemuOwner& owner, const VmId& id) {
    bool found = false;
    for (const char* place : {"qomlist:/objects", "qmp:query-chardev"}) {
        auto fact = owner.run(owner.provider->evidence(id)->collect(place, owner.call()));
        EXPECT_EQ(fact.could_not_look, "");
        found = found || fact.json.find("probe-") != std::string::npos;
    }
    return found;
}

TEST(KilledOwner, LeavesNoProbeAtAVmThatTheNextOneHas) {
    test::TemporaryDirectory place;
    ::chmod(place.path().c_str(), 0711);
    VmSpec vm;
    vm.id.value = make_uuid(*make_system_random());
    vm.name = "probed";
    vm.owner_session = "s-1";
    vm.image = load_image(test::image_directory(), "linux-tiny");
    vm.mac_address = "02:00:00:00:00:01";
    test::ChildProcess dying([&](int out) {
        test::QemuOwner owner(place.path());
        owner.run(owner.provider->create(vm, owner.call()));
        owner.run(owner.provider->start(vm.id, "e-1", owner.call()));
        auto port = owner.run(owner.provider->evidence(vm.id)->open_probe_port(owner.call()));
        ::dprintf(out, has_probe(owner, vm.id) ? "probing\n" : "not probing\n");
        ::pause();
    });
    ASSERT_EQ(dying.read_line(), "probing");
    dying.kill();
    test::QemuOwner next(place.path());
    EXPECT_EQ(next.state(vm.id), VmState::running);
    EXPECT_FALSE(has_probe(next, vm.id));
    next.run(next.provider->destroy(vm.id, next.call()));
}

}  // namespace
}  // namespace infrastructure_sdk
