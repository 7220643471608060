// The engine over workloads on the virtual clock: what is counted, that it is deterministic, and what is refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/sha256.hpp"
#include "simulation/chance.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/simulation/simulation.hpp>

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

Workload trace(const std::string& lines) {
    return parse_trace_csv("user,start,length,ended,activity\n" + lines, "trace");
}

SimulatedPolicy idle_after(Duration length) {
    SimulatedPolicy policy;
    policy.clocks.idle_timeout.limit = length;
    return policy;
}

/// Verbs take their time exactly.
SimulationOptions exact() {
    SimulationOptions options;
    options.provider.faults.slow = 0;
    return options;
}

Workload small_fleet() {
    FleetModel model;
    model.users = 12;
    model.length = std::chrono::hours(24 * 9);
    return synthesize(model, 5);
}

TEST(Simulation, CountsWhatASessionGot) {
    // Works for an hour, is away for two, works for an hour.
    const auto result =
        simulate(trace("alice,2026-01-05T09:00:00Z,4h,true,work@0s+1h work@3h+1h\n"), idle_after(30min), exact());
    ASSERT_THAT(result.sessions, SizeIs(1));
    const auto& outcome = result.sessions[0].outcome;
    EXPECT_EQ(outcome.sessions, 1u);
    EXPECT_EQ(outcome.cold_starts, 1u);
    EXPECT_EQ(outcome.suspensions, 1u);
    EXPECT_EQ(outcome.wrongly_suspended(), 0u);
    EXPECT_EQ(outcome.resumes, 1u);
    EXPECT_EQ(result.start_waits.longest, Duration(30s));
    EXPECT_EQ(result.resume_waits.longest, Duration(5s));
    EXPECT_EQ(outcome.missed, Duration(35s));
    EXPECT_EQ(outcome.used, Duration(2h - 35s));
    // An hour, the idle timeout, at most two looks and the arming delay, and the second hour.
    EXPECT_GT(outcome.ran, Duration(2h + 30min));
    EXPECT_LT(outcome.ran, Duration(2h + 35min));
    EXPECT_EQ(result.baseline_ran, Duration(4h));
    EXPECT_EQ(result.baseline_cost_micros, 480'000);
    EXPECT_EQ(result.sessions[0].ended, "user");
    EXPECT_EQ(result.existed, Duration(4h));
}

TEST(Simulation, TellsAWrongSuspensionFromARightOne) {
    // Back ten minutes after it was suspended: wrong; back two hours later: right.
    const auto soon =
        simulate(trace("alice,2026-01-05T09:00:00Z,3h,true,work@0s+1h work@1h40m+1h\n"), idle_after(30min), exact());
    EXPECT_EQ(soon.total.wanted_again, 1u);
    EXPECT_EQ(soon.total.suspended_in_use, 0u);
    auto lenient = exact();
    lenient.came_back_within = 2min;
    const auto not_soon =
        simulate(trace("alice,2026-01-05T09:00:00Z,3h,true,work@0s+1h work@1h40m+1h\n"), idle_after(30min), lenient);
    EXPECT_EQ(not_soon.total.wanted_again, 0u);
    EXPECT_EQ(not_soon.total.suspensions, 1u);
}

TEST(Simulation, KeepsBackgroundWorkAndEndsAForgottenTab) {
    const auto result = simulate(trace("alice,2026-01-05T09:00:00Z,9h,true,work@0s+1h background@1h+2h open@3h+6h\n"),
                                 idle_after(30min), exact());
    EXPECT_EQ(result.total.suspended_in_use, 0u);
    EXPECT_EQ(result.total.suspensions, 1u);
    EXPECT_GT(result.total.ran, Duration(3h + 30min));
    EXPECT_LT(result.total.ran, Duration(3h + 35min));
    EXPECT_EQ(result.total.used, Duration(3h - 30s));
}

TEST(Simulation, ASessionThatIsEndedUnderItsUserIsLostAndMadeAgain) {
    auto policy = idle_after(30min);
    policy.clocks.ttl.limit = 2h;
    const auto result = simulate(trace("alice,2026-01-05T09:00:00Z,3h,true,work@0s+3h\n"), policy, exact());
    EXPECT_EQ(result.total.lost, 1u);
    EXPECT_EQ(result.total.sessions, 2u);
    EXPECT_EQ(result.total.cold_starts, 2u);
    EXPECT_EQ(result.waits.count, 2u);
}

TEST(Simulation, AForgottenSessionLivesUntilAClockOrTheHorizon) {
    const auto lines = trace("alice,2026-01-05T09:00:00Z,1h,false,work@0s+1h\nbob,2026-01-05T09:00:00Z,24h,true,\n");
    auto policy = idle_after(30min);
    const auto kept = simulate(lines, policy, exact());
    EXPECT_EQ(kept.sessions[0].ended, "");
    EXPECT_EQ(kept.existed, Duration(24h + 24h));
    EXPECT_EQ(kept.baseline_ran, Duration(24h + 24h));
    policy.clocks.ttl.limit = 5h;
    EXPECT_EQ(simulate(lines, policy, exact()).sessions[0].ended, "ttl");
}

TEST(Simulation, WhoIsDeniedTriesAgain) {
    auto policy = idle_after(30min);
    policy.limits = parse_limits("limits:\n  - {scope: host, sessions: 1}\n", "limits");
    const auto result = simulate(trace("alice,2026-01-05T09:00:00Z,1h,true,work@0s+1h\n"
                                       "bob,2026-01-05T09:30:00Z,2h,true,work@0s+2h\n"),
                                 policy, exact());
    // At 9:30, 9:40, 9:50 and, as alice's is still being ended, at 10:00.
    EXPECT_GE(result.sessions[1].outcome.denied, 3u);
    EXPECT_LE(result.sessions[1].outcome.denied, 4u);
    EXPECT_EQ(result.sessions[1].outcome.sessions, 1u);
    EXPECT_GE(result.waits.longest, Duration(30min));
    EXPECT_GT(result.sessions[1].outcome.missed, Duration(30min));
}

TEST(Simulation, IsTheSameBytesForTheSameSeed) {
    const auto workload = small_fleet();
    const auto policy = idle_after(20min);
    SimulationOptions options;
    options.seed = 5;
    const auto first = to_json(simulate(workload, policy, options));
    EXPECT_EQ(first, to_json(simulate(workload, policy, options)));
    options.seed = 6;
    EXPECT_NE(first, to_json(simulate(workload, policy, options)));
}

TEST(Simulation, IsTheSameBytesOnEveryBuild) {
    SimulationOptions options;
    options.seed = 5;
    // Every build must agree, the optimised and the sanitized ones too.
    EXPECT_EQ(sha256_hex(to_json(simulate(small_fleet(), idle_after(20min), options))),
              "c935e7dd394a45e24f49e51f3123f25c0a44891ccdeed7163ac848511785e975");
}

TEST(Simulation, LeavingOutLooksChangesNothing) {
    // Looks at every interval see what the fewer looks of a simulation see: the sums agree, whatever the interval.
    const auto workload = small_fleet();
    auto policy = idle_after(30min);
    const auto result = simulate(workload, policy, exact());
    policy.idleness.sample_interval = 30s;
    const auto finer = simulate(workload, policy, exact());
    EXPECT_EQ(result.total.suspended_in_use, 0u);
    EXPECT_EQ(finer.total.suspended_in_use, 0u);
    EXPECT_NEAR(static_cast<double>(finer.total.ran.count()) / static_cast<double>(result.total.ran.count()), 1, 0.01);
}

/// Another's answers; remembers the hash of all that it was told, and may drop what they say of the next question.
class Overheard final : public PolicyHost {
public:
    explicit Overheard(std::shared_ptr<PolicyHost> inner, bool rests = true)
        : inner_(std::move(inner)), rests_(rests) {}
    const PolicyIdentity& identity() const override { return inner_->identity(); }
    std::vector<DecisionPoint> points() const override { return inner_->points(); }
    std::optional<PolicyAnswer> decide_now(const PolicyRequest& request, const std::string& state) override {
        told.push_back(std::hash<std::string>()(to_json(request)));
        auto answer = inner_->decide_now(request, state);
        if (auto decision = std::get_if<SessionDecision>(&answer->decision); decision && !rests_)
            decision->ask_again_after.reset();
        return answer;
    }
    Task<PolicyAnswer> decide(PolicyRequest request, std::string state, Call) override {
        co_return *decide_now(request, state);
    }
    Task<void> close() override { co_return; }

    std::vector<std::size_t> told;

private:
    std::shared_ptr<PolicyHost> inner_;
    bool rests_;
};

std::shared_ptr<PolicyHost> business_hours(const char* settings) {
    PolicySource source;
    source.source = "builtin:business-hours";
    source.settings = settings;
    return make_builtin_policy(source);
}

TEST(Simulation, LeavingOutLooksGivesTheSameBytesToPoliciesToo) {
    // Suspends outside its hours who has been quiet for ten minutes: it must be told of use as of now.
    FleetModel model;
    model.users = 20;
    model.length = std::chrono::hours(24);
    // So many that start with a boot of half a minute are looked at on the minute, when they are asked about too.
    std::string lines;
    for (int user = 0; user < 150; ++user)
        lines += "user-" + std::to_string(user) + ",2026-01-05T07:59:30Z,1h,true,work@0s+30m work@40m+20m\n";
    for (const auto& workload : {synthesize(model, 5), trace(lines)}) {
        auto policy = idle_after(40min);
        auto options = exact();
        auto outcome = [&](Overheard& host) {
            policy.hosts = {std::shared_ptr<PolicyHost>(&host, [](PolicyHost*) {})};
            return sha256_hex(to_json(simulate(workload, policy, options)));
        };
        Overheard few(business_hours(R"({"hours": ["mon-fri 10:00-12:00"]})"), false), all = few;
        const auto of_few = outcome(few);
        options.leave_out_looks = false;
        EXPECT_EQ(of_few, outcome(all));
        EXPECT_GT(few.told.size(), 1000u);
        EXPECT_TRUE(few.told == all.told) << "asked " << few.told.size() << " and " << all.told.size() << " times";
    }
}

TEST(Simulation, UsersShareNoRunOfDraws) {
    std::set<std::uint64_t> seen;
    constexpr std::size_t users = 200, draws = 300;
    for (std::size_t user = 0; user < users; ++user) {
        SeededRandom random(stream_seed(5, user));
        for (std::size_t i = 0; i < draws; ++i) seen.insert(random.next());
    }
    EXPECT_EQ(seen.size(), users * draws);
}

TEST(Simulation, FleetsAreTheSameOnEveryBuild) {
    std::string text;
    for (const auto& planned : small_fleet().sessions) {
        text += planned.user_id + " " + to_rfc3339(planned.start) + " " + to_string(planned.length);
        for (const auto& use : planned.uses)
            text += std::string(" ") + name_of(use.kind) + "@" + to_string(use.at) + "+" + to_string(use.length);
        text += planned.ended_by_user ? "\n" : " forgotten\n";
    }
    EXPECT_EQ(sha256_hex(text), "12875d6b2917b57afaf5cd4a8d5d5a7fcaefadac98fd72e730c419564f457ba5");
}

TEST(Simulation, AnEndIsNoBetterThanASuspension) {
    // Back an hour after it went: what was to be used again is lost, in use or not.
    const auto lines = trace("alice,2026-01-05T09:00:00Z,4h,true,work@0s+1h work@2h+1h\n");
    auto policy = idle_after(50min);
    policy.clocks.idle_timeout.on_expiry = OnExpiry::terminate;
    const auto ended = simulate(lines, policy, exact());
    // Once while it is to be used again, once after the last use.
    EXPECT_EQ(ended.total.lost, 1u);
    EXPECT_EQ(ended.total.wanted_again, 1u);
    EXPECT_EQ(ended.total.suspensions, 0u);
    EXPECT_EQ(ended.total.sessions, 2u);
    policy.clocks.idle_timeout.limit = 20min;
    const auto early = simulate(lines, policy, exact());
    EXPECT_EQ(early.total.lost, 1u);
    EXPECT_EQ(early.total.wanted_again, 0u);
}

TEST(Simulation, AWaitInVainIsCountedAsThat) {
    auto policy = idle_after(30min);
    policy.limits = parse_limits("limits:\n  - {scope: host, sessions: 1}\n", "limits");
    const auto result = simulate(trace("alice,2026-01-05T09:00:00Z,2h,true,work@0s+2h\n"
                                       "bob,2026-01-05T09:30:00Z,30m,true,work@0s+30m\n"),
                                 policy, exact());
    EXPECT_EQ(result.sessions[0].outcome.gave_up, 0u);
    EXPECT_EQ(result.sessions[1].outcome.gave_up, 1u);
    EXPECT_EQ(result.waits.count, 1u);
    EXPECT_THAT(result.notes, testing::Contains(HasSubstr("count as saved")));
}

TEST(Simulation, OneUsersSuspensionsShiftNoOtherUsersSlowVerbs) {
    std::string lines;
    for (int user = 0; user < 9; ++user)
        lines += "user" + std::to_string(user) + ",2026-01-05T0" + std::to_string(user) +
                 ":00:00Z,4h,true,work@0s+30m work@2h+30m\n";
    auto options = exact();
    options.provider.faults.slow = 300'000;
    const auto strict = simulate(trace(lines), idle_after(10min), options);
    const auto patient = simulate(trace(lines), idle_after(3h), options);
    EXPECT_GT(strict.total.suspensions, patient.total.suspensions);
    EXPECT_EQ(strict.start_waits, patient.start_waits);
    EXPECT_NE(strict.start_waits, simulate(trace(lines), idle_after(3h), exact()).start_waits);
}

TEST(Simulation, BooksBalance) {
    const auto result = simulate(small_fleet(), idle_after(30min), SimulationOptions());
    SimulatedOutcome total;
    for (const auto& session : result.sessions) total += session.outcome;
    EXPECT_EQ(total, result.total);
    Duration ran{}, used{}, baseline{};
    for (const auto& hour : result.hours) {
        ran += hour.ran;
        used += hour.used;
        baseline += hour.baseline;
    }
    EXPECT_EQ(ran, result.total.ran);
    EXPECT_EQ(used, result.total.used);
    EXPECT_EQ(baseline, result.baseline_ran);
    EXPECT_LE(result.total.used, result.total.ran);
    EXPECT_EQ(result.waits.count, result.start_waits.count + result.resume_waits.count);
    EXPECT_EQ(result.waits.total, result.total.waited);
    EXPECT_GT(result.total.suspensions, 20u);
}

TEST(Simulation, ComparesSessionBySession) {
    const auto workload = small_fleet();
    const auto patient = simulate(workload, idle_after(2h), exact());
    const auto strict = simulate(workload, idle_after(10min), exact());
    const auto differences = compare(patient, strict);
    EXPECT_THAT(differences, testing::Not(IsEmpty()));
    EXPECT_LT(strict.total.ran, patient.total.ran);
    EXPECT_GT(strict.total.resumes, patient.total.resumes);
    Duration sum{};
    for (const auto& difference : differences) sum += difference.after.ran - difference.before.ran;
    EXPECT_EQ(sum, strict.total.ran - patient.total.ran);
    EXPECT_THAT(compare(strict, strict), IsEmpty());
    for (auto change :
         {+[](SimulationResult& result) { ++result.seed; }, +[](SimulationResult& result) { result.length += 1h; },
          +[](SimulationResult& result) { result.currency = "EUR"; }}) {
        auto other = strict;
        change(other);
        EXPECT_THROW(compare(strict, other), Error);
    }
    EXPECT_THROW(compare(strict, simulate(trace("a,2026-01-05T09:00:00Z,1h,true,\n"), idle_after(1h), exact())), Error);
}

TEST(Simulation, StopsWhenItIsToldTo) {
    auto options = exact();
    int told = 0;
    options.progress = [&](double done) {
        EXPECT_GE(done, 0);
        EXPECT_LE(done, 1);
        return ++told < 10;
    };
    try {
        simulate(small_fleet(), idle_after(30min), options);
        FAIL() << "it went on";
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::cancelled);
    }
    EXPECT_EQ(told, 10);
}

