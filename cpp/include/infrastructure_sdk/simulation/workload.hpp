#pragma once
// What people want of their sessions, as data: made up from a model of a fleet, read from a trace, or reconstructed
// from a recorded event log. Values only; the same input and seed give the same workload on every build.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/event.hpp>

namespace infrastructure_sdk {

/// How a session is used for a while. Outside all segments nobody and nothing uses it.
enum class UseKind {
    work,        ///< a person at the screen: connected, keys and pointer, some computing
    background,  ///< something computes, nobody is there
    open,        ///< a forgotten tab: connected, and nothing is done
};
const char* name_of(UseKind kind) noexcept;
/// @throws Error(validation)
UseKind parse_use_kind(const std::string& name);

struct UseSegment {
    Duration at{};  ///< from the start of the planned session
    Duration length{};
    UseKind kind = UseKind::work;
    friend bool operator==(const UseSegment&, const UseSegment&) = default;
};

/// One session as its user would have it if nothing ever got in the way.
struct PlannedSession {
    std::string user_id;
    std::string tenant;         ///< empty = none
    std::string template_name;  ///< empty = the simulation's default
    WallTime start;
    Duration length{};          ///< above zero
    bool ended_by_user = true;  ///< false = forgotten: nobody ends it, it lasts until a clock, a policy or the horizon
    std::vector<UseSegment> uses;  ///< in the order of time, not overlapping, within `length`
    std::map<std::string, std::string> tags;
    friend bool operator==(const PlannedSession&, const PlannedSession&) = default;
};

struct Workload {
    WallTime start;
    Duration length{};  ///< the horizon: what is alive then is counted up to there
    std::vector<PlannedSession> sessions;
    std::vector<std::string> notes;  ///< what the source could not tell, for people
};

/// @throws Error(validation) naming the session and the field.
void check(const Workload& workload);

/// A made-up fleet. Every length that is drawn is exponential with the given mean, held between a tenth and five times
/// of it (von Neumann 1951: whole numbers only, so it is the same on every machine); every time of day is triangular
/// around the given one.
struct FleetModel {
    std::size_t users = 100;                               ///< 1..1,000,000
    Duration length = std::chrono::hours(24 * 30);         ///< an hour to ten years
    WallTime start{std::chrono::seconds(1'767'571'200)};   ///< 2026-01-05T00:00:00Z, a Monday
    Duration utc_offset{};                                 ///< of the people's clocks, -14h..14h; no summer time
    std::size_t tenants = 4;                               ///< users are dealt to them in turn; 0 = none
    std::vector<int> working_days{1, 2, 3, 4, 5};          ///< 1 = Monday .. 7 = Sunday
    double attendance = 0.9;                               ///< share of working days on which a user comes
    double weekend_attendance = 0.05;                      ///< the same for all other days
    Duration day_start = std::chrono::hours(9);            ///< since local midnight
    Duration day_start_spread = std::chrono::minutes(60);  ///< at most so much earlier or later
    Duration day_length = std::chrono::hours(8);
    Duration day_length_spread = std::chrono::minutes(90);
    Duration lunch_at = std::chrono::minutes(12 * 60 + 30);  ///< since local midnight
    Duration lunch_length = std::chrono::minutes(45);        ///< mean; 0 = none
    Duration work_stretch = std::chrono::minutes(50);        ///< mean, between two breaks
    Duration break_length = std::chrono::minutes(10);        ///< mean
    double meeting_share = 0.2;                              ///< of breaks that are a meeting
    Duration meeting_length = std::chrono::minutes(60);      ///< mean
    double background_share = 0.15;                          ///< of days after which a job computes on
    Duration background_length = std::chrono::hours(3);      ///< mean
    double forgotten_tab_share = 0.3;                        ///< of days after which the screen stays connected
    Duration forgotten_tab_length = std::chrono::hours(10);  ///< mean
    std::size_t session_days = 5;                            ///< days on which one session is used before it is ended
    double forgotten_session_share = 0.2;                    ///< of sessions that nobody ends
};

/// @throws Error(validation) naming the field.
void check(const FleetModel& model);
/// Sorted by start, then by user. @param go_on asked between users, of which there may be a million; false stops.
/// @throws Error(cancelled) when `go_on` said so
Workload synthesize(const FleetModel& model, std::uint64_t seed, const std::function<bool()>& go_on = {});
/// Each field by its name; durations as "8h", times as RFC 3339, shares as numbers of 0 to 1. Absent = default.
/// @throws Error(validation) naming the field; unknown ones with what is allowed.
FleetModel fleet_model_from_json(const std::string& json);
std::string to_json(const FleetModel& model);

/// Reads a trace of one session a line.
///
/// CSV has a header line that names its columns, in any order: `user`, `start` (RFC 3339), `length` ("8h30m") are
/// needed; `activity`, `tenant`, `template` and `ended` ("true", "false") may be there. `activity` is a list of
/// KIND@OFFSET+LENGTH separated by blanks, such as "work@0s+50m background@8h+2h". Fields with commas stand in double
/// quotes. JSONL has one object a line with the same names; `activity` may also be a list of
/// {"kind", "at", "length"}, and `tags` an object of texts. Empty lines are skipped.
/// @param source named in errors. @throws Error(validation) naming line and column.
Workload parse_trace_csv(std::string_view text, const std::string& source);
Workload parse_trace_jsonl(std::string_view text, const std::string& source);

/// One event a line, as the store and `events` write them: {"sequence", "time", "type", "subject", "data", ...}.
/// @param source named in errors. @throws Error(validation) naming line and field.
std::vector<Event> parse_event_lines(std::string_view text, const std::string& source);
/// Sessions, verbs and use, as far as a log tells them. A session was used from when it became active or was resumed
/// until what an idle event calls `quiet_since`, and again from when an idle warning was called off. Use with nobody
/// connected, where the log tells of connections, is background work.
///
/// A log cannot tell: who was denied; use while a session was suspended; pauses shorter than the idle timeout it was
/// recorded with; how much was computed. What applies is said in `notes`.
/// @param log in any order, it is put into that of the sequences; without sequences (all 0) it stays as it is.
/// @throws Error(validation) when there is no session in it, or two events have one sequence.
Workload workload_from_events(const std::vector<Event>& log);

}  // namespace infrastructure_sdk
