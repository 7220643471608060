// Warm pools on a simulated host and a virtual clock. Scenarios are those of users' reports: one claim that got two
// units, a pool whose crash left VMs that nobody saw, units that ate users' quota, claims that were delivered twice.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "providers/simulator/host.hpp"
#include "support/story.hpp"

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using test::at_most;
using test::SimulatedWorld;
using test::Story;
using testing::IsEmpty;
using namespace std::chrono_literals;

constexpr std::int64_t mebibyte = 1 << 20;

std::vector<Pool> pool_of(std::size_t min, std::size_t max) {
    Pool pool;
    pool.name = "desks";
    pool.template_name = "tiny";
    pool.min = min;
    pool.max = max;
    return {pool};
}

/// A world with a pool, all of whose units are ready.
struct PoolWorld : SimulatedWorld {
    explicit PoolWorld(std::uint64_t seed, std::size_t units, std::vector<Limit> limits = {})
        : SimulatedWorld(seed, {}, std::move(limits), pool_of(units, units)) {
        settle();
    }
    void settle() { run(engine().wait_pool("desks", call())); }
    PoolStatus status() {
        PoolStatus found;
        run(engine().pool("desks"), &found);
        return found;
    }
    Session create(const std::string& user) {
        Session session;
        run(engine().create(request(user), call()), &session);
        return session;
    }
    Session active(const Session& session) {
        Session found;
        run(engine().wait(session.id, SessionState::active, call()), &found);
        return found;
    }
    std::vector<Event> events(const std::string& type) {
        EventQuery all;
        all.limit = 1'000'000;
        std::vector<Event> found;
        VirtualRuntime reader;
        for (auto& event : reader.run(disk().events(all)))
            if (event.type == type) found.push_back(std::move(event));
        return found;
    }
    SimulatedVm& vm(const VmId& id) { return host().state()->vms.at(id); }
    /// The process dies and nobody hears of it.
    void die_silently(const VmId& id) {
        vm(id).processes = 0;
        vm(id).state = VmState::failed;
        vm(id).memory_files.clear();
    }
};

Task<bool> create_one(SimulatedWorld* world, std::string user, std::vector<Session>* in, int* denied) {
    auto request = world->request(user);
    auto call = world->call();
    try {
        in->push_back(co_await world->engine().create(request, call));
    } catch (const Error&) {
        ++*denied;
    }
    co_return true;
}

Task<void> no_value(Task<bool> task) { co_await std::move(task); }

/// All at once.
std::vector<Session> race(SimulatedWorld& world, int callers, const std::string& user, int& denied) {
    std::vector<Session> in;
    TaskGroup group(world.runtime().environment().executor);
    for (int i = 0; i < callers; ++i) group.spawn(nullptr, "caller", no_value(create_one(&world, user, &in, &denied)));
    world.runtime().run(group.join());
    return in;
}

// ---- scenarios -----------------------------------------------------------------------------------------------------

TEST(PoolScenarios, Scenario01_AThousandClaimsAtOnceNeverShareAUnitNorTakeTwo) {
    constexpr std::size_t units = 50;
    PoolWorld world(1, units);
    ASSERT_EQ(world.status().ready, units);
    std::set<std::string> warm_vms;
    for (const auto& unit : world.units()) warm_vms.insert(unit.vm_id.value);
    int denied = 0;
    auto sessions = race(world, 1000, "alice", denied);
    EXPECT_EQ(denied, 0);
    ASSERT_EQ(sessions.size(), 1000u);
    std::set<std::string> vms, macs, executions, units_taken;
    std::size_t warm = 0;
    for (const auto& session : sessions) {
        EXPECT_TRUE(vms.insert(session.vm_id.value).second) << "two claims, one unit";
        EXPECT_TRUE(macs.insert(session.mac_address).second);
        EXPECT_TRUE(executions.insert(session.execution_id).second);
        if (session.pool.empty()) continue;
        ++warm;
        EXPECT_TRUE(units_taken.insert(session.pool_unit).second);
        EXPECT_TRUE(warm_vms.contains(session.vm_id.value));
    }
    EXPECT_EQ(warm, units) << "who came while there was one got one";
    std::map<std::string, int> claims_of_session;
    std::set<std::string> claimed_units;
    for (const auto& event : world.events("pool.unit.claimed")) {
        EXPECT_TRUE(claimed_units.insert(event.subject).second) << "one unit, two claims";
        EXPECT_EQ(++claims_of_session[json::parse(event.data)["session"]], 1) << "one claim, two units";
    }
    EXPECT_EQ(claimed_units, units_taken);
    world.run_for(30min);
    std::vector<std::string> known;
    for (const auto& session : sessions) known.push_back(session.id);
    EXPECT_THAT(world.faults(known), IsEmpty());
    for (const auto& session : world.sessions()) EXPECT_EQ(session.state, SessionState::active) << session.id;
}

