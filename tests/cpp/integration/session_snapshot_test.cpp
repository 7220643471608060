// Snapshots, forks, recovery and restarts over real QEMU and a real guest.

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include <nlohmann/json.hpp>

#include "core/sha256.hpp"
#include "providers/qemu/process.hpp"
#include "support/real_session.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {
namespace fs = std::filesystem;

class RealSnapshots : public test::RealSession {
protected:
    void TearDown() override {
        if (!sdk_) open();
        for (const auto& snapshot : snapshots()) run(*runtime_, sdk_->sessions().delete_snapshot(snapshot.id, call()));
        EXPECT_TRUE(fs::is_empty(state_ / "snapshots"));
        RealSession::TearDown();
    }
    std::vector<Snapshot> snapshots() {
        SnapshotFilter all;
        return run(*runtime_, sdk_->sessions().list_snapshots(all));
    }
    Snapshot snap(const Session& session) {
        return run(*runtime_, sdk_->sessions().snapshot(session.id, "a name", call()));
    }
    std::vector<ForkEntry> fork(const std::string& source, int count) {
        ForkRequest request;
        request.source = source;
        request.count = count;
        return run(*runtime_, sdk_->sessions().fork(request, call()));
    }
    void kill_vm(const Session& session) { ::kill(static_cast<pid_t>(vm(session).process->pid), SIGKILL); }
    void end(const Session& session) {
        run(*runtime_, sdk_->sessions().terminate(session.id, TerminationReason::request, call()));
        wait(session, SessionState::terminated);
    }
    /// A command that ends its own guest: whether it is answered does not matter.
    Task<bool> run_and_forget(Session session, std::string command) {
        ExecRequest request;
        request.arguments = {"sh", "-c", command};
        auto soon = call();
        soon.deadline = Deadline::after(*runtime_->environment().clock, std::chrono::seconds(20));
        try {
            co_await sdk_->sessions().exec(session.id, request, soon);
        } catch (const Error&) {
            co_return false;
        }
        co_return true;
    }
    Task<bool> until_no_snapshot() {
        SnapshotFilter all;
        EventQuery query;
        for (;;) {
            auto left = co_await sdk_->sessions().list_snapshots(all);
            if (left.empty()) co_return true;
            query.subject = left.front().id;
            auto seen = co_await sdk_->sessions().next_events(query, call());
            query.after = seen.back().sequence;
            if (seen.back().type == "snapshot.lifecycle.deleted") query.after = 0;
        }
    }
    fs::path folder_of(const Snapshot& snapshot) const { return state_ / "snapshots" / snapshot.id; }
};

TEST_F(RealSnapshots, AFrozenCopyOfARunningDiskThatDependsOnNothing) {
    auto session = start();
    // A page that is not on the disk yet: freezing flushes it.
    shell(session, "echo before > /data/note");
    auto snapshot = snap(session);
    EXPECT_EQ(snapshot.state, SnapshotState::ready);
    EXPECT_EQ(snapshot.consistent, "frozen");
    EXPECT_EQ(snapshot.virtual_size_bytes, 64u << 20);
    auto disk = folder_of(snapshot) / "disk.qcow2";
    EXPECT_EQ(fs::file_size(disk), snapshot.size_bytes);
    EXPECT_EQ(fs::status(disk).permissions(), fs::perms::owner_read);
    std::ifstream file(disk, std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), {});
    EXPECT_EQ(sha256_hex(bytes), snapshot.sha256);
    auto info = nlohmann::json::parse(
        qemu::tool_output({qemu::find_program("qemu-img"), "info", "--output=json", disk.string()}));
    EXPECT_FALSE(info.contains("backing-filename"));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_of(snapshot)), fs::directory_iterator()), 2)
        << "nothing of the making is left";
    EXPECT_EQ(shell(session, "echo after > /data/note; sync; cat /data/note"), "after\n") << "the guest is not held";
    auto again = snap(session);
    EXPECT_EQ(again.consistent, "frozen") << "nothing of the first is in QEMU's way";
    EXPECT_NE(again.sha256, snapshot.sha256);
    end(session);
    close();
    open();
    EXPECT_EQ(snapshots().size(), 2u) << "they are the user's to remove";

    auto entries = fork(snapshot.id, 1);
    ASSERT_TRUE(entries.front().session);
    auto later = wait(*entries.front().session, SessionState::active);
    EXPECT_EQ(shell(later, "cat /data/note"), "before\n");
    run(*runtime_, sdk_->sessions().delete_snapshot(snapshot.id, call()));
    EXPECT_EQ(shell(later, "echo mine > /data/note; sync; cat /data/note"), "mine\n");
    run(*runtime_, sdk_->sessions().suspend(later.id, call()));
    wait(later, SessionState::suspended);
    run(*runtime_, sdk_->sessions().resume(later.id, call()));
    wait(later, SessionState::active);
    EXPECT_EQ(shell(later, "cat /data/note"), "mine\n") << "also over a resume without the snapshot";
}

