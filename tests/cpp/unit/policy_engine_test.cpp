// Questions to policies that behave and to those that do not.

#include <infrastructure_sdk/policy/policy_engine.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <infrastructure_sdk/virtual_runtime.hpp>

#include "support/scripted_policy.hpp"

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using test::always;
using test::answer_of;
using test::options_of;
using test::ScriptedPolicy;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Hosts = std::vector<std::shared_ptr<PolicyHost>>;

const SessionDecision suspends{SessionAction::suspend, "enough", {}};
const SessionDecision keeps{SessionAction::keep, "stay", {}};

/// An engine on a virtual clock, with a store that outlives it.
class World {
public:
    World() : store_(make_memory_store(runtime.environment())) {}
    ~World() {
        if (engine) runtime.run(engine->close());
    }

    void open(PolicyEngineOptions options) {
        if (engine) runtime.run(engine->close());
        engine = std::make_unique<PolicyEngine>(runtime.environment(), store_, std::move(options));
        runtime.run(engine->open(Call()));
    }
    void open(Hosts hosts) { open(options_of(std::move(hosts))); }

    PolicyVerdict decide(PolicyRequest request, PolicyQuestion question = plenty()) {
        return runtime.run(engine->decide(std::move(request), question, Call()));
    }
    /// Asks and makes it true. The events.
    std::vector<Event> settle(PolicyRequest request, PolicyQuestion question = plenty()) {
        auto verdict = decide(std::move(request), question);
        Batch batch;
        engine->record(verdict, batch);
        auto events = batch.events;
        runtime.run(commit(std::move(batch)));
        return events;
    }
    std::vector<Event> resume(const std::string& session) {
        Batch batch;
        engine->note_resumed(session, batch);
        auto events = batch.events;
        runtime.run(commit(std::move(batch)));
        return events;
    }
    Store& store() { return *store_; }
    Clock& clock() { return *runtime.environment().clock; }

    /// So many sessions that the rate limit is far away.
    static PolicyQuestion plenty() {
        PolicyQuestion question;
        question.running = 1000;
        return question;
    }

    VirtualRuntime runtime;
    std::unique_ptr<PolicyEngine> engine;

private:
    Task<void> commit(Batch batch) { co_await store_->commit(std::move(batch)); }
    std::shared_ptr<Store> store_;
};

ScheduleRequest schedule(const std::string& session = "s-1", const std::string& tenant = "") {
    ScheduleRequest request;
    request.session.id = session;
    request.session.user_id = "alice";
    request.session.tenant = tenant;
    return request;
}

std::vector<std::string> types_of(const std::vector<Event>& events) {
    std::vector<std::string> types;
    for (const auto& event : events) types.push_back(event.type);
    return types;
}

TEST(PolicyEngine, ShowsWhichProtectionsThisHostDoesNotGive) {
    World world;
    auto bare = always("bare", DecisionPoint::schedule, suspends);
    bare->missing = {"network: Operation not permitted"};
    world.open({bare, always("held", DecisionPoint::schedule, suspends)});
    EXPECT_THAT(world.engine->status("bare").missing_protections, ElementsAre("network: Operation not permitted"));
    EXPECT_THAT(world.engine->status("held").missing_protections, IsEmpty());
    EXPECT_EQ(json(world.engine->status("bare"))["missing_protections"][0], "network: Operation not permitted");
}

TEST(PolicyEngine, TellsOnceOfAPolicyThatDoesNotComeBack) {
    World world;
    auto stuck = always("stuck", DecisionPoint::schedule, suspends);
    auto late = always("late", DecisionPoint::idle, suspends);
    stuck->clock = late->clock = world.runtime.environment().clock;
    stuck->delay = 1h;
    late->delay = 5s;
    world.open({stuck, late});
    IdleRequest idle;
    idle.session.id = "s-1";
    world.settle(schedule());
    world.settle(schedule());
    world.settle(idle);
    EXPECT_EQ(world.engine->status("stuck").overdue, 2u);
    EXPECT_EQ(world.engine->status("late").overdue, 1u);
    world.runtime.run_for(2min);
    EXPECT_EQ(world.engine->status("late").overdue, 0u);
    std::vector<Event> told;
    for (auto& event : world.runtime.run(world.store().events({})))
        if (event.type == "policy.stuck") told.push_back(event);
    ASSERT_EQ(told.size(), 1u);
    EXPECT_EQ(told[0].subject, "stuck");
    auto data = json::parse(told[0].data);
    EXPECT_EQ(data["overdue"], 2);
    EXPECT_EQ(data["point"], "schedule");
    EXPECT_THAT(data["reason"].get<std::string>(), HasSubstr("untrusted: true"));
    world.runtime.run_for(1h);
    EXPECT_EQ(world.engine->status("stuck").overdue, 0u);
}

