// Owners of real VMs that are killed by SIGKILL, and what the next owner makes of what they left.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/unix_socket.hpp"
#include "providers/qemu/effects.hpp"
#include "support/real_owner.hpp"

namespace infrastructure_sdk {
namespace {

namespace fs = std::filesystem;
using test::Death;
using test::FirmwareImages;
using test::live_and_die;
using test::RealOwner;
using test::TemporaryDirectory;
using testing::IsEmpty;
using testing::SizeIs;

class RealCrash : public testing::Test {
protected:
    void SetUp() override { ::chmod(state_.path().c_str(), 0711); }
    std::string vms() const { return state_.path() + "/vms"; }
    std::unique_ptr<RealOwner> open() {
        auto owner = std::make_unique<RealOwner>(state_.path(), images_.path(), [] {});
        owner->recover();
        return owner;
    }
    Session start(RealOwner& owner) {
        SessionRequest request;
        request.user_id = "alice";
        request.template_name = "firmware";
        auto session = owner.run(owner.engine().create(request, owner.call()));
        return owner.run(owner.engine().wait(session.id, SessionState::active, owner.call()));
    }
    Session suspend(RealOwner& owner, const Session& session) {
        owner.run(owner.engine().suspend(session.id, owner.call()));
        return owner.run(owner.engine().wait(session.id, SessionState::suspended, owner.call()));
    }
    void expect_end(RealOwner& owner) {
        EXPECT_THAT(owner.end_all(), IsEmpty());
        EXPECT_THAT(test::leavings_of(owner, state_.path()), IsEmpty());
    }

