// The pure parts around policies: breaker, rate limit, guard, hours, built-in rules, their document.

#include "policy/policy_rules.hpp"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <infrastructure_sdk/error.hpp>

#include "policy/office_hours.hpp"

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;
using namespace policy;
using testing::HasSubstr;

constexpr MonotonicTime begin{Duration(100h)};
const WallTime today = parse_rfc3339("2026-11-24T12:00:00Z");  // a Tuesday

TEST(CircuitBreaker, OpensAfterFailuresInARowAndTriesOneQuestionAfterItsRest) {
    CircuitBreaker breaker({3, 5min});
    for (int i = 0; i < 2; ++i) breaker.note_failure(begin);
    breaker.note_success();
    for (int i = 0; i < 2; ++i) breaker.note_failure(begin);
    EXPECT_TRUE(breaker.try_pass(begin));
    breaker.note_failure(begin);
    EXPECT_EQ(breaker.state(begin), CircuitBreaker::State::open);
    EXPECT_FALSE(breaker.try_pass(begin + 4min));
    EXPECT_EQ(breaker.state(begin + 5min), CircuitBreaker::State::half_open);
    EXPECT_TRUE(breaker.try_pass(begin + 5min));
    EXPECT_FALSE(breaker.try_pass(begin + 5min)) << "one at a time";
    breaker.note_failure(begin + 5min);
    EXPECT_FALSE(breaker.try_pass(begin + 9min));
    EXPECT_TRUE(breaker.try_pass(begin + 10min));
    breaker.note_abandoned();
    EXPECT_TRUE(breaker.try_pass(begin + 10min));
    breaker.note_success();
    EXPECT_EQ(breaker.state(begin + 10min), CircuitBreaker::State::closed);
}

TEST(StopLimit, NeverStopsMoreThanItsShareWithinAnyWindow) {
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        std::mt19937_64 draw(seed);
        const double share = static_cast<double>(draw() % 101) / 100;
        const Duration window = std::chrono::seconds(1 + draw() % 1000);
        StopLimit limit({share, window});
        std::size_t running = draw() % 200;
        const std::size_t all = running;
        std::vector<WallTime> stops;
        auto now = today;
        for (int step = 0; step < 300; ++step) {
            now += std::chrono::seconds(draw() % 30);
            if (!limit.try_take(now, running)) continue;
            if (draw() % 4 == 0) {
                limit.give_back();
                continue;
            }
            limit.give_back();
            limit.note(now);
            stops.push_back(now);
            running -= running > 0 ? 1 : 0;
            const auto recent =
                std::count_if(stops.begin(), stops.end(), [&](WallTime at) { return now - at < window; });
            ASSERT_LE(static_cast<double>(recent), std::max(1.0, share * static_cast<double>(all))) << seed;
        }
        if (share == 0) ASSERT_TRUE(stops.empty());
        else ASSERT_FALSE(stops.empty());
    }
}

TEST(StopLimit, WhatIsTakenCountsUntilItIsGivenBack) {
    StopLimit limit({0.2, 10min});
    EXPECT_TRUE(limit.try_take(today, 10));
    EXPECT_TRUE(limit.try_take(today, 10));
    EXPECT_FALSE(limit.try_take(today, 10));
    limit.give_back();
    EXPECT_TRUE(limit.try_take(today, 10));
}

TEST(StopLimit, AClockThatWasSetBackHoldsNoPlaceForEver) {
    StopLimit limit({0.1, 10min});
    limit.note(today + 30 * 24h);
    EXPECT_TRUE(limit.try_take(today, 1));
}

TEST(PolicyGuard, TripsOnAShareOfEnoughSuspensions) {
    PolicyGuard guard;
    guard.share = 0.25;
    guard.least = 4;
    EXPECT_FALSE(trips(guard, 3, 3));
    EXPECT_TRUE(trips(guard, 4, 4));
    EXPECT_TRUE(trips(guard, 16, 4));
    EXPECT_FALSE(trips(guard, 17, 4));
}

