// The ledger by itself: changes under way, given up and carried out, while time goes on.

#include "session/reservation_ledger.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/seeded_random.hpp"
#include "support/print_limits.hpp"

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;
using S = LimitScope;
using R = LimitResource;

constexpr std::int64_t much = 1'000'000'000'000;

std::vector<Limit> everything_within(std::int64_t month_of_alice) {
    std::vector<Limit> limits{{S::user, "alice", R::money_per_month, month_of_alice}};
    for (auto resource : {R::sessions, R::cpu, R::gpu, R::money_per_hour, R::money_per_month}) {
        limits.push_back({S::host, "", resource, much});
        for (auto scope : {S::user, S::tenant, S::template_}) limits.push_back({scope, "*", resource, much});
    }
    return limits;
}

Session session_of(const std::string& id, const std::string& user, WallTime now, Duration ttl) {
    Session session;
    session.id = id;
    session.user_id = user;
    session.tenant = "physics";
    session.template_name = "paid";
    session.cpu = Quantity::from_milli(1000);
    session.created_at = now;
    session.charge.price_per_hour_micros = 333'333;
    session.clocks.ttl.deadline = now + ttl;
    return session;
}

TEST(ReservationLedger, ARowSaysWhoseItIsAndWhatItHolds) {
    ReservationLedger ledger({}, "USD", {{"a100", 2}});
    const auto now = parse_rfc3339("2026-11-10T00:00:00Z");
    auto session = session_of("s-1", "alice", now, 3h);
    session.gpu_count = 2;
    session.gpu_type = "a100";
    Batch batch;
    // The clock goes on while it is made.
    ledger.change(session, batch, false, now + 1us)->committed();
    ASSERT_EQ(batch.puts.size(), 1u);
    auto row = nlohmann::json::parse(batch.puts[0].json);
    EXPECT_EQ(row["tenant"], "physics");
    EXPECT_EQ(row["gpu_type"], "a100");
    EXPECT_EQ(row["amounts"]["gpu"], 2);
    EXPECT_EQ(row["amounts"]["money_per_hour"], "0.333333");
    EXPECT_EQ(row["amounts"]["money_per_month"], "0.999999");
    EXPECT_EQ(session.charge.since, now) << "the meter is part of the record that is written with it";
}

TEST(ReservationLedger, PutsNoRowInWordsThatNobodyReads) {
    const auto now = parse_rfc3339("2026-11-10T00:00:00Z");
    for (bool keeps_rows : {true, false}) {
        ReservationLedger ledger({}, "USD", {}, keeps_rows);
        auto session = session_of("s-1", "alice", now, 3h);
        Batch batch;
        ledger.change(session, batch, false, now)->committed();
        ASSERT_EQ(batch.puts.size(), 1u) << "the record is there all the same";
        EXPECT_EQ(batch.puts[0].id, "s-1");
        EXPECT_EQ(batch.puts[0].json.empty(), !keeps_rows);
    }
}

TEST(ReservationLedger, AFailedSessionThatMayBeAliveHoldsItsMemoryButCostsNothing) {
    auto session = session_of("s-1", "alice", WallTime{}, 1h);
    meter(session.charge, session.state, WallTime{});
    EXPECT_EQ(reservation_of(session).amounts.money_per_hour_micros, 333'333);
    session.state = SessionState::failed;
    meter(session.charge, session.state, WallTime{} + 1h);
    EXPECT_EQ(reservation_of(session, true).amounts.cpu_milli, 1000);
    EXPECT_EQ(reservation_of(session, true).amounts.money_per_hour_micros, 0);
    EXPECT_EQ(reservation_of(session, false).amounts.cpu_milli, 0);
}

/// Sessions as they were last written, and a change that is not yet.
class Crowd {
public:
    explicit Crowd(std::uint64_t seed)
        : random_(seed), limits_(everything_within(200'000'000)), ledger_(limits_, "USD", {{"a100", 4}}) {}

    void step() {
        auto session = pick();
        Batch batch;
        std::unique_ptr<ReservationLedger::Change> change;
        try {
            change = ledger_.change(session, batch, false, now_);
        } catch (const Error& error) {
            ++denied;
            return;
        }
        pass_time();
        if (random_.below(3) == 0) {
            change.reset();
            ++given_up;
            return;
        }
        change->committed();
        written_[session.id] = session;
    }

    /// A new owner's ledger, from what was written.
    void expect_as_from_scratch() {
        ReservationLedger fresh(limits_, "USD", {{"a100", 4}});
        for (const auto& [id, session] : written_) fresh.restore(session, false, now_);
        EXPECT_EQ(ledger_.usage(now_), fresh.usage(now_)) << to_rfc3339(now_);
    }

    int denied = 0;
    int given_up = 0;

private:
    Session pick() {
        auto id = "s-" + std::to_string(random_.below(40) + 40 * lives_);
        auto found = written_.find(id);
        if (found == written_.end()) {
            auto session = session_of(id, random_.below(2) ? "alice" : "bob", now_, 1h * (1 + random_.below(400)));
            if (random_.below(3) == 0) {
                session.gpu_count = 1;
                session.gpu_type = "a100";
            }
            return session;
        }
        auto session = found->second;
        if (session.state == SessionState::terminated) {
            // Nothing changes it any more.
            ++lives_;
            return pick();
        }
        constexpr SessionState next[] = {SessionState::active, SessionState::suspended, SessionState::failed,
                                         SessionState::terminated, SessionState::active};
        session.state = next[random_.below(5)];
        if (random_.below(4) == 0) *session.clocks.ttl.deadline += 24h;
        return session;
    }
    void pass_time() {
        // Days ahead or, now and then, back over the turn of a month.
        now_ += random_.below(6) == 0 ? -1min * random_.below(4000) : 1min * random_.below(6000);
        ledger_.usage(now_);
    }

    SeededRandom random_;
    std::vector<Limit> limits_;
    ReservationLedger ledger_;
    std::map<std::string, Session> written_;
    std::size_t lives_ = 0;
    WallTime now_ = parse_rfc3339("2026-11-10T00:00:00Z");
};

TEST(ReservationLedger, IsWhatANewOwnerWouldCountWhateverWasGivenUpOrTurnedMeanwhile) {
    int denied = 0, given_up = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Crowd crowd(seed);
        for (int i = 0; i < 150; ++i) {
            crowd.step();
            ASSERT_NO_FATAL_FAILURE(crowd.expect_as_from_scratch());
            if (::testing::Test::HasFailure()) return;
        }
        denied += crowd.denied;
        given_up += crowd.given_up;
    }
    EXPECT_GT(denied, 100);
    EXPECT_GT(given_up, 1000);
}

}  // namespace
}  // namespace infrastructure_sdk
