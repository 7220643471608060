// Limits, placement and health of real VMs.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include <sys/mount.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/async_tools.hpp"
#include "providers/qemu/control_groups.hpp"
#include "support/real_session.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string read_all(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

class RealLimits : public test::RealSession {
protected:
    void use_template(const std::string& yaml) {
        close();
        template_directory_ = (state_ / "templates").string();
        fs::create_directories(template_directory_);
        std::ofstream(fs::path(template_directory_) / "held.yaml") << "name: held\nextends: linux-tiny\n" << yaml;
        open();
    }
    std::string enforcer(const VmStatus& status, const std::string& resource) {
        for (const auto& limit : status.limits)
            if (limit.resource == resource) return limit.enforced_by;
        return "not there";
    }
    /// Of the controllers that this host offers.
    std::vector<std::string> own_groups() const {
        std::vector<std::string> folders;
        for (const auto& [controller, offer] : qemu::look_at_groups())
            if (offer.version != 0)
                folders.push_back(qemu::installation_group(offer.folder, qemu::installation_name(state_.string())));
        return folders;
    }
    /// Nobody but the test ends a session here.
    void end(const Session& session) {
        run(*runtime_, sdk_->sessions().terminate(session.id, TerminationReason::request, call()));
        wait(session, SessionState::terminated);
    }
};

TEST_F(RealLimits, HoldAVmAreShownAndGoWithIt) {
    const bool pins = ::sysconf(_SC_NPROCESSORS_ONLN) > 1;
    use_template("disk_iops: 500\ndisk_bandwidth: 50Mi\nnetwork_bandwidth: 1Mi\nwatchdog: true\n" +
                 std::string(pins ? "pin_cpus: true\n" : ""));
    auto session = start("held");
    auto status = vm(session);
    for (const char* resource : {"disk", "disk_iops", "disk_bandwidth"}) EXPECT_EQ(enforcer(status, resource), "qemu");
    EXPECT_EQ(enforcer(status, "network_bandwidth"), "") << "what is not held is not said to be";
    const auto groups = read_all("/proc/" + std::to_string(status.process->pid) + "/cgroup");
    auto report = run(*runtime_, sdk_->validate_isolation(session.id, {}, call()));
    auto finding = [&](const std::string& id) {
        for (const auto& each : report.findings)
            if (each.check().id == id) return std::string(name_of(each.status())) + ": " + each.reason();
        return std::string("not there");
    };
    for (const auto& [resource, check] :
         {std::pair("cpu", "CMP-04"), std::pair("processes", "CMP-05"), std::pair("memory", "MEM-04")}) {
        if (enforcer(status, resource).empty()) continue;
        EXPECT_THAT(groups, HasSubstr(status.id.value)) << resource;
        EXPECT_THAT(finding(check), testing::StartsWith("pass"));
    }
    if (pins) {
        ASSERT_EQ(status.host_cpus.size(), 1u);
        EXPECT_THAT(shell(session, "nproc"), "1\n");
        SessionRequest another;
        another.user_id = "bob";
        another.template_name = "held";
        another.resources.cpu = Quantity::from_units(::sysconf(_SC_NPROCESSORS_ONLN));
        EXPECT_EQ(errc_of(sdk_->sessions().create(another, call())), Errc::capacity);
        EXPECT_EQ(last_context_["field"], "pin_cpus");
    }
    // A disk below a filter is copied like any other.
    auto copy = run(*runtime_, sdk_->sessions().snapshot(session.id, "a name", call()));
    run(*runtime_, sdk_->sessions().delete_snapshot(copy.id, call()));
    run(*runtime_, sdk_->sessions().suspend(session.id, call()));
    wait(session, SessionState::suspended);
    for (const auto& folder : own_groups()) EXPECT_FALSE(fs::exists(folder)) << "a VM that does not run has no group";
    run(*runtime_, sdk_->sessions().resume(session.id, call()));
    wait(session, SessionState::active);
    EXPECT_EQ(vm(session).limits, status.limits);
    // The next owner sees and ends the same.
    close();
    open();
    EXPECT_EQ(vm(session).limits, status.limits);
    EXPECT_EQ(vm(session).host_cpus, status.host_cpus);
    end(session);
    for (const auto& folder : own_groups()) EXPECT_FALSE(fs::exists(folder)) << folder;
}