TEST(PolicyRules, AStopIsWhatWouldNotHappenWithoutThePolicy) {
    IdleRequest idle;
    auto stops = [](SessionAction action, const PolicyRequest& request) {
        return is_stop(SessionDecision{action, "", {}}, request);
    };
    EXPECT_FALSE(stops(SessionAction::suspend, idle)) << "the clock suspends anyway";
    EXPECT_TRUE(stops(SessionAction::terminate, idle));
    EXPECT_FALSE(stops(SessionAction::keep, idle));
    EXPECT_TRUE(stops(SessionAction::suspend, ScheduleRequest{}));
    EXPECT_FALSE(stops(SessionAction::disconnect, ScheduleRequest{}));
    EXPECT_FALSE(is_stop(AdmitDecision{AdmitDecision::Action::deny, ""}, AdmitRequest{}));
}

TEST(PolicyRules, WeakerAndImpossibleDecisionsHaveAnObstacle) {
    IsolationRequest asked;
    asked.standard = SessionAction::suspend;
    PolicyQuestion question;
    question.only_stricter = true;
    auto obstacle = [&](SessionAction action) {
        auto why = obstacle_to(SessionDecision{action, "", {}}, asked, question);
        return std::string(why ? why : "");
    };
    EXPECT_EQ(obstacle(SessionAction::keep), "weaker_than_demanded");
    EXPECT_EQ(obstacle(SessionAction::disconnect), "weaker_than_demanded");
    EXPECT_EQ(obstacle(SessionAction::suspend), "");
    EXPECT_EQ(obstacle(SessionAction::terminate), "");
    EXPECT_EQ(obstacle(SessionAction::standard), "");
    question = {};
    question.can_suspend = question.can_disconnect = false;
    EXPECT_EQ(obstacle(SessionAction::suspend), "cannot_suspend");
    EXPECT_EQ(obstacle(SessionAction::disconnect), "cannot_disconnect");
}

TEST(PolicyRules, ACanaryIsInForceForItsTenants) {
    EXPECT_TRUE(is_in_force(PolicyMode::enforce, {}, ""));
    EXPECT_FALSE(is_in_force(PolicyMode::shadow, {}, "physics"));
    EXPECT_TRUE(is_in_force(PolicyMode::canary, {"physics"}, "physics"));
    EXPECT_FALSE(is_in_force(PolicyMode::canary, {"physics"}, "arts"));
    EXPECT_FALSE(is_in_force(PolicyMode::canary, {""}, ""));
    for (auto mode : {PolicyMode::enforce, PolicyMode::shadow, PolicyMode::canary})
        EXPECT_EQ(parse_policy_mode(name_of(mode)), mode);
    EXPECT_THROW(parse_policy_mode("on"), Error);
}

TEST(PolicyRules, OptionsOutOfBoundsAreNamed) {
    auto refused = [](auto change) {
        PolicyEngineOptions options;
        change(options);
        try {
            check(options);
        } catch (const Error& error) {
            return error.context().at("field");
        }
        return std::string();
    };
    EXPECT_EQ(refused([](auto&) {}), "");
    EXPECT_EQ(refused([](auto& o) { o.time_budget = 0s; }), "policy.time_budget");
    EXPECT_EQ(refused([](auto& o) { o.rate_limit.share = 1.1; }), "policy.rate_limit_share");
    EXPECT_EQ(refused([](auto& o) { o.rate_limit.share = std::nan(""); }), "policy.rate_limit_share");
    EXPECT_EQ(refused([](auto& o) { o.breaker.failures = 0; }), "policy.breaker_failures");
    EXPECT_EQ(refused([](auto& o) { o.schedule_interval = -1s; }), "policy.schedule_interval");
    EXPECT_EQ(refused([](auto& o) { o.sources.emplace_back().mode = PolicyMode::canary; }), "canary_tenants");
    EXPECT_EQ(refused([](auto& o) { o.sources.emplace_back().canary_tenants = {"a"}; }), "mode");
}

bool open_at(const std::string& hours, const std::string& offset, const std::string& time) {
    return is_within({parse_hours(hours)}, parse_utc_offset(offset), parse_rfc3339(time));
}