/// Units boot, one is claimed, used and given back, the pool is drained.
void life(PoolWorld& world, std::vector<std::string>& known) {
    auto& engine = world.engine();
    Session session;
    if (!world.run(engine.wait_pool("desks", world.call()))) return;
    if (!world.run(engine.create(world.request("alice"), world.call()), &session)) return;
    known.push_back(session.id);
    if (!world.run(engine.wait(session.id, SessionState::active, world.call()))) return;
    if (!world.run(engine.wait_pool("desks", world.call()))) return;
    if (!world.run(engine.terminate(session.id, TerminationReason::request, world.call()))) return;
    if (!world.run(engine.wait(session.id, SessionState::terminated, world.call()))) return;
    if (!world.run(engine.drain_pool("desks", world.call()))) return;
    world.run(engine.wait_pool("desks", world.call()));
}

/// A pool whose units do not boot before `life` begins.
struct EmptyPoolWorld : PoolWorld {
    EmptyPoolWorld() : PoolWorld(1, 0) {
        adjust = [](SessionEngineOptions& options) { options.pools = pool_of(2, 2); };
        open();
    }
};

TEST(PoolScenarios, Scenario09_ACrashOfThePoolLeavesNoInvisibleVms) {
    EmptyPoolWorld whole;
    auto before = whole.points().passed();
    std::vector<std::string> ids;
    life(whole, ids);
    std::size_t points = 0;
    for (const auto& [name, times] : whole.points().passed()) points += times - before[name];
    ASSERT_GT(points, 40u);
    EXPECT_THAT(whole.host().vms(), IsEmpty());
    for (std::size_t point = 1; point <= points; ++point) {
        EmptyPoolWorld world;
        std::vector<std::string> known;
        world.points().arm(point);
        life(world, known);
        EXPECT_FALSE(world.owner_lives()) << "point " << point;
        ASSERT_TRUE(world.open());
        world.run_for(10min);
        EXPECT_THAT(world.faults(known), IsEmpty()) << "point " << point;
        auto status = world.status();
        EXPECT_EQ(status.ready, status.drained ? 0u : 2u) << "point " << point;
        world.run(world.engine().drain_pool("desks", world.call()));
        world.run(world.engine().wait_pool("desks", world.call()));
        std::size_t alive = 0;
        for (const auto& session : world.sessions()) alive += session.state != SessionState::terminated;
        EXPECT_EQ(world.host().vms().size(), alive) << "point " << point << ": only what users have is left";
        EXPECT_THAT(world.units(), IsEmpty()) << "point " << point;
    }
}

TEST(PoolScenarios, Scenario20b_WarmUnitsHaveTheirOwnAccount) {
    auto limits = at_most(3);
    limits.push_back({LimitScope::user, "*", LimitResource::memory, 3 * 128 * mebibyte});
    limits.push_back({LimitScope::template_, "tiny", LimitResource::sessions, 5});
    limits.push_back({LimitScope::host, "", LimitResource::memory, 6 * 128 * mebibyte});
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
        PoolWorld world(seed, 4, limits);
        ASSERT_EQ(world.status().ready, 4u) << "no user's limit counts them";
        std::vector<UsageLine> usage;
        world.run(world.engine().usage(), &usage);
        for (const auto& line : usage)
            EXPECT_EQ(line.in_use, line.limit.scope == LimitScope::host ? 4 * 128 * mebibyte : 0)
                << name_of(line.limit.scope);
        int denied = 0;
        auto sessions = race(world, 16, "alice", denied);
        EXPECT_EQ(sessions.size(), 3u) << "her limit, exactly, though four units are there";
        EXPECT_EQ(denied, 13);
        EXPECT_EQ(std::count_if(sessions.begin(), sessions.end(), [](const Session& s) { return !s.pool.empty(); }), 3);
        world.run_for(5min);
        EXPECT_EQ(world.status().ready, 3u) << "three sessions and three units: the host is full";
        EXPECT_NE(world.status().problem.find("memory"), std::string::npos) << "and the pool says why it is short";
        EXPECT_THAT(world.faults({}), IsEmpty());
    }
}