TEST(PolicyEngine, TellsAgainOfAPolicyWhoseHostGaveItUpAfterItHadComeBack) {
    World world;
    auto rule = [](const PolicyRequest& request, const std::string&) {
        return not_decided(PolicyAnswer::Outcome::timed_out, point_of(request), "late");
    };
    auto looping = std::make_shared<ScriptedPolicy>("looping", std::vector{DecisionPoint::schedule}, rule);
    looping->clock = world.runtime.environment().clock;
    world.open({looping});
    auto told = [&] {
        auto events = world.runtime.run(world.store().events({}));
        return std::count_if(events.begin(), events.end(), [](const Event& e) { return e.type == "policy.stuck"; });
    };
    world.settle(schedule());
    world.runtime.run_for(1min);
    EXPECT_EQ(told(), 0) << "it came back";
    looping->given_up = 1;
    world.settle(schedule());
    EXPECT_EQ(world.engine->status("looping").overdue, 1u);
    world.runtime.run_for(1min);
    EXPECT_EQ(told(), 1);
    looping->given_up = 0;
    world.runtime.run_for(1min);
    looping->given_up = 1;
    world.settle(schedule());
    world.runtime.run_for(1min);
    EXPECT_EQ(told(), 2);
}

TEST(PolicyEngine, TheFirstAnswerThatIsNotStandardDecides) {
    World world;
    auto quiet = always("quiet", DecisionPoint::schedule, SessionDecision{});
    auto first = always("first", DecisionPoint::schedule, suspends);
    auto second = always("second", DecisionPoint::schedule, keeps);
    world.open({quiet, first, second});
    EXPECT_TRUE(world.engine->asks(DecisionPoint::schedule));
    EXPECT_FALSE(world.engine->asks(DecisionPoint::idle));
    auto verdict = world.decide(schedule());
    EXPECT_EQ(verdict.decision, PolicyDecision(suspends));
    EXPECT_EQ(verdict.reason(), "first: enough");
    EXPECT_EQ(quiet->asked, 1);
    EXPECT_EQ(second->asked, 0);
}

TEST(PolicyEngine, TellsHowLongNobodyNeedsToBeAsked) {
    const SessionDecision none{}, hour{SessionAction::standard, "", 1h}, week{SessionAction::standard, "", 168h};
    const SessionDecision stays{SessionAction::keep, "stay", 2h};
    auto told = [](const std::vector<SessionDecision>& answers) {
        World world;
        Hosts hosts;
        for (const auto& answer : answers)
            hosts.push_back(always("policy-" + std::to_string(hosts.size()), DecisionPoint::schedule, answer));
        world.open(std::move(hosts));
        return world.decide(schedule()).ask_again_after;
    };
    EXPECT_EQ(told({hour}), 1h);
    EXPECT_EQ(told({week}), 24h) << "a day at most";
    EXPECT_EQ(told({week, hour}), 1h);
    EXPECT_EQ(told({hour, none}), 0s) << "one of them wants to be asked";
    EXPECT_EQ(told({none, stays}), 2h) << "who decides says it";
    EXPECT_EQ(told({hour, stays}), 1h) << "one ahead will decide otherwise sooner";
    EXPECT_EQ(told({suspends}), 0s);
    World world;
    auto raises = always("raises", DecisionPoint::schedule, hour);
    raises->raises = true;
    world.open({always("rests", DecisionPoint::schedule, hour), raises});
    EXPECT_EQ(world.decide(schedule()).ask_again_after, 0s) << "one gave no answer";
    const auto revision = world.engine->revision();
    world.runtime.run(world.engine->set_enabled("raises", false, Call()));
    EXPECT_NE(world.engine->revision(), revision);
    EXPECT_EQ(world.decide(schedule()).ask_again_after, 1h);
}

TEST(PolicyEngine, ADecisionIsAnEventWithWhoDecidedAndWhy) {
    World world;
    world.open({always("first", DecisionPoint::schedule, suspends)});
    auto events = world.settle(schedule("s-1", "physics"));
    ASSERT_THAT(types_of(events), ElementsAre("policy.decided"));
    EXPECT_EQ(events[0].subject, "s-1");
    auto data = json::parse(events[0].data);
    EXPECT_EQ(data["policy"],
              json({{"name", "first"}, {"version", "1"}, {"author", "tests"}, {"sha256", std::string(64, 'a')}}));
    EXPECT_EQ(data["point"], "schedule");
    EXPECT_EQ(data["action"], "suspend");
    EXPECT_EQ(data["reason"], "enough");
    EXPECT_EQ(data["tenant"], "physics");
    EXPECT_EQ(data["decision"]["action"], "suspend");
    EXPECT_EQ(world.engine->status("first").decided, 1u);
}

