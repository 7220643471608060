// What policies are asked and may answer: names, bounds, JSON.

#include <infrastructure_sdk/policy/policy_host.hpp>

#include <cmath>
#include <limits>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

using Draw = std::mt19937_64;

template <class T>
T pick(Draw& draw, std::initializer_list<T> values) {
    return *(values.begin() + draw() % values.size());
}
std::string text(Draw& draw) {
    return pick<std::string>(draw, {"", "a", "\"quoted\"\n", "grün", std::string(60, 'x')});
}
double real(Draw& draw) { return pick(draw, {0.0, 0.1, -3.5, 1e300, 1.0 / 3}) * static_cast<double>(draw() % 7); }
std::int64_t whole(Draw& draw) {
    return pick<std::int64_t>(draw, {0, 1, -1, std::numeric_limits<std::int64_t>::max(),
                                     std::numeric_limits<std::int64_t>::min(), static_cast<std::int64_t>(draw() >> 2)});
}
Duration span(Draw& draw) { return Duration(draw() % std::uint64_t(Duration(20 * 24h).count())); }
WallTime time(Draw& draw) { return WallTime(Duration(draw() % (std::uint64_t(1) << 61))); }
SessionAction action(Draw& draw) { return static_cast<SessionAction>(draw() % 5); }
template <class T, class F>
std::optional<T> maybe(Draw& draw, F make) {
    if (draw() % 2) return std::nullopt;
    return make(draw);
}
std::map<std::string, std::string> tags(Draw& draw) {
    std::map<std::string, std::string> found;
    for (auto count = draw() % 4; count; --count) found[text(draw)] = text(draw);
    return found;
}

PolicySession session(Draw& draw) {
    return {text(draw),
            text(draw),
            text(draw),
            text(draw),
            text(draw),
            text(draw),
            real(draw),
            whole(draw),
            whole(draw),
            whole(draw),
            text(draw),
            tags(draw),
            time(draw),
            maybe<WallTime>(draw, time),
            maybe<WallTime>(draw, time),
            real(draw)};
}
PlaceCandidate candidate(Draw& draw) {
    return {text(draw), real(draw), whole(draw), draw() % 2 == 0, real(draw), tags(draw)};
}

PolicyRequest request(DecisionPoint point, Draw& draw) {
    switch (point) {
        case DecisionPoint::admit:
            return AdmitRequest{
                time(draw), session(draw), {whole(draw), whole(draw), whole(draw), whole(draw), whole(draw)}};
        case DecisionPoint::place: {
            PlaceRequest asked{time(draw), session(draw), {}};
            for (auto count = draw() % 4; count; --count) asked.candidates.push_back(candidate(draw));
            return asked;
        }
        case DecisionPoint::size: return SizeRequest{time(draw), session(draw)};
        case DecisionPoint::idle:
            return IdleRequest{time(draw),  session(draw),   span(draw),  span(draw),
                               whole(draw), draw() % 2 == 0, action(draw)};
        case DecisionPoint::schedule: return ScheduleRequest{time(draw), session(draw), maybe<Duration>(draw, span)};
        case DecisionPoint::budget:
            return BudgetRequest{time(draw),
                                 session(draw),
                                 real(draw),
                                 real(draw),
                                 real(draw),
                                 maybe<double>(draw, real),
                                 maybe<double>(draw, real),
                                 text(draw)};
        case DecisionPoint::isolation:
            return IsolationRequest{time(draw),      session(draw), text(draw),
                                    real(draw),      real(draw),    {text(draw), text(draw)},
                                    draw() % 2 == 0, action(draw)};
        case DecisionPoint::interruption:
            return InterruptionRequest{time(draw), session(draw), text(draw), maybe<WallTime>(draw, time),
                                       action(draw)};
    }
    return {};
}

PolicyDecision decision(DecisionPoint point, Draw& draw) {
    switch (point) {
        case DecisionPoint::admit: return AdmitDecision{static_cast<AdmitDecision::Action>(draw() % 2), text(draw)};
        case DecisionPoint::place: return PlaceDecision{text(draw), text(draw)};
        case DecisionPoint::size:
            return SizeDecision{maybe<double>(draw, real), maybe<std::int64_t>(draw, whole), text(draw)};
        default: return SessionDecision{action(draw), text(draw), maybe<Duration>(draw, span)};
    }
}

DecisionPoint point_at(std::size_t at) { return static_cast<DecisionPoint>(at); }

