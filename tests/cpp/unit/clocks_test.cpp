#include "session/clock_rules.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "session/activity_json.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {
using namespace std::chrono_literals;
using nlohmann::json;
using S = SessionState;

const WallTime start = parse_rfc3339("2026-03-02T09:00:00Z");

/// Every clock is set and the session is active.
SessionClocks all_clocks() {
    SessionClocks clocks;
    clocks.ttl.limit = 8h;
    clocks.idle_timeout.limit = 15min;
    clocks.disconnect_timeout.limit = 10min;
    clocks.retention.limit = 24h;
    clocks.maximum_ttl = 24h;
    check(clocks);
    clocks = start_clocks(clocks, start);
    note_active(clocks, start + 1min);
    return clocks;
}

/// "ttl suspend +60; ..." minutes from the start.
std::string shown(const std::vector<ClockDeadline>& list) {
    std::string text;
    for (const auto& item : list)
        text += std::string(text.empty() ? "" : "; ") + name_of(item.clock) + " " + name_of(item.action) + " +" +
                std::to_string(std::chrono::duration_cast<std::chrono::minutes>(item.at - start).count());
    return text;
}

std::string refused(const SessionClocks& clocks) {
    try {
        check(clocks);
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::validation);
        return error.context().at("field");
    }
    return "";
}

TEST(SessionClocks, EachStateHasItsOwn) {
    auto clocks = all_clocks();
    note_clients(clocks, true, start + 2min);
    note_clients(clocks, false, start + 3min);
    const struct {
        S state;
        const char* expected;
    } active[] = {
        {S::pending, "ttl terminate +480"},
        {S::provisioning, "ttl terminate +480"},
        {S::active, "disconnect_timeout suspend +13; idle_timeout suspend +16; ttl terminate +480"},
        {S::suspending, "ttl terminate +480"},
        {S::resuming, "ttl terminate +480"},
        {S::failed, "ttl terminate +480"},
        {S::terminating, ""},
        {S::terminated, ""},
    };
    for (const auto& row : active) EXPECT_EQ(shown(deadlines(clocks, row.state)), row.expected) << name_of(row.state);
    note_suspended(clocks, start + 20min);
    EXPECT_EQ(shown(deadlines(clocks, S::suspended)), "ttl terminate +480; retention terminate +1460");
    note_active(clocks, start + 60min);
    EXPECT_EQ(shown(deadlines(clocks, S::active)), "idle_timeout suspend +75; ttl terminate +480");
}

TEST(SessionClocks, AClockWithoutALimitDoesNotRun) {
    SessionClocks clocks = start_clocks({}, start);
    note_active(clocks, start);
    note_clients(clocks, true, start);
    note_clients(clocks, false, start);
    EXPECT_TRUE(deadlines(clocks, S::active).empty());
    note_suspended(clocks, start);
    EXPECT_TRUE(deadlines(clocks, S::suspended).empty());
}

TEST(SessionClocks, TouchMovesTheIdleClockOnlyAndNeverBack) {
    auto clocks = all_clocks();
    note_clients(clocks, true, start + 1min);
    note_clients(clocks, false, start + 2min);
    note_activity(clocks, start + 10min);
    EXPECT_EQ(shown(deadlines(clocks, S::active)),
              "disconnect_timeout suspend +12; idle_timeout suspend +25; ttl terminate +480");
    auto moved = clocks;
    note_activity(moved, start + 5min);
    EXPECT_EQ(moved, clocks);
}

TEST(SessionClocks, TouchDoesNothingToASuspendedSession) {
    auto clocks = all_clocks();
    note_suspended(clocks, start + 5min);
    auto before = clocks;
    note_activity(clocks, start + 6min);
    EXPECT_EQ(clocks, before);
}

TEST(SessionClocks, TheDisconnectClockRunsFromTheLastClientOn) {
    auto clocks = all_clocks();
    note_clients(clocks, false, start + 5min);
    EXPECT_FALSE(clocks.disconnect_timeout.deadline) << "nobody came yet";
    note_clients(clocks, true, start + 6min);
    note_clients(clocks, false, start + 8min);
    note_clients(clocks, false, start + 9min);
    EXPECT_EQ(clocks.disconnect_timeout.deadline, start + 18min) << "seen gone twice, gone once";
    note_clients(clocks, true, start + 17min);
    EXPECT_FALSE(clocks.disconnect_timeout.deadline);
}

TEST(SessionClocks, ExtendMovesTheTtlUpToTheMaximum) {
    auto clocks = all_clocks();
    extend(clocks, 2h, start + 1h);
    EXPECT_EQ(clocks.ttl.deadline, start + 10h);
    extend(clocks, 14h, start + 1h);
    EXPECT_EQ(clocks.ttl.deadline, start + 24h);
    for (auto by : {Duration(1min), Duration(0), Duration(-1h), Duration::max()}) {
        try {
            extend(clocks, by, start + 1h);
            ADD_FAILURE() << by.count();
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation);
            EXPECT_EQ(error.context().at("field"), "by");
        }
    }
    EXPECT_EQ(clocks.ttl.deadline, start + 24h);
}

TEST(SessionClocks, ATtlThatHasPassedIsExtendedFromNow) {
    auto clocks = all_clocks();
    clocks.ttl.on_expiry = OnExpiry::suspend;
    extend(clocks, 1h, start + 12h);
    EXPECT_EQ(clocks.ttl.deadline, start + 13h);
}

