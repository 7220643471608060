// Policies in the session engine: each point acts, and bad policies harm nothing but their own decisions.

#include <algorithm>

#include <boost/asio/detached.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/scripted_policy.hpp"
#include "support/simulated_world.hpp"

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;
using test::always;
using test::answer_of;
using test::options_of;
using test::ScriptedPolicy;
using test::SimulatedWorld;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

SessionDecision decision(SessionAction action, std::optional<Duration> again = {}) { return {action, "why", again}; }

class PolicyScenarios : public testing::Test {
protected:
    explicit PolicyScenarios(SimulatorOptions host = {}) : world(7, std::move(host)) {}
    /// A new owner with these policies.
    void open(std::vector<std::shared_ptr<PolicyHost>> hosts) {
        world.adjust = [this, hosts](SessionEngineOptions& engine) {
            std::shared_ptr<Store> store(&world.disk(), [](Store*) {});
            auto wanted = options_of(hosts);
            wanted.rate_limit.share = share;
            policies = std::make_shared<PolicyEngine>(world.runtime().environment(), store, wanted);
            world.runtime().run(policies->open(Call()));
            engine.policies = policies;
            if (adjust) adjust(engine);
        };
        ASSERT_TRUE(world.open());
    }
    Session create(SessionRequest request) {
        Session session;
        world.run(world.engine().create(std::move(request), world.call()), &session);
        EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
        world.run(world.engine().wait(session.id, SessionState::active, world.call()), &session);
        EXPECT_EQ(session.state, SessionState::active) << world.last_message;
        return session;
    }
    Session idle_session(const std::string& user = "alice") {
        auto request = world.request(user);
        request.idle_timeout = 10min;
        return create(request);
    }
    Session get(const std::string& id) {
        Session found;
        world.run(world.engine().get(id), &found);
        return found;
    }
    /// So many look at its screen.
    void watch(const Session& session, std::uint32_t clients) {
        SimulatedUse use;
        use.vnc_clients = clients;
        world.host().set_use(session.vm_id, use, world.runtime().environment().clock->monotonic_now());
    }
    SessionState state_of(const Session& session) { return get(session.id).state; }
    std::vector<Event> events_of(const std::string& subject) {
        EventQuery query;
        query.subject = subject;
        std::vector<Event> found;
        world.run(world.engine().events(query), &found);
        return found;
    }
    std::vector<std::string> types_of(const std::string& subject) {
        std::vector<std::string> types;
        for (const auto& event : events_of(subject)) types.push_back(event.type);
        return types;
    }

    SimulatedWorld world;
    double share = 1;
    std::function<void(SessionEngineOptions&)> adjust;
    std::shared_ptr<PolicyEngine> policies;
};

TEST_F(PolicyScenarios, ADeniedSessionIsNotCreatedAndTheUserReadsWhy) {
    auto rule = [](const PolicyRequest& request, const std::string&) {
        const auto& asked = std::get<AdmitRequest>(request);
        AdmitDecision decision;
        if (asked.usage.sessions_of_user >= 1) decision = {AdmitDecision::Action::deny, "one desktop each"};
        return answer_of(decision);
    };
    auto policy = std::make_shared<ScriptedPolicy>("one-each", std::vector{DecisionPoint::admit}, rule);
    open({policy});
    create(world.request("alice"));
    world.run(world.engine().create(world.request("alice"), world.call()));
    EXPECT_EQ(world.last_code, Errc::admission_denied);
    EXPECT_THAT(world.last_message, HasSubstr("policy 'one-each' does not admit the session: one desktop each"));
    EXPECT_EQ(world.sessions().size(), 1u);
    EXPECT_EQ(policies->status("one-each").decided, 1u);
    std::optional<Denial> denial;
    world.run(world.engine().can_create(world.request("alice")), &denial);
    ASSERT_TRUE(denial);
    EXPECT_EQ(denial->policy, "one-each");
    EXPECT_EQ(policies->status("one-each").decided, 1u) << "a dry run leaves no trace";
    world.run(world.engine().plan(world.request("alice")));
    EXPECT_EQ(world.last_code, Errc::admission_denied);
    create(world.request("bob"));
    EXPECT_EQ(session_of(policy->requests.back()).user_id, "bob");
    EXPECT_EQ(session_of(policy->requests.back()).id, "");
}

