#include "session/restart.hpp"

#include <algorithm>
#include <array>

namespace infrastructure_sdk {
namespace {

constexpr Duration longest = std::chrono::minutes(5);

template <std::size_t N>
bool is_one_of(const std::string& word, const std::array<const char*, N>& words) {
    return std::any_of(words.begin(), words.end(), [&](const char* other) { return word == other; });
}

/// The VM is gone and nobody asked for it. A guest that shut itself down did ask.
bool was_lost(const Loss& loss) {
    constexpr std::array<const char*, 6> words{"ProcessKilled", "GuestPanicked",      "VmLost",
                                               "GuestHung",     "MemoryLimitReached", "GuestRebooted"};
    return loss.before == SessionState::active && is_one_of(loss.reason, words);
}

/// An attempt of ours that failed, for a reason that another attempt may not meet.
bool attempt_failed(const Loss& loss) {
    constexpr std::array<const char*, 4> lasting{"ImageReplaced", "TemplateMissing", "IsolationFailed",
                                                 "SnapshotMissing"};
    bool tried = loss.before == SessionState::provisioning || loss.before == SessionState::failed;
    return tried && loss.attempts > 0 && !is_one_of(loss.reason, lasting);
}

Duration delay_of(const RestartRule& rule, unsigned attempt, std::uint32_t random) {
    auto most = std::max(longest, rule.backoff);
    auto delay = rule.backoff;
    for (unsigned i = 1; i < attempt && delay < most; ++i) delay *= 2;
    delay = std::min(delay, most);
    return delay + delay / 4 * (random % 1001) / 1000;
}

}  // namespace

RestartVerdict plan_restart(const RestartRule& rule, const Loss& loss, std::uint32_t random) {
    RestartVerdict verdict;
    if (rule.policy == RestartPolicy::never || !(was_lost(loss) || attempt_failed(loss))) return verdict;
    auto attempts = loss.active_for >= rule.window ? 0 : loss.attempts;
    if (attempts >= rule.max_attempts) {
        verdict.why_not = "AttemptsUsedUp";
        return verdict;
    }
    verdict.again = true;
    verdict.attempt = attempts + 1;
    verdict.delay = delay_of(rule, verdict.attempt, random);
    return verdict;
}

}  // namespace infrastructure_sdk