TEST(PoolScenarios, Scenario20b_AClaimOnAFullHostTakesNoMoreThanTheUnitHad) {
    PoolWorld world(1, 2, {{LimitScope::host, "", LimitResource::memory, 2 * 128 * mebibyte}});
    std::optional<Denial> denial;
    world.run(world.engine().can_create(world.request("alice")), &denial);
    EXPECT_FALSE(denial) << "the unit's memory would be hers";
    auto bigger = world.request("alice");
    bigger.resources.memory = Quantity::from_milli(256 * mebibyte * 1000);
    world.run(world.engine().can_create(bigger), &denial);
    ASSERT_TRUE(denial);
    EXPECT_EQ(denial->in_use, 2 * 128 * mebibyte);
    auto first = world.create("alice");
    auto second = world.create("bob");
    EXPECT_EQ(first.pool, "desks");
    EXPECT_EQ(second.pool, "desks");
    world.create("carol");
    EXPECT_EQ(world.last_code, Errc::capacity);
    world.active(first);
    world.run_for(1min);
    world.run(world.engine().terminate(first.id, TerminationReason::request, world.call()));
    world.run_for(10s);
    EXPECT_EQ(world.status().ready, 1u) << "the pool took the place that was given back";
    EXPECT_THAT(world.faults({first.id, second.id}), IsEmpty());
}

TEST(PoolScenarios, Scenario22_AClaimIsDeliveredOnceWhereverItsOwnerDies) {
    auto claim = [](PoolWorld& world, Session& session) {
        if (!world.run(world.engine().create(world.request("alice"), world.call()), &session)) return;
        world.run(world.engine().wait(session.id, SessionState::active, world.call()));
    };
    PoolWorld whole(1, 1);
    auto before = whole.points().passed();
    Session session;
    claim(whole, session);
    std::size_t points = 0;
    for (const auto& [name, times] : whole.points().passed()) points += times - before[name];
    ASSERT_GE(points, 6u);
    for (std::size_t point = 1; point <= points; ++point) {
        PoolWorld world(1, 1);
        auto unit = world.units().at(0);
        world.points().arm(point);
        Session asked;
        claim(world, asked);
        ASSERT_FALSE(world.owner_lives()) << "point " << point;
        for (int reconnects = 0; reconnects < 3; ++reconnects) {
            ASSERT_TRUE(world.open());
            world.run_for(1min);
        }
        auto sessions = world.sessions();
        auto claims = world.events("pool.unit.claimed");
        ASSERT_LE(sessions.size(), 1u) << "point " << point;
        ASSERT_EQ(claims.size(), sessions.size()) << "point " << point << ": recorded together or not at all";
        EXPECT_TRUE(asked.id.empty() || sessions.size() == 1) << "point " << point << ": it was promised";
        if (sessions.empty()) continue;
        EXPECT_EQ(sessions[0].state, SessionState::active) << "point " << point;
        EXPECT_EQ(sessions[0].vm_id, unit.vm_id) << "point " << point << ": the unit that it took, and no other";
        EXPECT_EQ(claims[0].subject, unit.id);
        EXPECT_EQ(world.events("session.lifecycle.ready").size(), 1u) << "point " << point;
        EXPECT_EQ(world.vm(unit.vm_id).processes, 1u);
        EXPECT_THAT(world.faults({sessions[0].id}), IsEmpty()) << "point " << point;
    }
}

