// The session engine over real QEMU: what a user does with one session, and what may go wrong.

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/sdk.hpp>

#include "providers/qemu/process.hpp"
#include "support/real_session.hpp"

namespace infrastructure_sdk {
namespace {
namespace fs = std::filesystem;

using test::image_directory;
using test::RealSession;

TEST_F(RealSession, IsUsedSuspendedResumedAndEnded) {
    auto session = start();
    EXPECT_EQ(session.state, SessionState::active);
    EXPECT_EQ(shell(session, "echo $((6*7))"), "42\n");
    auto first_execution = session.execution_id;
    auto picture = run(*runtime_, sdk_->sessions().screenshot(session.id, call()));
    EXPECT_TRUE(picture.starts_with("\x89PNG"));
    run(*runtime_, sdk_->sessions().write_file(session.id, "/tmp/kept", std::string("\0\xff kept", 7), call()));

    run(*runtime_, sdk_->sessions().suspend(session.id, call()));
    session = wait(session, SessionState::suspended);
    EXPECT_EQ(session.suspend_mode, "memory");
    auto memory = state_ / "vms" / session.vm_id.value / "guest/memory.state";
    EXPECT_EQ(fs::status(memory).permissions(), fs::perms::owner_read | fs::perms::owner_write);
    EXPECT_FALSE(qemu::find_vm_process(session.vm_id.value));

    run(*runtime_, sdk_->sessions().resume(session.id, call()));
    session = wait(session, SessionState::active);
    EXPECT_NE(session.execution_id, first_execution);
    EXPECT_FALSE(fs::exists(memory));
    EXPECT_EQ(run(*runtime_, sdk_->sessions().read_file(session.id, "/tmp/kept", 100, call())),
              std::string("\0\xff kept", 7));
    auto skew =
        std::stoll(shell(session, "date +%s")) -
        std::chrono::duration_cast<std::chrono::seconds>(runtime_->environment().clock->wall_now().time_since_epoch())
            .count();
    EXPECT_LE(std::abs(skew), 5);

    run(*runtime_, sdk_->sessions().terminate(session.id, TerminationReason::request, call()));
    session = wait(session, SessionState::terminated);
    EXPECT_EQ(session.termination_reason, TerminationReason::request);
    EXPECT_FALSE(qemu::find_vm_process(session.vm_id.value));
    EXPECT_FALSE(fs::exists(state_ / "vms" / session.vm_id.value));

    EventQuery query;
    query.subject = session.id;
    std::vector<std::string> types;
    for (const auto& event : run(*runtime_, sdk_->sessions().events(query))) types.push_back(event.type.substr(18));
    EXPECT_EQ(types, (std::vector<std::string>{"created", "started", "ready", "suspending", "suspended", "resuming",
                                               "resumed", "terminating", "terminated"}));
}

TEST_F(RealSession, IsAdoptedByTheNextOwner) {
    auto session = start();
    auto before = vm(session);
    close();
    ASSERT_TRUE(qemu::find_vm_process(session.vm_id.value));
    open();
    EXPECT_EQ(run(*runtime_, sdk_->sessions().get(session.id)).state, SessionState::active);
    EXPECT_EQ(shell(session, "echo adopted"), "adopted\n");
    EXPECT_EQ(vm(session).process->pid, before.process->pid);
}

TEST_F(RealSession, FailsWithAReasonAndKeepsItsDiskWhenTheVmIsKilledFromOutside) {
    auto session = start();
    ::kill(static_cast<pid_t>(vm(session).process->pid), SIGKILL);
    session = wait(session, SessionState::failed);
    EXPECT_EQ(session.failure_reason, "ProcessKilled");
    EXPECT_TRUE(fs::exists(state_ / "vms" / session.vm_id.value / "guest/disk.qcow2"));
    ExecRequest request;
    request.arguments = {"true"};
    EXPECT_EQ(errc_of(sdk_->sessions().exec(session.id, request, call())), Errc::invalid_transition);
}

TEST_F(RealSession, RefusesACorruptedMemoryFileAndKeepsTheDisk) {
    auto session = start();
    run(*runtime_, sdk_->sessions().suspend(session.id, call()));
    wait(session, SessionState::suspended);
    auto folder = state_ / "vms" / session.vm_id.value / "guest";
    {
        std::fstream memory(folder / "memory.state", std::ios::in | std::ios::out | std::ios::binary);
        memory.seekp(1 << 20);
        memory.put('\x5a').put('\xa5');
    }
    run(*runtime_, sdk_->sessions().resume(session.id, call()));
    EXPECT_NE(errc_of(sdk_->sessions().wait(session.id, SessionState::active, call())), Errc{});
    auto failed = run(*runtime_, sdk_->sessions().get(session.id));
    EXPECT_EQ(failed.state, SessionState::failed);
    EXPECT_EQ(failed.failure_reason, "MemoryFileCorrupted");
    EXPECT_TRUE(fs::exists(folder / "disk.qcow2"));
    EXPECT_FALSE(qemu::find_vm_process(session.vm_id.value));
}

TEST_F(RealSession, RefusesToResumeOnAnImageThatWasReplaced) {
    auto session = start();
    run(*runtime_, sdk_->sessions().suspend(session.id, call()));
    wait(session, SessionState::suspended);
    close();
    auto images = state_ / "other-images";
    fs::copy(image_directory(), images, fs::copy_options::recursive);
    auto record = state_ / "vms" / session.vm_id.value / "vm.json";
    std::ifstream in(record);
    std::string text((std::istreambuf_iterator<char>(in)), {});
    for (auto at = text.find(image_directory()); at != std::string::npos; at = text.find(image_directory(), at + 1))
        text.replace(at, image_directory().size(), images.string());
    std::ofstream(record) << text;
    open();
    run(*runtime_, sdk_->sessions().resume(session.id, call()));
    EXPECT_NE(errc_of(sdk_->sessions().wait(session.id, SessionState::active, call())), Errc{});
    auto failed = run(*runtime_, sdk_->sessions().get(session.id));
    EXPECT_EQ(failed.failure_reason, "ImageReplaced") << failed.failure_message;
    EXPECT_FALSE(qemu::find_vm_process(session.vm_id.value));
}

TEST_F(RealSession, IsTerminatedWhileItBoots) {
    SessionRequest request;
    request.user_id = "bob";
    auto session = run(*runtime_, sdk_->sessions().create(request, call()));
    run(*runtime_, sdk_->sessions().terminate(session.id, TerminationReason::request, call()));
    session = wait(session, SessionState::terminated);
    EXPECT_FALSE(qemu::find_vm_process(session.vm_id.value));
}

TEST_F(RealSession, Scenario15_NamesTheChannelThatDidNotAnswer) {
    close();
    auto folder = state_ / "templates";
    fs::create_directories(folder);
    // A guest with another init, which waits for a key, never starts an agent.
    std::ofstream(folder / "mute.yaml")
        << "name: mute\nimage: mute\nmemory: 128Mi\nchannels: [agent]\nboot_timeout: 1s\n";
    auto images = state_ / "images";
    fs::create_directories(images);
    fs::copy(image_directory() + "/linux-tiny", images / "mute", fs::copy_options::recursive);
    std::ifstream in(images / "mute" / "manifest.json");
    auto manifest = std::string((std::istreambuf_iterator<char>(in)), {});
    manifest.replace(manifest.find("linux-tiny"), 10, "mute");
    auto arguments = manifest.find("console=ttyS0");
    manifest.insert(arguments, "rdinit=/bin/init ");
    std::ofstream(images / "mute" / "manifest.json") << manifest;

    runtime_ = std::make_unique<Runtime>(make_null_sink());
    auto config = Config::from_json(R"({"store": {"state_directory": ")" + state_.string() +
                                    R"("}, "vm": {"image_directory": ")" + images.string() +
                                    R"(", "template_directory": ")" + folder.string() + R"("}})");
    sdk_ = run(*runtime_, InfrastructureSDK::open(runtime_->environment(), config));
    SessionRequest request;
    request.user_id = "carol";
    request.template_name = "mute";
    auto session = run(*runtime_, sdk_->sessions().create(request, call()));
    auto code = errc_of(sdk_->sessions().wait(session.id, SessionState::active, call()));
    EXPECT_EQ(code, Errc::not_ready) << last_error_;
    EXPECT_EQ(last_context_["channel"], "agent");
}