TEST_F(RealSnapshots, OfASuspendedSessionAndOfAFork) {
    SessionRequest request;
    request.user_id = "alice";
    request.resources.network = NetworkMode::none;
    request.resources.disk_iops = Quantity::from_units(5000);
    auto session = run(*runtime_, sdk_->sessions().create(request, call()));
    session = wait(session, SessionState::active);
    shell(session, "echo first > /data/note; sync");
    run(*runtime_, sdk_->sessions().suspend(session.id, call()));
    wait(session, SessionState::suspended);
    auto asleep = snap(session);
    EXPECT_EQ(asleep.consistent, "crash");
    auto child = wait(*fork(asleep.id, 1).front().session, SessionState::active);
    EXPECT_EQ(shell(child, "cat /data/note; echo second >> /data/note"), "first\n");
    auto of_child = snap(child);
    auto grandchild = wait(*fork(of_child.id, 1).front().session, SessionState::active);
    EXPECT_EQ(shell(grandchild, "cat /data/note"), "first\nsecond\n");
    // The template has a network and no limit: these are of the first session.
    for (const auto& later : {child, grandchild}) {
        EXPECT_EQ(later.network, NetworkMode::none);
        EXPECT_EQ(shell(later, "ls /sys/class/net"), "lo\n");
        EXPECT_EQ(later.limits, session.limits);
        auto limits = vm(later).limits;
        auto held = std::any_of(limits.begin(), limits.end(),
                                [](const auto& limit) { return limit.resource == "disk_iops" && limit.limit == 5000; });
        EXPECT_TRUE(held);
    }
    EXPECT_EQ(shell(child, "hostname") == shell(grandchild, "hostname"), false);
}

TEST_F(RealSnapshots, ForksOfARunningSessionShareAPastAndNoFuture) {
    auto session = start();
    shell(session, "echo past > /data/note");
    auto entries = fork(session.id, 2);
    ASSERT_EQ(entries.size(), 2u);
    std::set<std::string> names{shell(session, "hostname")}, addresses{session.mac_address};
    for (const auto& entry : entries) {
        ASSERT_TRUE(entry.session);
        auto child = wait(*entry.session, SessionState::active);
        EXPECT_EQ(shell(child, "cat /data/note"), "past\n");
        shell(child, "hostname > /data/note; sync");
        EXPECT_TRUE(names.insert(shell(child, "hostname")).second);
        EXPECT_TRUE(addresses.insert(child.mac_address).second);
        EXPECT_NE(shell(child, "cat /sys/class/net/eth0/address").find(child.mac_address), std::string::npos);
    }
    EXPECT_EQ(shell(session, "cat /data/note"), "past\n");
    EXPECT_NE(shell(*entries[0].session, "cat /data/note"), shell(*entries[1].session, "cat /data/note"));
    run(*runtime_, until_no_snapshot());
    EXPECT_TRUE(snapshots().empty()) << "the one that was made for the fork is gone";
}