TEST_F(RealLimits, RefuseWhatTheHostHasNoMemoryFor) {
    SessionRequest request;
    request.user_id = "alice";
    const auto all = static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
    request.resources.memory = Quantity::from_units(all >> 20 << 20);
    EXPECT_EQ(errc_of(sdk_->sessions().create(request, call())), Errc::capacity);
    EXPECT_EQ(last_context_["reason"], "HostMemoryPressure");
    EXPECT_THAT(last_error_, HasSubstr("suspend or end sessions"));
    request.resources.memory.reset();
    request.resources.gpu_count = 1;
    EXPECT_EQ(errc_of(sdk_->sessions().create(request, call())), Errc::unsupported);
    EXPECT_THAT(last_error_, HasSubstr("has no GPUs on this host: ")) << "and says why";
}

TEST_F(RealLimits, AGuestThatPanicsIsLostWithThatReasonAndComesBack) {
    use_template("restart: {policy: on_failure, max_attempts: 1, backoff: 1s}\n");
    auto session = start("held");
    auto ruin = [](InfrastructureSDK* sdk, std::string id, std::string command, Call within) -> Task<void> {
        ExecRequest request;
        request.arguments = {"sh", "-c", command};
        try {
            co_await sdk->sessions().exec(id, request, within);
        } catch (const Error&) {
            // It is gone before it answers.
        }
    };
    // A kernel without a driver of the panic device reboots.
    run(*runtime_, ruin(sdk_.get(), session.id, "echo c > /proc/sysrq-trigger", call()));
    auto failed = wait(session, SessionState::failed);
    EXPECT_EQ(failed.failure_reason, "GuestRebooted");
    ASSERT_TRUE(failed.restart.next_at);
    auto back = wait(session, SessionState::active);
    EXPECT_NE(back.execution_id, session.execution_id);
    EXPECT_EQ(back.restart.attempts, 1u);
}

/// The state directory is a file system of its own, which can be filled.
class SmallDisk : public RealLimits {
protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
        RealLimits::SetUp();
        close();
        ASSERT_EQ(::mount("tmpfs", state_.c_str(), "tmpfs", 0, "size=128m,mode=711"), 0);
        open();
    }
    void TearDown() override {
        if (state_.empty()) return;
        SessionFilter all;
        for (const auto& session : run(*runtime_, sdk_->sessions().list(all)).sessions) end(session);
        close();
        EXPECT_EQ(::umount(state_.c_str()), 0);
        RealLimits::TearDown();
    }
};

TEST_F(SmallDisk, WhenFullStopsTheGuestUnharmedUntilThereIsSpace) {
    auto session = start();
    auto ballast = state_ / "ballast";
    std::ofstream(ballast) << std::string(104u << 20, 'x');
    ExecRequest request;
    request.arguments = {
        "sh", "-c",
        "dd if=/dev/urandom of=/tmp/content bs=1M count=24 2>/dev/null; cp /tmp/content /data/content && "
        "sync && echo 3 > /proc/sys/vm/drop_caches; cmp /tmp/content /data/content && echo same"};
    auto process = run(*runtime_, sdk_->sessions().exec_start(session.id, request, call()));
    auto until_paused = [](InfrastructureSDK* sdk, std::string id, Clock* clock, Call within) -> Task<void> {
        for (;;) {
            auto status = co_await sdk->sessions().inspect_vm(id, within);
            if (status.state == VmState::paused) co_return;
            check(within, *clock, "waiting for the guest to be stopped");
            co_await clock->sleep_until(clock->monotonic_now() + std::chrono::milliseconds(50), within.stop);
        }
    };
    run(*runtime_, until_paused(sdk_.get(), session.id, runtime_->environment().clock.get(), call()));
    EXPECT_EQ(run(*runtime_, sdk_->sessions().get(session.id)).state, SessionState::active) << "it is not lost";
    fs::remove(ballast);
    // The store lies on the same disk: both are written when there is space, in their order.
    EXPECT_THAT(next(session, "session.health.degraded").data, HasSubstr("DiskFull"));
    next(session, "session.health.recovered");
    std::string printed;
    for (bool done = false; !done;) {
        auto progress = run(*runtime_, sdk_->sessions().exec_follow(session.id, process, call()));
        printed += progress.stdout_data;
        done = progress.exit_code.has_value();
    }
    run(*runtime_, sdk_->sessions().exec_close(session.id, process, call()));
    EXPECT_EQ(printed, "same\n") << "no write was lost, no error was seen";
}

}  // namespace
}  // namespace infrastructure_sdk
