// The session engine on a simulated host: limits, faults, and death of the owner at every point between two writes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "support/deaths.hpp"
#include "support/story.hpp"

namespace infrastructure_sdk {
namespace {

using test::at_most;
using test::SimulatedWorld;
using test::Story;
using testing::IsEmpty;
using namespace std::chrono_literals;

TEST(SimulatedEngine, RunsTheWholeLife) {
    SimulatedWorld world(1);
    Session session;
    ASSERT_TRUE(world.run(world.engine().create(world.request("alice"), world.call()), &session));
    for (auto state : {SessionState::active, SessionState::suspended, SessionState::active, SessionState::terminated}) {
        if (state == SessionState::suspended) world.run(world.engine().suspend(session.id, world.call()));
        if (state == SessionState::terminated)
            world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
        if (session.state == SessionState::suspended) world.run(world.engine().resume(session.id, world.call()));
        ASSERT_TRUE(world.run(world.engine().wait(session.id, state, world.call()), &session));
        EXPECT_EQ(session.state, state) << world.last_message;
    }
    EXPECT_THAT(world.host().vms(), IsEmpty());
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
}

TEST(SimulatedEngine, ExpiresByItsTtlToTheSecond) {
    SimulatedWorld world(1);
    auto request = world.request("alice");
    request.ttl = 1h;
    Session session;
    world.run(world.engine().create(request, world.call()), &session);
    world.run_for(59min + 59s);
    world.run(world.engine().get(session.id), &session);
    EXPECT_EQ(session.state, SessionState::active);
    world.run_for(2s);
    world.run(world.engine().get(session.id), &session);
    EXPECT_EQ(session.state, SessionState::terminated);
    EXPECT_EQ(session.termination_reason, TerminationReason::ttl);
}

TEST(SimulatedEngine, TriesAFailedEndAgainWithoutHurry) {
    SimulatorOptions options;
    options.keep_history = true;
    SimulatedWorld world(1, options);
    auto request = world.request("alice");
    request.ttl = 1h;
    Session session;
    world.run(world.engine().create(request, world.call()), &session);
    world.run_for(59min);
    SimulatorFaults broken;
    broken.fail = 1'000'000;
    world.host().set_faults(broken);
    world.run_for(11min);
    world.run(world.engine().get(session.id), &session);
    EXPECT_EQ(session.state, SessionState::failed);
    auto tries = std::count_if(world.host().history().begin(), world.host().history().end(),
                               [](const std::string& line) { return line.starts_with("destroy"); });
    EXPECT_GE(tries, 10);
    EXPECT_LE(tries, 21);
    world.host().set_faults({});
    world.run_for(1min);
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
    EXPECT_THAT(world.host().vms(), IsEmpty());
}

TEST(SimulatedEngine, FollowsAWallClockThatJumps) {
    SimulatedWorld world(1);
    auto request = world.request("alice");
    request.ttl = 1h;
    Session early, late;
    world.run(world.engine().create(request, world.call()), &early);
    auto clock = world.runtime().environment().clock;
    world.run_for(1min);
    world.runtime().set_wall_time(clock->wall_now() + 2h);
    world.run(world.engine().create(request, world.call()), &late);
    world.run_for(31s);
    world.run(world.engine().get(early.id), &early);
    EXPECT_EQ(early.termination_reason, TerminationReason::ttl)
        << "the deadline is an absolute time, and it has passed";
    world.runtime().set_wall_time(clock->wall_now() - 24h);
    world.run_for(2h);
    world.run(world.engine().get(late.id), &late);
    EXPECT_EQ(late.state, SessionState::active) << "its time has not come again";
}

TEST(SimulatedEngine, LetsExactlyAsManyInAsThereArePlaces) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        SimulatedWorld world(seed, {}, at_most(3));
        auto race = [](SimulatedWorld* place, int* in, int* out) -> Task<bool> {
            auto request = place->request("alice");
            auto call = place->call();
            try {
                co_await place->engine().create(request, call);
                ++*in;
            } catch (const Error& error) {
                EXPECT_EQ(error.errc(), Errc::quota_exceeded);
                EXPECT_NE(error.message().find("3"), std::string::npos) << error.message();
                ++*out;
            }
            co_return true;
        };
        int in = 0, out = 0;
        TaskGroup group(world.runtime().environment().executor);
        auto no_value = [](Task<bool> task) -> Task<void> { co_await std::move(task); };
        for (int i = 0; i < 16; ++i) group.spawn(nullptr, "caller", no_value(race(&world, &in, &out)));
        world.runtime().run(group.join());
        EXPECT_EQ(in, 3);
        EXPECT_EQ(out, 13);
        EXPECT_EQ(world.sessions().size(), 3u) << "the refused left nothing";
        std::optional<Denial> denial;
        world.run(world.engine().can_create(world.request("alice")), &denial);
        ASSERT_TRUE(denial);
        EXPECT_EQ(denial->in_use, 3);
        EXPECT_EQ(denial->holders.size(), 3u);
        world.run(world.engine().can_create(world.request("bob")), &denial);
        EXPECT_FALSE(denial);
    }
}