TEST_F(PolicyScenarios, ASessionIsMadeInTheSizeThatThePolicySays) {
    open({always("larger", DecisionPoint::size, SizeDecision{2.0, (256ll << 20) + 1, "they asked"})});
    auto session = create(world.request("alice"));
    EXPECT_EQ(session.cpu.milli(), 2000);
    EXPECT_EQ(session.memory.value(), 257 << 20);
    EXPECT_THAT(types_of(session.id), Contains("policy.decided"));
    EXPECT_EQ(types_of(session.id).front(), "policy.decided") << "in the transaction that creates the session";
}

TEST_F(PolicyScenarios, NoSessionIsCreatedWhileTheEngineCloses) {
    auto slow = always("slow", DecisionPoint::admit, AdmitDecision{});
    slow->delay = 40ms;
    slow->thinks = [&] {
        boost::asio::co_spawn(world.runtime().environment().executor, world.engine().close(), boost::asio::detached);
    };
    adjust = [&](SessionEngineOptions&) { slow->clock = world.runtime().environment().clock; };
    open({slow});
    world.run(world.engine().create(world.request("alice"), world.call()));
    EXPECT_EQ(world.last_code, Errc::cancelled);
    EXPECT_TRUE(world.sessions().empty());
}

TEST_F(PolicyScenarios, ASizeThatTheTemplateRefusesIsNotTaken) {
    open({always("smaller", DecisionPoint::size, SizeDecision{{}, 1 << 20, "save"})});
    auto session = create(world.request("alice"));
    EXPECT_EQ(session.memory.value(), 128 << 20);
    EXPECT_THAT(types_of(session.id), Contains("policy.overruled"));
    EXPECT_EQ(policies->status("smaller").decided, 0u);
}

TEST_F(PolicyScenarios, AnIdleSessionIsKeptAndAskedAboutAgainWhenThePolicySaysSo) {
    auto policy = always("keeper", DecisionPoint::idle, decision(SessionAction::keep, 30min));
    open({policy});
    auto session = idle_session();
    world.run_for(2h);
    EXPECT_EQ(state_of(session), SessionState::active);
    EXPECT_GE(policy->asked, 3);
    EXPECT_LE(policy->asked, 4);
    const auto& asked = std::get<IdleRequest>(policy->requests.front());
    EXPECT_GE(asked.quiet_for, 10min);
    EXPECT_EQ(asked.idle_timeout, 10min);
    EXPECT_EQ(asked.standard, SessionAction::suspend);
    EXPECT_EQ(asked.session.id, session.id);
    EXPECT_THAT(types_of(session.id), Contains("policy.decided").Times(1));
}

TEST_F(PolicyScenarios, AnIdleSessionIsEndedWhenThePolicySaysSo) {
    open({always("ender", DecisionPoint::idle, decision(SessionAction::terminate))});
    auto session = idle_session();
    world.run_for(30min);
    auto found = get(session.id);
    EXPECT_EQ(found.state, SessionState::terminated);
    EXPECT_EQ(found.termination_reason, TerminationReason::idle);
    auto events = events_of(session.id);
    auto decided = std::find_if(events.begin(), events.end(), [](auto& e) { return e.type == "policy.decided"; });
    ASSERT_NE(decided, events.end());
    EXPECT_EQ((decided + 1)->type, "session.lifecycle.terminating") << "in one transaction";
}