TEST(PolicyEngine, OneThatIsLateRaisesOrLiesCountsAsStandard) {
    struct Case {
        const char* what;
        const char* outcome;
        std::function<void(ScriptedPolicy&, World&)> spoil;
        PolicyAnswer answer;
    };
    PolicyAnswer huge = answer_of(suspends, json(std::string(policy_state_limit, 'x')).dump());
    PolicyAnswer refused = answer_of(suspends);
    refused.outcome = PolicyAnswer::Outcome::refused;
    auto fine = [](ScriptedPolicy&, World&) {};
    const Case cases[] = {
        {"late", "timed_out",
         [](ScriptedPolicy& policy, World& world) {
             policy.clock = world.runtime.environment().clock;
             policy.delay = 51ms;
         },
         answer_of(suspends)},
        {"never", "timed_out",
         [](ScriptedPolicy& policy, World& world) {
             policy.clock = world.runtime.environment().clock;
             policy.delay = 24h * 365;
         },
         answer_of(suspends)},
        {"raises", "failed", [](ScriptedPolicy& policy, World&) { policy.raises = true; }, answer_of(suspends)},
        {"another type", "invalid", fine, answer_of(AdmitDecision{AdmitDecision::Action::deny, ""})},
        {"out of bounds", "invalid", fine, answer_of(SessionDecision{SessionAction::keep, "", -1s})},
        {"a huge state", "invalid", fine, huge},
        {"no state", "invalid", fine, answer_of(suspends, "{")},
        {"refused", "refused", fine, refused},
    };
    for (const auto& bad : cases) {
        World world;
        auto answer = bad.answer;
        auto policy =
            std::make_shared<ScriptedPolicy>("bad", std::vector{DecisionPoint::schedule},
                                             [answer](const PolicyRequest&, const std::string&) { return answer; });
        bad.spoil(*policy, world);
        auto next = always("next", DecisionPoint::schedule, keeps);
        world.open({policy, next});
        const auto before = world.clock().monotonic_now();
        auto verdict = world.decide(schedule());
        EXPECT_LE(world.clock().monotonic_now() - before, 50ms) << bad.what;
        EXPECT_EQ(verdict.decision, PolicyDecision(keeps)) << bad.what << ": the next one is asked";
        Batch batch;
        world.engine->record(verdict, batch);
        ASSERT_THAT(types_of(batch.events), ElementsAre("policy.failed", "policy.decided")) << bad.what;
        EXPECT_EQ(json::parse(batch.events[0].data)["outcome"], bad.outcome) << bad.what;
        EXPECT_THAT(batch.puts, IsEmpty()) << bad.what;
        EXPECT_EQ(world.engine->status("bad").failed, 1u) << bad.what;
        EXPECT_THAT(world.engine->status("bad").last_failure, HasSubstr(bad.outcome));
    }
}

TEST(PolicyEngine, AnAnswerWithinTheBudgetIsWaitedFor) {
    World world;
    auto slow = always("slow", DecisionPoint::schedule, suspends);
    slow->clock = world.runtime.environment().clock;
    slow->delay = 49ms;
    world.open({slow});
    EXPECT_EQ(world.decide(schedule()).decision, PolicyDecision(suspends));
}

TEST(PolicyEngine, OneThatNeverAnswersIsLeftAloneAndTriedAgain) {
    World world;
    auto hung = always("hung", DecisionPoint::schedule, suspends);
    hung->clock = world.runtime.environment().clock;
    hung->delay = 24h;
    world.open({hung});
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(world.decide(schedule()).is_standard());
    auto status = world.engine->status("hung");
    EXPECT_EQ(status.asked, 5u);
    EXPECT_EQ(status.breaker, "open");
    world.runtime.run_for(5min);
    EXPECT_EQ(world.engine->status("hung").breaker, "half_open");
    world.decide(schedule());
    EXPECT_EQ(world.engine->status("hung").asked, 6u);
    for (int i = 0; i < 10; ++i) {
        world.runtime.run_for(5min);
        world.decide(schedule());
    }
    EXPECT_THAT(world.engine->status("hung").last_failure, HasSubstr("it has not come back from 8 questions"));
    hung->delay = {};
    world.runtime.run_for(25h);
    EXPECT_EQ(world.decide(schedule()).decision, PolicyDecision(suspends));
    EXPECT_EQ(world.engine->status("hung").breaker, "closed");
}

/// So many questions at once, each about a session of its own.
std::vector<PolicyVerdict> decide_at_once(World& world, std::size_t count, std::stop_token stop = {}) {
    auto verdicts = std::make_shared<std::vector<PolicyVerdict>>();
    auto ask = [](PolicyEngine& engine, std::string id, Call call,
                  std::shared_ptr<std::vector<PolicyVerdict>> into) -> Task<void> {
        ScheduleRequest asked = schedule(id);
        auto verdict = co_await engine.decide(asked, World::plenty(), call);
        into->push_back(std::move(verdict));
    };
    for (std::size_t i = 0; i < count; ++i)
        boost::asio::co_spawn(world.runtime.environment().executor,
                              ask(*world.engine, "s-" + std::to_string(i), {Deadline(), stop, ""}, verdicts),
                              [](std::exception_ptr) {});
    world.runtime.run_for(200ms);
    return std::move(*verdicts);
}