TEST_F(RealSession, Scenario24_TheGuestsClockIsRightAfterAResume) {
    auto session = start();
    // For the guest it is years ago when it is suspended.
    shell(session, "date -s '2020-01-01 00:00:00'");
    run(*runtime_, sdk_->sessions().suspend(session.id, call()));
    wait(session, SessionState::suspended);
    run(*runtime_, sdk_->sessions().resume(session.id, call()));
    wait(session, SessionState::active);
    auto guest = std::stoll(shell(session, "date +%s"));
    auto host =
        std::chrono::duration_cast<std::chrono::seconds>(runtime_->environment().clock->wall_now().time_since_epoch())
            .count();
    EXPECT_NEAR(static_cast<double>(guest), static_cast<double>(host), 5.0);
}

TEST_F(RealSession, TwoSessionsAtOnceDoNotMeet) {
    SessionRequest request;
    request.user_id = "alice";
    auto one = run(*runtime_, sdk_->sessions().create(request, call()));
    request.user_id = "bob";
    auto two = run(*runtime_, sdk_->sessions().create(request, call()));
    wait(one, SessionState::active);
    wait(two, SessionState::active);
    shell(one, "echo one > /tmp/who");
    EXPECT_EQ(shell(two, "cat /tmp/who 2>/dev/null"), "");
    auto first = vm(one), second = vm(two);
    EXPECT_NE(first.process->pid, second.process->pid);
    struct stat a{}, b{};
    ::stat((state_ / "vms" / one.vm_id.value / "guest").c_str(), &a);
    ::stat((state_ / "vms" / two.vm_id.value / "guest").c_str(), &b);
    if (::geteuid() == 0) {
        EXPECT_NE(a.st_uid, b.st_uid);
    }
}