/// Keeps who has worked on a thesis, leaves the others to the engine; `wrong` answers out of bounds.
class ThesisHost final : public PolicyHost {
public:
    explicit ThesisHost(bool wrong = false) : wrong_(wrong) { identity_.name = "thesis"; }
    const PolicyIdentity& identity() const override { return identity_; }
    std::vector<DecisionPoint> points() const override { return {DecisionPoint::idle}; }
    std::optional<PolicyAnswer> decide_now(const PolicyRequest& request, const std::string&) override {
        const auto& session = session_of(request);
        PolicyAnswer answer;
        SessionDecision decision;
        if (session.user_id == "alice") decision = {SessionAction::keep, "a thesis", Duration(1h)};
        if (wrong_) decision.ask_again_after = Duration(-1);
        answer.decision = decision;
        return answer;
    }
    Task<PolicyAnswer> decide(PolicyRequest, std::string, Call) override {
        ADD_FAILURE() << "it answers at once";
        co_return PolicyAnswer();
    }
    Task<void> close() override { co_return; }

private:
    bool wrong_;
    PolicyIdentity identity_;
};

TEST(Simulation, AsksPolicies) {
    const auto workload = trace(
        "alice,2026-01-05T09:00:00Z,9h,true,work@0s+1h work@8h+1h\n"
        "bob,2026-01-05T09:00:00Z,9h,true,work@0s+1h work@8h+1h\n");
    auto policy = idle_after(30min);
    policy.hosts = {std::make_shared<ThesisHost>()};
    const auto result = simulate(workload, policy, exact());
    EXPECT_EQ(result.sessions[0].outcome.suspensions, 0u);
    EXPECT_EQ(result.sessions[1].outcome.suspensions, 1u);
    ASSERT_THAT(result.identities, SizeIs(1));
    EXPECT_EQ(result.identities[0].name, "thesis");
    // Alice's is asked about when it is due and then every hour, from 10:30 to 16:30; bob's once.
    EXPECT_EQ(result.decisions,
              (std::vector<DecisionCount>{{DecisionPoint::idle, "keep", 7}, {DecisionPoint::idle, "standard", 1}}));
}

