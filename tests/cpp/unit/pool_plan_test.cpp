// What a warm pool does next: values in, actions out.

#include "session/pool_plan.hpp"

#include <gtest/gtest.h>

#include <set>

#include "core/seeded_random.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {
using namespace std::chrono_literals;

/// A Monday.
const WallTime start = parse_rfc3339("2026-03-02T09:00:00Z");

Pool pool_of(std::size_t min, std::size_t max) {
    Pool pool;
    pool.name = "desks";
    pool.template_name = "tiny";
    pool.min = min;
    pool.max = max;
    pool.max_age = 100min;
    return pool;
}

PoolUnit unit(const std::string& id, UnitState state, Duration age = 0s) {
    PoolUnit result;
    result.id = id;
    result.state = state;
    if (state == UnitState::ready) result.ready_at = start - age;
    return result;
}

PoolSituation with(std::vector<PoolUnit> units, std::size_t free_boots = 10) {
    PoolSituation situation;
    situation.units = std::move(units);
    situation.now = start;
    situation.free_boots = free_boots;
    return situation;
}

/// "start x2; expired a; excess b"
std::string shown(const PoolPlan& plan) {
    std::string text;
    std::size_t starts = 0;
    for (const auto& action : plan.actions) {
        if (action.kind == PoolAction::Kind::start) ++starts;
        else text += (text.empty() ? "" : "; ") + action.reason + " " + action.unit;
    }
    if (starts) text += (text.empty() ? "" : "; ") + ("start x" + std::to_string(starts));
    return text;
}

std::string plan(const Pool& pool, const PoolSituation& situation) { return shown(plan_pool(pool, situation)); }

TEST(PoolPlan, FillsUpToItsMinAsFarAsItMayBoot) {
    EXPECT_EQ(plan(pool_of(3, 5), with({})), "start x3");
    EXPECT_EQ(plan(pool_of(3, 5), with({}, 1)), "start x1");
    EXPECT_EQ(plan(pool_of(3, 5), with({}, 0)), "");
    EXPECT_EQ(plan(pool_of(3, 5), with({unit("a", UnitState::ready), unit("b", UnitState::booting)})), "start x1");
    EXPECT_EQ(plan(pool_of(0, 5), with({})), "");
}

TEST(PoolPlan, UnitsThatAreRemovedDoNotCountAsThere) {
    EXPECT_EQ(plan(pool_of(1, 1), with({unit("a", UnitState::discarding)})), "start x1");
}

TEST(PoolPlan, NeverHasMoreThanItsMax) {
    auto pool = pool_of(2, 2);
    EXPECT_EQ(plan(pool, with({unit("a", UnitState::ready, 95min), unit("b", UnitState::ready, 95min)})), "")
        << "both are due, but there is no room for others beside them";
    pool.max = 3;
    EXPECT_EQ(plan(pool, with({unit("a", UnitState::ready, 95min), unit("b", UnitState::ready, 95min)})), "start x1");
}

TEST(PoolPlan, RenewsAUnitBeforeItIsTooOldAndKeepsItUntilTheNewOneIsReady) {
    auto pool = pool_of(1, 2);
    auto old = unit("old", UnitState::ready, 91min);
    EXPECT_EQ(plan(pool, with({unit("young", UnitState::ready, 89min)})), "");
    EXPECT_EQ(plan(pool, with({old})), "start x1");
    EXPECT_EQ(plan(pool, with({old, unit("new", UnitState::booting)})), "");
    EXPECT_EQ(plan(pool, with({old, unit("new", UnitState::ready)})), "expired old");
    EXPECT_EQ(plan(pool, with({unit("old", UnitState::ready, 100min)})), "expired old; start x1");
}

TEST(PoolPlan, WakesWhenAUnitIsDue) {
    auto pool = pool_of(1, 2);
    EXPECT_EQ(plan_pool(pool, with({unit("a", UnitState::ready, 10min)})).next, start + 80min);
    EXPECT_EQ(plan_pool(pool, with({unit("a", UnitState::ready, 95min), unit("b", UnitState::booting)})).next,
              start + 5min);
}

TEST(PoolPlan, GivesUpWhatIsMoreThanWantedOldestFirst) {
    auto situation =
        with({unit("b", UnitState::ready, 2min), unit("a", UnitState::ready, 3min), unit("c", UnitState::ready, 1min)});
    EXPECT_EQ(plan(pool_of(1, 5), situation), "excess a; excess b");
    situation.asked = 2;
    EXPECT_EQ(plan(pool_of(1, 5), situation), "excess a");
    situation.asked = 9;
    EXPECT_EQ(plan(pool_of(1, 5), situation), "start x2") << "no more than max";
}

TEST(PoolPlan, ADrainedPoolLetsGoOfEverything) {
    auto situation =
        with({unit("a", UnitState::ready), unit("b", UnitState::booting), unit("c", UnitState::discarding)});
    situation.drained = true;
    situation.asked = 3;
    auto plan = plan_pool(pool_of(2, 5), situation);
    EXPECT_EQ(shown(plan), "drained a; drained b");
    EXPECT_EQ(plan.wanted, 0u);
}

