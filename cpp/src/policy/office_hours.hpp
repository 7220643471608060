#pragma once
// Hours of the week, at a fixed offset from UTC. Pure.

#include <string>
#include <vector>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk::policy {

/// From a minute of the day to another, on the days of the week from `first_day` to `last_day` (0 = Monday). One that
/// ends before it begins goes on into the next day; `last_day` before `first_day` goes on into the next week.
struct Hours {
    int first_day = 0;
    int last_day = 6;
    int from = 0;
    int to = 24 * 60;
    friend bool operator==(const Hours&, const Hours&) = default;
};

/// "mon-fri 08:00-18:00", "sat 09:00-12:00", "fri-mon 22:00-06:00". @throws Error(validation) naming `hours`
Hours parse_hours(const std::string& text);
/// "+01:00", "-03:30", "+00:00". @throws Error(validation) naming `utc_offset`
Duration parse_utc_offset(const std::string& text);

bool is_within(const std::vector<Hours>& hours, Duration utc_offset, WallTime now);
/// How long `now` stays within them; zero = it is not, at most a day.
Duration left_within(const std::vector<Hours>& hours, Duration utc_offset, WallTime now);

}  // namespace infrastructure_sdk::policy