TEST(Simulation, BusinessHoursThatRestDecideAsIfTheyWereAskedEachMinute) {
    FleetModel model;
    model.users = 6;
    model.length = std::chrono::hours(24 * 9);
    const auto workload = synthesize(model, 8);
    const auto rules = business_hours(R"({"hours": ["mon-fri 10:00-12:00", "sat 22:00-14:00"], "quiet_for": "7m"})");
    auto policy = idle_after(40min);
    auto outcome = [&](std::shared_ptr<PolicyHost> host, std::uint64_t* asked) {
        policy.hosts = {std::move(host)};
        auto result = simulate(workload, policy, exact());
        for (const auto& entry : result.decisions) *asked += entry.count;
        // Who asks more is told "standard" more often.
        std::erase_if(result.decisions, [](const auto& entry) { return entry.answer == "standard"; });
        EXPECT_THAT(result.decisions, testing::Not(IsEmpty()));
        return sha256_hex(to_json(result));
    };
    std::uint64_t often = 0, seldom = 0;
    EXPECT_EQ(outcome(std::make_shared<Overheard>(rules, false), &often), outcome(rules, &seldom));
    EXPECT_LT(seldom, often / 5);
}

TEST(Simulation, CountsWhatBecameOfEachAnswer) {
    const auto workload = trace(
        "alice,2026-01-05T09:00:00Z,9h,true,work@0s+1h work@8h+1h\n"
        "bob,2026-01-05T09:00:00Z,9h,true,work@0s+1h work@8h+1h\n");
    const auto count = [&](const char* sources) {
        const auto result = simulate(workload, simulated_policy_from_json(sources), exact());
        DecisionCount found;
        for (const auto& entry : result.decisions)
            if (entry.answer == "suspend") found = entry;
        return found;
    };
    const std::string rule = R"({"idle_timeout":"0s","policies":[{"source":"builtin:business-hours",)"
                             R"("settings":{"hours":["mon-fri 00:00-09:30"],"quiet_for":"0s"})";
    const auto applied = count((rule + "}]}").c_str());
    EXPECT_GE(applied.count, 2u);
    EXPECT_EQ(applied.shadowed, 0u);
    const auto shadowed = count((rule + R"(,"mode":"shadow"}]})").c_str());
    EXPECT_EQ(shadowed.count, 0u);
    EXPECT_GT(shadowed.shadowed, 100u);
    const auto canary = count((rule + R"(,"mode":"canary","canary_tenants":["physics"]}]})").c_str());
    EXPECT_EQ(canary.count, 0u) << "nobody here is of that tenant";
    EXPECT_GT(canary.shadowed, 100u);
    // Two run and a fifth of them may be stopped: one at a time.
    EXPECT_GE(applied.overruled, 1u);
}