TEST(PoolPlan, WaitsAfterAFailedBoot) {
    auto situation = with({});
    situation.not_before = start + 5s;
    EXPECT_EQ(plan(pool_of(1, 1), situation), "");
    EXPECT_EQ(plan_pool(pool_of(1, 1), situation).next, start + 5s);
    situation.now = start + 5s;
    EXPECT_EQ(plan(pool_of(1, 1), situation), "start x1");
    EXPECT_EQ(boot_backoff(0), 0s);
    EXPECT_EQ(boot_backoff(1), 5s);
    EXPECT_EQ(boot_backoff(3), 20s);
    EXPECT_EQ(boot_backoff(1000), 5min);
}

TEST(PoolPlan, FollowsItsSchedule) {
    auto pool = pool_of(1, 9);
    pool.schedule = {{{0, 1, 2, 3, 4}, 8 * 60, 18 * 60, 4}, {{}, 22 * 60, 2 * 60, 2}, {{4}, 12 * 60, 24 * 60, 6}};
    const struct {
        const char* time;
        std::size_t min;
        const char* next;
    } rows[] = {
        {"2026-03-02T07:59:59Z", 1, "2026-03-02T08:00:00Z"},  // Monday
        {"2026-03-02T08:00:00Z", 4, "2026-03-02T18:00:00Z"},
        {"2026-03-02T18:00:00Z", 1, "2026-03-02T22:00:00Z"},
        {"2026-03-02T23:00:00Z", 2, "2026-03-03T02:00:00Z"},
        {"2026-03-03T01:59:00Z", 2, "2026-03-03T02:00:00Z"},
        {"2026-03-06T13:00:00Z", 6, "2026-03-06T18:00:00Z"},  // Friday: two windows at once
        {"2026-03-06T23:00:00Z", 6, "2026-03-07T00:00:00Z"},
        {"2026-03-07T09:00:00Z", 1, "2026-03-07T22:00:00Z"},  // Saturday
    };
    for (const auto& row : rows) {
        auto now = parse_rfc3339(row.time);
        EXPECT_EQ(scheduled_min(pool, now), row.min) << row.time;
        EXPECT_EQ(next_boundary(pool, now), parse_rfc3339(row.next)) << row.time;
    }
    EXPECT_EQ(next_boundary(pool_of(1, 1), start), std::nullopt);
    auto weekly = pool_of(0, 1);
    weekly.schedule = {{{0}, 0, 60, 1}};
    EXPECT_EQ(next_boundary(weekly, parse_rfc3339("2026-03-02T01:00:00Z")), parse_rfc3339("2026-03-09T00:00:00Z"));
}

TEST(PoolPlan, AWindowMayWantFewerThanUsual) {
    auto pool = pool_of(3, 3);
    pool.schedule = {{{}, 8 * 60, 10 * 60, 0}};
    EXPECT_EQ(plan(pool, with({unit("a", UnitState::ready)})), "excess a");
}

TEST(PoolPlan, IsSteadyWhateverTheUnitsAre) {
    for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
        SeededRandom random(seed);
        auto pool = pool_of(random.below(5), 0);
        pool.max = pool.min + random.below(4);
        std::vector<PoolUnit> units;
        for (std::size_t i = random.below(8); i > 0; --i)
            units.push_back(unit(std::to_string(i), static_cast<UnitState>(random.below(3)),
                                 1min * static_cast<int>(random.below(120))));
        auto situation = with(units, random.below(3));
        situation.drained = random.below(8) == 0;
        auto plan = plan_pool(pool, situation);
        std::size_t existing = 0, starts = 0;
        std::set<std::string> gone;
        for (const auto& action : plan.actions)
            if (action.kind == PoolAction::Kind::start) ++starts;
            else EXPECT_TRUE(gone.insert(action.unit).second) << "seed " << seed << ": twice";
        for (const auto& one : units) {
            if (one.state == UnitState::discarding) {
                EXPECT_FALSE(gone.contains(one.id)) << "seed " << seed;
                continue;
            }
            if (gone.contains(one.id)) continue;
            ++existing;
            EXPECT_TRUE(is_fresh(pool, one, start)) << "seed " << seed;
        }
        EXPECT_LE(starts, situation.free_boots) << "seed " << seed;
        EXPECT_TRUE(starts == 0 || existing + starts <= pool.max) << "seed " << seed;
        EXPECT_LE(plan.wanted, pool.max);
        EXPECT_TRUE(plan.next == std::nullopt || *plan.next > start) << "seed " << seed;
        // What it does, done, leaves nothing more to discard.
        std::erase_if(situation.units, [&](const PoolUnit& one) { return gone.contains(one.id); });
        situation.free_boots = 0;
        EXPECT_EQ(plan_pool(pool, situation).actions, std::vector<PoolAction>{}) << "seed " << seed;
    }
}