TEST(PolicyEngine, ManyQuestionsAtOnceAreAllAnswered) {
    World world;
    auto slow = always("slow", DecisionPoint::schedule, suspends);
    slow->clock = world.runtime.environment().clock;
    slow->delay = 20ms;
    world.open({slow});
    auto verdicts = decide_at_once(world, 64);
    ASSERT_EQ(verdicts.size(), 64u);
    for (const auto& verdict : verdicts) EXPECT_FALSE(verdict.is_standard());
    EXPECT_EQ(world.engine->status("slow").failed, 0u);
}

TEST(PolicyEngine, QuestionsThatWereCalledOffHoldNoPlaceOnceItCameBack) {
    World world;
    auto slow = always("slow", DecisionPoint::schedule, suspends);
    slow->clock = world.runtime.environment().clock;
    slow->delay = 20ms;
    world.open({slow});
    std::stop_source stop;
    slow->thinks = [&] { stop.request_stop(); };
    EXPECT_THAT(decide_at_once(world, 16, stop.get_token()), IsEmpty());
    slow->thinks = nullptr;
    EXPECT_EQ(decide_at_once(world, 16).size(), 16u);
    EXPECT_EQ(world.engine->status("slow").failed, 0u);
}

TEST(PolicyEngine, WhatThrowsInsteadOfAnsweringAtOnceHasFailed) {
    World world;
    auto thrower = std::make_shared<ScriptedPolicy>(
        "thrower", std::vector{DecisionPoint::schedule},
        [](const PolicyRequest&, const std::string&) -> PolicyAnswer { throw std::runtime_error("out of luck"); });
    world.open({thrower, always("next", DecisionPoint::schedule, keeps)});
    for (int i = 0; i < 5; ++i) EXPECT_EQ(world.decide(schedule()).decision, PolicyDecision(keeps));
    EXPECT_EQ(world.engine->status("thrower").breaker, "open");
    // The one that is tried does not stay under way for ever.
    for (int i = 0; i < 2; ++i) {
        world.runtime.run_for(5min);
        world.decide(schedule());
    }
    EXPECT_EQ(world.engine->status("thrower").failed, 7u);
}

TEST(PolicyEngine, AShadowIsWrittenAndNotCarriedOut) {
    World world;
    auto options = options_of(
        {always("shadow", DecisionPoint::schedule, suspends), always("real", DecisionPoint::schedule, keeps)});
    options.sources[0].mode = PolicyMode::shadow;
    world.open(options);
    auto verdict = world.decide(schedule());
    EXPECT_EQ(verdict.decision, PolicyDecision(keeps));
    EXPECT_THAT(types_of(world.settle(schedule("s-2"))), ElementsAre("policy.shadowed", "policy.decided"));
    PolicyQuestion dry = World::plenty();
    dry.dry_run = true;
    EXPECT_THAT(types_of(world.settle(schedule("s-3"), dry)), ElementsAre("policy.decided"));
    EXPECT_EQ(world.engine->status("shadow").shadowed, 2u);
}

TEST(PolicyEngine, WhatIsSaidAgainIsToldOnce) {
    World world;
    auto policy = always("keeper", DecisionPoint::schedule, keeps);
    world.open({policy});
    EXPECT_THAT(types_of(world.settle(schedule())), ElementsAre("policy.decided"));
    EXPECT_THAT(world.settle(schedule()), IsEmpty());
    EXPECT_THAT(types_of(world.settle(schedule("s-2"))), ElementsAre("policy.decided"));
    Batch batch;
    world.engine->forget("s-1", batch);
    world.engine->note_forgotten("s-1");
    EXPECT_THAT(types_of(world.settle(schedule())), ElementsAre("policy.decided"));
}

TEST(PolicyEngine, WhatWasNotRecordedIsToldTheNextTime) {
    World world;
    world.open({always("keeper", DecisionPoint::schedule, keeps)});
    EXPECT_TRUE(world.decide(schedule()).has_news());
    EXPECT_THAT(types_of(world.settle(schedule())), ElementsAre("policy.decided"));
    EXPECT_FALSE(world.decide(schedule()).has_news());
}

TEST(PolicyEngine, NumbersInAReasonAndFailuresAgainAreNoNews) {
    World world;
    auto count = std::make_shared<int>(0);
    auto rule = [count](const PolicyRequest&, const std::string&) {
        return answer_of(SessionDecision{SessionAction::keep, "quiet for " + std::to_string(++*count) + " min", {}});
    };
    auto bad = std::make_shared<ScriptedPolicy>("bad", std::vector{DecisionPoint::schedule},
                                                [count](const PolicyRequest&, const std::string&) {
                                                    PolicyAnswer answer;
                                                    answer.outcome = PolicyAnswer::Outcome::failed;
                                                    answer.detail = "line " + std::to_string(*count);
                                                    return answer;
                                                });
    world.open({std::make_shared<ScriptedPolicy>("counts", std::vector{DecisionPoint::schedule}, rule), bad});
    EXPECT_THAT(types_of(world.settle(schedule())), ElementsAre("policy.decided"));
    for (int i = 0; i < 5; ++i) EXPECT_THAT(world.settle(schedule()), IsEmpty());
    world.open({bad});
    EXPECT_THAT(types_of(world.settle(schedule())), ElementsAre("policy.failed"));
    EXPECT_THAT(world.settle(schedule()), IsEmpty());
    EXPECT_EQ(world.engine->status("bad").failed, 2u);
}