TEST(SessionClocks, ExtendGivesNoTtlToASessionWithoutOne) {
    SessionClocks clocks = start_clocks({}, start);
    extend(clocks, 1h, start);
    EXPECT_FALSE(clocks.ttl.deadline);
}

TEST(SessionClocks, ADisconnectActsOnceUntilItsDeadlineMoves) {
    auto clocks = all_clocks();
    clocks.ttl.on_expiry = clocks.idle_timeout.on_expiry = OnExpiry::disconnect;
    note_disconnected(clocks, ClockKind::idle_timeout);
    note_activity(clocks, start + 1min);  // the same quiet window, looked at again
    EXPECT_EQ(shown(deadlines(clocks, S::active)), "ttl disconnect +480");
    note_activity(clocks, start + 20min);
    EXPECT_EQ(shown(deadlines(clocks, S::active)), "idle_timeout disconnect +35; ttl disconnect +480");
    note_disconnected(clocks, ClockKind::ttl);
    EXPECT_EQ(shown(deadlines(clocks, S::active)), "idle_timeout disconnect +35");
    extend(clocks, 1h, start + 8h);
    EXPECT_EQ(shown(deadlines(clocks, S::active)), "idle_timeout disconnect +35; ttl disconnect +540");
}

TEST(SessionClocks, ActionsThatChangeNothingAreNotListed) {
    auto clocks = all_clocks();
    clocks.ttl.on_expiry = OnExpiry::suspend;
    note_suspended(clocks, start + 20min);
    EXPECT_EQ(shown(deadlines(clocks, S::suspended)), "retention terminate +1460");
    EXPECT_EQ(shown(deadlines(clocks, S::failed)), "");
}

TEST(SessionClocks, AtTheSameTimeTheStrongerActionComesFirst) {
    auto clocks = all_clocks();
    clocks.ttl.deadline = clocks.idle_timeout.deadline;
    EXPECT_EQ(shown(deadlines(clocks, S::active)), "ttl terminate +16; idle_timeout suspend +16");
}

TEST(SessionClocks, OnlyFirmDeadlinesExpire) {
    auto clocks = all_clocks();
    EXPECT_FALSE(expired(clocks, S::active, start + 7h)) << "idle acts on a verdict";
    EXPECT_FALSE(expired(clocks, S::active, start + 8h - 1ns));
    auto due = expired(clocks, S::active, start + 8h);
    ASSERT_TRUE(due);
    EXPECT_EQ(due->clock, ClockKind::ttl);
    EXPECT_EQ(reason_of(due->clock), TerminationReason::ttl);
    EXPECT_FALSE(expired(clocks, S::terminating, start + 9h));
}

TEST(SessionClocks, EachWarningComesOnce) {
    auto clocks = all_clocks();
    int count = 0;
    for (auto now = start; now < start + 8h; now += 60s) {
        auto list = warnings(clocks, S::active, now, now + 60s);
        count += static_cast<int>(list.size());
        for (const auto& warning : list) EXPECT_EQ(warning.warn_at, start + 8h - 5min);
    }
    EXPECT_EQ(count, 1);
    extend(clocks, 1h, start + 8h - 2min);
    EXPECT_EQ(warnings(clocks, S::active, start + 8h, start + 9h).size(), 1u) << "the new deadline has its own";
}

TEST(SessionClocks, AShortClockWarnsHalfWay) {
    auto clocks = all_clocks();
    clocks.disconnect_timeout.limit = 4min;
    note_clients(clocks, true, start + 1min);
    note_clients(clocks, false, start + 2min);
    EXPECT_EQ(deadlines(clocks, S::active).front().warn_at, start + 4min);
}

TEST(SessionClocks, RulesThatCannotBeCarriedOutAreRefused) {
    auto with = [](auto change) {
        auto clocks = all_clocks();
        change(clocks);
        return refused(clocks);
    };
    EXPECT_EQ(with([](SessionClocks&) {}), "");
    EXPECT_EQ(with([](SessionClocks& c) { c.ttl.limit = 0s; }), "ttl");
    EXPECT_EQ(with([](SessionClocks& c) { c.ttl.limit = 25h; }), "ttl");
    EXPECT_EQ(with([](SessionClocks& c) { c.idle_timeout.limit = Duration::max(); }), "idle_timeout");
    EXPECT_EQ(with([](SessionClocks& c) { c.warn_before = -1s; }), "warn_before");
    EXPECT_EQ(with([](SessionClocks& c) { c.disconnect_timeout.on_expiry = OnExpiry::disconnect; }),
              "disconnect_timeout.on_expiry");
    EXPECT_EQ(with([](SessionClocks& c) { c.retention.on_expiry = OnExpiry::suspend; }), "retention.on_expiry");
}

TEST(SessionClocks, RoundTripThroughJson) {
    auto clocks = all_clocks();
    note_clients(clocks, true, start + 1min);
    note_disconnected(clocks, ClockKind::idle_timeout);
    clocks.retention.limit.reset();
    EXPECT_EQ(session_clocks_from_json(json::parse(json(clocks).dump())), clocks);
    auto broken = json(clocks);
    broken.erase("ttl");
    EXPECT_THROW(session_clocks_from_json(broken), Error);
    EXPECT_THROW(parse_on_expiry("pause"), Error);
}

}  // namespace
}  // namespace infrastructure_sdk