TEST_F(RealSnapshots, OfMemoryAreGoneOnFromByOtherGuests) {
    auto session = start();
    const std::string keys = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub";
    shell(
        session,
        "echo in memory > /tmp/note; echo on disk > /data/note; (while :; do sleep 1; done) </dev/null >/dev/null 2>&1 "
        "& echo $! > /tmp/process; date -s '2020-01-01 00:00:00'");
    auto snapshot = run(*runtime_, sdk_->sessions().snapshot(session.id, "a moment", call(), SnapshotMode::memory));
    EXPECT_EQ(snapshot.mode, SnapshotMode::memory);
    EXPECT_EQ(snapshot.consistent, "memory");
    EXPECT_EQ(fs::file_size(folder_of(snapshot) / "memory.state"), snapshot.memory_size_bytes);
    EXPECT_EQ(fs::status(folder_of(snapshot) / "memory.state").permissions(), fs::perms::owner_read);
    shell(session, "echo later > /tmp/note; echo later > /data/note");

    // Another owner, and the same guest several times.
    close();
    open();
    auto children = fork(snapshot.id, 2);
    std::set<std::string> identities{shell(session, keys)}, drawn;
    for (const auto& entry : children) {
        ASSERT_TRUE(entry.session);
        auto child = wait(*entry.session, SessionState::active);
        EXPECT_EQ(child.launch.from, "snapshot");
        EXPECT_EQ(shell(child, "cat /tmp/note /data/note"), "in memory\non disk\n");
        EXPECT_EQ(shell(child, "kill -0 $(cat /tmp/process) && echo alive"), "alive\n") << "its processes go on";
        EXPECT_EQ(shell(child, "hostname"), child.id + "\n");
        EXPECT_TRUE(identities.insert(shell(child, keys)).second);
        EXPECT_TRUE(drawn.insert(shell(child, "head -c 16 /dev/urandom | sha256sum")).second);
        EXPECT_NE(shell(child, "cat /sys/class/net/eth0/address").find(child.mac_address), std::string::npos);
        EXPECT_NE(shell(child, "date +%Y"), "2020\n") << "its clock is right";
    }
    EXPECT_EQ(shell(session, "cat /tmp/note /data/note"), "later\nlater\n");
    // One that is lost later begins from its disk, as any other.
    auto child = *children.front().session;
    shell(child, "echo mine > /data/note; sync");
    kill_vm(child);
    wait(child, SessionState::failed);
    run(*runtime_, sdk_->sessions().recover_session(child.id, call()));
    child = wait(child, SessionState::active);
    EXPECT_EQ(child.launch.from, "cold boot");
    EXPECT_EQ(shell(child, "cat /data/note"), "mine\n");

    SessionRequest request;
    request.user_id = "bob";
    request.snapshot = snapshot.id;
    EXPECT_EQ(errc_of(sdk_->sessions().create(request, call())), Errc::validation);
    EXPECT_EQ(last_context_.at("field"), "user_id");
    run(*runtime_, sdk_->sessions().suspend(session.id, call()));
    wait(session, SessionState::suspended);
    EXPECT_EQ(errc_of(sdk_->sessions().snapshot(session.id, "x", call(), SnapshotMode::memory)),
              Errc::invalid_transition);
}

TEST_F(RealSnapshots, AreLeftWholeOrNotAtAllByAnOwnerThatIsGone) {
    auto session = start();
    shell(session, "echo kept > /data/note; sync");
    close();
    // As a kill -9 in the middle leaves it: a folder without a record, a guest that may be frozen.
    fs::create_directories(state_ / "snapshots" / ".new-snap-0123456789abcdef");
    fs::create_directories(state_ / "snapshots" / "snap-fedcba9876543210");
    auto record = state_ / "vms" / session.vm_id.value / "vm.json";
    std::ifstream in(record);
    auto document = nlohmann::json::parse(in);
    document["snapshotting"] = "snap-0123456789abcdef";
    std::ofstream(record) << document.dump();
    open();
    EXPECT_TRUE(fs::is_empty(state_ / "snapshots"));
    EXPECT_EQ(shell(session, "echo more >> /data/note; sync; cat /data/note"), "kept\nmore\n");
    EXPECT_EQ(snap(session).consistent, "frozen");
}

// Scenario 14: failed carries the cause; recover keeps the disk.
TEST_F(RealSnapshots, Scenario14AKilledVmIsRecoveredWithItsDisk) {
    auto session = start();
    shell(session, "echo kept > /data/note; sync; echo lost > /tmp/note");
    kill_vm(session);
    auto failed = wait(session, SessionState::failed);
    EXPECT_EQ(failed.failure_reason, "ProcessKilled");
    EXPECT_FALSE(failed.restart.next_at);
    auto snapshot = snap(session);
    EXPECT_EQ(snapshot.session_state, SessionState::failed);
    auto first = run(*runtime_, sdk_->sessions().recover_session(session.id, call()));
    auto second = run(*runtime_, sdk_->sessions().recover_session(session.id, call()));
    EXPECT_EQ(second.execution_id, first.execution_id);
    auto back = wait(session, SessionState::active);
    EXPECT_NE(back.execution_id, session.execution_id);
    EXPECT_EQ(shell(session, "cat /data/note; cat /tmp/note 2>&1"),
              "kept\ncat: can't open '/tmp/note': No such file or directory\n");
}