TEST(PolicyDecision, EveryRequestAndDecisionComesBackFromItsJson) {
    Draw draw(7);
    for (std::size_t i = 0; i < 400; ++i) {
        const auto point = point_at(i % decision_point_count);
        const auto asked = request(point, draw);
        const auto text = to_json(asked);
        ASSERT_EQ(point_of(asked), point);
        ASSERT_EQ(text.find('\n'), std::string::npos);
        ASSERT_EQ(policy_request_from_json(text), asked) << text;
        ASSERT_EQ(to_json(policy_request_from_json(text)), text);
        const auto given = decision(point, draw);
        ASSERT_EQ(policy_decision_from_json(point, to_json(given)), given) << to_json(given);
    }
}

TEST(PolicyDecision, NamesComeBack) {
    for (std::size_t i = 0; i < decision_point_count; ++i)
        EXPECT_EQ(parse_decision_point(name_of(point_at(i))), point_at(i));
    for (auto action : {SessionAction::standard, SessionAction::keep, SessionAction::disconnect, SessionAction::suspend,
                        SessionAction::terminate})
        EXPECT_EQ(parse_session_action(name_of(action)), action);
    EXPECT_EQ(parse_admit_action("deny"), AdmitDecision::Action::deny);
    for (auto parse : {+[] { parse_decision_point("Idle"); }, +[] { parse_session_action("stop"); },
                       +[] { parse_admit_action("allow"); }}) {
        try {
            parse();
            ADD_FAILURE() << "it was taken";
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation);
            EXPECT_FALSE(error.context().at("allowed").empty());
        }
    }
}

/// What reading says about a document with one field set to something else.
std::string complaint(DecisionPoint point, const std::string& pointer, const nlohmann::json& value) {
    Draw draw(1);
    auto document = nlohmann::json::parse(to_json(request(point, draw)));
    document[nlohmann::json::json_pointer(pointer)] = value;
    try {
        policy_request_from_json(document.dump());
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::validation);
        return error.message();
    }
    return "";
}

TEST(PolicyDecision, RequestsWithWrongFieldsAreRefusedByName) {
    EXPECT_THAT(complaint(DecisionPoint::idle, "/quiet", 3), HasSubstr("quiet: 3 is not allowed; there is no such"));
    EXPECT_THAT(complaint(DecisionPoint::idle, "/session/tag", 3), HasSubstr("session.tag: 3 is not allowed"));
    EXPECT_THAT(complaint(DecisionPoint::idle, "/quiet_for", "1h"), HasSubstr("quiet_for: \"1h\" is not allowed"));
    EXPECT_THAT(complaint(DecisionPoint::idle, "/quiet_for", 1e10), HasSubstr("at most 9e9"));
    EXPECT_THAT(complaint(DecisionPoint::idle, "/now", "yesterday"), HasSubstr("RFC 3339"));
    EXPECT_THAT(complaint(DecisionPoint::idle, "/standard", "stop"), HasSubstr("standard, keep, disconnect"));
    EXPECT_THAT(complaint(DecisionPoint::idle, "/connections", 1.5), HasSubstr("a whole number"));
    EXPECT_THAT(complaint(DecisionPoint::idle, "/connections", std::numeric_limits<std::uint64_t>::max()),
                HasSubstr("a whole number"));
    EXPECT_THAT(complaint(DecisionPoint::idle, "/use_fully_seen", 1), HasSubstr("true, false"));
    EXPECT_THAT(complaint(DecisionPoint::admit, "/usage", nullptr), HasSubstr("an object"));
    EXPECT_THAT(complaint(DecisionPoint::admit, "/session/tags/x", 1), HasSubstr("session.tags.x: 1"));
    EXPECT_THAT(complaint(DecisionPoint::isolation, "/failed_checks/0", 1), HasSubstr("failed_checks.0: 1"));
    EXPECT_THAT(complaint(DecisionPoint::size, "/point", "resize"), HasSubstr("admit, place, size"));
    EXPECT_THAT(complaint(DecisionPoint::size, "/schema_version", policy_schema_version + 1), HasSubstr("1 to 1"));
    for (auto text : {"", "[]", "nonsense", "{\"point\": \"idle\"", "{}"})
        EXPECT_THROW(policy_request_from_json(text), Error) << text;
    EXPECT_THROW(policy_decision_from_json(DecisionPoint::idle, R"({"action":"keep","until":1})"), Error);
    EXPECT_THROW(policy_decision_from_json(DecisionPoint::admit, R"({"action":"keep"})"), Error);
}

