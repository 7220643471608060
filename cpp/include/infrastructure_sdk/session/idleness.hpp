#pragma once
// Is a session idle? Pure: samples in, verdicts out. The same samples always give the same verdicts.
//
// Idle is observed over a whole window (`idle_timeout`), then armed (the moment to warn), then confirmed by one more
// look after `arming_delay`, then due. Any activity starts the window anew.
//
// The session counts as looked at when all of these are known quiet; without them the verdict is `unknown`, which never
// suspends:
//   guest_cpu                      nothing is computed
//   input, or connection = none    nobody does anything at the screen, or nobody is there to do it
//   exec, hold, touch              our own books
// network and disk are wanted, not needed: quiet without them is quiet, and `unseen` says that they were not seen.
//
// A look that failed is a hole. Counters are cumulative, so the next look covers it (averaged over the hole) and the
// window goes on. A hole above `longest_gap`, a needed counter that went back and another execution start it anew.
//
// What is typed into a forwarded connection shows as network and guest_cpu only, unless whoever forwards it counts it
// as input. Opening a connection is not activity; whoever hands out the address of a display should count that as a
// touch.

#include <array>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/session/activity.hpp>

namespace infrastructure_sdk {

/// A signal is active strictly above its threshold, averaged over the time between two looks.
struct IdleThresholds {
    double guest_cpu_cores = 0.05;                   ///< CPU time per time: 1 = one core fully used
    double network_bytes_per_second = 1024;          ///< both directions together
    double disk_bytes_per_second = 4096;             ///< reads and writes together
    Duration longest_gap = std::chrono::minutes(5);  ///< looks further apart are not compared
    friend bool operator==(const IdleThresholds&, const IdleThresholds&) = default;
};

struct IdleSettings {
    std::optional<Duration> idle_timeout;                ///< none = never idle
    Duration arming_delay = std::chrono::minutes(1);     ///< between the warning and the look that confirms
    Duration sample_interval = std::chrono::minutes(1);  ///< at most half of thresholds.longest_gap
    IdleThresholds thresholds;
    friend bool operator==(const IdleSettings&, const IdleSettings&) = default;
};

/// @throws Error(validation) when the settings contradict themselves.
void check(const IdleSettings& settings);

/// What two looks say: one reading per signal, in the order of the enum. `before` may be of any earlier time.
std::vector<SignalReading> compare(const ActivitySample& before, const ActivitySample& now,
                                   const IdleThresholds& thresholds);

enum class IdleState {
    busy,       ///< activity since the look before
    observing,  ///< quiet, but not for a whole window
    armed,      ///< quiet for a whole window; entering it is the moment to warn
    due,        ///< confirmed: act now, in the same turn as the sample was taken
    unknown,    ///< what is needed could not be seen: never acted on
};
const char* name_of(IdleState state) noexcept;

/// A set of signals.
class SignalSet {
public:
    void insert(ActivitySignal signal) { bits_ = static_cast<std::uint16_t>(bits_ | bit(signal)); }
    bool contains(ActivitySignal signal) const { return (bits_ & bit(signal)) != 0; }
    bool empty() const { return bits_ == 0; }
    std::vector<ActivitySignal> list() const;
    friend bool operator==(SignalSet, SignalSet) = default;

private:
    static std::uint16_t bit(ActivitySignal signal) {
        return static_cast<std::uint16_t>(1u << static_cast<unsigned>(signal));
    }
    std::uint16_t bits_ = 0;
};

struct IdleVerdict {
    IdleState state = IdleState::unknown;
    bool changed = false;  ///< another state than after the look before
    WallTime since;        ///< of this state
    WallTime quiet_since;  ///< the window's start: the last activity, or when looking began
    WallTime next_look;
    MonotonicTime wake_at;  ///< the same moment, for a timer
    SignalSet active;       ///< activity, presence apart
    SignalSet missing;      ///< needed and unknown; not empty exactly when `unknown`
    SignalSet unseen;       ///< wanted and unknown
    friend bool operator==(const IdleVerdict&, const IdleVerdict&) = default;
};

/// A counter as last seen.
struct CounterMark {
    std::uint64_t value = 0;
    MonotonicTime at = MonotonicTime::min();  ///< min() = never seen
    friend bool operator==(const CounterMark&, const CounterMark&) = default;
};

/// All that is remembered between two looks. `ExplainInputs` carries it to and from JSON.
struct IdleMemory {
    enum Counter { guest_cpu, network_rx, network_tx, disk_read, disk_write, input, execs, touches, counter_count };
    std::array<CounterMark, counter_count> counters;
    std::uint64_t execution = 0;                    ///< digest of the execution id; 0 = nothing was seen yet
    MonotonicTime seen_at = MonotonicTime::min();   ///< the last look
    MonotonicTime known_at = MonotonicTime::min();  ///< the last look that saw all that is needed
    MonotonicTime quiet_since = MonotonicTime::min();
    MonotonicTime armed_at = MonotonicTime::min();  ///< min() = not armed
    MonotonicTime state_since = MonotonicTime::min();
    IdleState state = IdleState::unknown;
    friend bool operator==(const IdleMemory&, const IdleMemory&) = default;
};
static_assert(sizeof(IdleMemory) <= 200);

/// One per session. Not thread-safe.
class IdleDetector {
public:
    IdleDetector() = default;
    explicit IdleDetector(IdleMemory memory) : memory_(memory) {}

    /// Samples come in the order of time. One of another execution, or from before the last one (the host was
    /// restarted), begins anew.
    IdleVerdict observe(const ActivitySample& sample, const IdleSettings& settings);
    /// What `observe` will see in this sample, in words. Ask before `observe`.
    std::vector<SignalReading> readings(const ActivitySample& sample, const IdleThresholds& thresholds) const;
    const IdleMemory& memory() const { return memory_; }

private:
    bool begins_anew(const ActivitySample& sample) const;
    IdleMemory memory_;
};

/// When to look next if it is known that the use stays as it is, rate for rate, until `steady_until`: looks that would
/// say the same once more are left out, and the last one before that moment is not. Never before `verdict.wake_at`.
/// @param left_alone_until of one that is due and not acted on: up to then nothing would follow from a look.
MonotonicTime next_telling_look(const IdleVerdict& verdict, const IdleMemory& memory, const IdleSettings& settings,
                                MonotonicTime steady_until, MonotonicTime left_alone_until);

/// The verdicts on recorded samples, one each, from `before` on.
std::vector<IdleVerdict> replay(const std::vector<ActivitySample>& samples, const IdleSettings& settings,
                                const IdleMemory& before = {});

}  // namespace infrastructure_sdk
