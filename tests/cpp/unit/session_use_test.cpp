// Idleness, holds and the four clocks in the running engine, on a virtual clock.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "support/simulated_world.hpp"

namespace infrastructure_sdk {
namespace {

using test::SimulatedWorld;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using namespace std::chrono_literals;

class SessionUse : public testing::Test {
protected:
    Session create(SessionRequest request) {
        Session session;
        EXPECT_TRUE(world.run(world.engine().create(std::move(request), world.call()), &session)) << world.last_message;
        EXPECT_TRUE(world.run(world.engine().wait(session.id, SessionState::active, world.call()), &session))
            << world.last_message;
        return session;
    }
    SessionRequest idle_after(Duration timeout) {
        auto request = world.request("alice");
        request.idle_timeout = timeout;
        return request;
    }
    Session now(const Session& session) {
        Session found;
        world.run(world.engine().get(session.id), &found);
        return found;
    }
    void use(const Session& session, SimulatedUse use) {
        world.host().set_use(session.vm_id, use, world.runtime().environment().clock->monotonic_now());
    }
    std::vector<std::string> events(const Session& session) {
        std::vector<Event> found;
        EventQuery query;
        query.subject = session.id;
        world.run(world.engine().events(query), &found);
        std::vector<std::string> types;
        for (const auto& event : found) types.push_back(event.type);
        return types;
    }
    Explanation explain(const Session& session, std::vector<Duration> others = {}) {
        Explanation found;
        EXPECT_TRUE(world.run(world.engine().explain(session.id, std::move(others), world.call()), &found));
        return found;
    }
    static std::string text(const Explanation& explanation) {
        std::string all;
        for (const auto& sentence : explanation.sentences) all += sentence + "\n";
        return all;
    }