TEST_F(PolicyScenarios, WithoutAnAnswerTheClockActs) {
    struct Case {
        const char* what;
        std::function<void(ScriptedPolicy&)> spoil;
    };
    const Case cases[] = {
        {"standard", [](ScriptedPolicy&) {}},
        {"never answers", [](ScriptedPolicy& policy) { policy.delay = 24h * 365; }},
        {"late", [](ScriptedPolicy& policy) { policy.delay = 60ms; }},
        {"raises", [](ScriptedPolicy& policy) { policy.raises = true; }},
        {"nonsense", [](ScriptedPolicy&) {}},
    };
    for (const auto& bad : cases) {
        const std::string what = bad.what;
        const PolicyDecision answer = what == "nonsense"   ? PolicyDecision(AdmitDecision{})
                                      : what == "standard" ? PolicyDecision(SessionDecision{})
                                                           : PolicyDecision(decision(SessionAction::keep));
        auto policy = always("bad", DecisionPoint::idle, answer);
        bad.spoil(*policy);
        adjust = [&](SessionEngineOptions&) {
            if (policy->delay > Duration::zero()) policy->clock = world.runtime().environment().clock;
        };
        open({policy});
        auto session = idle_session();
        world.run_for(30min);
        auto found = get(session.id);
        EXPECT_EQ(found.state, SessionState::suspended) << what;
        EXPECT_EQ(found.last_change->reason, "idle") << what;
        const auto failures = what == "standard" ? 0 : 1;
        EXPECT_THAT(types_of(session.id), Contains("policy.failed").Times(failures)) << what;
        world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    }
}

TEST_F(PolicyScenarios, UseWhileThePolicyThinksCallsTheSuspensionOff) {
    auto slow = always("slow", DecisionPoint::idle, decision(SessionAction::suspend));
    slow->delay = 40ms;
    adjust = [&](SessionEngineOptions&) { slow->clock = world.runtime().environment().clock; };
    open({slow});
    auto session = idle_session();
    slow->thinks = [&] {
        boost::asio::co_spawn(world.runtime().environment().executor, world.engine().touch(session.id, world.call()),
                              boost::asio::detached);
    };
    world.run_for(15min);
    EXPECT_EQ(slow->asked, 1);
    EXPECT_EQ(state_of(session), SessionState::active);
    EXPECT_EQ(policies->status("slow").decided, 0u);
}

TEST_F(PolicyScenarios, TheScheduleIsAskedOnTheMinuteAndItsReasonIsPolicy) {
    auto rule = [](const PolicyRequest& request, const std::string&) {
        const auto& asked = std::get<ScheduleRequest>(request);
        return answer_of(asked.now - asked.session.created_at > 10min ? decision(SessionAction::suspend)
                                                                      : SessionDecision{});
    };
    auto policy = std::make_shared<ScriptedPolicy>("hours", std::vector{DecisionPoint::schedule}, rule);
    open({policy});
    auto session = create(world.request("alice"));
    world.run_for(15min);
    auto found = get(session.id);
    EXPECT_EQ(found.state, SessionState::suspended);
    EXPECT_EQ(found.last_change->reason, "policy");
    EXPECT_EQ(policy->asked, 11);
    for (const auto& request : policy->requests)
        EXPECT_EQ(std::get<ScheduleRequest>(request).now.time_since_epoch() % 1min, 0ns);
    EXPECT_THAT(types_of(session.id), Contains("policy.decided").Times(1));
}

TEST_F(PolicyScenarios, ATerminationByTheScheduleHasItsReason) {
    open({always("ender", DecisionPoint::schedule, decision(SessionAction::terminate))});
    auto session = create(world.request("alice"));
    world.run_for(2min);
    auto found = get(session.id);
    EXPECT_EQ(found.state, SessionState::terminated);
    EXPECT_EQ(found.termination_reason, TerminationReason::policy);
}

TEST_F(PolicyScenarios, KeepAtTheScheduleSetsTheNextQuestion) {
    auto policy = always("rests", DecisionPoint::schedule, decision(SessionAction::keep, 30min));
    open({policy});
    auto session = create(world.request("alice"));
    world.run_for(61min);
    EXPECT_EQ(policy->asked, 3);
    EXPECT_EQ(state_of(session), SessionState::active);
}

