#include "policy/office_hours.hpp"

#include <algorithm>
#include <array>
#include <regex>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::policy {
namespace {

constexpr std::array<const char*, 7> day_names{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

[[noreturn]] void refuse(const char* field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, std::string(field) + ": '" + value + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

int day_of(const std::string& name) {
    return static_cast<int>(std::find(day_names.begin(), day_names.end(), name) - day_names.begin());
}

int minute_of(const std::string& text) { return std::stoi(text.substr(0, 2)) * 60 + std::stoi(text.substr(3, 2)); }

/// Whether the hours begin on that day of the week.
bool begins_on(const Hours& hours, int day) {
    return (day - hours.first_day + 7) % 7 <= (hours.last_day - hours.first_day + 7) % 7;
}

}  // namespace

Hours parse_hours(const std::string& text) {
    static const std::string day = "(mon|tue|wed|thu|fri|sat|sun)", time = "((?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)";
    static const std::regex grammar(day + "(?:-" + day + ")? " + time + "-" + time);
    std::smatch found;
    if (!std::regex_match(text, found, grammar))
        refuse("hours", text, "days and times such as \"mon-fri 08:00-18:00\"");
    Hours hours;
    hours.first_day = day_of(found[1]);
    hours.last_day = found[2].matched ? day_of(found[2]) : hours.first_day;
    hours.from = minute_of(found[3]);
    hours.to = minute_of(found[4]);
    if (hours.from == hours.to) refuse("hours", text, "hours that end at another time than they begin");
    return hours;
}

Duration parse_utc_offset(const std::string& text) {
    static const std::regex grammar("([+-])(0[0-9]|1[0-4]):([0-5][0-9])");
    std::smatch found;
    if (!std::regex_match(text, found, grammar)) refuse("utc_offset", text, "an offset such as \"+01:00\"");
    auto minutes = std::chrono::minutes(std::stoi(found[2]) * 60 + std::stoi(found[3]));
    return found[1] == "-" ? -minutes : minutes;
}

bool is_within(const std::vector<Hours>& hours, Duration utc_offset, WallTime now) {
    return left_within(hours, utc_offset, now) > Duration::zero();
}

Duration left_within(const std::vector<Hours>& hours, Duration utc_offset, WallTime now) {
    const auto local = now + utc_offset;
    const auto date = std::chrono::floor<std::chrono::days>(local);
    const int today = static_cast<int>(std::chrono::weekday(date).iso_encoding()) - 1;
    const Duration time = local - date;
    constexpr Duration longest = std::chrono::days(1);
    Duration end = time;
    // Hours may go on where others end. Those of the day before may reach into today.
    for (bool grows = true; grows && end < time + longest;) {
        grows = false;
        for (const auto& some : hours)
            for (int day = -1; day <= 1; ++day) {
                if (!begins_on(some, (today + day + 7) % 7)) continue;
                const auto midnight = std::chrono::days(day);
                const Duration from = midnight + std::chrono::minutes(some.from);
                Duration to = midnight + std::chrono::minutes(some.to);
                if (some.to < some.from) to += std::chrono::days(1);
                if (from > end || to <= end) continue;
                end = to;
                grows = true;
            }
    }
    return std::min(end - time, longest);
}

}  // namespace infrastructure_sdk::policy
