#include <infrastructure_sdk/session/explain.hpp>

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "session/clock_rules.hpp"
#include "support/activity_script.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {
using namespace std::chrono_literals;
using nlohmann::json;
using test::ActivityScript;
using test::Doing;

struct Phase {
    int minutes;
    Doing doing;
};

/// An active session with a ttl of 8 h and an idle_timeout of 15 min, looked at every minute.
ExplainInputs session_that(const std::vector<Phase>& phases) {
    ActivityScript script;
    ExplainInputs inputs;
    inputs.settings.idle_timeout = 15min;
    inputs.clocks.ttl.limit = 8h;
    inputs.clocks.idle_timeout.limit = 15min;
    inputs.clocks.retention.limit = 24h;
    inputs.clocks = start_clocks(inputs.clocks, script.start());
    note_active(inputs.clocks, script.start());
    inputs.samples.push_back(script.look(phases.front().doing));
    for (const auto& phase : phases)
        for (int i = 0; i < phase.minutes; ++i) inputs.samples.push_back(script.step(1min, phase.doing));
    for (const auto& verdict : replay(inputs.samples, inputs.settings))
        note_activity(inputs.clocks, verdict.quiet_since);
    inputs.now = inputs.samples.back().at;
    return inputs;
}

ExplainInputs suspended_by_idleness() {
    auto inputs = session_that({{10, {.cpu = 40, .input = 20, .clients = 1}}, {16, {.cpu = 1, .clients = 1}}});
    IdleDetector detector;
    for (std::size_t i = 0; i + 1 < inputs.samples.size(); ++i) detector.observe(inputs.samples[i], inputs.settings);
    inputs.last_transition = TransitionRecord{inputs.now, SessionState::suspending, SessionState::suspended, "idle",
                                              detector.readings(inputs.samples.back(), inputs.settings.thresholds)};
    inputs.state = SessionState::suspended;
    note_suspended(inputs.clocks, inputs.now);
    inputs.now += 1h;
    return inputs;
}

std::string text(const Explanation& explanation) {
    std::string all;
    for (const auto& sentence : explanation.sentences) all += sentence + "\n";
    return all;
}

TEST(Explain, SaysWhyASessionIsAlive) {
    EXPECT_EQ(text(explain(session_that({{20, {.cpu = 63, .exec = 1}}}))),
              "It is active.\n"
              "It is in use: guest_cpu (63.0 % of one core), exec (1 command in flight).\n"
              "idle_timeout suspends it at 2026-03-02T09:35:00Z (in 15m), at the earliest, and only when the looks "
              "until then "
              "find it quiet.\n"
              "ttl terminates it at 2026-03-02T17:00:00Z (in 7h40m), extend moves it, use does not.\n");
}

TEST(Explain, SaysThatAConnectionIsNotActivityAndWhatWasNotSeen) {
    EXPECT_EQ(
        text(explain(session_that({{7, {.clients = 2, .unseen = {ActivitySignal::network}}}}))),
        "It is active.\n"
        "Nothing has happened since 2026-03-02T09:00:00Z (7m); that is shorter than idle_timeout (15m).\n"
        "Somebody is connected (2 VNC clients). A connection without input is presence, not activity.\n"
        "Not seen, and not needed for the verdict: network (could not ask for network).\n"
        "idle_timeout suspends it at 2026-03-02T09:15:00Z (in 8m), at the earliest, and only when the looks until then "
        "find it quiet.\n"
        "ttl terminates it at 2026-03-02T17:00:00Z (in 7h53m), extend moves it, use does not.\n");
}

TEST(Explain, SaysWhatItDoesNotKnow) {
    auto explanation = explain(session_that({{10, {.unseen = {ActivitySignal::guest_cpu}}}}));
    EXPECT_EQ(explanation.sentences.at(1),
              "Whether it is in use is not known since 2026-03-02T09:00:00Z: guest_cpu (could not ask for guest_cpu). "
              "What is "
              "not known never ends a session.");
}

TEST(Explain, SaysThatTheWarningWasGiven) {
    auto explanation = explain(session_that({{15, {}}}));
    EXPECT_EQ(
        explanation.sentences.at(1),
        "Nothing has happened since 2026-03-02T09:00:00Z (15m), a whole idle_timeout (15m). The warning was given at "
        "2026-03-02T09:15:00Z (0s ago); the look at 2026-03-02T09:16:00Z decides.");
}

TEST(Explain, SaysWhyASessionIsSuspendedAndThatItFollowsFromWhatWasSeen) {
    auto explanation = explain(suspended_by_idleness());
    EXPECT_EQ(explanation.reproduced, true);
    EXPECT_EQ(
        text(explanation),
        "It is suspended: it went from suspending to suspended at 2026-03-02T09:26:00Z (1h ago), reason: idle.\n"
        "Nothing had happened since 2026-03-02T09:10:00Z, longer than idle_timeout (15m); a look after the warning "
        "confirmed it.\n"
        "Seen then: connection (1 VNC client), input (no input events), guest_cpu (1.0 % of one core), network (0 "
        "B/s), "
        "disk (0 B/s), users (no users logged in), heartbeat (the agent does not answer), exec (no commands in "
        "flight), "
        "hold (no holds), touch (no touches).\n"
        "ttl terminates it at 2026-03-02T17:00:00Z (in 6h34m), extend moves it, use does not.\n"
        "retention terminates it at 2026-03-03T09:26:00Z (in 23h), unless it is resumed.\n");
}