TEST_F(RealSnapshots, ACorruptedMemoryFileIsGivenUpByRecoveryAndTheDiskIsKept) {
    auto session = start();
    shell(session, "echo kept > /data/note; sync");
    run(*runtime_, sdk_->sessions().suspend(session.id, call()));
    wait(session, SessionState::suspended);
    auto memory_file = state_ / "vms" / session.vm_id.value / "guest/memory.state";
    {
        std::fstream memory(memory_file, std::ios::in | std::ios::out | std::ios::binary);
        memory.seekp(1 << 20);
        memory.put('\x5a').put('\xa5');
    }
    run(*runtime_, sdk_->sessions().resume(session.id, call()));
    wait(session, SessionState::failed);
    run(*runtime_, sdk_->sessions().recover_session(session.id, call()));
    wait(session, SessionState::active);
    EXPECT_FALSE(fs::exists(memory_file));
    EXPECT_EQ(shell(session, "cat /data/note"), "kept\n");
}

TEST_F(RealSnapshots, ASessionWhoseTemplateAsksForItComesBackByItself) {
    close();
    template_directory_ = (state_ / "templates").string();
    fs::create_directories(template_directory_);
    std::ofstream(fs::path(template_directory_) / "sturdy.yaml")
        << "name: sturdy\nimage: linux-tiny\nmemory: 128Mi\nchannels: [agent]\nboot_timeout: 20s\n"
           "restart: {policy: on_failure, max_attempts: 2, backoff: 1s}\n";
    open();
    auto session = start("sturdy");
    shell(session, "echo kept > /data/note; sync");
    kill_vm(session);
    auto failed = wait(session, SessionState::failed);
    ASSERT_TRUE(failed.restart.next_at);
    // Waiting for active goes on while it will be tried again.
    auto back = wait(session, SessionState::active);
    EXPECT_NE(back.execution_id, session.execution_id);
    EXPECT_EQ(back.restart.attempts, 1u);
    EXPECT_EQ(shell(session, "cat /data/note"), "kept\n");
    // A guest that shuts itself down was asked to.
    run(*runtime_, run_and_forget(session, "sync; poweroff -f"));
    failed = wait(session, SessionState::failed);
    EXPECT_EQ(failed.failure_reason, "GuestShutdown");
    EXPECT_FALSE(failed.restart.next_at);
}

// Scenario 23: N pause/resume cycles with a checksum file, memory and disk the same every time.
TEST_F(RealSnapshots, Scenario23ManySuspendsAndResumesLoseNothing) {
    auto session = start();
    shell(session, "head -c 4000000 /dev/urandom > /data/content; head -c 1000000 /dev/urandom > /tmp/content; sync");
    const std::string sums = "sha256sum /data/content /tmp/content /data/log 2>/dev/null";
    shell(session, "echo start > /data/log");
    auto before = shell(session, sums);
    for (int cycle = 1; cycle <= 5; ++cycle) {
        run(*runtime_, sdk_->sessions().suspend(session.id, call()));
        wait(session, SessionState::suspended);
        // Every other time another owner resumes it.
        if (cycle % 2 == 0) {
            close();
            open();
        }
        run(*runtime_, sdk_->sessions().resume(session.id, call()));
        wait(session, SessionState::active);
        ASSERT_EQ(shell(session, sums), before) << "cycle " << cycle;
        shell(session, "echo " + std::to_string(cycle) + " >> /data/log");
        before = shell(session, sums);
    }
    EXPECT_EQ(shell(session, "cat /data/log"), "start\n1\n2\n3\n4\n5\n");
    EXPECT_EQ(shell(session, "dmesg | grep -c 'EXT4-fs error'"), "0\n");
}

}  // namespace
}  // namespace infrastructure_sdk
