#include <infrastructure_sdk/session/idleness.hpp>

#include <algorithm>
#include <utility>

#include "session/measurement.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using State = SignalReading::State;
constexpr std::array<const char*, 5> state_names{"busy", "observing", "armed", "due", "unknown"};
constexpr MonotonicTime never = MonotonicTime::min();

/// FNV-1a; never 0.
std::uint64_t digest(const std::string& text) {
    std::uint64_t hash = 14695981039346656037ull;
    for (unsigned char c : text) hash = (hash ^ c) * 1099511628211ull;
    return hash ? hash : 1;
}

const Measurement& of(const Measurements& seen, ActivitySignal signal) {
    return seen[static_cast<std::size_t>(signal)];
}

SignalSet activity_in(const Measurements& seen) {
    SignalSet result;
    for (std::size_t i = 0; i < seen.size(); ++i)
        if (auto signal = static_cast<ActivitySignal>(i); seen[i].state == State::active && !is_presence(signal))
            result.insert(signal);
    return result;
}

SignalSet needed_but_unknown(const Measurements& seen) {
    SignalSet result;
    auto need = [&](ActivitySignal signal) {
        if (of(seen, signal).state == State::unknown) result.insert(signal);
    };
    need(ActivitySignal::guest_cpu);
    need(ActivitySignal::exec);
    need(ActivitySignal::hold);
    need(ActivitySignal::touch);
    if (of(seen, ActivitySignal::connection).state != State::quiet &&
        of(seen, ActivitySignal::input).state == State::unknown) {
        need(ActivitySignal::input);
        need(ActivitySignal::connection);
    }
    return result;
}

SignalSet wanted_but_unknown(const Measurements& seen) {
    SignalSet result;
    for (auto signal : {ActivitySignal::network, ActivitySignal::disk})
        if (of(seen, signal).state == State::unknown) result.insert(signal);
    return result;
}

/// True when something that is needed can never be known of the time since the look before.
bool time_was_lost(const IdleMemory& memory, const Measurements& seen, MonotonicTime now, Duration longest_gap) {
    return now - memory.known_at > longest_gap || of(seen, ActivitySignal::guest_cpu).lost() ||
           of(seen, ActivitySignal::touch).lost() ||
           (of(seen, ActivitySignal::input).lost() && of(seen, ActivitySignal::connection).state != State::quiet);
}

/// The state of a session that is known to be quiet since a look before this one.
IdleState quiet_state(IdleMemory& memory, MonotonicTime now, const IdleSettings& settings) {
    if (!settings.idle_timeout || now - memory.quiet_since < *settings.idle_timeout) {
        memory.armed_at = never;
        return IdleState::observing;
    }
    if (memory.armed_at == never) {
        memory.armed_at = now;
        return IdleState::armed;
    }
    return now - memory.armed_at >= settings.arming_delay ? IdleState::due : IdleState::armed;
}

MonotonicTime next_look(const IdleMemory& memory, MonotonicTime now, const IdleSettings& settings) {
    auto when = now + settings.sample_interval;
    if (memory.state == IdleState::observing && settings.idle_timeout)
        when = std::min(when, memory.quiet_since + *settings.idle_timeout);
    if (memory.state == IdleState::armed) when = std::min(when, memory.armed_at + settings.arming_delay);
    return std::max(when, now + std::min<Duration>(settings.sample_interval, std::chrono::seconds(1)));
}

[[noreturn]] void reject(const char* field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, std::string(field) + ": '" + value + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

}  // namespace

const char* name_of(IdleState state) noexcept { return state_names[static_cast<std::size_t>(state)]; }

std::vector<ActivitySignal> SignalSet::list() const {
    std::vector<ActivitySignal> result;
    for (std::size_t i = 0; i < activity_signal_count; ++i)
        if (auto signal = static_cast<ActivitySignal>(i); contains(signal)) result.push_back(signal);
    return result;
}

