#pragma once
// Keeps the books of a simulation: what each planned session got, from the events of the store.

#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/async_tools.hpp"
#include <infrastructure_sdk/session/cost.hpp>
#include <infrastructure_sdk/simulation/simulation.hpp>

namespace infrastructure_sdk {

enum class WaitKind { start, resume };

/// One planned session as it is lived.
struct LivedSession {
    LivedSession(const PlannedSession& plan, Executor executor) : planned(&plan), changed(executor) {}

    const PlannedSession* planned;
    Signal changed;          ///< the state is another one
    std::string session_id;  ///< of the last session; empty before the first
    VmId vm_id;
    SessionState state = SessionState::terminated;
    std::int64_t price_per_hour_micros = 0;
    std::optional<UseKind> use;    ///< what is wanted now
    MonotonicTime steady_since{};  ///< the use is the same from then on
    MonotonicTime steady_until{};
    bool user_ends = false;  ///< the user has asked for its end
    SimulatedOutcome outcome;
    std::string ended;
    std::optional<WallTime> metered_since;
    std::optional<WallTime> exists_since;
    WallTime accounted_to{};
    std::optional<WallTime> left_alone_at;  ///< suspended or ended while not in use, for who comes back soon
};

class Tally {
public:
    Tally(const Workload& workload, Duration came_back_within);

    /// A session was created for it. Events of its id are its own from now on.
    void follow(LivedSession& lived, const Session& session);
    void take(const Event& event);
    /// From now on another use is wanted; none = nothing.
    void want(LivedSession& lived, std::optional<UseKind> use, WallTime now);
    void note_wait(LivedSession& lived, WaitKind kind, Duration length);
    /// Counts what is alive up to the horizon.
    void close(LivedSession& lived, WallTime horizon);
    /// The session of a VM that runs now; nullptr = of none.
    const LivedSession* of_vm(const VmId& vm) const;

    std::vector<SimulatedHour>& hours() { return hours_; }
    std::vector<Duration> waits[2];  ///< by WaitKind
    Duration existed{};

private:
    void account(LivedSession& lived, WallTime now);
    void start_meter(LivedSession& lived, WallTime now);
    void stop_meter(LivedSession& lived, WallTime now);
    void note_existed(LivedSession& lived, WallTime now);
    void judge_suspension(LivedSession& lived, const Event& event);
    void note_end(LivedSession& lived, const Event& event);
    void enter(LivedSession& lived, SessionState state, WallTime now);

    WallTime start_;
    Duration came_back_within_;
    std::vector<SimulatedHour> hours_;
    std::unordered_map<std::string, LivedSession*> by_session_;  // looked up only
    std::unordered_map<std::string, LivedSession*> by_vm_;       // looked up only
};

/// Adds a stretch of time to the hours that it covers.
void spread_over_hours(std::vector<SimulatedHour>& hours, WallTime start, WallTime from, WallTime to,
                       Duration SimulatedHour::* into);
/// Sorts them.
WaitingTimes percentiles(std::vector<Duration>& waits);

}  // namespace infrastructure_sdk