TEST(Explain, SaysWhenTheRecordDoesNotBearTheReasonOut) {
    auto inputs = suspended_by_idleness();
    inputs.samples.resize(12);
    auto explanation = explain(inputs);
    EXPECT_EQ(explanation.reproduced, false);
    EXPECT_EQ(explanation.sentences.at(1),
              "The recorded samples do not lead to that verdict again; they say observing.");
}

TEST(Explain, OtherReasonsAreSaidAsTheyAre) {
    auto inputs = session_that({{5, {}}});
    inputs.state = SessionState::suspended;
    inputs.last_transition =
        TransitionRecord{inputs.now, SessionState::suspending, SessionState::suspended, "request", {}};
    note_suspended(inputs.clocks, inputs.now);
    auto explanation = explain(inputs);
    EXPECT_FALSE(explanation.reproduced);
    EXPECT_EQ(
        explanation.sentences.at(0),
        "It is suspended: it went from suspending to suspended at 2026-03-02T09:05:00Z (0s ago), reason: request.");
}

TEST(Explain, ASessionThatNothingEnds) {
    ExplainInputs inputs;
    inputs.now = parse_rfc3339("2026-03-02T09:00:00Z");
    EXPECT_EQ(text(explain(inputs)),
              "It is active.\nNobody has looked at its use yet.\nNo clock is running: only a request ends it.\n");
    inputs.state = SessionState::terminated;
    EXPECT_EQ(text(explain(inputs)), "It is terminated.\n");
}

TEST(WhatIf, WorksOutOtherTimeoutsFromTheRecordedSamples) {
    auto explanation = explain(suspended_by_idleness(), {10min, 15min, 30min});
    ASSERT_EQ(explanation.what_ifs.size(), 3u);
    EXPECT_EQ(
        std::vector(explanation.sentences.end() - 3, explanation.sentences.end()),
        (std::vector<std::string>{
            "With idle_timeout 10m it would have become idle at 2026-03-02T09:21:00Z, 5m sooner.",
            "With idle_timeout 15m it would have become idle at 2026-03-02T09:26:00Z, as it is.",
            "With idle_timeout 30m it would not have become idle by the last look (observing); at the earliest at "
            "2026-03-02T09:41:00Z."}));
}

TEST(WhatIf, FindsAnEarlierIdleTimeThatWasInterrupted) {
    auto inputs = session_that({{8, {}}, {1, {.input = 3}}, {5, {}}});
    auto shorter = what_if(inputs, 5min);
    ASSERT_TRUE(shorter);
    EXPECT_EQ(shorter->due_at, inputs.samples.front().at + 6min);
    EXPECT_FALSE(shorter->due_at_now);
    EXPECT_EQ(
        explain(inputs, {5min}).sentences.back(),
        "With idle_timeout 5m it would have become idle at 2026-03-02T09:06:00Z; as it is, it has not become idle.");
}

TEST(WhatIf, AnArmedSessionIsDueAfterTheRestOfItsDelay) {
    auto inputs = session_that({{15, {}}});
    auto answer = what_if(inputs, 15min);
    EXPECT_EQ(answer->state, IdleState::armed);
    EXPECT_EQ(answer->earliest, inputs.now + 1min);
}

TEST(WhatIf, NeedsSamplesAndATimeout) {
    EXPECT_FALSE(what_if({}, 5min));
    EXPECT_THROW(what_if(session_that({{5, {}}}), 0min), Error);
}

TEST(WhatIf, IsRightForEveryTimeout) {
    auto inputs = session_that({{120, {}}});
    for (int minutes = 1; minutes < 100; ++minutes)
        EXPECT_EQ(what_if(inputs, std::chrono::minutes(minutes))->due_at,
                  inputs.samples.front().at + std::chrono::minutes(minutes + 1));
}

TEST(ExplainJson, HoldsTheInputsFromWhichItFollows) {
    for (const auto& inputs :
         {suspended_by_idleness(), session_that({{7, {.clients = 1, .unseen = {ActivitySignal::disk}}}}),
          session_that({{3, {.unseen = {ActivitySignal::guest_cpu}}}}), ExplainInputs{}}) {
        const auto explanation = explain(inputs, {10min});
        const auto document = json::parse(json(explanation).dump());
        const auto again = explain(explain_inputs_from_json(document.at("inputs")), {10min});
        EXPECT_EQ(again, explanation);
        EXPECT_EQ(json(again), document);
    }
}

TEST(ExplainJson, HasTheVerdictForMachines) {
    auto document = json(explain(session_that({{20, {.cpu = 63}}}), {10min}));
    EXPECT_EQ(document["verdict"]["state"], "busy");
    EXPECT_EQ(document["verdict"]["active"], json::array({"guest_cpu"}));
    EXPECT_EQ(document["readings"][2]["detail"], "63.0 % of one core");
    EXPECT_EQ(document["deadlines"][0]["clock"], "idle_timeout");
    EXPECT_EQ(document["deadlines"][0]["firm"], false);
    EXPECT_EQ(document["what_if"][0]["idle_timeout"], "10m");
    EXPECT_EQ(document["reproduced"], nullptr);
}

TEST(ExplainJson, ABrokenRecordIsAnError) {
    auto document = json(explain(suspended_by_idleness()).inputs);
    for (const char* key : {"now", "clocks", "samples", "before", "settings"}) {
        auto broken = document;
        broken.erase(key);
        EXPECT_THROW(explain_inputs_from_json(broken), Error) << key;
    }
    document["samples"][0]["guest_cpu_ns"] = "many";
    EXPECT_THROW(explain_inputs_from_json(document), Error);
}

}  // namespace
}  // namespace infrastructure_sdk