TEST(OfficeHours, AreOfDaysAndTimesAheadOfUtc) {
    const std::string week = "mon-fri 08:00-18:00";
    EXPECT_TRUE(open_at(week, "+00:00", "2026-11-24T08:00:00Z"));
    EXPECT_FALSE(open_at(week, "+00:00", "2026-11-24T07:59:59.999999999Z"));
    EXPECT_FALSE(open_at(week, "+00:00", "2026-11-24T18:00:00Z"));
    EXPECT_FALSE(open_at(week, "+00:00", "2026-11-28T12:00:00Z")) << "a Saturday";
    EXPECT_TRUE(open_at(week, "+01:00", "2026-11-24T07:00:00Z"));
    EXPECT_TRUE(open_at(week, "-08:00", "2026-11-25T01:00:00Z")) << "still Tuesday there";
    EXPECT_FALSE(open_at(week, "-08:00", "2026-11-23T01:00:00Z")) << "still Sunday there";
}

TEST(OfficeHours, MayGoOnOverNightAndOverTheWeek) {
    EXPECT_TRUE(open_at("tue 22:00-06:00", "+00:00", "2026-11-24T23:00:00Z"));
    EXPECT_TRUE(open_at("tue 22:00-06:00", "+00:00", "2026-11-25T05:59:00Z"));
    EXPECT_FALSE(open_at("tue 22:00-06:00", "+00:00", "2026-11-25T06:00:00Z"));
    EXPECT_FALSE(open_at("tue 22:00-06:00", "+00:00", "2026-11-24T05:00:00Z"));
    EXPECT_TRUE(open_at("sat-mon 00:00-24:00", "+00:00", "2026-11-22T12:00:00Z"));
    EXPECT_FALSE(open_at("sat-mon 00:00-24:00", "+00:00", "2026-11-24T12:00:00Z"));
}

TEST(OfficeHours, LastAsLongAsTheyAreTold) {
    auto left = [](std::vector<std::string> texts, const std::string& time) {
        std::vector<Hours> hours;
        for (const auto& text : texts) hours.push_back(parse_hours(text));
        return left_within(hours, parse_utc_offset("+01:00"), parse_rfc3339(time));
    };
    EXPECT_EQ(left({"mon-fri 08:00-18:00"}, "2026-11-24T16:59:00Z"), 1min);
    EXPECT_EQ(left({"mon-fri 08:00-18:00"}, "2026-11-24T17:00:00Z"), 0s);
    EXPECT_EQ(left({"tue 22:00-06:00"}, "2026-11-25T04:30:00Z"), 30min) << "since the day before";
    EXPECT_EQ(left({"tue 12:00-14:00", "tue 08:00-12:00", "wed 01:00-02:00"}, "2026-11-24T09:00:00Z"), 4h);
    EXPECT_EQ(left({"mon-sun 00:00-24:00"}, "2026-11-24T09:00:00Z"), 24h) << "a day at most";
    // Seeded: nothing changes until then, and then it does.
    std::mt19937_64 random(3);
    const char* days[] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
    auto clock = [](std::uint64_t quarter) {
        char text[6];
        std::snprintf(text, sizeof text, "%02u:%02u", static_cast<unsigned>(quarter / 4 % 24),
                      static_cast<unsigned>(quarter % 4 * 15));
        return std::string(text);
    };
    int within = 0;
    for (int round = 0; round < 500; ++round) {
        std::vector<Hours> hours;
        for (std::uint64_t count = 1 + random() % 3; count > 0; --count) {
            const auto from = random() % 96;
            const auto to = (from + 1 + random() % 95) % 96;
            hours.push_back(parse_hours(std::string(days[random() % 7]) + "-" + days[random() % 7] + " " + clock(from) +
                                        "-" + clock(to)));
        }
        const auto now = parse_rfc3339("2026-11-23T00:00:00Z") + std::chrono::minutes(random() % (7 * 24 * 60));
        const auto stays = left_within(hours, 0s, now);
        if (stays == Duration::zero()) continue;
        ++within;
        for (Duration ahead{}; ahead < stays; ahead += 1min) ASSERT_TRUE(is_within(hours, 0s, now + ahead)) << round;
        ASSERT_TRUE(stays == 24h || !is_within(hours, 0s, now + stays)) << round;
    }
    EXPECT_GT(within, 100);
}