TEST(PolicyEngine, EachSuspensionIsToldAndARowOfItsOwn) {
    World world;
    world.open({always("zealot", DecisionPoint::schedule, suspends)});
    for (int i = 0; i < 3; ++i) EXPECT_THAT(types_of(world.settle(schedule())), ElementsAre("policy.decided"));
    EXPECT_EQ(world.runtime.run(world.store().list("policy_stop", "", 100)).size(), 3u);
}

TEST(PolicyEngine, AFifthOfTheSessionsCanBeStoppedWithinTenMinutes) {
    World world;
    world.open({always("zealot", DecisionPoint::schedule, suspends)});
    auto stop = [&](int i, std::size_t running) {
        PolicyQuestion question;
        question.running = running;
        return types_of(world.settle(schedule("s-" + std::to_string(i)), question));
    };
    for (int i = 0; i < 20; ++i) {
        const std::string expected = i < 4 ? "policy.decided" : "policy.overruled";
        EXPECT_THAT(stop(i, static_cast<std::size_t>(20 - std::min(i, 4))), ElementsAre(expected)) << i;
    }
    EXPECT_EQ(world.engine->status("zealot").overruled, 16u);
    // It is not forgotten with the process.
    world.open({always("zealot", DecisionPoint::schedule, suspends)});
    EXPECT_THAT(stop(30, 16), ElementsAre("policy.overruled"));
    world.runtime.run_for(10min);
    EXPECT_THAT(stop(31, 16), ElementsAre("policy.decided"));
}

IsolationRequest isolation(const std::string& session, bool is_start) {
    IsolationRequest asked;
    asked.session.id = session;
    asked.verdict = "degraded";
    asked.is_start = is_start;
    return asked;
}

TEST(PolicyEngine, ASecondStartIsRefusedToo) {
    World world;
    world.open({always("strict", DecisionPoint::isolation, SessionDecision{SessionAction::terminate, "", {}})});
    PolicyQuestion question;
    question.only_stricter = true;
    question.can_suspend = false;
    for (auto id : {"s-1", "s-2", "s-1"})
        EXPECT_THAT(types_of(world.settle(isolation(id, true), question)), ElementsAre("policy.decided")) << id;
    EXPECT_EQ(world.engine->status("strict").suspensions, 0u);
    EXPECT_TRUE(world.runtime.run(world.store().list("policy_stop", "", 100)).empty()) << "nothing was stopped";
}

TEST(PolicyEngine, WhatIsNotIsolatedIsStoppedBeyondTheLimit) {
    World world;
    world.open(
        {always("strict", DecisionPoint::isolation, suspends), always("zealot", DecisionPoint::schedule, suspends)});
    PolicyQuestion few;
    few.running = 2;
    for (auto id : {"s-1", "s-2"})
        EXPECT_THAT(types_of(world.settle(isolation(id, false), few)), ElementsAre("policy.decided")) << id;
    EXPECT_THAT(types_of(world.settle(schedule("s-3"), few)), ElementsAre("policy.overruled"));
}

TEST(PolicyEngine, NobodyIsDisconnectedAtTheGate) {
    World world;
    world.open({always("mild", DecisionPoint::isolation, SessionDecision{SessionAction::disconnect, "", {}})});
    EXPECT_THAT(types_of(world.settle(isolation("s-1", true))), ElementsAre("policy.overruled"));
    EXPECT_EQ(world.engine->status("mild").decided, 0u);
    EXPECT_THAT(types_of(world.settle(isolation("s-1", false))), ElementsAre("policy.decided"));
}

TEST(PolicyEngine, WhatDidNotHappenTakesNoPlace) {
    World world;
    world.open({always("zealot", DecisionPoint::schedule, suspends)});
    PolicyQuestion few;
    few.running = 5;
    for (int i = 0; i < 3; ++i) EXPECT_FALSE(world.decide(schedule(), few).is_standard());
    auto held = world.decide(schedule(), few);
    EXPECT_TRUE(world.decide(schedule("s-2"), few).is_standard()) << "its place is taken";
    world.engine->overrule(held, "no room");
    EXPECT_TRUE(held.is_standard());
    Batch batch;
    world.engine->record(held, batch);
    ASSERT_THAT(types_of(batch.events), ElementsAre("policy.overruled"));
    EXPECT_EQ(json::parse(batch.events[0].data)["why"], "no room");
    EXPECT_FALSE(world.decide(schedule(), few).is_standard());
}

PolicyEngineOptions canary_of(std::shared_ptr<ScriptedPolicy> policy) {
    auto options = options_of({std::move(policy)});
    options.sources[0].mode = PolicyMode::canary;
    options.sources[0].canary_tenants = {"physics"};
    return options;
}

