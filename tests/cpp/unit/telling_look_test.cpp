// Looks that would say nothing new may be left out: the session is due at the same moment.

#include <gtest/gtest.h>

#include "core/seeded_random.hpp"
#include <infrastructure_sdk/session/idleness.hpp>

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;

/// CPU use that is constant between changes.
struct Story {
    std::vector<std::pair<MonotonicTime, bool>> changes;  ///< from when on it is busy or not

    static Story make(std::uint64_t seed) {
        SeededRandom random(seed);
        Story story;
        MonotonicTime at{};
        for (int i = 0; i < 12; ++i) {
            story.changes.emplace_back(at, i % 2 == 0);
            at += std::chrono::seconds(1 + random.below(i % 2 == 0 ? 5400 : 2400));
        }
        return story;
    }
    std::uint64_t busy_ns(MonotonicTime until) const {
        Duration busy{};
        for (std::size_t i = 0; i < changes.size(); ++i) {
            const auto end = i + 1 < changes.size() ? std::min(until, changes[i + 1].first) : until;
            if (changes[i].second && end > changes[i].first) busy += end - changes[i].first;
        }
        return static_cast<std::uint64_t>(busy.count());
    }
    std::pair<MonotonicTime, MonotonicTime> piece_of(MonotonicTime now) const {
        std::pair<MonotonicTime, MonotonicTime> piece{MonotonicTime::min(), MonotonicTime::max()};
        for (const auto& [at, busy] : changes) {
            if (at <= now) piece.first = at;
            else piece.second = std::min(piece.second, at);
        }
        return piece;
    }
};

struct Outcome {
    MonotonicTime due = MonotonicTime::max();
    int looks = 0;
};

Outcome watch(const Story& story, const IdleSettings& settings, bool leave_out) {
    IdleDetector detector;
    Outcome outcome;
    MonotonicTime now{};
    while (now < MonotonicTime(std::chrono::hours(24))) {
        ActivitySample sample;
        sample.monotonic_at = now;
        sample.execution_id = "e";
        sample.guest_cpu_ns = story.busy_ns(now);
        sample.input_events = 0;
        sample.vnc_clients = sample.forwarded_connections = 0;
        sample.exec_in_flight = sample.holds = 0;
        sample.execs_started = sample.touches = 0;
        const auto verdict = detector.observe(sample, settings);
        ++outcome.looks;
        if (verdict.state == IdleState::due) {
            outcome.due = now;
            return outcome;
        }
        const auto [since, until] = story.piece_of(now);
        const bool settled = leave_out && now - settings.sample_interval >= since;
        now = next_telling_look(verdict, detector.memory(), settings, settled ? until : MonotonicTime::min(),
                                MonotonicTime::min());
    }
    return outcome;
}

TEST(TellingLook, LeavingOutTheOthersDoesNotMoveTheEnd) {
    IdleSettings settings;
    settings.idle_timeout = 25min;
    settings.thresholds.longest_gap = std::chrono::hours(1000);
    int all = 0, telling = 0;
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        const auto story = Story::make(seed);
        const auto every = watch(story, settings, false), few = watch(story, settings, true);
        EXPECT_EQ(every.due, few.due) << seed;
        all += every.looks;
        telling += few.looks;
    }
    EXPECT_LT(telling * 4, all);
}

TEST(TellingLook, WhatIsArmedOrUnknownIsLookedAtAsEver) {
    IdleSettings settings;
    settings.idle_timeout = 25min;
    IdleVerdict verdict;
    verdict.wake_at = MonotonicTime(10min);
    const MonotonicTime later{100h};
    for (auto state : {IdleState::armed, IdleState::unknown}) {
        verdict.state = state;
        EXPECT_EQ(next_telling_look(verdict, {}, settings, later, later), verdict.wake_at);
    }
    verdict.state = IdleState::due;
    EXPECT_EQ(next_telling_look(verdict, {}, settings, later, MonotonicTime(30min)), MonotonicTime(30min));
    EXPECT_EQ(next_telling_look(verdict, {}, settings, later, MonotonicTime::min()), verdict.wake_at);
    verdict.state = IdleState::busy;
    EXPECT_EQ(next_telling_look(verdict, {}, settings, MonotonicTime(12min + 30s), {}), MonotonicTime(12min));
    EXPECT_EQ(next_telling_look(verdict, {}, settings, MonotonicTime(9min), {}), verdict.wake_at);
}

}  // namespace
}  // namespace infrastructure_sdk