TEST(PoolScenarios, Scenario22_AReconnectDoesNotTouchWhatWasDelivered) {
    PoolWorld world(1, 1);
    auto session = world.active(world.create("alice"));
    auto machine = world.vm(session.vm_id).memory_files.at("/etc/machine-id");
    for (int reconnects = 0; reconnects < 3; ++reconnects) {
        ASSERT_TRUE(world.open());
        world.run_for(10min);
        Session found;
        world.run(world.engine().get(session.id), &found);
        EXPECT_EQ(found.state, SessionState::active);
        EXPECT_EQ(found.execution_id, session.execution_id) << "nothing was restarted";
        EXPECT_EQ(world.vm(session.vm_id).memory_files.at("/etc/machine-id"), machine) << "nor renamed";
    }
    EXPECT_EQ(world.events("pool.unit.claimed").size(), 1u);
}

// ---- claims --------------------------------------------------------------------------------------------------------

TEST(SimulatedPools, AClaimIsOfAnotherGuestThanTheUnitWas) {
    PoolWorld world(1, 2);
    std::map<std::string, std::string> as_unit;
    for (const auto& unit : world.units()) {
        EXPECT_EQ(world.vm(unit.vm_id).state, VmState::paused);
        as_unit[unit.vm_id.value] = world.vm(unit.vm_id).memory_files.at("/etc/machine-id");
    }
    std::set<std::string> machines;
    for (const char* user : {"alice", "bob"}) {
        auto session = world.active(world.create(user));
        EXPECT_EQ(session.pool, "desks");
        EXPECT_EQ(world.vm(session.vm_id).memory_files.at("/etc/hostname"), session.id + "\n");
        auto machine = world.vm(session.vm_id).memory_files.at("/etc/machine-id");
        EXPECT_EQ(machine.size(), 33u);
        EXPECT_NE(machine, as_unit.at(session.vm_id.value));
        auto key = world.vm(session.vm_id).memory_files.at("/etc/ssh/ssh_host_ed25519_key.pub");
        EXPECT_TRUE(key.ends_with(" " + session.id + "\n")) << key;
        EXPECT_TRUE(machines.insert(machine).second);
    }
    auto cold = world.create("carol");
    EXPECT_EQ(cold.pool, "");
    cold = world.active(cold);
    EXPECT_TRUE(machines.insert(world.vm(cold.vm_id).memory_files.at("/etc/machine-id")).second);
    std::vector<std::string> kinds;
    for (const auto& event : world.events("session.lifecycle.ready"))
        kinds.push_back(json::parse(event.data)["launch_type"]);
    EXPECT_THAT(kinds, testing::ElementsAre("warm", "warm", "cold"));
    EXPECT_EQ(world.status().warm_starts, 2u);
    EXPECT_EQ(world.status().cold_starts, 1u);
    EXPECT_EQ(world.status().claimed, 2u);
}

TEST(SimulatedPools, AUnitThatDiedUnseenIsReplacedByAColdStartThatTheUserDoesNotNotice) {
    PoolWorld world(1, 1);
    auto unit = world.units().at(0);
    world.die_silently(unit.vm_id);
    auto session = world.create("alice");
    EXPECT_EQ(session.pool, "desks");
    session = world.active(session);
    EXPECT_EQ(world.last_code, Errc{});
    EXPECT_EQ(session.state, SessionState::active);
    EXPECT_EQ(session.pool, "");
    EXPECT_NE(session.vm_id, unit.vm_id);
    EXPECT_NE(session.execution_id, unit.execution_id);
    EXPECT_NE(session.mac_address, unit.mac_address);
    EXPECT_THAT(world.events("session.lifecycle.failed"), IsEmpty());
    auto ready = world.events("session.lifecycle.ready");
    ASSERT_EQ(ready.size(), 1u);
    EXPECT_EQ(json::parse(ready[0].data)["launch_type"], "cold");
    world.settle();
    auto discarded = world.events("pool.unit.discarded");
    ASSERT_EQ(discarded.size(), 1u);
    EXPECT_EQ(discarded[0].subject, unit.id);
    EXPECT_EQ(json::parse(discarded[0].data)["reason"], "claim_failed");
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
}

TEST(SimulatedPools, AUnitThatHangsCostsNoMoreThanTheClaimTimeout) {
    PoolWorld world(1, 1);
    auto unit = world.units().at(0);
    auto session = world.create("alice");
    // Its guest does not answer for an hour.
    world.vm(unit.vm_id).ready_at = world.runtime().environment().clock->monotonic_now() + 1h;
    auto before = world.runtime().environment().clock->monotonic_now();
    session = world.active(session);
    EXPECT_EQ(session.pool, "");
    EXPECT_LT(world.runtime().environment().clock->monotonic_now() - before, 10s);
}