TEST(Simulation, AFleetIsStoppedWhileItIsMade) {
    FleetModel model;
    model.users = 10'000;
    int asked = 0;
    try {
        synthesize(model, 1, [&] { return ++asked < 3; });
        ADD_FAILURE() << "it was not stopped";
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::cancelled);
    }
    EXPECT_EQ(asked, 3);
}

TEST(Simulation, AnAnswerThatIsNoneIsTheEnginesOwn) {
    auto policy = idle_after(30min);
    policy.hosts = {std::make_shared<ThesisHost>(true)};
    const auto result = simulate(trace("alice,2026-01-05T09:00:00Z,9h,true,work@0s+1h work@8h+1h\n"), policy, exact());
    EXPECT_EQ(result.total.suspensions, 1u);
}

TEST(Simulation, KnowsBuiltinRulesAndNoOthers) {
    const auto policy = simulated_policy_from_json(
        R"({"policies":[{"source":"builtin:business-hours","settings":{"hours":["mon-fri 08:00-18:00"]}}]})");
    const auto late = trace("alice,2026-01-05T09:00:00Z,14h,true,background@0s+14h\n");
    const auto result = simulate(late, policy, exact());
    ASSERT_THAT(result.identities, SizeIs(1));
    EXPECT_THAT(result.decisions, testing::Not(IsEmpty()));
    auto unknown = policy;
    unknown.policies.sources[0].source = "patient.py";
    EXPECT_THROW(simulate(late, unknown, exact()), Error);
}

