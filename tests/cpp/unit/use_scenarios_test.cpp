// Acceptance scenarios on use, clocks and denials: faults that users of other session systems reported, each as one
// test. The numbers are those of tests/README.md.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/seeded_random.hpp"
#include "support/simulated_world.hpp"
#include "support/story.hpp"

namespace infrastructure_sdk {
namespace {

using test::SimulatedWorld;
using testing::HasSubstr;
using namespace std::chrono_literals;

class UseScenarios : public testing::Test {
protected:
    Session create(SessionRequest request) {
        Session session;
        world.run(world.engine().create(std::move(request), world.call()), &session);
        world.run(world.engine().wait(session.id, SessionState::active, world.call()), &session);
        EXPECT_EQ(session.state, SessionState::active) << world.last_message;
        return session;
    }
    SessionState state_of(const Session& session) {
        Session found;
        world.run(world.engine().get(session.id), &found);
        return found.state;
    }
    void use(const Session& session, SimulatedUse use) {
        world.host().set_use(session.vm_id, use, world.runtime().environment().clock->monotonic_now());
    }

    SimulatedWorld world{7};
};

struct SignalCase {
    const char* name;
    SimulatedUse use;
    bool held;
    SessionState after;  ///< half an hour, with an idle_timeout of ten minutes
};

/// One row per combination that a rival got wrong; the labelled set of 78 is in idle_scenarios_test.cpp.
TEST_F(UseScenarios, Scenario16_TheMatrixOfSignalsGivesTheExpectedVerdicts) {
    auto with = [](auto change) {
        SimulatedUse use;
        change(use);
        return use;
    };
    const SignalCase cases[] = {
        {"nothing at all", {}, false, SessionState::suspended},
        {"a forgotten tab", with([](auto& u) { u.vnc_clients = 3; }), false, SessionState::suspended},
        {"logged in and gone", with([](auto& u) { u.logged_in_users = 1; }), false, SessionState::suspended},
        {"a kernel's own ticking", with([](auto& u) { u.cpu_cores = 0.02; }), false, SessionState::suspended},
        {"a silent agent", with([](auto& u) { u.agent_answers = false; }), false, SessionState::suspended},
        {"somebody types", with([](auto& u) { u.vnc_clients = 1, u.input_events_per_second = 0.2; }), false,
         SessionState::active},
        {"a compiler with nobody there", with([](auto& u) { u.cpu_cores = 1; }), false, SessionState::active},
        {"a download", with([](auto& u) { u.network_bytes_per_second = 1e6; }), false, SessionState::active},
        {"a backup", with([](auto& u) { u.disk_bytes_per_second = 1e6; }), false, SessionState::active},
        {"a hold", {}, true, SessionState::active},
    };
    for (const auto& row : cases) {
        auto request = world.request("alice");
        request.idle_timeout = 10min;
        auto session = create(request);
        use(session, row.use);
        if (row.held) world.run(world.engine().hold(session.id, "demo", 2h, "", world.call()));
        world.run_for(30min);
        EXPECT_EQ(state_of(session), row.after) << row.name;
        world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    }
}

TEST_F(UseScenarios, Scenario17_ALongSilentExecIsNeverIdle) {
    auto request = world.request("alice");
    request.idle_timeout = 5min;
    auto session = create(request);
    ExecRequest silent{{"sleep", "7200"}, "", {}, 1024};
    Call unlimited;
    ExecResult result;
    // Nobody touches the session; two hours of virtual time pass inside.
    ASSERT_TRUE(world.run(world.engine().exec(session.id, silent, unlimited), &result)) << world.last_message;
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(state_of(session), SessionState::active);
    world.run_for(10min);
    EXPECT_EQ(state_of(session), SessionState::suspended);
}

/// A fleet whose sessions work for 22 % of their life and are left behind for the rest, as was reported.
TEST_F(UseScenarios, Scenario18_TheIdleTailIsSavedAndNoWorkIsInterrupted) {
    SeededRandom random(18);
    struct Left {
        Session session;
        Duration works_until;
        bool ended = false;
        Duration ran{};
    };
    std::vector<Left> fleet;
    for (int i = 0; i < 40; ++i) {
        auto request = world.request("user-" + std::to_string(i));
        request.ttl = 10h;
        request.idle_timeout = 15min;
        Duration works = std::chrono::minutes(60 + random.below(144));
        fleet.push_back({create(request), works});
        SimulatedUse working;
        working.cpu_cores = 0.5;
        use(fleet.back().session, working);
    }
    int interrupted = 0;
    constexpr Duration step = 5min;
    for (Duration elapsed{}; elapsed < 10h; elapsed += step) {
        for (auto& left : fleet) {
            if (left.ended) continue;
            if (elapsed >= left.works_until) use(left.session, {});
            if (state_of(left.session) != SessionState::active) {
                left.ended = true;
                if (elapsed < left.works_until) ++interrupted;
            } else {
                left.ran += step;
            }
        }
        world.run_for(step);
    }
    Duration worked{}, ran{};
    for (const auto& left : fleet) {
        worked += left.works_until;
        ran += left.ran;
    }
    EXPECT_EQ(interrupted, 0);
    // All of them would have run for ten hours. What is left of the tail is a timeout and two looks each.
    EXPECT_LT(ran - worked, 40 * 25min);
    EXPECT_LT(ran, 40 * 10h * 35 / 100);
}

TEST_F(UseScenarios, Scenario19_EachClockEndsASessionByItsOwnRuleAndAction) {
    auto request = world.request("alice");
    request.ttl = 8h;
    request.idle_timeout = 2h;
    request.disconnect_timeout = 20min;
    request.retention = 1h;
    request.on_expiry[ClockKind::disconnect_timeout] = OnExpiry::suspend;
    auto session = create(request);
    SimulatedUse working;
    working.vnc_clients = 1;
    working.input_events_per_second = 2;
    use(session, working);
    world.run_for(3h);
    // Long past idle_timeout, but it is in use.
    EXPECT_EQ(state_of(session), SessionState::active);
    // They disconnect: suspended with all that was open, not deleted.
    use(session, {});
    world.run_for(22min);
    EXPECT_EQ(state_of(session), SessionState::suspended);
    Explanation why;
    world.run(world.engine().explain(session.id, {}, world.call()), &why);
    EXPECT_THAT(why.sentences.front(), HasSubstr("reason: disconnect"));
    // Nobody comes back within the retention.
    world.run_for(61min);
    Session ended;
    world.run(world.engine().get(session.id), &ended);
    EXPECT_EQ(ended.state, SessionState::terminated);
    EXPECT_EQ(ended.termination_reason, TerminationReason::retention);
}

TEST_F(UseScenarios, Scenario21_ADenialNamesTheLimitItsValueTheUsageAndTheHolders) {
    SimulatedWorld limited(1, {}, test::at_most(2));
    std::vector<std::string> ids;
    for (int i = 0; i < 2; ++i) {
        Session session;
        limited.run(limited.engine().create(limited.request("alice"), limited.call()), &session);
        ids.push_back(session.id);
    }
    limited.run(limited.engine().create(limited.request("alice"), limited.call()));
    EXPECT_EQ(limited.last_code, Errc::quota_exceeded);
    for (const auto& word : {std::string("alice"), std::string("sessions"), std::string("2"), ids[0], ids[1]})
        EXPECT_THAT(limited.last_message, HasSubstr(word));
    // What is shown is what denies.
    std::vector<UsageLine> usage;
    limited.run(limited.engine().usage(), &usage);
    ASSERT_FALSE(usage.empty());
    EXPECT_EQ(usage[0].in_use, 2);
    EXPECT_EQ(usage[0].free, 0);
}

TEST_F(UseScenarios, Scenario29_AHandleTellsWhenItWasTrue) {
    auto old = create(world.request("alice"));
    world.run(world.engine().terminate(old.id, TerminationReason::request, world.call()));
    world.run(world.engine().wait(old.id, SessionState::terminated, world.call()));
    world.run_for(1h);
    Session fresh;
    world.run(world.engine().get(old.id), &fresh);
    EXPECT_EQ(old.state, SessionState::active);
    EXPECT_EQ(fresh.state, SessionState::terminated);
    EXPECT_GE(fresh.observed_at - old.observed_at, 1h);
    world.run(world.engine().exec(old.id, {{"true"}, "", {}, 1024}, world.call()));
    EXPECT_EQ(world.last_code, Errc::invalid_transition);
}

}  // namespace
}  // namespace infrastructure_sdk