TEST(SimulatedPools, AnEndedSessionOfABadUnitIsNotStartedAgain) {
    PoolWorld world(1, 1);
    world.die_silently(world.units().at(0).vm_id);
    auto session = world.create("alice");
    world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    world.run(world.engine().wait(session.id, SessionState::terminated, world.call()), &session);
    EXPECT_EQ(session.state, SessionState::terminated);
    world.settle();
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
    EXPECT_EQ(world.host().vms().size(), 1u) << "the new unit";
}

TEST(SimulatedPools, TheIsolationGateIsAskedAgainAndAUnitThatFailsItIsNotHandedOver) {
    PoolWorld world(1, 1);
    std::vector<std::string> asked;
    bool good = true;
    world.adjust = [&](SessionEngineOptions& options) {
        options.templates.at("tiny").isolation = IsolationGate::isolated;
        options.isolation_gate = [&](Session session, Call) -> Task<IsolationReport> {
            asked.push_back(session.vm_id.value);
            IsolationReport report;
            report.score.verdict = good ? Verdict::isolated : Verdict::not_isolated;
            co_return report;
        };
    };
    ASSERT_TRUE(world.open());
    world.settle();
    EXPECT_THAT(asked, IsEmpty()) << "a unit is nobody's yet";
    auto first = world.active(world.create("alice"));
    EXPECT_EQ(first.pool, "desks");
    EXPECT_EQ(asked, std::vector{first.vm_id.value});
    world.settle();
    asked.clear();
    good = false;
    auto unit = world.units().at(0);
    auto second = world.create("bob");
    world.run(world.engine().wait(second.id, SessionState::active, world.call()));
    EXPECT_EQ(world.last_code, Errc::session_creation) << "neither unit nor cold VM is let through";
    ASSERT_EQ(asked.size(), 2u);
    EXPECT_EQ(asked[0], unit.vm_id.value);
    EXPECT_NE(asked[1], unit.vm_id.value);
}

TEST(SimulatedPools, OnlyASessionOfTheSameSizeGetsAUnit) {
    PoolWorld world(1, 1);
    auto request = world.request("alice");
    request.resources.memory = Quantity::from_milli(256 * mebibyte * 1000);
    Session bigger;
    world.run(world.engine().create(request, world.call()), &bigger);
    EXPECT_EQ(bigger.pool, "");
    request.resources.memory = Quantity::from_milli(128 * mebibyte * 1000);
    Session same;
    world.run(world.engine().create(request, world.call()), &same);
    EXPECT_EQ(same.pool, "desks");
}

TEST(SimulatedPools, ARefusedUserTakesNoUnit) {
    PoolWorld world(1, 2, at_most(0));
    world.create("alice");
    EXPECT_EQ(world.last_code, Errc::quota_exceeded);
    EXPECT_EQ(world.status().ready, 2u);
    EXPECT_THAT(world.faults({}), IsEmpty());
}

TEST(SimulatedPools, AClaimedSessionLivesAsAnyOther) {
    PoolWorld world(1, 1);
    auto session = world.active(world.create("alice"));
    world.run(world.engine().suspend(session.id, world.call()));
    world.run(world.engine().wait(session.id, SessionState::suspended, world.call()));
    world.run(world.engine().resume(session.id, world.call()));
    world.active(session);
    std::vector<VmStatus> vms;
    world.run(world.engine().list_vms(world.call()), &vms);
    EXPECT_EQ(std::count_if(vms.begin(), vms.end(), [&](const VmStatus& vm) { return vm.owner_session == session.id; }),
              1);
    world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    world.run(world.engine().wait(session.id, SessionState::terminated, world.call()));
    world.settle();
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
}

// ---- keeping -------------------------------------------------------------------------------------------------------