    SimulatedWorld world{1};
};

TEST_F(SessionUse, TellsOfAnAgentThatIsSilentAndOfItsReturn) {
    auto session = create(idle_after(5h));
    auto types = [&] {
        std::vector<std::string> health;
        for (const auto& type : events(session))
            if (type.starts_with("session.health.")) health.push_back(type);
        return health;
    };
    auto condition = [&]() -> std::string {
        for (const auto& found : now(session).conditions)
            if (found.type == "AgentAnswers") return found.status + " " + found.reason;
        return {};
    };
    world.run_for(10min);
    EXPECT_THAT(types(), IsEmpty()) << "an agent that answers is no news";
    SimulatedUse silent;
    silent.agent_answers = false;
    use(session, silent);
    world.run_for(90s);
    EXPECT_THAT(types(), IsEmpty()) << "a busy guest may miss a look";
    world.run_for(10min);
    EXPECT_THAT(types(), ElementsAre("session.health.degraded")) << "once";
    EXPECT_EQ(condition(), "False AgentSilent");
    EXPECT_EQ(now(session).state, SessionState::active);
    use(session, SimulatedUse());
    world.run_for(10min);
    EXPECT_THAT(types(), ElementsAre("session.health.degraded", "session.health.recovered"));
    EXPECT_EQ(condition(), "True AgentAnswers");
}

TEST_F(SessionUse, SuspendsWhatIsIdleAndTellsWhy) {
    auto session = create(idle_after(15min));
    world.run_for(14min);
    EXPECT_EQ(now(session).state, SessionState::active);
    world.run_for(5min);
    session = now(session);
    EXPECT_EQ(session.state, SessionState::suspended);
    ASSERT_TRUE(session.last_change);
    EXPECT_EQ(session.last_change->reason, "idle");
    EXPECT_EQ(session.last_change->from, SessionState::active);
    EXPECT_THAT(events(session), testing::Contains("session.idle.armed"));
    auto explanation = explain(session);
    EXPECT_EQ(explanation.reproduced, true) << text(explanation);
    EXPECT_THAT(text(explanation), HasSubstr("reason: idle"));
}

TEST_F(SessionUse, AConnectionWithoutInputIsNotActivity) {
    auto session = create(idle_after(15min));
    SimulatedUse forgotten_tab;
    forgotten_tab.vnc_clients = 1;
    use(session, forgotten_tab);
    world.run_for(25min);
    EXPECT_EQ(now(session).state, SessionState::suspended);
}

TEST_F(SessionUse, WorkKeepsItAlive) {
    auto session = create(idle_after(15min));
    SimulatedUse compiling;
    compiling.cpu_cores = 0.9;
    use(session, compiling);
    world.run_for(3h);
    EXPECT_EQ(now(session).state, SessionState::active);
    EXPECT_THAT(text(explain(session)), HasSubstr("in use: guest_cpu"));
    use(session, {});
    world.run_for(20min);
    EXPECT_EQ(now(session).state, SessionState::suspended);
}

TEST_F(SessionUse, AnExecInFlightIsNeverIdle) {
    auto session = create(idle_after(15min));
    ExecRequest silent{{"sleep", "3600"}, "", {}, 1024};
    Call unlimited;
    Task<ExecResult> command = world.engine().exec(session.id, silent, unlimited);
    std::optional<ExecResult> result;
    auto environment = world.runtime().environment();
    auto follow = [](Task<ExecResult> task, std::optional<ExecResult>* out) -> Task<void> {
        *out = co_await std::move(task);
    };
    TaskGroup tasks(environment.executor);
    tasks.spawn(environment.logger, "a silent command", follow(std::move(command), &result));
    world.run_for(59min);
    EXPECT_FALSE(result);
    EXPECT_EQ(now(session).state, SessionState::active);
    world.run_for(30min);
    ASSERT_TRUE(result);
    EXPECT_EQ(now(session).state, SessionState::suspended);
}

TEST_F(SessionUse, HoldsKeepItUntilTheyRunOut) {
    auto session = create(idle_after(15min));
    world.run(world.engine().hold(session.id, "demo", 1h, "shown to a customer", world.call()), &session);
    ASSERT_EQ(session.holds.size(), 1u);
    world.run_for(59min);
    EXPECT_EQ(now(session).state, SessionState::active);
    EXPECT_THAT(text(explain(session)), HasSubstr("hold"));
    world.run_for(30min);
    EXPECT_EQ(now(session).state, SessionState::suspended);
}

TEST_F(SessionUse, AReleasedHoldKeepsNothing) {
    auto session = create(idle_after(15min));
    world.run(world.engine().hold(session.id, "demo", 6h, "", world.call()), &session);
    world.run(world.engine().release(session.id, "demo", world.call()), &session);
    EXPECT_THAT(session.holds, IsEmpty());
    world.run_for(20min);
    EXPECT_EQ(now(session).state, SessionState::suspended);
}

TEST_F(SessionUse, RefusesWrongHolds) {
    auto session = create(idle_after(15min));
    for (auto [name, length] : {std::pair<std::string, Duration>{"", 1h},
                                {std::string(65, 'x'), 1h},
                                {"bell\a", 1h},
                                {"a", 0s},
                                {"a", -1s},
                                {"a", 24h * 8}}) {
        world.run(world.engine().hold(session.id, name, length, "", world.call()), &session);
        EXPECT_EQ(world.last_code, Errc::validation) << name;
    }
    for (int i = 0; i < 32; ++i)
        world.run(world.engine().hold(session.id, std::to_string(i), 1h, "", world.call()), &session);
    EXPECT_EQ(world.last_code, Errc{});
    world.run(world.engine().hold(session.id, "one more", 1h, "", world.call()), &session);
    EXPECT_EQ(world.last_code, Errc::validation);
    world.run(world.engine().hold("s-0000000000000000", "a", 1h, "", world.call()), &session);
    EXPECT_EQ(world.last_code, Errc::not_found);
}

TEST_F(SessionUse, TouchMovesTheIdleClockAndPingDoesNot) {
    auto touched = create(idle_after(15min));
    auto pinged = create(idle_after(15min));
    for (int i = 0; i < 10; ++i) {
        world.run(world.engine().touch(touched.id, world.call()), &touched);
        bool done = false;
        auto ping = [](SessionEngine& engine, std::string id, Call call) -> Task<bool> {
            co_await engine.ping(id, call);
            co_return true;
        };
        world.run(ping(world.engine(), pinged.id, world.call()), &done);
        world.run_for(5min);
    }
    EXPECT_EQ(now(touched).state, SessionState::active);
    EXPECT_EQ(now(pinged).state, SessionState::suspended);
}

TEST_F(SessionUse, WhatCannotBeSeenIsNotIdle) {
    auto session = create(idle_after(15min));
    SimulatorFaults blind;
    blind.blind = 1'000'000;
    world.host().set_faults(blind);
    world.run_for(2h);
    EXPECT_EQ(now(session).state, SessionState::active);
    EXPECT_THAT(text(explain(session)), HasSubstr("not known"));
    world.host().set_faults({});
    world.run_for(20min);
    EXPECT_EQ(now(session).state, SessionState::suspended);
}

TEST_F(SessionUse, ASessionThatIsIdleInTheEyesOfTheOldOwnerIsLookedAtAnew) {
    auto session = create(idle_after(15min));
    world.run_for(14min);
    world.kill_owner();
    ASSERT_TRUE(world.open());
    world.run_for(14min);
    EXPECT_EQ(now(session).state, SessionState::active);
    world.run_for(6min);
    EXPECT_EQ(now(session).state, SessionState::suspended);
}

TEST_F(SessionUse, AnIdleResumedSessionIsSuspendedAgain) {
    auto session = create(idle_after(15min));
    for (int i = 0; i < 3; ++i) {
        world.run_for(20min);
        ASSERT_EQ(now(session).state, SessionState::suspended);
        world.run(world.engine().resume(session.id, world.call()), &session);
        world.run_for(5min);
        EXPECT_EQ(now(session).state, SessionState::active);
    }
}

TEST_F(SessionUse, TheLastClientThatLeavesStartsTheDisconnectClock) {
    auto request = world.request("alice");
    request.disconnect_timeout = 10min;
    auto session = create(request);
    // Nobody came yet: it does not run.
    world.run_for(1h);
    EXPECT_EQ(now(session).state, SessionState::active);
    SimulatedUse working;
    working.vnc_clients = 2;
    working.input_events_per_second = 3;
    working.cpu_cores = 1;
    use(session, working);
    world.run_for(1h);
    EXPECT_TRUE(now(session).clocks.connected);
    // Work goes on without them: the clock asks who is there, not what is done.
    working.vnc_clients = 0;
    use(session, working);
    world.run_for(13min);
    session = now(session);
    EXPECT_EQ(session.state, SessionState::suspended);
    EXPECT_EQ(session.last_change->reason, "disconnect");
    EXPECT_THAT(events(session),
                testing::IsSupersetOf({"session.clients.connected", "session.clients.left", "session.clock.warning"}));
}

TEST_F(SessionUse, ADeadOwnerDoesNotForgetWhoLeft) {
    auto request = world.request("alice");
    request.disconnect_timeout = 30min;
    auto session = create(request);
    SimulatedUse connected;
    connected.vnc_clients = 1;
    use(session, connected);
    world.run_for(5min);
    use(session, {});
    world.run_for(5min);
    world.kill_owner();
    ASSERT_TRUE(world.open());
    world.run_for(28min);
    EXPECT_EQ(now(session).state, SessionState::suspended);
}

TEST_F(SessionUse, RetentionEndsWhatStaysSuspended) {
    auto request = world.request("alice");
    request.retention = 1h;
    auto session = create(request);
    world.run(world.engine().suspend(session.id, world.call()), &session);
    world.run_for(59min);
    EXPECT_EQ(now(session).state, SessionState::suspended);
    world.run_for(2min);
    session = now(session);
    EXPECT_EQ(session.state, SessionState::terminated);
    EXPECT_EQ(session.termination_reason, TerminationReason::retention);
}

TEST_F(SessionUse, ATtlMaySuspendOrCutOff) {
    auto request = world.request("alice");
    request.ttl = 1h;
    request.on_expiry[ClockKind::ttl] = OnExpiry::suspend;
    auto suspended = create(request);
    request.on_expiry[ClockKind::ttl] = OnExpiry::disconnect;
    auto cut_off = create(request);
    SimulatedUse connected;
    connected.vnc_clients = 1;
    use(cut_off, connected);
    world.run_for(61min);
    EXPECT_EQ(now(suspended).state, SessionState::suspended);
    EXPECT_EQ(now(suspended).last_change->reason, "ttl");
    EXPECT_EQ(now(cut_off).state, SessionState::active);
    auto seen = events(cut_off);
    EXPECT_EQ(std::count(seen.begin(), seen.end(), "session.clients.disconnected"), 1);
    // It was carried out; extending it makes it run again.
    world.run_for(1h);
    seen = events(cut_off);
    EXPECT_EQ(std::count(seen.begin(), seen.end(), "session.clients.disconnected"), 1);
    world.run(world.engine().extend(cut_off.id, 10min, world.call()), &cut_off);
    world.run_for(11min);
    seen = events(cut_off);
    EXPECT_EQ(std::count(seen.begin(), seen.end(), "session.clients.disconnected"), 2);
}

TEST_F(SessionUse, ASuspendThatFailsIsTriedAgainWithoutHurry) {
    SimulatorOptions options;
    options.keep_history = true;
    SimulatedWorld other(1, options);
    auto request = other.request("alice");
    request.ttl = 1h;
    request.on_expiry[ClockKind::ttl] = OnExpiry::suspend;
    Session session;
    other.run(other.engine().create(request, other.call()), &session);
    other.run_for(59min);
    SimulatorFaults broken;
    broken.fail = 1'000'000;
    other.host().set_faults(broken);
    other.run_for(11min);
    other.host().set_faults({});
    const auto& history = other.host().history();
    auto tries = std::count_if(history.begin(), history.end(),
                               [](const std::string& line) { return line.starts_with("suspend"); });
    EXPECT_GE(tries, 5);
    EXPECT_LE(tries, 22);
    other.run_for(1min);
    other.run(other.engine().get(session.id), &session);
    EXPECT_EQ(session.state, SessionState::suspended);
}

TEST_F(SessionUse, WarnsOnceAlsoOverARestart) {
    auto request = world.request("alice");
    request.ttl = 1h;
    auto session = create(request);
    world.run_for(56min);
    world.kill_owner();
    ASSERT_TRUE(world.open());
    world.run_for(3min);
    auto seen = events(session);
    EXPECT_EQ(std::count(seen.begin(), seen.end(), "session.clock.warning"), 1);
}

TEST_F(SessionUse, RefusesClocksThatCannotBe) {
    Session session;
    auto refused = [&](auto change) {
        auto request = world.request("alice");
        change(request);
        world.run(world.engine().create(request, world.call()), &session);
        return world.last_code;
    };
    EXPECT_EQ(refused([](SessionRequest& r) { r.ttl = 24h * 365; }), Errc::validation);
    EXPECT_EQ(refused([](SessionRequest& r) { r.idle_timeout = -1s; }), Errc::validation);
    EXPECT_EQ(refused([](SessionRequest& r) { r.on_expiry[ClockKind::retention] = OnExpiry::suspend; }),
              Errc::validation);
    SimulatorOptions options;
    options.suspend_modes.clear();
    SimulatedWorld other(1, options);
    auto request = other.request("alice");
    request.idle_timeout = 1h;
    other.run(other.engine().create(request, other.call()), &session);
    EXPECT_EQ(other.last_code, Errc::unsupported);
    EXPECT_THAT(other.last_message, HasSubstr("on_expiry"));
    EXPECT_THAT(other.sessions(), IsEmpty());
    request.on_expiry[ClockKind::idle_timeout] = OnExpiry::terminate;
    other.run(other.engine().create(request, other.call()), &session);
    EXPECT_EQ(other.last_code, Errc{});
}

TEST_F(SessionUse, ExplainsWithoutATimeoutFromTwoLooks) {
    auto session = create(world.request("alice"));
    SimulatedUse compiling;
    compiling.cpu_cores = 0.5;
    use(session, compiling);
    auto explanation = explain(session);
    EXPECT_THAT(text(explanation), HasSubstr("in use: guest_cpu"));
    EXPECT_THAT(text(explanation), HasSubstr("ttl terminates it"));
}

TEST_F(SessionUse, AskingAllTheTimeKeepsNothingAliveAndStopsNoLook) {
    auto session = create(idle_after(15min));
    // Each takes a second, over every moment at which the engine itself looks.
    for (int i = 0; i < 3000 && now(session).state == SessionState::active; ++i) {
        explain(session);
        world.run_for(500ms);
    }
    world.run_for(1s);
    EXPECT_EQ(now(session).state, SessionState::suspended);
}

TEST_F(SessionUse, AskingAroundTheDecisionTellsNothingTwice) {
    auto session = create(idle_after(15min));
    world.run_for(15min + 30s);
    for (int i = 0; i < 60 && now(session).state == SessionState::active; ++i) {
        explain(session);
        world.run_for(900ms);
    }
    world.run_for(1s);
    EXPECT_EQ(now(session).state, SessionState::suspended);
    const auto seen = events(session);
    EXPECT_EQ(std::count(seen.begin(), seen.end(), "session.idle.armed"), 1);
    EXPECT_THAT(seen, Not(testing::Contains("session.idle.disarmed")));
}

TEST_F(SessionUse, AHoldThatComesWithTheDecisionCallsItOff) {
    auto session = create(idle_after(15min));
    world.run_for(15min + 30s);
    ASSERT_THAT(events(session), testing::Contains("session.idle.armed"));
    world.run(world.engine().hold(session.id, "demo", 1h, "", world.call()), &session);
    world.run_for(30min);
    EXPECT_EQ(now(session).state, SessionState::active);
    EXPECT_THAT(events(session), testing::Contains("session.idle.disarmed"));
}

TEST_F(SessionUse, AnswersWhatAnotherTimeoutWouldHaveDone) {
    auto session = create(idle_after(30min));
    world.run_for(20min);
    auto explanation = explain(session, {10min, 2h});
    ASSERT_EQ(explanation.what_ifs.size(), 2u);
    EXPECT_TRUE(explanation.what_ifs[0].due_at);
    EXPECT_FALSE(explanation.what_ifs[1].due_at);
    EXPECT_THAT(text(explanation), HasSubstr("With idle_timeout 10m"));
}

}  // namespace
}  // namespace infrastructure_sdk