TEST(PolicyEngine, ACanaryIsTakenBackWhenItsSessionsComeBack) {
    World world;
    world.open(canary_of(always("bold", DecisionPoint::schedule, suspends)));
    EXPECT_THAT(types_of(world.settle(schedule("a-1", "arts"))), ElementsAre("policy.shadowed"));
    for (int i = 0; i < 4; ++i) {
        auto id = "p-" + std::to_string(i);
        EXPECT_THAT(types_of(world.settle(schedule(id, "physics"))), ElementsAre("policy.decided"));
        world.runtime.run_for(1min);
        const std::vector<std::string> expected(i == 3 ? 1 : 0, "policy.rolled_back");
        const auto revision = world.engine->revision();
        EXPECT_EQ(types_of(world.resume(id)), expected) << i;
        EXPECT_EQ(world.engine->revision() != revision, i == 3);
    }
    EXPECT_TRUE(world.engine->status("bold").rolled_back);
    EXPECT_EQ(world.engine->status("bold").came_back, 4u);
    EXPECT_THAT(types_of(world.settle(schedule("p-9", "physics"))), ElementsAre("policy.shadowed"));
    // A new owner knows it; a new version is a new canary; so is one that was enabled by hand.
    world.open(canary_of(always("bold", DecisionPoint::schedule, suspends)));
    EXPECT_TRUE(world.engine->status("bold").rolled_back);
    auto other = always("bold", DecisionPoint::schedule, suspends);
    other->set_sha256(std::string(64, 'b'));
    world.open(canary_of(other));
    EXPECT_FALSE(world.engine->status("bold").rolled_back);
    world.open(canary_of(always("bold", DecisionPoint::schedule, suspends)));
    EXPECT_FALSE(world.runtime.run(world.engine->set_enabled("bold", true, Call())).rolled_back);
}

TEST(PolicyEngine, SessionsThatComeBackLateOrByThemselvesAreNoSign) {
    World world;
    world.open(canary_of(always("bold", DecisionPoint::schedule, suspends)));
    for (int i = 0; i < 10; ++i) {
        auto id = "p-" + std::to_string(i);
        world.settle(schedule(id, "physics"));
        world.runtime.run_for(16min);
        EXPECT_THAT(world.resume(id), IsEmpty());
        EXPECT_THAT(world.resume("other"), IsEmpty());
    }
    EXPECT_FALSE(world.engine->status("bold").rolled_back);
    EXPECT_EQ(world.engine->status("bold").suspensions, 10u);
}

TEST(PolicyEngine, ACanaryIsTakenBackForOneSessionThatFlaps) {
    World world;
    auto options = canary_of(always("bold", DecisionPoint::schedule, suspends));
    world.open(options);
    for (int i = 0; i < 4; ++i) {
        // A new owner knows what was before.
        if (i == 2) world.open(options);
        EXPECT_THAT(types_of(world.settle(schedule("p-1", "physics"))), ElementsAre("policy.decided"));
        world.runtime.run_for(1min);
        const std::vector<std::string> expected(i == 3 ? 1 : 0, "policy.rolled_back");
        EXPECT_EQ(types_of(world.resume("p-1")), expected) << i;
        EXPECT_THAT(world.resume("p-1"), IsEmpty()) << "it came back once";
    }
    EXPECT_EQ(world.engine->status("bold").suspensions, 4u);
}

TEST(PolicyEngine, SessionsThatWereEndedCannotComeBackAndAreNotCounted) {
    World world;
    world.open(
        canary_of(always("bold", DecisionPoint::schedule, SessionDecision{SessionAction::terminate, "enough", {}})));
    for (int i = 0; i < 5; ++i) world.settle(schedule("p-" + std::to_string(i), "physics"));
    EXPECT_EQ(world.engine->status("bold").suspensions, 0u);
}

TEST(PolicyEngine, ARestoredRateLimitKnowsEveryStopOfASession) {
    World world;
    world.open({always("zealot", DecisionPoint::schedule, suspends)});
    for (int i = 0; i < 2; ++i) world.settle(schedule("s-1"));
    world.open({always("zealot", DecisionPoint::schedule, suspends)});
    PolicyQuestion few;
    few.running = 10;  // and two that were stopped: a fifth of 12 is 2
    EXPECT_THAT(types_of(world.settle(schedule("s-2"), few)), ElementsAre("policy.overruled"));
}

std::shared_ptr<ScriptedPolicy> counter() {
    auto rule = [](const PolicyRequest&, const std::string& state) {
        auto count = state.empty() ? 0 : json::parse(state)["count"].get<int>();
        return answer_of(SessionDecision{}, json{{"count", count + 1}}.dump());
    };
    return std::make_shared<ScriptedPolicy>("counter", std::vector{DecisionPoint::schedule}, rule);
}