TEST(SimulatedPools, BootsOneAtATimeWhenToldSo) {
    PoolWorld world(1, 0);
    world.adjust = [](SessionEngineOptions& options) {
        options.pools = pool_of(4, 4);
        options.pool_boots = 1;
    };
    ASSERT_TRUE(world.open());
    for (int i = 0; i < 100 && world.status().ready < 4; ++i) {
        EXPECT_LE(world.status().booting, 1u);
        world.run_for(200ms);
    }
    EXPECT_EQ(world.status().ready, 4u);
}

TEST(SimulatedPools, WaitsWhileAUsersSessionBoots) {
    PoolWorld world(1, 0);
    world.adjust = [](SessionEngineOptions& options) {
        options.pools = pool_of(1, 1);
        options.pool_boots = 1;
    };
    world.run(world.engine().create(world.request("alice"), world.call()));
    ASSERT_TRUE(world.open());
    world.run_for(1s);
    EXPECT_EQ(world.status().booting, 0u);
    world.settle();
    EXPECT_EQ(world.status().ready, 1u);
}

TEST(SimulatedPools, TriesFailedBootsAgainWithoutHurryAndSaysWhy) {
    SimulatorOptions broken;
    broken.faults.fail = 1'000'000;
    SimulatedWorld world(1, broken, {}, pool_of(1, 1));
    world.run_for(10min);
    PoolStatus status;
    world.run(world.engine().pool("desks"), &status);
    EXPECT_EQ(status.ready, 0u);
    EXPECT_NE(status.problem.find("failed, as simulated"), std::string::npos) << status.problem;
    auto tries = [&] {
        EventQuery all;
        std::size_t count = 0;
        VirtualRuntime reader;
        for (const auto& event : reader.run(world.disk().events(all))) count += event.type == "pool.unit.booting";
        return count;
    }();
    EXPECT_GE(tries, 5u);
    EXPECT_LE(tries, 9u) << "5, 10, 20, 40, 80, 160, 300 s";
    world.host().set_faults({});
    world.run(world.engine().wait_pool("desks", world.call()), &status);
    EXPECT_EQ(status.ready, 1u);
    EXPECT_EQ(status.problem, "");
    EXPECT_THAT(world.faults({}), IsEmpty());
}

TEST(SimulatedPools, AWaitThatEndsSaysWhatIsMissing) {
    SimulatorOptions broken;
    broken.faults.fail = 1'000'000;
    SimulatedWorld world(1, broken, {}, pool_of(1, 1));
    world.run(world.engine().wait_pool("desks", world.call()));
    EXPECT_EQ(world.last_code, Errc::timeout);
    EXPECT_NE(world.last_message.find("0 of 1"), std::string::npos) << world.last_message;
    EXPECT_NE(world.last_message.find("as simulated"), std::string::npos) << world.last_message;
}

TEST(SimulatedPools, ALostUnitIsReplaced) {
    PoolWorld world(1, 2);
    auto lost = world.units().at(0);
    world.host().kill(lost.vm_id);
    world.run_for(1min);
    EXPECT_EQ(world.status().ready, 2u);
    for (const auto& unit : world.units()) EXPECT_NE(unit.id, lost.id);
    EXPECT_THAT(world.faults({}), IsEmpty());
}

TEST(SimulatedPools, RenewsItsUnitsBeforeTheyAreTooOld) {
    SimulatedWorld world(1, {}, {}, pool_of(2, 3));
    std::set<std::string> seen;
    for (int minute = 0; minute < 24 * 60; ++minute) {
        world.run_for(1min);
        PoolStatus status;
        world.run(world.engine().pool("desks"), &status);
        EXPECT_GE(status.ready, 2u) << "minute " << minute;
        EXPECT_LE(status.units.size() - status.discarding, 3u);
        for (const auto& unit : status.units) {
            seen.insert(unit.id);
            if (!unit.ready_at) continue;
            EXPECT_LT(world.runtime().environment().clock->wall_now() - *unit.ready_at, 4h);
        }
    }
    EXPECT_GE(seen.size(), 12u);
    EXPECT_LE(seen.size(), 18u);
}

TEST(SimulatedPools, FollowsItsSchedule) {
    auto pools = pool_of(1, 4);
    pools[0].schedule = {{{}, 8 * 60, 9 * 60, 4}};
    SimulatedWorld world(1, {}, {}, pools);
    auto ready = [&] {
        PoolStatus status;
        world.run(world.engine().pool("desks"), &status);
        return status.ready;
    };
    world.run_for(7h);
    EXPECT_EQ(ready(), 1u);
    world.run_for(1h + 30s);
    EXPECT_EQ(ready(), 4u);
    world.run_for(1h);
    EXPECT_EQ(ready(), 1u);
}

