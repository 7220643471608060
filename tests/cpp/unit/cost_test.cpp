// The meter of a session: calendar, time, money.

#include <infrastructure_sdk/session/cost.hpp>

#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/session/session.hpp>

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;

WallTime at(const char* text) { return parse_rfc3339(text); }
Month month(const char* text) { return parse_month(text); }

Charge priced(std::int64_t micros) {
    Charge charge;
    charge.price_per_hour_micros = micros;
    return charge;
}

TEST(Cost, MonthsBeginAtMidnightUtc) {
    EXPECT_EQ(month_text(month_of(at("2026-11-30T23:59:59.999999999Z"))), "2026-11");
    EXPECT_EQ(month_text(month_of(at("2026-12-01T00:00:00Z"))), "2026-12");
    EXPECT_EQ(begin_of(month("2024-02") + std::chrono::months(1)) - begin_of(month("2024-02")), 29 * 24h);
    EXPECT_EQ(month("2026-12") + std::chrono::months(1), month("2027-01"));
}

TEST(Cost, AMonthIsReadExactlyOrRefused) {
    EXPECT_EQ(month_text(month("1999-01")), "1999-01");
    for (const char* text : {"", "2026", "2026-13", "2026-00", "2026-1", "2026-011", "26-11", "2026/11", "2026-11 ",
                             "-026-11", "abcd-ef"}) {
        try {
            parse_month(text, "charged");
            ADD_FAILURE() << "accepted: " << text;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation);
            EXPECT_EQ(error.context().at("field"), "charged");
        }
    }
}