TEST(PolicyEngine, AStateIsKeptForEachSessionAndGivenBackAfterARestart) {
    World world;
    world.open({counter()});
    for (int i = 0; i < 3; ++i) world.settle(schedule("s-1"));
    world.settle(schedule("s-2"));
    auto stored = [&](const std::string& session) {
        auto record = world.runtime.run(world.store().get("policy_state", session + "/counter"));
        return record ? record->json : "";
    };
    EXPECT_EQ(stored("s-1"), R"({"count":3})");
    world.open({counter()});
    world.settle(schedule("s-1"));
    EXPECT_EQ(stored("s-1"), R"({"count":4})");
    EXPECT_EQ(stored("s-2"), R"({"count":1})");
    Batch batch;
    world.engine->forget("s-1", batch);
    ASSERT_EQ(batch.erases.size(), 1u);
    EXPECT_EQ(batch.erases[0].id, "s-1/counter");
    Batch again;
    world.engine->forget("s-1", again);
    EXPECT_EQ(again.erases.size(), 1u) << "the first batch may have failed";
    world.engine->note_forgotten("s-1");
    Batch late;
    world.engine->forget("s-1", late);
    EXPECT_THAT(late.erases, IsEmpty());
    PolicyQuestion dry = World::plenty();
    dry.dry_run = true;
    auto verdict = world.decide(AdmitRequest{}, dry);
    EXPECT_FALSE(verdict.has_news());
}

TEST(PolicyEngine, WhoIsDisabledIsNotAskedAlsoByTheNextOwner) {
    World world;
    auto policy = always("first", DecisionPoint::schedule, suspends);
    world.open({policy});
    EXPECT_FALSE(world.runtime.run(world.engine->set_enabled("first", false, Call())).enabled);
    EXPECT_FALSE(world.engine->asks(DecisionPoint::schedule));
    world.open({policy});
    EXPECT_TRUE(world.decide(schedule()).is_standard());
    EXPECT_EQ(policy->asked, 0);
    world.runtime.run(world.engine->set_enabled("first", true, Call()));
    EXPECT_FALSE(world.decide(schedule()).is_standard());
    EXPECT_THROW(world.runtime.run(world.engine->set_enabled("third", true, Call())), Error);
    EXPECT_THROW(world.engine->status("third"), Error);
}

TEST(PolicyEngine, AReloadReplacesAllOrNothing) {
    World world;
    auto before = always("first", DecisionPoint::schedule, suspends);
    auto options = options_of({before});
    world.open(options);
    auto sources = options.sources;
    sources.emplace_back().source = "test:missing";
    EXPECT_THROW(world.runtime.run(world.engine->reload(sources, Call())), Error);
    sources.back() = sources.front();
    EXPECT_THROW(world.runtime.run(world.engine->reload(sources, Call())), Error) << "one name twice";
    EXPECT_EQ(world.decide(schedule()).decision, PolicyDecision(suspends));
    sources.resize(1);
    sources[0] = {};
    sources[0].source = "builtin:keep-tagged";
    auto list = world.runtime.run(world.engine->reload(sources, Call()));
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].identity.name, "keep-tagged");
    EXPECT_FALSE(world.engine->asks(DecisionPoint::schedule));
    EXPECT_GE(before->closed, 1);
    auto events = world.runtime.run(world.store().events({}));
    EXPECT_THAT(types_of(events), ElementsAre("policy.loaded", "policy.loaded"));
}

/// Like Python's: what it is asked while it is closed fails.
class ClosingPolicy final : public PolicyHost {
public:
    ClosingPolicy(std::shared_ptr<ScriptedPolicy> inner, std::shared_ptr<Clock> clock)
        : inner_(std::move(inner)), clock_(std::move(clock)) {}
    const PolicyIdentity& identity() const override { return inner_->identity(); }
    std::vector<DecisionPoint> points() const override { return inner_->points(); }
    Task<PolicyAnswer> decide(PolicyRequest request, std::string state, Call) override {
        co_await clock_->sleep_until(clock_->monotonic_now() + delay, {});
        if (closed) throw std::runtime_error("it is closed");
        auto answer = inner_->decide_now(request, state);
        co_return *answer;
    }
    Task<void> close() override {
        closed = true;
        co_return;
    }
    Duration delay = 30ms;
    bool closed = false;

private:
    std::shared_ptr<ScriptedPolicy> inner_;
    std::shared_ptr<Clock> clock_;
};

/// What is answered to a question that is under way when other policies are loaded.
PolicyVerdict decide_over_a_reload(World& world, std::vector<PolicySource> sources) {
    std::optional<PolicyVerdict> verdict;
    auto ask = [](PolicyEngine& engine, std::optional<PolicyVerdict>& into) -> Task<void> {
        ScheduleRequest asked = schedule();
        into = co_await engine.decide(asked, World::plenty(), Call());
    };
    boost::asio::co_spawn(world.runtime.environment().executor, ask(*world.engine, verdict), boost::asio::detached);
    world.runtime.run_for(10ms);
    EXPECT_FALSE(verdict);
    world.runtime.run(world.engine->reload(std::move(sources), Call()));
    world.runtime.run_for(200ms);
    EXPECT_TRUE(verdict);
    return verdict ? std::move(*verdict) : PolicyVerdict();
}