TEST(SimulatedEngine, GivesMemoryBackWhileSuspendedAndTakesItAgainOnResume) {
    SimulatedWorld world(1, {}, {{LimitScope::host, "", LimitResource::memory, std::int64_t{128} << 20}});
    Session first, second;
    world.run(world.engine().create(world.request("alice"), world.call()), &first);
    world.run(world.engine().wait(first.id, SessionState::active, world.call()), &first);
    world.run(world.engine().create(world.request("bob"), world.call()));
    EXPECT_EQ(world.last_code, Errc::capacity);
    world.run(world.engine().suspend(first.id, world.call()));
    world.run(world.engine().wait(first.id, SessionState::suspended, world.call()));
    world.run(world.engine().create(world.request("bob"), world.call()), &second);
    EXPECT_EQ(world.last_code, Errc{});
    world.run(world.engine().resume(first.id, world.call()));
    EXPECT_EQ(world.last_code, Errc::capacity) << "its memory is bob's now";
    world.run(world.engine().get(first.id), &first);
    EXPECT_EQ(first.state, SessionState::suspended) << "a refused resume changes nothing";
    world.run(world.engine().terminate(second.id, TerminationReason::request, world.call()));
    world.run(world.engine().wait(second.id, SessionState::terminated, world.call()));
    world.run(world.engine().resume(first.id, world.call()));
    EXPECT_EQ(world.last_code, Errc{});
}

TEST(SimulatedEngine, LosesNothingWhereverItsOwnerDies) {
    std::size_t deaths = 0;
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        Story story(seed, {}, 5);
        for (int i = 0; i < 25; ++i) story.act();
        ASSERT_THAT(story.end(), IsEmpty()) << "seed " << seed;
        deaths += story.deaths;
    }
    EXPECT_GT(deaths, 500u) << "the owner must really have died";
}

TEST(SimulatedEngine, LosesNothingOnAHostWithFaults) {
    SimulatorFaults faults{50'000, 50'000, 20'000, 30'000, 20'000, 50'000, 0};
    for (std::uint64_t seed = 1; seed <= 100; ++seed) {
        Story story(seed, faults, 3);
        for (int i = 0; i < 25; ++i) story.act();
        ASSERT_THAT(story.end(), IsEmpty()) << "seed " << seed;
    }
}

TEST(SimulatedEngine, SurvivesDeathAtEachPointOfAWholeLife) {
    // First without a death, to learn how many points there are.
    auto life = [](SimulatedWorld& world, std::vector<std::string>& known) {
        Session session;
        auto& engine = world.engine();
        if (!world.run(engine.create(world.request("alice"), world.call()), &session)) return;
        known.push_back(session.id);
        if (!world.run(engine.wait(session.id, SessionState::active, world.call()))) return;
        if (!world.run(engine.suspend(session.id, world.call()))) return;
        if (!world.run(engine.wait(session.id, SessionState::suspended, world.call()))) return;
        if (!world.run(engine.resume(session.id, world.call()))) return;
        if (!world.run(engine.wait(session.id, SessionState::active, world.call()))) return;
        if (!world.run(engine.terminate(session.id, TerminationReason::request, world.call()))) return;
        world.run(engine.wait(session.id, SessionState::terminated, world.call()));
    };
    test::die_at_each_point(life, 20);
}

}  // namespace
}  // namespace infrastructure_sdk