TEST_F(PolicyScenarios, WhoNeedsNotBeAskedAtTheScheduleIsNot) {
    auto policy = always("rests", DecisionPoint::schedule, SessionDecision{SessionAction::standard, "", 30min});
    open({policy});
    auto session = create(world.request("alice"));
    world.run_for(61min);
    EXPECT_EQ(policy->asked, 3);
    EXPECT_EQ(state_of(session), SessionState::active);
    // One that was switched on again has said nothing yet.
    world.run_for(5min);
    world.runtime().run(policies->set_enabled("rests", false, Call()));
    world.run_for(5min);
    EXPECT_EQ(policy->asked, 3);
    world.runtime().run(policies->set_enabled("rests", true, Call()));
    world.run_for(2min);
    EXPECT_EQ(policy->asked, 4);
    world.runtime().run(policies->reload(policies->options().sources, Call()));
    world.run_for(2min);
    EXPECT_EQ(policy->asked, 5);
}

TEST_F(PolicyScenarios, ARestEndsWhenTheClockIsSetBackToBeforeIt) {
    auto policy = always("rests", DecisionPoint::budget, SessionDecision{SessionAction::standard, "", 3h});
    open({policy});
    auto session = create(world.request("alice"));
    world.run_for(61min);
    EXPECT_EQ(policy->asked, 1);
    world.runtime().set_wall_time(world.runtime().environment().clock->wall_now() - 2h);
    world.run_for(10min);
    EXPECT_EQ(policy->asked, 2);
}

TEST_F(PolicyScenarios, TheBudgetIsAskedWithTheMonthsMoney) {
    auto rule = [](const PolicyRequest& request, const std::string&) {
        const auto& asked = std::get<BudgetRequest>(request);
        return answer_of(asked.spent_by_user >= 1 ? decision(SessionAction::terminate) : SessionDecision{});
    };
    auto policy = std::make_shared<ScriptedPolicy>("guard", std::vector{DecisionPoint::budget}, rule);
    adjust = [](SessionEngineOptions& engine) {
        engine.limits = {{LimitScope::user, "*", LimitResource::money_per_month, 40'000'000},
                         {LimitScope::tenant, "physics", LimitResource::money_per_month, 90'000'000}};
    };
    open({policy});
    auto request = world.request("alice");
    request.template_name = "paid";
    request.tenant = "physics";
    auto first = create(request);
    world.run_for(1h);
    auto second = create(request);
    world.run_for(45min);
    EXPECT_EQ(get(first.id).termination_reason, TerminationReason::budget) << "0.50 an hour each";
    EXPECT_EQ(state_of(second), SessionState::terminated) << "what ended sessions cost counts too";
    const auto& last = std::get<BudgetRequest>(policy->requests.back());
    EXPECT_EQ(last.limit_of_user, 40.0);
    EXPECT_EQ(last.limit_of_tenant, 90.0);
    EXPECT_EQ(last.currency, "USD");
    EXPECT_GE(last.spent_by_tenant, 1);
    EXPECT_LT(last.spent_by_session, last.spent_by_user);
}

TEST_F(PolicyScenarios, NoMoreThanTheShareIsStopped) {
    share = 0.2;
    open({always("zealot", DecisionPoint::schedule, decision(SessionAction::suspend))});
    std::vector<Session> all;
    for (int i = 0; i < 10; ++i) {
        Session session;
        world.run(world.engine().create(world.request("user" + std::to_string(i)), world.call()), &session);
        all.push_back(session);
    }
    for (const auto& session : all) world.run(world.engine().wait(session.id, SessionState::active, world.call()));
    world.run_for(5min);
    auto running = std::count_if(all.begin(), all.end(),
                                 [&](const auto& session) { return state_of(session) == SessionState::active; });
    EXPECT_EQ(running, 8);
    EXPECT_GE(policies->status("zealot").overruled, 8u);
    world.run_for(10min);
    running = std::count_if(all.begin(), all.end(),
                            [&](const auto& session) { return state_of(session) == SessionState::active; });
    EXPECT_LT(running, 8);
    EXPECT_GE(running, 6);
}

IsolationReport report_of(Verdict verdict) {
    IsolationReport report;
    report.id = "r";
    report.score.verdict = verdict;
    report.score.lower = 60;
    report.score.upper = 80;
    return report;
}