std::string refusal(const std::function<void()>& work) {
    try {
        work();
    } catch (const Error& error) {
        return std::string(name_of(error.errc())) + ": " + std::string(error.message());
    }
    return "nothing was refused";
}

TEST(Simulation, RefusesDocumentsNamingTheField) {
    auto policy = [](const char* text) { return refusal([&] { simulated_policy_from_json(text); }); };
    EXPECT_THAT(policy(R"({"idle_timeout": 30})"), HasSubstr("validation: idle_timeout: '30' is not allowed"));
    EXPECT_THAT(policy(R"({"idle_tiemout": "30m"})"), HasSubstr("did you mean 'idle_timeout'?"));
    EXPECT_THAT(policy(R"({"on_expiry": {"ttl": "explode"}})"), HasSubstr("on_expiry: 'explode'"));
    EXPECT_THAT(policy(R"({"limits": 3})"), HasSubstr("limits"));
    EXPECT_THAT(policy(R"({"sample_interval": "10m"})"), HasSubstr("sample_interval"));
    auto options = [](const char* text) { return refusal([&] { simulation_options_from_json(text); }); };
    EXPECT_THAT(policy(R"({"idle_timeout": "-5m"})"), HasSubstr("idle_timeout: '-5m' is not allowed"));
    EXPECT_THAT(policy(R"({"sample_interval": "10ms"})"), HasSubstr("sample_interval: '10ms'"));
    EXPECT_THAT(policy(R"({"schedule_interval": "0s"})"), HasSubstr("schedule_interval: '0s'"));
    EXPECT_THAT(options(R"({"retry_after": "0s"})"), HasSubstr("retry_after: '0s'"));
    EXPECT_THAT(options(R"({"boot_time": "-1s"})"), HasSubstr("boot_time: '-1s'"));
    EXPECT_THAT(options(R"({"resume_time": "25h"})"), HasSubstr("resume_time: '25h'"));
    EXPECT_THAT(options(R"({"slow_share": 2})"), HasSubstr("slow_share: '2'"));
    EXPECT_THAT(options(R"({"templates": {}})"), HasSubstr("templates"));
    auto workload = [](const char* text) { return refusal([&] { workload_from_json(text, 1); }); };
    EXPECT_THAT(workload("{}"), HasSubstr("one of fleet, trace and events is needed"));
    EXPECT_THAT(workload(R"({"fleet": {"start": "2300-01-01T00:00:00Z"}})"), HasSubstr("a year of 1970 to 2200"));
    EXPECT_THAT(workload(R"({"fleet": {"users": 1000000}})"), HasSubstr("users times days"));
    EXPECT_THAT(workload(R"({"trace": "user,start,length\na,9999-01-01T00:00:00Z,1h\n"})"),
                HasSubstr("column 'start': '9999-01-01T00:00:00Z'"));
    EXPECT_THAT(workload(R"({"trace": "", "format": "xml"})"), HasSubstr("format: 'xml'"));
    auto none = exact();
    none.default_template = "none";
    EXPECT_THAT(refusal([&] { simulate(small_fleet(), idle_after(1h), none); }), HasSubstr("default_template: 'none'"));
    auto wrong = small_fleet();
    wrong.sessions[0].length = 0s;
    EXPECT_THAT(refusal([&] { simulate(wrong, idle_after(1h), exact()); }), HasSubstr("sessions[0].length"));
}