TEST(PolicyEngine, AReloadLetsAnswerWhoWasAsked) {
    World world;
    const SessionDecision stays{SessionAction::keep, "stay", 1h};
    auto old = std::make_shared<ClosingPolicy>(always("old", DecisionPoint::schedule, stays),
                                               world.runtime.environment().clock);
    auto options = options_of({old, always("new", DecisionPoint::schedule, keeps)});
    auto sources = options.sources;
    options.sources.pop_back();
    world.open(options);
    auto verdict = decide_over_a_reload(world, {sources[1]});
    EXPECT_EQ(verdict.decision, PolicyDecision(stays));
    EXPECT_EQ(verdict.ask_again_after, 0s) << "the new one has said nothing yet";
    EXPECT_TRUE(old->closed);
    Batch batch;
    world.engine->record(verdict, batch);
    EXPECT_THAT(types_of(batch.events), ElementsAre("policy.decided"));
}

TEST(PolicyEngine, TheNewOnesAreAskedWhatTheOldOneDidNotAnswer) {
    World world;
    auto old = std::make_shared<ClosingPolicy>(always("old", DecisionPoint::schedule, suspends),
                                               world.runtime.environment().clock);
    old->delay = 24h;
    auto options = options_of({old, always("new", DecisionPoint::schedule, keeps)});
    auto sources = options.sources;
    options.sources.pop_back();
    world.open(options);
    auto verdict = decide_over_a_reload(world, {sources[1]});
    EXPECT_EQ(verdict.decision, PolicyDecision(keeps));
    Batch batch;
    world.engine->record(verdict, batch);
    EXPECT_THAT(types_of(batch.events), ElementsAre("policy.decided")) << "no failure of who is gone";
    EXPECT_TRUE(old->closed) << "it had its time";
}

TEST(PolicyEngine, AReloadThatEndsAfterTheCloseLoadsNothing) {
    World world;
    auto late = always("late", DecisionPoint::schedule, suspends);
    auto options = options_of({});
    options.make_hosts = [&world, late](PolicySource, Call) -> Task<std::vector<std::shared_ptr<PolicyHost>>> {
        auto clock = world.runtime.environment().clock;
        co_await clock->sleep_until(clock->monotonic_now() + 1s, {});
        std::vector<std::shared_ptr<PolicyHost>> hosts{late};
        co_return hosts;
    };
    world.open(options);
    std::vector<PolicySource> sources(1);
    sources[0].source = "test:late";
    Errc code{};
    auto reload = [](PolicyEngine& engine, std::vector<PolicySource> wanted, Errc& into) -> Task<void> {
        try {
            co_await engine.reload(std::move(wanted), Call());
        } catch (const Error& error) {
            into = error.errc();
        }
    };
    boost::asio::co_spawn(world.runtime.environment().executor, reload(*world.engine, sources, code),
                          boost::asio::detached);
    world.runtime.run_for(10ms);
    world.runtime.run(world.engine->close());
    world.runtime.run_for(2s);
    EXPECT_EQ(code, Errc::cancelled);
    EXPECT_EQ(late->closed, 1);
    EXPECT_TRUE(world.engine->list().empty());
}

TEST(PolicyEngine, PoliciesWithoutAGoodNameOrAPointAreRefused) {
    for (auto name : {"", "Idle", "a/b", "-a"}) {
        World world;
        EXPECT_THROW(world.open({always(name, DecisionPoint::idle, keeps)}), Error) << name;
    }
    World world;
    auto rule = [](const PolicyRequest&, const std::string&) { return answer_of(keeps); };
    Hosts none{std::make_shared<ScriptedPolicy>("a", std::vector<DecisionPoint>{}, rule)};
    EXPECT_THROW(world.open(none), Error);
    PolicyEngineOptions builtin_only;
    builtin_only.sources.emplace_back().source = "idle.py";
    EXPECT_THROW(world.open(builtin_only), Error);
}

TEST(PolicyEngine, AStoppedCallerGetsNoAnswer) {
    World world;
    auto hung = always("hung", DecisionPoint::schedule, suspends);
    hung->clock = world.runtime.environment().clock;
    hung->delay = 24h;
    world.open({hung});
    std::stop_source stop;
    stop.request_stop();
    EXPECT_THROW(world.runtime.run(world.engine->decide(schedule(), {}, {Deadline(), stop.get_token(), ""})), Error);
    EXPECT_EQ(world.engine->status("hung").failed, 0u);
}

TEST(PolicyEngine, ClosesAlthoughAPolicyDoesNotComeBack) {
    World world;
    auto hung = always("hung", DecisionPoint::schedule, suspends);
    hung->clock = world.runtime.environment().clock;
    hung->delay = 24h * 365;
    world.open({hung});
    world.decide(schedule());
    const auto before = world.clock().monotonic_now();
    world.runtime.run(world.engine->close());
    EXPECT_LE(world.clock().monotonic_now() - before, 2s);
}

}  // namespace
}  // namespace infrastructure_sdk