TEST(PolicyDecision, WhatIsNestedDeeplyIsRefused) {
    const std::string deep = std::string(60'000, '[') + std::string(60'000, ']');
    for (const auto& text : {deep, R"({"action":)" + deep + "}", R"({"reason":"\"[","action":)" + deep + "}"})
        EXPECT_THROW(policy_decision_from_json(DecisionPoint::idle, text), Error);
    EXPECT_THROW(policy_request_from_json(R"({"point":)" + deep + "}"), Error);
    const std::string brackets(200, '[');  // in a text they are no nesting
    EXPECT_EQ(policy_decision_from_json(DecisionPoint::idle, R"({"reason":"\")" + brackets + "\"}"),
              PolicyDecision(SessionDecision{SessionAction::standard, '"' + brackets, std::nullopt}));
}

TEST(PolicyDecision, MissingFieldsHaveTheirDefaults) {
    EXPECT_EQ(policy_request_from_json(R"({"point":"idle"})"), PolicyRequest(IdleRequest{}));
    for (std::size_t i = 0; i < decision_point_count; ++i)
        EXPECT_EQ(policy_decision_from_json(point_at(i), "{}"), standard_decision(point_at(i)));
}

TEST(PolicyDecision, BytesThatAreNotUtf8AreReplaced) {
    AdmitRequest asked;
    asked.session.user_id = "\xff";
    EXPECT_EQ(session_of(policy_request_from_json(to_json(PolicyRequest(asked)))).user_id, "\xef\xbf\xbd");
}

std::string refusal(const PolicyDecision& decision, const PolicyRequest& request) {
    try {
        check(decision, request);
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::policy);
        return error.context().at("field") + "|" + error.context().at("allowed");
    }
    return "";
}

TEST(PolicyDecision, DecisionsOfAnotherPointAreRefused) {
    EXPECT_EQ(refusal(AdmitDecision{}, IdleRequest{}), "decision|SessionDecision at idle");
    EXPECT_EQ(refusal(SessionDecision{}, SizeRequest{}), "decision|SizeDecision at size");
    for (std::size_t i = 0; i < decision_point_count; ++i) {
        Draw draw(i);
        EXPECT_EQ(refusal(standard_decision(point_at(i)), request(point_at(i), draw)), "");
        EXPECT_TRUE(is_standard(standard_decision(point_at(i))));
        EXPECT_EQ(action_of(standard_decision(point_at(i))), "standard");
    }
}

TEST(PolicyDecision, SizesStayWithinSixteenTimes) {
    SizeRequest asked;
    asked.session.cpu_cores = 2;
    asked.session.memory_bytes = 1 << 20;
    EXPECT_EQ(refusal(SizeDecision{32, 16 << 20, ""}, asked), "");
    EXPECT_EQ(refusal(SizeDecision{0.5, 1, ""}, asked), "");
    for (double wrong : {0.0, -1.0, 32.1, std::nan(""), std::numeric_limits<double>::infinity()})
        EXPECT_EQ(refusal(SizeDecision{wrong, {}, ""}, asked), "cpu_cores|above 0, at most 32") << wrong;
    for (std::int64_t wrong : {std::int64_t(0), std::int64_t(-1), std::int64_t((16 << 20) + 1)})
        EXPECT_THAT(refusal(SizeDecision{{}, wrong, ""}, asked), HasSubstr("memory_bytes|")) << wrong;
}

TEST(PolicyDecision, OnlyACandidateCanBeChosen) {
    PlaceRequest asked;
    for (auto name : {"a", "b"}) asked.candidates.emplace_back().name = name;
    EXPECT_EQ(refusal(PlaceDecision{"b", ""}, asked), "");
    EXPECT_EQ(refusal(PlaceDecision{"c", ""}, asked), "candidate|one of: a, b");
    EXPECT_EQ(refusal(PlaceDecision{"c", ""}, PlaceRequest{}), "candidate|one of: ");
}

TEST(PolicyDecision, AskingAgainBelongsToWhatChangesNothing) {
    EXPECT_EQ(refusal(SessionDecision{SessionAction::keep, "", 1h}, IdleRequest{}), "");
    EXPECT_EQ(refusal(SessionDecision{SessionAction::standard, "", 1h}, ScheduleRequest{}), "");
    EXPECT_THAT(refusal(SessionDecision{SessionAction::standard, "", -1s}, ScheduleRequest{}), HasSubstr("0 or more"));
    EXPECT_THAT(refusal(SessionDecision{SessionAction::suspend, "", 1h}, IdleRequest{}), HasSubstr("ask_again_after|"));
    EXPECT_THAT(refusal(SessionDecision{SessionAction::keep, "", -1s}, IdleRequest{}), HasSubstr("0 or more"));
    EXPECT_THAT(refusal(SessionDecision{static_cast<SessionAction>(9), "", {}}, IdleRequest{}), HasSubstr("action|"));
    EXPECT_EQ(refusal(SessionDecision{SessionAction::keep, std::string(policy_text_limit, 'x'), {}}, IdleRequest{}),
              "");
    EXPECT_THAT(
        refusal(AdmitDecision{AdmitDecision::Action::deny, std::string(policy_text_limit + 1, 'x')}, AdmitRequest{}),
        HasSubstr("reason|"));
}

}  // namespace
}  // namespace infrastructure_sdk
