#pragma once
// What a session costs. Time is summed, exactly; money follows from it, so nothing drifts however often a session is
// suspended. All functions are pure.

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

struct SessionClocks;
enum class SessionState;

/// A calendar month, UTC.
using Month = std::chrono::year_month;

/// The meter of one session; a part of its record, so it is written in the transaction that changes the state.
///
/// A session costs its price from the moment it is recorded until it is suspended, failed or terminated, and again from
/// a resume or recovery on; suspended and failed sessions cost nothing, also while they are terminated. Times are those
/// of the wall clock: a clock that jumps ahead is charged, one that is set back stops the meter until it is where it
/// was.
struct Charge {
    /// Millionths of the currency: the template's price, and that of its GPUs. Fixed when the session is made; 0 = it
    /// costs nothing and nothing is metered.
    std::int64_t price_per_hour_micros = 0;
    std::optional<WallTime> since;      ///< costs its price from then on; none = costs nothing now
    std::map<Month, Duration> charged;  ///< what was charged before `since`

    friend bool operator==(const Charge&, const Charge&) = default;
};

Month month_of(WallTime time);
/// Its first moment, which is no part of the month before.
WallTime begin_of(Month month);
/// "2026-11"
std::string month_text(Month month);
/// @throws Error(validation)
Month parse_month(const std::string& text, const std::string& field = "month");

/// Notes that the session is in `state` from `now` on. A session that is being terminated costs what it did before.
void meter(Charge& charge, SessionState state, WallTime now);

/// Until when a session counts on being charged: its ttl's deadline; `WallTime::max()` without one, or when the ttl
/// only disconnects.
WallTime reserved_until(const SessionClocks& clocks);

/// price_per_hour x time / 1 h, rounded down to a millionth.
std::int64_t cost_of(std::int64_t price_per_hour_micros, Duration time);

/// What a session costs in a month when it is charged until `until`:
///
///     cost_of(price, charged[month] + length of the part of [since, until) that lies in the month)
///
/// With `until` = now that is what has accrued. What admission holds against money_per_month has `until` =
/// max(now, reserved_until): accrued, and to come until the ttl or the month's end, whichever is first.
std::int64_t cost_in_month(const Charge& charge, Month month, WallTime until);

}  // namespace infrastructure_sdk