    FirmwareImages images_;
    TemporaryDirectory state_;
};

/// One death after each effect of the provider.
class RealDeath : public RealCrash, public testing::WithParamInterface<const char*> {};

TEST_P(RealDeath, LosesNothing) {
    Death death;
    std::vector<std::string> known;
    constexpr std::uint64_t tries = 4;
    for (std::uint64_t seed = 1; seed <= tries && !death.reached; ++seed) {
        death = live_and_die(state_.path(), images_.path(), seed, GetParam(), 1);
        EXPECT_EQ(death.trouble, "");
        known.insert(known.end(), death.acknowledged.begin(), death.acknowledged.end());
    }
    ASSERT_TRUE(death.reached);
    auto next = open();
    EXPECT_TRUE(next->rest(std::chrono::minutes(2)));
    EXPECT_THAT(test::faults_of(*next, state_.path(), known), IsEmpty());
    expect_end(*next);
}

INSTANTIATE_TEST_SUITE_P(After, RealDeath, testing::ValuesIn(qemu::effect_names), [](const auto& info) {
    std::string name = info.param;
    std::replace(name.begin(), name.end(), ' ', '_');
    return name;
});

TEST_F(RealCrash, Scenario04_RemovesWhatADeadOwnerLeftAndNothingElse) {
    auto owner = open();
    auto running = start(*owner);
    auto suspended = suspend(*owner, start(*owner));
    owner.reset();
    const std::string uuid = "11111111-2222-4333-8444-55555555555";
    auto write = [](const std::string& path) { std::ofstream(path) << "x"; };
    fs::create_directories(vms() + "/.new-" + uuid + "0/guest");
    write(vms() + "/.new-" + uuid + "0/guest/disk.qcow2");
    fs::create_directories(vms() + "/" + uuid + "1/guest");
    ::close(listen_unix(vms() + "/" + uuid + "1/guest/qmp.sock"));
    ::mkfifo((vms() + "/" + uuid + "1/guest/agent.sock").c_str(), 0600);
    // Of VMs that are still there: stale sockets, half a record, a picture, memory that was resumed from.
    auto asleep = vms() + "/" + suspended.vm_id.value, awake = vms() + "/" + running.vm_id.value;
    ::close(listen_unix(asleep + "/guest/qmp.sock"));
    write(asleep + "/vm.json.new");
    write(awake + "/guest/memory.state");
    write(awake + "/guest/screen.png");
    // Not ours.
    fs::create_directories(vms() + "/" + uuid + "2");
    write(vms() + "/" + uuid + "2/letters.txt");
    write(vms() + "/notes");

    owner = open();
    EXPECT_FALSE(fs::exists(vms() + "/.new-" + uuid + "0"));
    EXPECT_FALSE(fs::exists(vms() + "/" + uuid + "1"));
    for (const char* name : {"/guest/qmp.sock", "/vm.json.new"}) EXPECT_FALSE(fs::exists(asleep + name)) << name;
    for (const char* name : {"/guest/memory.state", "/guest/screen.png"})
        EXPECT_FALSE(fs::exists(awake + name)) << name;
    EXPECT_TRUE(fs::exists(asleep + "/guest/memory.state")) << "its memory is in it";
    EXPECT_TRUE(fs::exists(awake + "/guest/qmp.sock"));
    EXPECT_TRUE(fs::exists(vms() + "/" + uuid + "2/letters.txt"));
    EXPECT_TRUE(fs::exists(vms() + "/notes"));
    fs::remove_all(vms() + "/" + uuid + "2");
    fs::remove(vms() + "/notes");
    owner->run(owner->engine().resume(suspended.id, owner->call()));
    owner->run(owner->engine().wait(suspended.id, SessionState::active, owner->call()));
    EXPECT_THAT(test::faults_of(*owner, state_.path(), {running.id, suspended.id}), IsEmpty());
    expect_end(*owner);
}

TEST_F(RealCrash, Scenario08_AVmWithADamagedRecordIsNotDeadAndCanBeEnded) {
    auto owner = open();
    auto session = start(*owner);
    auto other = start(*owner);
    owner.reset();
    std::ofstream(vms() + "/" + session.vm_id.value + "/vm.json") << "{\"schema\": 1, ";
    fs::remove(vms() + "/" + other.vm_id.value + "/vm.json");
    owner = open();
    EXPECT_EQ(owner->run(owner->engine().get(session.id)).state, SessionState::active) << "could not look is not dead";
    EXPECT_EQ(owner->run(owner->engine().get(other.id)).state, SessionState::active);
    EXPECT_EQ(owner->run(owner->engine().inspect_vm(session.id, owner->call())).reason, "RecordUnreadable");
    EXPECT_EQ(owner->run(owner->engine().inspect_vm(other.id, owner->call())).reason, "RecordMissing");
    EXPECT_THAT(test::vm_processes(state_.path()), SizeIs(4)) << "two VMs, each with its TPM";
    expect_end(*owner);
}

TEST_F(RealCrash, NeverGoesBackToMemoryThatIsOlderThanTheDisk) {
    // It dies when the guest runs again and the record still names the memory file; then the VM dies as well.
    Death death;
    for (std::uint64_t seed = 1; seed <= 20 && !death.reached; ++seed)
        death = live_and_die(state_.path(), images_.path(), seed, "guest continued", 1);
    ASSERT_TRUE(death.reached);
    std::vector<std::string> resuming;
    for (const auto& session : RealOwner(state_.path(), images_.path(), [] {}).sessions())
        if (session.state == SessionState::resuming) resuming.push_back(session.id);
    ASSERT_THAT(resuming, testing::Not(IsEmpty()));
    for (const auto& process : test::vm_processes(state_.path())) ::kill(static_cast<pid_t>(process.pid), SIGKILL);
    auto owner = open();
    EXPECT_TRUE(owner->rest(std::chrono::minutes(2)));
    for (const auto& id : resuming) {
        auto session = owner->run(owner->engine().get(id));
        EXPECT_EQ(session.state, SessionState::failed) << "the guest had gone on: it is lost, not put back";
        EXPECT_TRUE(fs::exists(vms() + "/" + session.vm_id.value + "/guest/disk.qcow2"));
    }
    expect_end(*owner);
}

}  // namespace
}  // namespace infrastructure_sdk