TEST(OfficeHours, OtherTextsAreRefused) {
    for (auto text : {"", "mon", "8-18", "mon-fri 8:00-18:00", "mon-fri 08:00-25:00", "mon-xyz 08:00-18:00",
                      "mon 08:00-08:00", "Mon 08:00-18:00"})
        EXPECT_THROW(parse_hours(text), Error) << text;
    for (auto text : {"", "1", "01:00", "+15:00", "+01:60"}) EXPECT_THROW(parse_utc_offset(text), Error) << text;
}

PolicyDecision decided(const std::string& name, const std::string& settings, const PolicyRequest& request) {
    PolicySource source;
    source.source = "builtin:" + name;
    source.settings = settings;
    return make_builtin_policy(source)->decide_now(request, "")->decision;
}

TEST(BuiltinPolicies, BusinessHoursSuspendQuietSessionsOutsideOfThem) {
    ScheduleRequest asked;
    asked.now = parse_rfc3339("2026-11-24T20:00:00Z");
    auto decide = [&](const std::string& settings) { return action_of(decided("business-hours", settings, asked)); };
    EXPECT_EQ(decide("{}"), "standard") << "its use is not watched";
    asked.quiet_for = 5min;
    EXPECT_EQ(decide("{}"), "standard");
    asked.quiet_for = 10min;
    EXPECT_EQ(decide("{}"), "suspend");
    EXPECT_EQ(decide(R"({"action": "terminate"})"), "terminate");
    EXPECT_EQ(decide(R"({"hours": ["mon-sun 00:00-24:00"]})"), "standard");
    EXPECT_EQ(decide(R"({"utc_offset": "-06:00"})"), "standard");
    EXPECT_EQ(decide(R"({"tenants": ["arts"]})"), "standard");
    asked.session.tags["night"] = "yes";
    EXPECT_EQ(decide(R"({"except_tag": "night=yes"})"), "standard");
    EXPECT_EQ(decide(R"({"except_tag": "night=no"})"), "suspend");
    AdmitRequest admit;
    admit.now = asked.now;
    EXPECT_EQ(action_of(decided("business-hours", "{}", admit)), "standard");
    EXPECT_EQ(action_of(decided("business-hours", R"({"deny": true})", admit)), "deny");
}

TEST(BuiltinPolicies, BusinessHoursSayHowLongTheirAnswerStays) {
    ScheduleRequest asked;
    asked.now = parse_rfc3339("2026-11-24T17:00:00Z");
    auto again = [&](const std::string& settings) {
        return std::get<SessionDecision>(decided("business-hours", settings, asked)).ask_again_after;
    };
    EXPECT_EQ(again("{}"), 1h) << "until 18:00";
    EXPECT_EQ(again(R"({"tenants": ["arts"]})"), 24h);
    asked.now += 1h;
    EXPECT_EQ(again("{}"), std::nullopt) << "its use may be seen any minute";
    asked.quiet_for = 4min;
    EXPECT_EQ(again("{}"), 6min) << "it cannot have been quiet for ten minutes before";
    asked.quiet_for = 10min;
    EXPECT_EQ(again("{}"), std::nullopt) << "it acts";
}

TEST(BuiltinPolicies, TaggedSessionsAreKeptUntilTheyWereQuietForLong) {
    IdleRequest asked;
    asked.quiet_for = 1h;
    EXPECT_EQ(action_of(decided("keep-tagged", "{}", asked)), "standard");
    asked.session.tags["keep"] = "true";
    EXPECT_EQ(decided("keep-tagged", "{}", asked),
              PolicyDecision(SessionDecision{SessionAction::keep, "it has the tag keep=true", 2h}));
    asked.quiet_for = 3h;
    EXPECT_EQ(action_of(decided("keep-tagged", "{}", asked)), "standard");
    EXPECT_EQ(action_of(decided("keep-tagged", R"({"quiet_for": "0s"})", asked)), "keep");
}

TEST(BuiltinPolicies, TheBudgetGuardStopsWhatCostsMoney) {
    BudgetRequest asked;
    asked.limit_of_user = 100;
    asked.spent_by_user = 95;
    EXPECT_EQ(action_of(decided("budget-guard", "{}", asked)), "standard") << "it costs nothing";
    asked.session.price_per_hour = 1;
    EXPECT_EQ(action_of(decided("budget-guard", "{}", asked)), "suspend");
    EXPECT_EQ(action_of(decided("budget-guard", R"({"terminate_at": 0.95})", asked)), "terminate");
    EXPECT_EQ(action_of(decided("budget-guard", R"({"suspend_at": 0.96})", asked)), "standard");
    EXPECT_EQ(action_of(decided("budget-guard", R"({"of": "tenant"})", asked)), "standard");
}