TEST(Simulation, AnErrorOfAPersonNamesThem) {
    auto lines = trace("alice,2026-01-05T09:00:00Z,1h,true,work@0s+1h\n");
    auto options = exact();
    options.templates.at("desktop").memory = Quantity::from_milli(-1);
    const auto told = refusal([&] { simulate(lines, idle_after(1h), options); });
    EXPECT_THAT(told, HasSubstr("session of alice from 2026-01-05T09:00:00"));
}

TEST(Simulation, EventLogsAreReadInTheOrderOfTheirSequence) {
    const std::string first =
        R"({"sequence":1,"time":"2026-01-05T09:00:00Z","type":"session.lifecycle.created","subject":"s-1",)"
        R"("data":{"user_id":"alice"}})";
    const std::string second =
        R"({"sequence":2,"time":"2026-01-05T09:01:00Z","type":"session.lifecycle.ready","subject":"s-1"})";
    const std::string third =
        R"({"sequence":3,"time":"2026-01-05T12:00:00Z","type":"session.lifecycle.terminating","subject":"s-1"})";
    auto read = [](const std::string& text) { return workload_from_events(parse_event_lines(text, "log")); };
    const auto sorted = read(first + "\n" + second + "\n" + third + "\n");
    const auto mixed = read(third + "\n" + first + "\n" + second + "\n");
    EXPECT_EQ(sorted.sessions, mixed.sessions);
    EXPECT_EQ(sorted.notes, mixed.notes);
    EXPECT_THAT(refusal([&] { read(first + "\n" + second + "\n" + second + "\n"); }),
                HasSubstr("events.sequence: '2'"));
}

TEST(Simulation, ReadsDocuments) {
    const auto policy =
        simulated_policy_from_json(R"({"name":"strict","idle_timeout":"10m","ttl":"3h","on_expiry":{"ttl":"suspend"},)"
                                   R"("limits":[{"scope":"user","subject":"*","sessions":2}]})");
    EXPECT_EQ(policy.name, "strict");
    EXPECT_EQ(policy.clocks.idle_timeout.limit, Duration(10min));
    EXPECT_EQ(policy.clocks.ttl.on_expiry, OnExpiry::suspend);
    EXPECT_THAT(policy.limits, SizeIs(1));
    EXPECT_FALSE(simulated_policy_from_json(R"({"idle_timeout":"0s"})").clocks.idle_timeout.limit);
    EXPECT_EQ(simulation_options_from_json(R"({"boot_time":"90s"})").provider.boot_time, Duration(90s));
    EXPECT_THAT(workload_from_json(R"({"fleet":{"users":2,"length":"48h"}})", 1).sessions, SizeIs(2));
}

}  // namespace
}  // namespace infrastructure_sdk