TEST_F(PolicyScenarios, APolicyMayBeStricterThanTheGate) {
    adjust = [](SessionEngineOptions& engine) {
        engine.templates.at("tiny").isolation = IsolationGate::isolated;
        engine.isolation_gate = [](Session, Call) -> Task<IsolationReport> { co_return report_of(Verdict::isolated); };
    };
    auto policy = always("strict", DecisionPoint::isolation, decision(SessionAction::terminate));
    open({policy});
    Session session;
    world.run(world.engine().create(world.request("alice"), world.call()), &session);
    world.run(world.engine().wait(session.id, SessionState::active, world.call()));
    EXPECT_EQ(state_of(session), SessionState::failed);
    EXPECT_EQ(get(session.id).failure_reason, "IsolationFailed");
    const auto& asked = std::get<IsolationRequest>(policy->requests.front());
    EXPECT_TRUE(asked.is_start);
    EXPECT_EQ(asked.verdict, "isolated");
    EXPECT_EQ(asked.score_lower, 60);
}

TEST_F(PolicyScenarios, APolicyCannotOpenTheGate) {
    adjust = [](SessionEngineOptions& engine) {
        engine.templates.at("tiny").isolation = IsolationGate::isolated;
        engine.isolation_gate = [](Session, Call) -> Task<IsolationReport> { co_return report_of(Verdict::degraded); };
    };
    auto policy = always("lenient", DecisionPoint::isolation, decision(SessionAction::keep));
    open({policy});
    Session session;
    world.run(world.engine().create(world.request("alice"), world.call()), &session);
    world.run(world.engine().wait(session.id, SessionState::active, world.call()));
    EXPECT_EQ(state_of(session), SessionState::failed);
    EXPECT_EQ(policy->asked, 0);
}

TEST_F(PolicyScenarios, ALookAtTheIsolationMayEndASession) {
    adjust = [](SessionEngineOptions& engine) {
        engine.isolation_reports = [](std::vector<Session> sessions, Call) -> Task<std::vector<IsolationReport>> {
            std::vector<IsolationReport> reports(sessions.size(), report_of(Verdict::degraded));
            co_return reports;
        };
    };
    open({always("strict", DecisionPoint::isolation, decision(SessionAction::suspend))});
    auto session = create(world.request("alice"));
    world.run_for(1min);
    auto found = get(session.id);
    EXPECT_EQ(found.state, SessionState::suspended);
    EXPECT_EQ(found.last_change->reason, "isolation_failed");
    EXPECT_THAT(types_of(session.id), Contains("session.isolation.checked"));
}

TEST_F(PolicyScenarios, AFullDiskIsAnInterruption) {
    auto policy = always("saver", DecisionPoint::interruption, decision(SessionAction::suspend));
    open({policy});
    auto session = create(world.request("alice"));
    world.points().tell({session.vm_id, VmState::running, "DiskHasSpace", ""});
    world.run_for(10s);
    EXPECT_EQ(policy->asked, 0);
    world.points().tell({session.vm_id, VmState::paused, "DiskFull", "no space"});
    world.run_for(10s);
    auto found = get(session.id);
    EXPECT_EQ(found.state, SessionState::suspended);
    EXPECT_EQ(found.last_change->reason, "preempted");
    EXPECT_EQ(std::get<InterruptionRequest>(policy->requests.front()).kind, "disk_full");
}

TEST_F(PolicyScenarios, AHostWithoutMemoryIsAnInterruption) {
    auto rule = [](const PolicyRequest& request, const std::string&) {
        return answer_of(session_of(request).user_id == "bob" ? decision(SessionAction::suspend) : SessionDecision{});
    };
    auto policy = std::make_shared<ScriptedPolicy>("saver", std::vector{DecisionPoint::interruption}, rule);
    open({policy});
    auto alice = create(world.request("alice")), bob = create(world.request("bob"));
    world.host().press_memory(false);
    world.run_for(10s);
    EXPECT_EQ(policy->asked, 0);
    world.host().press_memory(true);
    world.run_for(10s);
    EXPECT_EQ(policy->asked, 2);
    EXPECT_EQ(std::get<InterruptionRequest>(policy->requests.front()).kind, "memory_pressure");
    EXPECT_EQ(state_of(alice), SessionState::active);
    EXPECT_EQ(get(bob.id).last_change->reason, "preempted");
    EXPECT_EQ(state_of(bob), SessionState::suspended);
    EXPECT_THAT(types_of(alice.id), Contains("session.health.degraded"));
    world.host().press_memory(false);
    world.run_for(10s);
    EXPECT_EQ(policy->asked, 2);
    EXPECT_THAT(types_of(alice.id), Contains("session.health.recovered"));
}