TEST(SimulatedPools, ADrainOutlivesItsOwnerAndARefillEndsIt) {
    SimulatedWorld world(1, {}, {}, pool_of(1, 3));
    PoolStatus status;
    world.run(world.engine().wait_pool("desks", world.call()));
    world.run(world.engine().drain_pool("desks", world.call()), &status);
    EXPECT_TRUE(status.drained);
    world.run(world.engine().wait_pool("desks", world.call()), &status);
    EXPECT_THAT(world.host().vms(), IsEmpty());
    Session session;
    world.run(world.engine().create(world.request("alice"), world.call()), &session);
    EXPECT_EQ(session.pool, "");
    ASSERT_TRUE(world.open());
    world.run_for(10min);
    world.run(world.engine().pool("desks"), &status);
    EXPECT_TRUE(status.drained);
    EXPECT_EQ(status.units.size(), 0u);
    world.run(world.engine().refill_pool("desks", 4, world.call()));
    EXPECT_EQ(world.last_code, Errc::validation);
    world.run(world.engine().refill_pool("desks", 3, world.call()), &status);
    EXPECT_EQ(status.wanted, 3u);
    ASSERT_TRUE(world.open());
    world.run(world.engine().wait_pool("desks", world.call()), &status);
    EXPECT_EQ(status.ready, 3u);
    world.run(world.engine().refill_pool("desks", std::nullopt, world.call()));
    world.run(world.engine().wait_pool("desks", world.call()), &status);
    EXPECT_EQ(status.ready, 1u);
    world.run(world.engine().pool("chairs"));
    EXPECT_EQ(world.last_code, Errc::not_found);
    EXPECT_NE(world.last_message.find("desks"), std::string::npos);
}

TEST(SimulatedPools, UnitsOfAPoolThatIsNotConfiguredAnyMoreAreRemoved) {
    PoolWorld world(1, 2);
    world.adjust = [](SessionEngineOptions& options) { options.pools.clear(); };
    ASSERT_TRUE(world.open());
    world.run_for(1min);
    EXPECT_THAT(world.units(), IsEmpty());
    EXPECT_THAT(world.host().vms(), IsEmpty());
    EXPECT_THAT(world.faults({}), IsEmpty());
}

TEST(SimulatedPools, UnitsOfAnOldTemplateAreNotHandedOutButReplaced) {
    PoolWorld world(1, 1);
    auto old = world.units().at(0);
    world.adjust = [](SessionEngineOptions& options) {
        options.templates.at("tiny").memory = Quantity::from_milli(192 * mebibyte * 1000);
    };
    ASSERT_TRUE(world.open());
    auto session = world.create("alice");
    EXPECT_EQ(session.pool, "") << "it is not what a new VM would be";
    world.run_for(1min);
    ASSERT_EQ(world.units().size(), 1u);
    EXPECT_NE(world.units()[0].id, old.id);
    EXPECT_EQ(world.units()[0].memory.value(), 192 * mebibyte);
}

TEST(SimulatedPools, LoseNothingWhereverTheirOwnerDies) {
    std::size_t deaths = 0;
    for (std::uint64_t seed = 1; seed <= 100; ++seed) {
        Story story(seed, {}, 5, pool_of(1 + seed % 2, 3));
        for (int i = 0; i < 25; ++i) story.act();
        ASSERT_THAT(story.end(), IsEmpty()) << "seed " << seed;
        deaths += story.deaths;
    }
    EXPECT_GT(deaths, 250u) << "the owner must really have died";
}

TEST(SimulatedPools, LoseNothingOnAHostWithFaults) {
    SimulatorFaults faults{50'000, 50'000, 20'000, 30'000, 20'000, 50'000, 0};
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        Story story(seed, faults, 3, pool_of(2, 3));
        for (int i = 0; i < 25; ++i) story.act();
        ASSERT_THAT(story.end(), IsEmpty()) << "seed " << seed;
    }
}

}  // namespace
}  // namespace infrastructure_sdk