TEST_F(RealSession, AVmCannotTouchItsOwnRecord) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root gives a VM another uid";
    auto session = start();
    auto folder = (state_ / "vms" / session.vm_id.value).string();
    struct stat guest{};
    ASSERT_EQ(::stat((folder + "/guest").c_str(), &guest), 0);
    EXPECT_NE(guest.st_uid, 0u);
    // What a process with the VM's uid and working directory can do; each bit is one that it could.
    auto attack = [] {
        int done = 0;
        if (::open("../vm.json", O_RDONLY) >= 0) done |= 1;
        if (::open("../vm.json", O_WRONLY) >= 0) done |= 2;
        if (::open("../vm.json.new", O_WRONLY | O_CREAT, 0600) >= 0) done |= 4;
        if (::rename("../vm.json", "../vm.json.old") == 0) done |= 8;
        if (::rename("../guest", "../other") == 0) done |= 16;
        // And the control: its own folder is its own.
        if (::open("own", O_WRONLY | O_CREAT, 0600) < 0) done |= 32;
        ::unlink("own");
        return done;
    };
    auto child = ::fork();
    if (child == 0) {
        if (::chdir((folder + "/guest").c_str()) != 0) ::_exit(64);
        if (::setgroups(0, nullptr) != 0 || ::setgid(guest.st_gid) != 0 || ::setuid(guest.st_uid) != 0) ::_exit(64);
        ::_exit(attack());
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(RealSession, RefusesWhatCannotBe) {
    SessionRequest request;
    request.user_id = "alice";
    request.template_name = "no-such-template";
    EXPECT_EQ(errc_of(sdk_->sessions().create(request, call())), Errc::not_found);
    EXPECT_EQ(last_context_["field"], "template");
    request.template_name = "linux-tiny";
    request.resources.memory = Quantity::parse("1Mi");
    EXPECT_EQ(errc_of(sdk_->sessions().create(request, call())), Errc::validation);
    request.resources.memory.reset();
    request.ttl = std::chrono::hours(100'000);
    EXPECT_EQ(errc_of(sdk_->sessions().create(request, call())), Errc::validation);
    EXPECT_EQ(errc_of(sdk_->sessions().get("s-ffffffffffffffff")), Errc::not_found);
    EXPECT_TRUE(fs::is_empty(state_ / "vms"));
}

TEST_F(RealSession, KillsACommandThatNeverEndsAndCutsHugeOutput) {
    auto session = start();
    ExecRequest endless;
    endless.arguments = {"sh", "-c", "echo $$ > /tmp/pid; exec sleep 1000"};
    Call soon{Deadline::after(*runtime_->environment().clock, std::chrono::seconds(3)), {}, "test"};
    EXPECT_EQ(errc_of(sdk_->sessions().exec(session.id, endless, soon)), Errc::timeout);
    EXPECT_EQ(shell(session, "kill -0 $(cat /tmp/pid) 2>/dev/null && echo alive || echo gone"), "gone\n");

    ExecRequest huge;
    huge.arguments = {"sh", "-c", "head -c 3000000 /dev/zero; echo problem >&2; exit 7"};
    huge.output_limit_bytes = 1 << 20;
    auto result = run(*runtime_, sdk_->sessions().exec(session.id, huge, call()));
    EXPECT_EQ(result.exit_code, 7);
    EXPECT_EQ(result.stdout_data.size(), 1u << 20);
    EXPECT_TRUE(result.stdout_truncated);
    EXPECT_EQ(result.stderr_data, "problem\n");

    ExecRequest missing;
    missing.arguments = {"/no/such/command"};
    EXPECT_EQ(errc_of(sdk_->sessions().exec(session.id, missing, call())), Errc::not_found);
    EXPECT_EQ(errc_of(sdk_->sessions().read_file(session.id, "/no/such/file", 10, call())), Errc::not_found);
}

TEST_F(RealSession, TheDirectoryHasOneOwner) {
    auto config = sdk_->config().overlaid_with(Config::from_json(R"({"store": {"lock_timeout": "1ms"}})"));
    EXPECT_EQ(errc_of(InfrastructureSDK::open(runtime_->environment(), config)), Errc::conflict);
    EXPECT_EQ(last_context_["pid"], std::to_string(::getpid()));
}

/// Looked at every second, idle after two.
class WatchedSession : public RealSession {
protected:
    WatchedSession() {
        session_options_ = R"({"idle_timeout": "2s", "idle_sample_interval": "1s", "idle_arming_delay": "1s"})";
    }
    /// A client of the display that says nothing.
    int connect_to_display(const Session& session) {
        int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        auto path = (state_ / "vms" / session.vm_id.value / "guest/vnc.sock").string();
        path.copy(address.sun_path, sizeof(address.sun_path) - 1);
        EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0) << path;
        return fd;
    }
};

TEST_F(WatchedSession, ComputesAndIsKeptThenIsIdleAndSuspended) {
    auto session = start();
    shell(session, "echo kept > /run/kept; (while :; do :; done) >/dev/null 2>&1 & echo $! > /run/busy");
    next(session, "session.lifecycle.ready");
    auto text = explained(session);
    EXPECT_NE(text.find("in use"), std::string::npos) << text;
    // The screen is looked at by somebody who does nothing: presence, not activity.
    int viewer = connect_to_display(session);
    shell(session, "kill $(cat /run/busy)");
    next(session, "session.idle.armed");
    auto event = next(session, "session.lifecycle.suspended");
    EXPECT_NE(event.data.find("idle"), std::string::npos) << event.data;
    ::close(viewer);
    text = explained(session);
    EXPECT_NE(text.find("reason: idle"), std::string::npos) << text;
    EXPECT_NE(text.find("1 VNC client"), std::string::npos) << text;
    run(*runtime_, sdk_->sessions().hold(session.id, "test", std::chrono::hours(1), "", call()));
    run(*runtime_, sdk_->sessions().resume(session.id, call()));
    wait(session, SessionState::active);
    EXPECT_EQ(shell(session, "cat /run/kept"), "kept\n");
}

TEST_F(RealSession, ExpiresByItsTtl) {
    SessionRequest request;
    request.user_id = "alice";
    request.ttl = std::chrono::milliseconds(1);
    auto session = run(*runtime_, sdk_->sessions().create(request, call()));
    session = wait(session, SessionState::terminated);
    EXPECT_EQ(session.termination_reason, TerminationReason::ttl);
}

}  // namespace
}  // namespace infrastructure_sdk