SimulatorOptions two_machines() {
    SimulatorOptions host;
    host.places = {{"old", 2, 4ll << 30, false, 0, {{"rack", "a"}}}, {"new", 1, 1ll << 30, true, 0.1, {}}};
    return host;
}

class PlaceScenarios : public PolicyScenarios {
protected:
    PlaceScenarios() : PolicyScenarios(two_machines()) {}
    std::string place_of(const Session& session) {
        for (const auto& vm : world.host().vms())
            if (vm.id == get(session.id).vm_id) return vm.place;
        return "no VM";
    }
};

TEST_F(PlaceScenarios, AVmGoesWhereThePolicySays) {
    auto policy = always("picker", DecisionPoint::place, PlaceDecision{"new", "it is idle"});
    open({policy});
    auto session = create(world.request("alice"));
    EXPECT_EQ(place_of(session), "new");
    ASSERT_EQ(policy->requests.size(), 1u);
    const auto& asked = std::get<PlaceRequest>(policy->requests.front());
    EXPECT_EQ(asked.session.id, session.id);
    EXPECT_EQ(asked.candidates, two_machines().places);
    EXPECT_THAT(types_of(session.id), Contains("policy.decided"));
    EXPECT_EQ(policies->status("picker").decided, 1u);
    auto second = create(world.request("bob"));
    EXPECT_EQ(place_of(second), "old");
    EXPECT_EQ(policy->asked, 1) << "the new one is full: there is no choice";
}

TEST_F(PlaceScenarios, WithoutAnAnswerThatCountsTheProviderChooses) {
    auto policy = always("dreamer", DecisionPoint::place, PlaceDecision{"the moon", ""});
    open({policy});
    auto session = create(world.request("alice"));
    EXPECT_EQ(place_of(session), "old");
    EXPECT_THAT(types_of(session.id), Contains("policy.failed"));
}

TEST_F(PlaceScenarios, ASuspendedVmGivesItsPlaceAwayAndGoesOnElsewhere) {
    open({always("picker", DecisionPoint::place, PlaceDecision{"new", ""})});
    auto first = create(world.request("alice"));
    EXPECT_EQ(place_of(first), "new");
    world.run(world.engine().suspend(first.id, world.call()));
    world.run(world.engine().wait(first.id, SessionState::suspended, world.call()));
    auto second = create(world.request("bob"));
    EXPECT_EQ(place_of(second), "new");
    world.run(world.engine().resume(first.id, world.call()));
    world.run(world.engine().wait(first.id, SessionState::active, world.call()));
    EXPECT_EQ(place_of(first), "old");
    create(world.request("carol"));
    Session fourth;
    world.run(world.engine().create(world.request("dora"), world.call()), &fourth);
    world.run(world.engine().wait(fourth.id, SessionState::active, world.call()));
    EXPECT_EQ(get(fourth.id).failure_reason, "NoPlace");
}

/// One policy at several points that counts in its state how often it was asked about a session.
std::shared_ptr<ScriptedPolicy> counter(std::vector<DecisionPoint> points, PolicyDecision at_admit = AdmitDecision{}) {
    auto rule = [at_admit](const PolicyRequest& request, const std::string& state) {
        const auto point = point_of(request);
        auto decision = point == DecisionPoint::admit ? at_admit : standard_decision(point);
        return answer_of(decision, std::to_string(state.empty() ? 1 : std::stoi(state) + 1));
    };
    return std::make_shared<ScriptedPolicy>("counter", std::move(points), rule);
}

