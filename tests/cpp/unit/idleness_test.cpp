#include <infrastructure_sdk/session/idleness.hpp>

#include <gtest/gtest.h>

#include "support/activity_script.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {
using namespace std::chrono_literals;
using enum ActivitySignal;
using test::ActivityScript;
using test::Doing;

IdleSettings fifteen_minutes() {
    IdleSettings settings;
    settings.idle_timeout = 15min;
    return settings;
}

SignalReading reading(const std::vector<SignalReading>& readings, ActivitySignal signal) {
    return readings.at(static_cast<std::size_t>(signal));
}

std::string word(const SignalReading& reading) { return std::string(name_of(reading.state)) + ": " + reading.detail; }

std::string states(const std::vector<IdleVerdict>& verdicts) {
    std::string text;
    for (const auto& verdict : verdicts) text += name_of(verdict.state)[0];
    return text;
}

// ---- readings ----------------------------------------------------------------------------------------------------

TEST(ActivityReadings, SayWhatWasSeenInWords) {
    ActivityScript script;
    auto before = script.look({});
    auto now = script.step(1min, {.cpu = 12.5,
                                  .net = 100,
                                  .disk = 9000,
                                  .input = 3,
                                  .execs = 1,
                                  .touches = 2,
                                  .clients = 2,
                                  .forwarded = 1,
                                  .users = 1,
                                  .exec = 0,
                                  .holds = 0,
                                  .agent = true,
                                  .unseen = {}});
    auto readings = compare(before, now, {});
    ASSERT_EQ(readings.size(), activity_signal_count);
    EXPECT_EQ(word(reading(readings, connection)), "active: 2 VNC clients, 1 forwarded connection");
    EXPECT_EQ(word(reading(readings, input)), "active: 3 input events");
    EXPECT_EQ(word(reading(readings, guest_cpu)), "active: 12.5 % of one core");
    EXPECT_EQ(word(reading(readings, network)), "quiet: 100 B/s");
    EXPECT_EQ(word(reading(readings, disk)), "active: 9000 B/s");
    EXPECT_EQ(word(reading(readings, users)), "active: 1 user logged in");
    EXPECT_EQ(word(reading(readings, heartbeat)), "active: the agent answers");
    EXPECT_EQ(word(reading(readings, exec)), "active: 1 command started");
    EXPECT_EQ(word(reading(readings, hold)), "quiet: no holds");
    EXPECT_EQ(word(reading(readings, touch)), "active: 2 touches");
    EXPECT_EQ(readings.front().at, now.at);
}

TEST(ActivityReadings, SayWhyTheyDoNotKnow) {
    ActivityScript script;
    auto before = script.look({});
    auto now = script.step(1min, {.unseen = {guest_cpu, heartbeat}});
    EXPECT_EQ(word(reading(compare(before, now, {}), guest_cpu)), "unknown: could not ask for guest_cpu");
    now.reasons.clear();
    EXPECT_EQ(word(reading(compare(before, now, {}), heartbeat)), "unknown: not in the sample");
    auto later = script.step(10min, {});
    EXPECT_EQ(word(reading(compare(before, later, {}), guest_cpu)),
              "unknown: the look before was 11m ago: too long to compare");
    EXPECT_EQ(word(reading(compare(later, later, {}), guest_cpu)), "unknown: no time has passed since the look before");
    script.restart();
    EXPECT_EQ(word(reading(compare(later, script.step(1min, {}), {}), guest_cpu)),
              "unknown: first look: nothing to compare with");
}

TEST(ActivityReadings, ACounterThatWentBackIsCountedFromZero) {
    ActivityScript script;
    script.pass(1h, {.cpu = 50, .net = 100, .input = 60});
    auto before = script.look({});
    for (auto signal : {guest_cpu, network, input}) script.reset(signal);
    auto busy = script.step(1min, {.cpu = 20, .net = 10, .input = 1});
    EXPECT_EQ(word(reading(compare(before, busy, {}), guest_cpu)), "active: 20.0 % of one core");
    EXPECT_EQ(word(reading(compare(before, busy, {}), network)), "unknown: the counter was restarted");
    EXPECT_EQ(word(reading(compare(before, busy, {}), input)), "active: 1 input event");
}

