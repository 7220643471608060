#pragma once
// The four clocks of a session, never mixed up. Each has one limit, one deadline and one action.

#include <optional>
#include <string>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

enum class TerminationReason;

/// What happens when a clock runs out.
enum class OnExpiry {
    disconnect,  ///< clients are cut off; the session runs on
    suspend,
    terminate,
};
const char* name_of(OnExpiry action) noexcept;
/// @throws Error(validation)
OnExpiry parse_on_expiry(const std::string& name);

enum class ClockKind {
    ttl,                 ///< from creation, in use or not
    idle_timeout,        ///< since the last observed activity
    disconnect_timeout,  ///< since the last client left; does not run before the first one came
    retention,           ///< since the session was suspended
};
const char* name_of(ClockKind clock) noexcept;
/// @throws Error(validation)
ClockKind parse_clock_kind(const std::string& name);
/// The reason of a termination by this clock.
TerminationReason reason_of(ClockKind clock) noexcept;

struct SessionClock {
    std::optional<Duration> limit;  ///< none = the clock is off
    OnExpiry on_expiry = OnExpiry::terminate;
    std::optional<WallTime> deadline;  ///< absolute; none = the clock does not run now
    bool spent = false;  ///< its `disconnect` was carried out; it acts again only when the deadline has moved
    friend bool operator==(const SessionClock&, const SessionClock&) = default;
};

/// Rules and deadlines of one session. The functions that move deadlines are in session/clock_rules.hpp.
struct SessionClocks {
    SessionClock ttl{{}, OnExpiry::terminate, {}, false};
    SessionClock idle_timeout{{}, OnExpiry::suspend, {}, false};
    SessionClock disconnect_timeout{{}, OnExpiry::suspend, {}, false};
    SessionClock retention{{}, OnExpiry::terminate, {}, false};
    WallTime created_at;
    bool connected = false;                          ///< as last told
    std::optional<Duration> maximum_ttl;             ///< from creation, extensions included; none = no bound
    Duration warn_before = std::chrono::minutes(5);  ///< at most half of a clock's limit is used
    friend bool operator==(const SessionClocks&, const SessionClocks&) = default;
};

/// One way in which the session may end, and when.
struct ClockDeadline {
    ClockKind clock = ClockKind::ttl;
    OnExpiry action = OnExpiry::terminate;
    WallTime at;
    WallTime warn_at;
    /// False for idle_timeout: `at` is the earliest moment, and only a verdict of `due` acts. Its warning is `armed`.
    bool firm = true;
    friend bool operator==(const ClockDeadline&, const ClockDeadline&) = default;
};

}  // namespace infrastructure_sdk