TEST_F(PlaceScenarios, WhatAPolicyLeavesAtTheCreationIsItsStateLater) {
    using enum DecisionPoint;
    auto policy = counter({admit, place, size, schedule});
    open({policy});
    world.run(world.engine().plan(world.request("alice")));
    EXPECT_EQ(policy->asked, 2);
    auto session = create(world.request("alice"));
    EXPECT_EQ(policy->asked, 5) << "size, admit, place";
    auto stored = [&] {
        std::vector<Record> records;
        world.run(world.disk().list("policy_state", "", 100), &records);
        return records;
    };
    ASSERT_EQ(stored().size(), 1u) << "a dry run leaves nothing";
    EXPECT_EQ(stored()[0].id, session.id + "/counter");
    EXPECT_EQ(stored()[0].json, "3");
    world.run_for(1min);
    EXPECT_EQ(stored()[0].json, "4");
    world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    world.run_for(1min);
    EXPECT_TRUE(stored().empty());
}

TEST_F(PlaceScenarios, OfASessionThatDoesNotComeToBeNothingIsKept) {
    using enum DecisionPoint;
    auto policy = counter({size, admit}, AdmitDecision{AdmitDecision::Action::deny, "no"});
    open({policy});
    world.run(world.engine().create(world.request("alice"), world.call()));
    EXPECT_EQ(world.last_code, Errc::admission_denied);
    EXPECT_EQ(policy->asked, 2);
    std::vector<Record> records;
    world.run(world.disk().list("policy_state", "", 100), &records);
    EXPECT_TRUE(records.empty());
}

TEST_F(PolicyScenarios, WhatFailsAfterAnInterruptionIsNotWrittenAgain) {
    auto policy = always("cutter", DecisionPoint::interruption, decision(SessionAction::disconnect));
    open({policy});
    auto session = create(world.request("alice"));
    watch(session, 1);
    SimulatorFaults faults;
    faults.fail = 1'000'000;
    world.host().set_faults(faults);
    world.points().tell({session.vm_id, VmState::paused, "DiskFull", "no space"});
    world.run_for(10s);
    EXPECT_EQ(policy->asked, 1);
    EXPECT_THAT(types_of(session.id), Contains("session.health.degraded").Times(1));
    EXPECT_THAT(types_of(session.id), Not(Contains("session.clients.disconnected")));
}

TEST_F(PolicyScenarios, WhereNobodyIsConnectedNobodyIsDisconnected) {
    open({always("cutter", DecisionPoint::schedule, decision(SessionAction::disconnect))});
    auto session = create(world.request("alice"));
    world.run_for(5min);
    EXPECT_THAT(types_of(session.id), Contains("policy.decided").Times(1));
    EXPECT_THAT(types_of(session.id), Not(Contains("session.clients.disconnected")));
    watch(session, 2);
    world.run_for(5min);
    EXPECT_THAT(types_of(session.id), Contains("session.clients.disconnected").Times(1));
}

TEST_F(PolicyScenarios, UseWhileThePolicyThinksKeepsTheClientsConnected) {
    auto slow = always("slow", DecisionPoint::idle, decision(SessionAction::disconnect));
    slow->delay = 40ms;
    adjust = [&](SessionEngineOptions&) { slow->clock = world.runtime().environment().clock; };
    open({slow});
    auto session = idle_session();
    watch(session, 1);
    slow->thinks = [&] {
        boost::asio::co_spawn(world.runtime().environment().executor, world.engine().touch(session.id, world.call()),
                              boost::asio::detached);
    };
    world.run_for(15min);
    EXPECT_EQ(slow->asked, 1);
    VmActivity seen;
    world.run(world.provider().activity(session.vm_id, world.call()), &seen);
    EXPECT_EQ(seen.vnc_clients, 1u);
    EXPECT_THAT(types_of(session.id), Not(Contains("session.clients.disconnected")));
}

