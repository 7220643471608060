// When a session that lost its VM is started again.

#include "session/restart.hpp"

#include <gtest/gtest.h>

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;

RestartRule rule() { return {RestartPolicy::on_failure, 3, 10s, 10min}; }
Loss lost(unsigned attempts = 0) { return {SessionState::active, "ProcessKilled", attempts, 1min}; }
Loss attempt_failed(unsigned attempts) { return {SessionState::provisioning, "ChannelNotReady", attempts, 0s}; }

TEST(Restart, NeverByDefault) {
    auto verdict = plan_restart(RestartRule{}, lost(), 0);
    EXPECT_FALSE(verdict.again);
    EXPECT_EQ(verdict.why_not, "");
}

TEST(Restart, ComesForAKilledProcessAPanicAndAVmThatWasGone) {
    for (const char* reason : {"ProcessKilled", "GuestPanicked", "VmLost"}) {
        auto verdict = plan_restart(rule(), {SessionState::active, reason, 0, 0s}, 0);
        EXPECT_TRUE(verdict.again) << reason;
        EXPECT_EQ(verdict.attempt, 1u);
        EXPECT_EQ(verdict.delay, 10s);
    }
}

TEST(Restart, DoesNotComeForAGuestThatShutItselfDownNorForAFirstStart) {
    EXPECT_FALSE(plan_restart(rule(), {SessionState::active, "GuestShutdown", 0, 0s}, 0).again);
    for (const char* reason : {"GuestHung", "MemoryLimitReached", "GuestRebooted"})
        EXPECT_TRUE(plan_restart(rule(), {SessionState::active, reason, 0, 0s}, 0).again) << reason;
    EXPECT_FALSE(plan_restart(rule(), {SessionState::provisioning, "ChannelNotReady", 0, 0s}, 0).again);
    EXPECT_FALSE(plan_restart(rule(), {SessionState::suspending, "ProcessKilled", 0, 0s}, 0).again);
    EXPECT_FALSE(plan_restart(rule(), {SessionState::resuming, "MemoryFileCorrupted", 1, 0s}, 0).again);
    EXPECT_FALSE(plan_restart(rule(), {SessionState::terminating, "StillThere", 1, 0s}, 0).again);
}

TEST(Restart, WaitsTwiceAsLongEachTimeAndThenStaysFailed) {
    EXPECT_EQ(plan_restart(rule(), lost(0), 0).delay, 10s);
    EXPECT_EQ(plan_restart(rule(), attempt_failed(1), 0).delay, 20s);
    EXPECT_EQ(plan_restart(rule(), attempt_failed(2), 0).delay, 40s);
    auto last = plan_restart(rule(), attempt_failed(3), 0);
    EXPECT_FALSE(last.again);
    EXPECT_EQ(last.why_not, "AttemptsUsedUp");
}

TEST(Restart, CountsADeniedAttempt) {
    auto verdict = plan_restart(rule(), {SessionState::failed, "Denied", 2, 0s}, 0);
    EXPECT_TRUE(verdict.again);
    EXPECT_EQ(verdict.attempt, 3u);
}

TEST(Restart, ForgetsAttemptsOfASessionThatWasStable) {
    Loss loss = lost(3);
    loss.active_for = 10min - 1ns;
    EXPECT_FALSE(plan_restart(rule(), loss, 0).again);
    loss.active_for = 10min;
    auto verdict = plan_restart(rule(), loss, 0);
    EXPECT_TRUE(verdict.again);
    EXPECT_EQ(verdict.attempt, 1u);
}

TEST(Restart, DoesNotRepeatWhatAnotherAttemptWouldMeetToo) {
    for (const char* reason : {"ImageReplaced", "TemplateMissing", "IsolationFailed", "SnapshotMissing"})
        EXPECT_FALSE(plan_restart(rule(), {SessionState::provisioning, reason, 1, 0s}, 0).again) << reason;
}

TEST(Restart, NeverWaitsLongerThanItsBoundsWhateverTheNumbers) {
    for (Duration backoff : {Duration(1s), Duration(4min), Duration(1h)})
        for (unsigned attempts = 1; attempts < 100; ++attempts)
            for (std::uint32_t random : {0u, 1u, 1000u, 1001u, 0xffffffffu}) {
                RestartRule patient{RestartPolicy::on_failure, 100, backoff, 1h};
                auto verdict = plan_restart(patient, attempt_failed(attempts), random);
                ASSERT_TRUE(verdict.again);
                auto most = std::max<Duration>(backoff, 5min);
                EXPECT_GE(verdict.delay, std::min<Duration>(backoff, most));
                EXPECT_LE(verdict.delay, most + most / 4);
            }
}

TEST(Restart, SpreadsByAQuarter) {
    EXPECT_EQ(plan_restart(rule(), lost(), 1000).delay, 12500ms);
    EXPECT_EQ(plan_restart(rule(), lost(), 500).delay, 11250ms);
}

}  // namespace
}  // namespace infrastructure_sdk