TEST(ActivityReadings, HalfASignalIsEnoughToBeActiveAndNotEnoughToBeQuiet) {
    ActivityScript script;
    auto before = script.look({});
    auto now = script.step(1min, {.net = 4000});
    now.network_tx_bytes.reset();
    EXPECT_EQ(reading(compare(before, now, {}), network).state, SignalReading::State::active);
    now.network_rx_bytes = before.network_rx_bytes;
    EXPECT_EQ(reading(compare(before, now, {}), network).state, SignalReading::State::unknown);
    now.forwarded_connections.reset();
    EXPECT_EQ(reading(compare(before, now, {}), connection).state, SignalReading::State::unknown);
    now.vnc_clients = 1;
    EXPECT_EQ(reading(compare(before, now, {}), connection).state, SignalReading::State::active);
}

// ---- the detector ------------------------------------------------------------------------------------------------

TEST(IdleDetector, ObservesAWholeWindowThenArmsThenConfirms) {
    ActivityScript script;
    auto verdicts = replay(script.looks(17, 1min, {}), fifteen_minutes());
    EXPECT_EQ(states(verdicts),
              "u"
              "oooooooooooooo"
              "a"
              "dd");
    EXPECT_TRUE(verdicts[15].changed);
    EXPECT_TRUE(verdicts[16].changed);
    EXPECT_FALSE(verdicts[17].changed);
    EXPECT_EQ(verdicts[15].quiet_since, script.start());
    EXPECT_EQ(verdicts[15].since, script.start() + 15min);
}

TEST(IdleDetector, ActivityAtAnyStageStartsTheWindowAnew) {
    for (int stage : {1, 14, 15, 16, 17}) {
        ActivityScript script;
        auto samples = script.looks(stage, 1min, {});
        samples.push_back(script.step(1min, {.input = 1}));
        for (int i = 0; i < 16; ++i) samples.push_back(script.step(1min, {}));
        auto verdicts = replay(samples, fifteen_minutes());
        auto tail = states({verdicts.begin() + stage + 1, verdicts.end()});
        EXPECT_EQ(tail,
                  "b"
                  "oooooooooooooo"
                  "a"
                  "d")
            << "after " << stage << " quiet looks";
    }
}

TEST(IdleDetector, SaysWhenToLookNext) {
    ActivityScript script;
    auto settings = fifteen_minutes();
    settings.idle_timeout = 90s;
    settings.arming_delay = 20s;
    IdleDetector detector;
    auto verdict = detector.observe(script.look({}), settings);
    EXPECT_EQ(verdict.next_look, script.start() + 1min);
    verdict = detector.observe(script.step(1min, {}), settings);
    EXPECT_EQ(verdict.next_look, script.start() + 90s);  // the window's end
    auto armed = script.step(30s, {});
    verdict = detector.observe(armed, settings);
    EXPECT_EQ(verdict.state, IdleState::armed);
    EXPECT_EQ(verdict.next_look, script.start() + 110s);
    EXPECT_EQ(verdict.wake_at, armed.monotonic_at + 20s);
    verdict = detector.observe(script.step(20s, {}), settings);
    EXPECT_EQ(verdict.state, IdleState::due);
}

TEST(IdleDetector, NamesWhatItNeedsAndDoesNotKnow) {
    struct Row {
        std::set<ActivitySignal> unseen;
        std::uint32_t clients;
        std::vector<ActivitySignal> missing;
    };
    const Row rows[] = {
        {{guest_cpu}, 0, {guest_cpu}},
        {{input}, 0, {}},
        {{input}, 1, {input}},
        {{connection}, 1, {}},
        {{connection, input}, 1, {connection, input}},
        {{exec}, 0, {exec}},
        {{hold, touch}, 0, {hold, touch}},
        {{network, disk, users, heartbeat}, 0, {}},
    };
    for (const auto& row : rows) {
        ActivityScript script;
        const Doing doing{.clients = row.clients, .unseen = row.unseen};
        auto verdict = replay(script.looks(5, 1min, doing), fifteen_minutes()).back();
        EXPECT_EQ(verdict.missing.list(), row.missing);
        EXPECT_EQ(verdict.state, row.missing.empty() ? IdleState::observing : IdleState::unknown);
        EXPECT_EQ(verdict.unseen.contains(network), row.unseen.contains(network));
    }
}