std::string complaint(const std::string& source, const std::string& settings) {
    PolicySource wanted;
    wanted.source = source;
    wanted.settings = settings;
    try {
        make_builtin_policy(wanted);
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::configuration);
        return error.message();
    }
    return "";
}

TEST(BuiltinPolicies, WrongSettingsAreRefusedByName) {
    EXPECT_THAT(complaint("builtin:busines-hours", "{}"), HasSubstr("did you mean 'builtin:business-hours'"));
    EXPECT_THAT(complaint("builtin:business-hours", R"({"hour": 1})"), HasSubstr("settings.hour"));
    EXPECT_THAT(complaint("builtin:business-hours", R"({"hours": ["mon"]})"), HasSubstr("mon-fri 08:00-18:00"));
    EXPECT_THAT(complaint("builtin:business-hours", R"({"hours": []})"), HasSubstr("at least one"));
    EXPECT_THAT(complaint("builtin:budget-guard", R"({"suspend_at": 2})"), HasSubstr("settings.suspend_at"));
    EXPECT_THAT(complaint("builtin:keep-tagged", R"({"tag": "keep"})"), HasSubstr("settings.tag"));
    EXPECT_THAT(complaint("builtin:keep-tagged", "[]"), HasSubstr("settings"));
}

TEST(BuiltinPolicies, TheDigestIsThatOfTheSettings) {
    auto digest = [](const std::string& settings) {
        PolicySource source;
        source.source = "builtin:keep-tagged";
        source.settings = settings;
        return make_builtin_policy(source)->identity().sha256;
    };
    EXPECT_EQ(digest("{}"), digest(R"({"tag": "keep=true"})"));
    EXPECT_NE(digest("{}"), digest(R"({"tag": "keep=yes"})"));
    EXPECT_EQ(builtin_policies().size(), 3u);
}

TEST(PoliciesDocument, IsReadWithItsSettings) {
    auto sources = parse_policies(R"(policies:
  - source: builtin:business-hours
    name: nights
    settings: {hours: ["mon-fri 08:00-18:00"], deny: true, quiet_for: 5m}
  - {source: patient.py, mode: canary, canary_tenants: [physics], time_budget: 20ms, memory_budget: 32Mi, untrusted: true}
)",
                                  "/etc/isdk/policies.yaml");
    ASSERT_EQ(sources.size(), 2u);
    EXPECT_EQ(sources[0].name, "nights");
    EXPECT_EQ(nlohmann::json::parse(sources[0].settings)["deny"], true);
    EXPECT_EQ(make_builtin_policy(sources[0])->identity().name, "nights");
    EXPECT_EQ(sources[1].source, "/etc/isdk/patient.py");
    EXPECT_EQ(sources[1].mode, PolicyMode::canary);
    EXPECT_EQ(sources[1].canary_tenants, std::vector<std::string>{"physics"});
    EXPECT_EQ(sources[1].time_budget, 20ms);
    EXPECT_EQ(sources[1].memory_budget_bytes, 32 << 20);
    EXPECT_TRUE(sources[1].untrusted);
}

TEST(PoliciesDocument, AllProblemsAreToldAtOnce) {
    try {
        parse_policies("policies:\n  - {mode: on}\n  - {source: a.py, mode: canary}\n  - 3\n", "p.yaml");
        ADD_FAILURE() << "it was taken";
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::validation);
        EXPECT_THAT(error.message(), HasSubstr("policies[0].mode"));
        EXPECT_THAT(error.message(), HasSubstr("policies[0].source"));
        EXPECT_THAT(error.message(), HasSubstr("policies[1].canary_tenants"));
        EXPECT_THAT(error.message(), HasSubstr("policies[2]"));
    }
    for (auto text : {"", "[]", "policies: 3", "policy: []", "policies: ["})
        EXPECT_THROW(parse_policies(text, "p.yaml"), Error) << text;
}

}  // namespace
}  // namespace infrastructure_sdk