TEST_F(PolicyScenarios, WhoLeavesAKeptSessionIsSeen) {
    auto policy = always("keeper", DecisionPoint::idle, decision(SessionAction::keep));
    open({policy});
    auto session = idle_session();
    watch(session, 1);
    world.run_for(15min);
    ASSERT_GE(policy->asked, 1) << "who only looks does not use it";
    EXPECT_THAT(types_of(session.id), Not(Contains("session.clients.left")));
    watch(session, 0);
    world.run_for(15min);
    EXPECT_THAT(types_of(session.id), Contains("session.clients.left").Times(1));
}

TEST_F(PolicyScenarios, ARefusedStartStaysRefusedForASecondSession) {
    share = 0.2;
    adjust = [](SessionEngineOptions& engine) {
        engine.templates.at("tiny").isolation = IsolationGate::isolated;
        engine.isolation_gate = [](Session, Call) -> Task<IsolationReport> { co_return report_of(Verdict::isolated); };
    };
    open({always("strict", DecisionPoint::isolation, decision(SessionAction::terminate))});
    for (auto user : {"alice", "bob"}) {
        Session session;
        world.run(world.engine().create(world.request(user), world.call()), &session);
        world.run(world.engine().wait(session.id, SessionState::active, world.call()));
        EXPECT_EQ(state_of(session), SessionState::failed) << user;
    }
    EXPECT_EQ(policies->status("strict").overruled, 0u);
}

TEST_F(PolicyScenarios, ASuspensionThatIsUndoneAtOnceIsKnown) {
    auto once = std::make_shared<bool>(true);
    auto rule = [once](const PolicyRequest&, const std::string&) {
        return answer_of(std::exchange(*once, false) ? decision(SessionAction::suspend) : SessionDecision{});
    };
    open({std::make_shared<ScriptedPolicy>("hasty", std::vector{DecisionPoint::schedule}, rule)});
    auto session = create(world.request("alice"));
    world.run_for(2min);
    ASSERT_EQ(state_of(session), SessionState::suspended);
    world.run(world.engine().resume(session.id, world.call()));
    world.run(world.engine().wait(session.id, SessionState::active, world.call()));
    EXPECT_EQ(policies->status("hasty").came_back, 1u);
    EXPECT_EQ(policies->status("hasty").suspensions, 1u);
}

TEST_F(PolicyScenarios, AStateOutlivesTheOwnerAndEndsWithItsSession) {
    auto counter = [] {
        auto rule = [](const PolicyRequest&, const std::string& state) {
            return answer_of(SessionDecision{}, std::to_string(state.empty() ? 1 : std::stoi(state) + 1));
        };
        return std::make_shared<ScriptedPolicy>("counter", std::vector{DecisionPoint::schedule}, rule);
    };
    open({counter()});
    auto session = create(world.request("alice"));
    auto stored = [&] {
        std::optional<Record> record;
        world.run(world.disk().get("policy_state", session.id + "/counter"), &record);
        return record ? record->json : "";
    };
    world.run_for(3min);
    EXPECT_EQ(stored(), "3");
    open({counter()});
    world.run_for(2min);
    EXPECT_EQ(stored(), "5");
    world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    world.run_for(1min);
    EXPECT_EQ(stored(), "");
}

TEST_F(PolicyScenarios, AHungPolicyStallsNobodyElse) {
    auto hung = always("hung", DecisionPoint::schedule, decision(SessionAction::suspend));
    hung->delay = 24h * 365;
    adjust = [&](SessionEngineOptions&) { hung->clock = world.runtime().environment().clock; };
    open({hung});
    std::vector<Session> all;
    for (int i = 0; i < 20; ++i) all.push_back(idle_session("user" + std::to_string(i)));
    world.run_for(30min);
    for (const auto& session : all) EXPECT_EQ(state_of(session), SessionState::suspended);
    EXPECT_LE(policies->status("hung").asked, 5u + 6u) << "the breaker is open most of the time";
    const auto before = world.runtime().environment().clock->monotonic_now();
    create(world.request("bob"));
    EXPECT_LE(world.runtime().environment().clock->monotonic_now() - before, 5s);
}

}  // namespace
}  // namespace infrastructure_sdk