TEST(PoolPlan, ANewOwnerKeepsWhatWaitsAndFinishesWhatBoots) {
    using R = UnitRecovery;
    EXPECT_EQ(plan_unit_recovery(UnitState::ready, VmState::paused), R::keep);
    EXPECT_EQ(plan_unit_recovery(UnitState::ready, VmState::unknown), R::keep) << "could not look is not death";
    EXPECT_EQ(plan_unit_recovery(UnitState::ready, VmState::running), R::discard) << "somebody woke it";
    EXPECT_EQ(plan_unit_recovery(UnitState::ready, VmState::deleted), R::discard);
    EXPECT_EQ(plan_unit_recovery(UnitState::ready, VmState::failed), R::discard);
    EXPECT_EQ(plan_unit_recovery(UnitState::booting, VmState::deleted), R::boot);
    EXPECT_EQ(plan_unit_recovery(UnitState::booting, VmState::running), R::boot);
    EXPECT_EQ(plan_unit_recovery(UnitState::booting, VmState::paused), R::boot);
    EXPECT_EQ(plan_unit_recovery(UnitState::booting, VmState::stopped), R::boot) << "made, not started yet";
    EXPECT_EQ(plan_unit_recovery(UnitState::booting, VmState::failed), R::discard);
    EXPECT_EQ(plan_unit_recovery(UnitState::discarding, VmState::paused), R::discard);
}

// ---- documents -----------------------------------------------------------------------------------------------------

std::string refused(const std::string& yaml) {
    try {
        parse_pools(yaml, "pools.yaml");
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::validation);
        return error.message();
    }
    return "";
}

TEST(PoolDocument, SaysEverythingOfAPool) {
    auto pools = parse_pools(R"(
pools:
  - name: desks
    template: linux-tiny
    min: 2
    max: 8
    max_age: 90m
    schedule:
      - {days: [mon, fri], from: "07:30", to: "24:00", min: 6}
  - {name: spare, template: other, min: 0}
)",
                             "pools.yaml");
    ASSERT_EQ(pools.size(), 2u);
    Pool desks;
    desks.name = "desks";
    desks.template_name = "linux-tiny";
    desks.min = 2;
    desks.max = 8;
    desks.max_age = 90min;
    desks.schedule = {{{0, 4}, 7 * 60 + 30, 24 * 60, 6}};
    EXPECT_EQ(pools[0], desks);
    EXPECT_EQ(pools[1].min, 0u);
    EXPECT_EQ(pools[1].max, 0u);
    EXPECT_EQ(pools[1].max_age, 4h);
}

TEST(PoolDocument, AnAbsentMaxIsTheHighestMin) {
    auto pools = parse_pools(
        R"({pools: [{name: a, template: t, min: 2, schedule: [{from: "08:00", to: "09:00", min: 5}]}]})", "x");
    EXPECT_EQ(pools.at(0).max, 5u);
}

TEST(PoolDocument, NamesEverythingThatIsWrong) {
    auto text = refused(R"(
pools:
  - {name: a, template: t, min: 5, max: 2, colour: red}
  - {name: a, template: t}
  - {template: t, min: -1, max_age: 1s}
  - {name: B, template: t, schedule: [{days: [monday], from: "25:00", to: "09:00", min: 1}, {from: "24:00", to: "01:00"}]}
  - 7
)");
    for (const char* part :
         {"pools[0].max", "at least 5", "pools[0].colour", "pools[1].name", "pools.yaml:3", "pools[2].name",
          "pools[2].min", "pools[2].max_age", "pools[3].name", "pools[3].schedule[0].days", "pools[3].schedule[0].from",
          "pools[3].schedule[1].from", "pools[3].schedule[1].min", "pools[4]"})
        EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
    EXPECT_NE(refused("pools: 3").find("a list of pools"), std::string::npos);
    EXPECT_NE(refused("pols: []").find("pols"), std::string::npos);
    EXPECT_NE(refused("").find("pools"), std::string::npos);
}

TEST(PoolDocument, ATemplateMustBeThereAndTakeAnIdentity) {
    Template tiny, windows, mute;
    tiny.name = "tiny";
    windows.name = "windows";
    windows.os = "windows";
    mute.name = "mute";
    mute.channels = {"display"};
    std::map<std::string, Template> templates{{"tiny", tiny}, {"windows", windows}, {"mute", mute}};
    auto code = [&](const std::string& name) {
        auto pool = pool_of(1, 1);
        pool.template_name = name;
        try {
            check_pools({pool}, templates);
        } catch (const Error& error) {
            EXPECT_EQ(error.context().at("value"), name);
            return error.errc();
        }
        return Errc{};
    };
    EXPECT_EQ(code("tiny"), Errc{});
    EXPECT_EQ(code("tinny"), Errc::validation);
    EXPECT_EQ(code("windows"), Errc::validation);
    EXPECT_EQ(code("mute"), Errc::validation);
}

}  // namespace
}  // namespace infrastructure_sdk
