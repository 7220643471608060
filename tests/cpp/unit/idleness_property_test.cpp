// What holds for every sequence of samples, on seeded random ones.

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include <nlohmann/json.hpp>

#include "session/activity_json.hpp"
#include "support/activity_script.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {
using namespace std::chrono_literals;
using nlohmann::json;
using test::ActivityScript;
using test::Doing;

constexpr int rounds = 400;
constexpr int looks = 60;

IdleSettings ten_minutes() {
    IdleSettings settings;
    settings.idle_timeout = 10min;
    return settings;
}

using Random = std::mt19937_64;
bool one_in(Random& random, unsigned n) { return random() % n == 0; }

/// Mostly quiet, so that windows are filled.
Doing some_doing(Random& random) {
    Doing doing;
    doing.cpu = one_in(random, 25) ? 60 : static_cast<double>(random() % 5);
    doing.net = one_in(random, 30) ? 90'000 : static_cast<double>(random() % 900);
    doing.disk = static_cast<double>(random() % 3000);
    doing.input = one_in(random, 30) ? 5 : 0;
    doing.touches = one_in(random, 60) ? 1 : 0;
    doing.execs = one_in(random, 60) ? 1 : 0;
    doing.clients = static_cast<std::uint32_t>(random() % 2);
    doing.exec = one_in(random, 40) ? 1 : 0;
    doing.holds = one_in(random, 60) ? 1 : 0;
    doing.agent = one_in(random, 2);
    for (std::size_t i = 0; i < activity_signal_count; ++i)
        if (one_in(random, 40)) doing.unseen.insert(static_cast<ActivitySignal>(i));
    return doing;
}

Duration some_step(Random& random) {
    return one_in(random, 40) ? Duration(7min) : Duration(20s) + std::chrono::seconds(random() % 60);
}

std::vector<ActivitySample> some_samples(Random& random) {
    ActivityScript script;
    std::vector<ActivitySample> samples;
    for (int i = 0; i < looks; ++i) {
        if (one_in(random, 80)) script.restart();
        samples.push_back(script.step(some_step(random), some_doing(random)));
    }
    return samples;
}

std::size_t first_due(const std::vector<ActivitySample>& samples) {
    auto verdicts = replay(samples, ten_minutes());
    auto it = std::find_if(verdicts.begin(), verdicts.end(), [](const auto& v) { return v.state == IdleState::due; });
    return static_cast<std::size_t>(it - verdicts.begin());
}