TEST(IdleDetector, BeginsAnewWhenTheHostWasRestarted) {
    ActivityScript script;
    IdleDetector detector;
    for (const auto& sample : script.looks(14, 1min, {})) detector.observe(sample, fifteen_minutes());
    auto sample = script.step(1min, {});
    sample.monotonic_at = MonotonicTime(5s);
    auto verdict = detector.observe(sample, fifteen_minutes());
    EXPECT_EQ(verdict.state, IdleState::unknown);
    EXPECT_EQ(verdict.quiet_since, sample.at);
}

TEST(IdleDetector, TheSameSampleTwiceDoesNotConfirm) {
    ActivityScript script;
    IdleDetector detector;
    auto settings = fifteen_minutes();
    settings.arming_delay = 0s;
    for (const auto& sample : script.looks(15, 1min, {})) detector.observe(sample, settings);
    EXPECT_EQ(detector.memory().state, IdleState::armed);
    EXPECT_NE(detector.observe(script.look({}), settings).state, IdleState::due);
    EXPECT_EQ(detector.observe(script.step(1s, {}), settings).state, IdleState::due);
}

TEST(IdleDetector, WorkSeenInTheSameMomentIsNotForgotten) {
    ActivityScript script;
    IdleDetector detector;
    for (const auto& sample : script.looks(5, 1min, {})) detector.observe(sample, fifteen_minutes());
    auto sample = script.look({});
    *sample.guest_cpu_ns += 30'000'000'000;
    EXPECT_EQ(detector.observe(sample, fifteen_minutes()).state, IdleState::unknown);
    auto next = script.step(1min, {});
    *next.guest_cpu_ns += 30'000'000'000;
    EXPECT_EQ(detector.observe(next, fifteen_minutes()).state, IdleState::busy);
}

TEST(IdleDetector, ReadingsAreThoseOfTheVerdict) {
    ActivityScript script;
    IdleDetector detector;
    detector.observe(script.look({}), fifteen_minutes());
    detector.observe(script.step(1min, {.cpu = 60, .unseen = {guest_cpu}}), fifteen_minutes());
    auto sample = script.step(1min, {.cpu = 0});
    EXPECT_EQ(word(reading(detector.readings(sample, {}), guest_cpu)), "active: 30.0 % of one core");
    EXPECT_EQ(detector.observe(sample, fifteen_minutes()).active.list(), std::vector{guest_cpu});
}

TEST(IdleSettings, ThatContradictThemselvesAreRefusedByName) {
    auto refused = [](auto change) -> std::string {
        auto settings = fifteen_minutes();
        change(settings);
        try {
            check(settings);
        } catch (const Error& error) {
            return error.context().at("field");
        }
        return "";
    };
    EXPECT_EQ(refused([](IdleSettings&) {}), "");
    EXPECT_EQ(refused([](IdleSettings& s) { s.idle_timeout = 0s; }), "idle_timeout");
    EXPECT_EQ(refused([](IdleSettings& s) { s.idle_timeout = Duration::max(); }), "idle_timeout");
    EXPECT_EQ(refused([](IdleSettings& s) { s.arming_delay = -1s; }), "arming_delay");
    EXPECT_EQ(refused([](IdleSettings& s) { s.thresholds.longest_gap = 0s; }), "longest_gap");
    EXPECT_EQ(refused([](IdleSettings& s) { s.sample_interval = 3min; }), "sample_interval");
    EXPECT_EQ(refused([](IdleSettings& s) { s.thresholds.guest_cpu_cores = -0.1; }), "guest_cpu_cores");
}

TEST(ActivityWords, RoundTrip) {
    for (std::size_t i = 0; i < activity_signal_count; ++i) {
        auto signal = static_cast<ActivitySignal>(i);
        EXPECT_EQ(parse_activity_signal(name_of(signal)), signal);
    }
    EXPECT_THROW(parse_activity_signal("cpu"), Error);
    EXPECT_TRUE(is_presence(connection) && is_presence(users) && is_presence(heartbeat));
    EXPECT_FALSE(is_presence(input) || is_presence(exec));
}

}  // namespace
}  // namespace infrastructure_sdk