TEST(Cost, IsPriceTimesTimeRoundedDown) {
    EXPECT_EQ(cost_of(500'000, 1h), 500'000);
    EXPECT_EQ(cost_of(500'000, 90min), 750'000);
    EXPECT_EQ(cost_of(1, 59min), 0);
    EXPECT_EQ(cost_of(333'333, 1s), 92) << "92.5925";
    EXPECT_EQ(cost_of(0, 1000h), 0);
    EXPECT_EQ(cost_of(99'999'999'999, 744h), 74'399'999'999'256) << "no overflow on the way";
}

TEST(Cost, ManySuspendsDoNotDrift) {
    auto charge = priced(333'333);
    auto now = at("2026-11-01T00:00:00Z");
    for (int i = 0; i < 1000; ++i) {
        meter(charge, SessionState::active, now);
        meter(charge, SessionState::suspended, now + 1s);
        now += 1min;
    }
    EXPECT_EQ(cost_in_month(charge, month("2026-11"), now), cost_of(333'333, 1000s));
    EXPECT_NE(cost_of(333'333, 1000s), 1000 * cost_of(333'333, 1s)) << "a sum of rounded amounts would be less";
}

TEST(Cost, IsSplitWhereTheMonthTurns) {
    auto charge = priced(1'000'000);
    meter(charge, SessionState::active, at("2026-11-30T20:00:00Z"));
    EXPECT_EQ(cost_in_month(charge, month("2026-11"), at("2026-12-01T02:00:00Z")), 4'000'000);
    EXPECT_EQ(cost_in_month(charge, month("2026-12"), at("2026-12-01T02:00:00Z")), 2'000'000);
    meter(charge, SessionState::suspended, at("2027-01-02T00:00:00Z"));
    EXPECT_FALSE(charge.since);
    EXPECT_EQ(charge.charged,
              (std::map<Month, Duration>{{month("2026-11"), 4h}, {month("2026-12"), 744h}, {month("2027-01"), 24h}}));
    EXPECT_EQ(cost_in_month(charge, month("2026-12"), WallTime::max()), 744'000'000);
    EXPECT_EQ(cost_in_month(charge, month("2027-02"), WallTime::max()), 0);
}

TEST(Cost, AClockThatIsSetBackStopsTheMeterUntilItIsWhereItWas) {
    auto charge = priced(1'000'000);
    meter(charge, SessionState::active, at("2026-11-10T10:00:00Z"));
    EXPECT_EQ(cost_in_month(charge, month("2026-11"), at("2026-11-10T08:00:00Z")), 0);
    EXPECT_EQ(cost_in_month(charge, month("2026-11"), at("2026-11-10T11:00:00Z")), 1'000'000);
    meter(charge, SessionState::suspended, at("2026-11-10T09:00:00Z"));
    EXPECT_TRUE(charge.charged.empty());
}

TEST(Cost, NothingIsMeteredWithoutAPriceOrTwice) {
    Charge free;
    meter(free, SessionState::active, at("2026-11-10T10:00:00Z"));
    EXPECT_EQ(free, Charge{});
    auto charge = priced(1'000'000);
    meter(charge, SessionState::suspended, at("2026-11-10T10:00:00Z"));
    EXPECT_EQ(charge, priced(1'000'000));
    meter(charge, SessionState::active, at("2026-11-10T10:00:00Z"));
    meter(charge, SessionState::active, at("2026-11-10T12:00:00Z"));
    EXPECT_EQ(charge.since, at("2026-11-10T10:00:00Z"));
}

TEST(Cost, CountsInEveryStateButRestingOnes) {
    const auto now = at("2026-11-10T10:00:00Z");
    for (const char* name : {"pending", "provisioning", "active", "suspending", "resuming"}) {
        auto charge = priced(1);
        meter(charge, parse_session_state(name), now);
        EXPECT_EQ(charge.since, now) << name;
        meter(charge, SessionState::terminating, now + 1h);
        EXPECT_EQ(charge.since, now) << "it costs until its end was seen, " << name;
    }
    for (const char* name : {"suspended", "failed", "terminated"}) {
        auto charge = priced(1);
        meter(charge, SessionState::active, now);
        meter(charge, parse_session_state(name), now + 1h);
        EXPECT_FALSE(charge.since) << name;
        meter(charge, SessionState::terminating, now + 2h);
        EXPECT_FALSE(charge.since) << "its end costs nothing, " << name;
    }
}

TEST(Cost, IsReservedUntilTheTtlThatEndsTheSession) {
    SessionClocks clocks;
    EXPECT_EQ(reserved_until(clocks), WallTime::max());
    clocks.ttl.deadline = at("2026-11-10T10:00:00Z");
    EXPECT_EQ(reserved_until(clocks), at("2026-11-10T10:00:00Z"));
    clocks.ttl.on_expiry = OnExpiry::suspend;
    EXPECT_EQ(reserved_until(clocks), at("2026-11-10T10:00:00Z"));
    clocks.ttl.on_expiry = OnExpiry::disconnect;
    EXPECT_EQ(reserved_until(clocks), WallTime::max()) << "the session runs on";
}

TEST(Cost, AMeterRoundTripsThroughASessionsRecord) {
    std::mt19937_64 random(3);
    for (int i = 0; i < 200; ++i) {
        Session session;
        session.charge.price_per_hour_micros = static_cast<std::int64_t>(random() >> 24);
        if (i % 2) session.charge.since = WallTime(Duration(static_cast<std::int64_t>(random() >> 2)));
        for (auto name = month("2026-10"); name < month("2026-10") + std::chrono::months(i % 4);
             name += std::chrono::months(1))
            session.charge.charged[name] = Duration(static_cast<std::int64_t>(random() >> 12));
        session.tenant = i % 3 ? "physics" : "";
        session.gpu_count = i % 5;
        session.gpu_type = i % 5 ? "a100" : "";
        auto text = nlohmann::json(session).dump();
        auto read = session_from_json(nlohmann::json::parse(text));
        EXPECT_EQ(read.charge, session.charge) << text;
        EXPECT_EQ(read.tenant, session.tenant);
        EXPECT_EQ(read.gpu_count, session.gpu_count);
        EXPECT_EQ(read.gpu_type, session.gpu_type);
    }
}

}  // namespace
}  // namespace infrastructure_sdk