/// More of one kind of activity at look `at`: counters stay higher from there on within the execution.
void add_activity(std::vector<ActivitySample>& samples, std::size_t at, Random& random) {
    const auto kind = random() % 7;
    for (auto i = at; i < samples.size() && samples[i].execution_id == samples[at].execution_id; ++i) {
        auto& sample = samples[i];
        auto add = [](std::optional<std::uint64_t>& counter, std::uint64_t more) {
            if (counter) *counter += more;
        };
        if (kind == 0) add(sample.guest_cpu_ns, 30'000'000'000);
        if (kind == 1) add(sample.network_rx_bytes, 9'000'000);
        if (kind == 2) add(sample.disk_write_bytes, 90'000'000);
        if (kind == 3) add(sample.input_events, 1);
        if (kind == 4) add(sample.touches, 1);
        if (kind == 5 && i == at && sample.exec_in_flight) ++*sample.exec_in_flight;
        if (kind == 6 && i == at && sample.holds) ++*sample.holds;
    }
}

TEST(IdlenessProperty, AddingActivityNeverMakesASessionDueSooner) {
    Random random(1);
    int reached = 0;
    for (int round = 0; round < rounds; ++round) {
        auto samples = some_samples(random);
        const auto before = first_due(samples);
        reached += before < samples.size();
        for (int i = 0; i < 5; ++i) {
            add_activity(samples, random() % samples.size(), random);
            EXPECT_GE(first_due(samples), before) << "round " << round;
        }
    }
    EXPECT_GT(reached, rounds / 10) << "the property was hardly tried";
}

TEST(IdlenessProperty, WhatIsNotKnownNeverLeadsToDue) {
    Random random(2);
    for (int round = 0; round < rounds; ++round)
        for (auto blind :
             {std::set{ActivitySignal::guest_cpu}, std::set{ActivitySignal::exec}, std::set{ActivitySignal::hold},
              std::set{ActivitySignal::touch}, std::set{ActivitySignal::connection, ActivitySignal::input}}) {
            ActivityScript script;
            IdleDetector detector;
            for (int i = 0; i < looks; ++i) {
                auto doing = some_doing(random);
                doing.unseen.insert(blind.begin(), blind.end());
                auto verdict = detector.observe(script.step(some_step(random), doing), ten_minutes());
                ASSERT_TRUE(verdict.state == IdleState::unknown || verdict.state == IdleState::busy);
                ASSERT_EQ(verdict.state == IdleState::unknown, !verdict.missing.empty());
            }
        }
}

TEST(IdlenessProperty, AnExecOrAHoldInFlightIsNeverIdle) {
    Random random(4);
    for (int round = 0; round < rounds; ++round) {
        ActivityScript script;
        IdleDetector detector;
        for (int i = 0; i < looks; ++i) {
            auto doing = some_doing(random);
            (round % 2 ? doing.exec : doing.holds) = 1 + static_cast<std::uint32_t>(random() % 3);
            doing.unseen.erase(round % 2 ? ActivitySignal::exec : ActivitySignal::hold);
            ASSERT_EQ(detector.observe(script.step(some_step(random), doing), ten_minutes()).state, IdleState::busy);
        }
    }
}

TEST(IdlenessProperty, DueComesOnlyAfterArmedAndAWholeWindow) {
    Random random(5);
    for (int round = 0; round < rounds; ++round) {
        auto samples = some_samples(random);
        auto verdicts = replay(samples, ten_minutes());
        WallTime armed = WallTime::min();
        for (std::size_t i = 0; i < verdicts.size(); ++i) {
            const auto& verdict = verdicts[i];
            if (verdict.state == IdleState::armed && armed == WallTime::min()) armed = samples[i].at;
            if (verdict.state == IdleState::busy || verdict.state == IdleState::observing) armed = WallTime::min();
            if (verdict.state != IdleState::due) continue;
            ASSERT_NE(armed, WallTime::min());
            EXPECT_GE(samples[i].at - armed, 1min);
            EXPECT_GE(armed - verdict.quiet_since, 10min);
            EXPECT_TRUE(verdict.active.empty() && verdict.missing.empty());
        }
    }
}

TEST(IdlenessProperty, ReplayGivesTheSameAlsoThroughStorage) {
    Random random(6);
    for (int round = 0; round < rounds / 4; ++round) {
        auto samples = some_samples(random);
        const auto verdicts = replay(samples, ten_minutes());
        EXPECT_EQ(replay(samples, ten_minutes()), verdicts);
        // The detector is put away and taken out after every look, and so is each sample.
        IdleMemory memory;
        for (std::size_t i = 0; i < samples.size(); ++i) {
            IdleDetector detector(memory);
            auto sample = activity_sample_from_json(json::parse(json(samples[i]).dump()));
            EXPECT_EQ(detector.observe(sample, ten_minutes()), verdicts[i]);
            memory = idle_memory_from_json(json::parse(json(detector.memory()).dump()));
            ASSERT_EQ(memory, detector.memory());
        }
    }
}

TEST(IdlenessProperty, TheNextLookIsAlwaysAheadAndNeverFurtherThanTheInterval) {
    Random random(7);
    for (int round = 0; round < rounds / 4; ++round) {
        auto samples = some_samples(random);
        auto verdicts = replay(samples, ten_minutes());
        for (std::size_t i = 0; i < verdicts.size(); ++i) {
            EXPECT_GT(verdicts[i].next_look, samples[i].at);
            EXPECT_LE(verdicts[i].next_look, samples[i].at + 1min);
        }
    }
}

TEST(IdleMemory, OneThatLacksATimeIsRefused) {
    ActivityScript script;
    IdleDetector detector;
    for (const auto& sample : script.looks(3, 1min, {})) detector.observe(sample, ten_minutes());
    EXPECT_EQ(idle_memory_from_json(json(IdleMemory{})), IdleMemory{});
    for (const char* key : {"seen_at", "known_at", "quiet_since", "state_since"}) {
        json document = detector.memory();
        document[key] = nullptr;
        EXPECT_THROW(idle_memory_from_json(document), Error) << key;
        document.erase(key);
        EXPECT_THROW(idle_memory_from_json(document), Error) << key;
    }
}

TEST(IdleMemory, IsSmall) { EXPECT_LE(sizeof(IdleMemory), 200u); }

}  // namespace
}  // namespace infrastructure_sdk