void check(const IdleSettings& settings) {
    // As in the configuration; keeps sums of times inside 64 bits.
    constexpr Duration longest = std::chrono::hours(87600);
    const auto& thresholds = settings.thresholds;
    if (settings.idle_timeout && (*settings.idle_timeout <= Duration::zero() || *settings.idle_timeout > longest))
        reject("idle_timeout", to_string(*settings.idle_timeout), "above zero, at most " + to_string(longest));
    if (settings.arming_delay < Duration::zero() || settings.arming_delay > longest)
        reject("arming_delay", to_string(settings.arming_delay), "at least zero, at most " + to_string(longest));
    if (thresholds.longest_gap <= Duration::zero() || thresholds.longest_gap > longest)
        reject("longest_gap", to_string(thresholds.longest_gap), "above zero, at most " + to_string(longest));
    if (settings.sample_interval <= Duration::zero() || settings.sample_interval > thresholds.longest_gap / 2)
        reject("sample_interval", to_string(settings.sample_interval),
               "above zero, at most half of longest_gap (" + to_string(thresholds.longest_gap) + ")");
    for (auto [field, value] : {std::pair{"guest_cpu_cores", thresholds.guest_cpu_cores},
                                std::pair{"network_bytes_per_second", thresholds.network_bytes_per_second},
                                std::pair{"disk_bytes_per_second", thresholds.disk_bytes_per_second}})
        if (!(value >= 0)) reject(field, std::to_string(value), "it must not be negative");
}

std::vector<SignalReading> compare(const ActivitySample& before, const ActivitySample& now,
                                   const IdleThresholds& thresholds) {
    Counters counters;
    if (before.execution_id == now.execution_id) remember(counters, before);
    return describe(measure(counters, now, thresholds), now);
}

bool IdleDetector::begins_anew(const ActivitySample& sample) const {
    return memory_.execution != digest(sample.execution_id) || sample.monotonic_at < memory_.seen_at;
}

std::vector<SignalReading> IdleDetector::readings(const ActivitySample& sample,
                                                  const IdleThresholds& thresholds) const {
    return describe(measure(begins_anew(sample) ? Counters{} : memory_.counters, sample, thresholds), sample);
}

IdleVerdict IdleDetector::observe(const ActivitySample& sample, const IdleSettings& settings) {
    const auto now = sample.monotonic_at;
    if (begins_anew(sample)) {
        memory_ = {};
        memory_.execution = digest(sample.execution_id);
        memory_.known_at = memory_.quiet_since = now;
    }
    const auto seen = measure(memory_.counters, sample, settings.thresholds);
    IdleVerdict verdict;
    verdict.active = activity_in(seen);
    verdict.unseen = wanted_but_unknown(seen);
    const auto missing = needed_but_unknown(seen);
    if (verdict.active.empty()) verdict.missing = missing;

    if (!verdict.active.empty() || time_was_lost(memory_, seen, now, settings.thresholds.longest_gap)) {
        memory_.quiet_since = now;
        memory_.armed_at = never;
    }
    if (!verdict.active.empty()) verdict.state = IdleState::busy;
    else if (!verdict.missing.empty()) verdict.state = IdleState::unknown;
    else verdict.state = quiet_state(memory_, now, settings);

    verdict.changed = memory_.state_since == never || verdict.state != memory_.state;
    if (verdict.changed) memory_.state_since = now;
    memory_.state = verdict.state;
    memory_.seen_at = now;
    if (missing.empty()) memory_.known_at = now;
    remember(memory_.counters, sample);

    verdict.wake_at = next_look(memory_, now, settings);
    auto wall = [&](MonotonicTime time) { return sample.at + (time - now); };
    verdict.since = wall(memory_.state_since);
    verdict.quiet_since = wall(memory_.quiet_since);
    verdict.next_look = wall(verdict.wake_at);
    return verdict;
}

MonotonicTime next_telling_look(const IdleVerdict& verdict, const IdleMemory& memory, const IdleSettings& settings,
                                MonotonicTime steady_until, MonotonicTime left_alone_until) {
    const auto wake = verdict.wake_at;
    if (verdict.state == IdleState::due) steady_until = std::min(steady_until, left_alone_until);
    const bool repeats = verdict.state != IdleState::armed && verdict.state != IdleState::unknown;
    if (!repeats || steady_until <= wake) return wake;
    // Only whole intervals are left out, so the looks that remain are some of those that there would have been.
    auto later = wake + (steady_until - wake) / settings.sample_interval * settings.sample_interval;
    if (settings.idle_timeout && verdict.state == IdleState::observing)
        later = std::min(later, memory.quiet_since + *settings.idle_timeout);
    return std::max(wake, later);
}

std::vector<IdleVerdict> replay(const std::vector<ActivitySample>& samples, const IdleSettings& settings,
                                const IdleMemory& before) {
    IdleDetector detector(before);
    std::vector<IdleVerdict> verdicts;
    verdicts.reserve(samples.size());
    for (const auto& sample : samples) verdicts.push_back(detector.observe(sample, settings));
    return verdicts;
}

}  // namespace infrastructure_sdk
