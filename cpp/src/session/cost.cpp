#include <infrastructure_sdk/session/cost.hpp>

#include <algorithm>
#include <cstdio>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/session/session.hpp>

namespace infrastructure_sdk {
namespace {

constexpr Duration hour = std::chrono::hours(1);

Duration overlap(WallTime from, WallTime until, Month month) {
    auto begin = std::max(from, begin_of(month));
    auto end = std::min(until, begin_of(month + std::chrono::months(1)));
    return std::max(end - begin, Duration::zero());
}

}  // namespace

Month month_of(WallTime time) {
    std::chrono::year_month_day date(std::chrono::floor<std::chrono::days>(time));
    return date.year() / date.month();
}

WallTime begin_of(Month month) { return std::chrono::sys_days(month / std::chrono::day(1)); }

std::string month_text(Month month) {
    char text[32];
    std::snprintf(text, sizeof text, "%04d-%02u", static_cast<int>(month.year()), static_cast<unsigned>(month.month()));
    return text;
}

Month parse_month(const std::string& text, const std::string& field) {
    int year = 0, end = 0;
    unsigned number = 0;
    bool read = text.size() == 7 && text[0] != '-' &&
                std::sscanf(text.c_str(), "%4d-%2u%n", &year, &number, &end) == 2 && end == 7;
    Month month = std::chrono::year(year) / std::chrono::month(number);
    if (!read || !month.ok() || month_text(month) != text)
        throw Error(Errc::validation, field + ": '" + text + "' is not allowed; a month such as \"2026-11\" is needed",
                    {{"field", field}, {"value", text}, {"allowed", "a month such as \"2026-11\""}});
    return month;
}

void meter(Charge& charge, SessionState state, WallTime now) {
    if (charge.price_per_hour_micros == 0 || state == SessionState::terminating) return;
    bool rests = state == SessionState::suspended || state == SessionState::failed || state == SessionState::terminated;
    if (rests != charge.since.has_value()) return;
    if (!rests) {
        charge.since = now;
        return;
    }
    auto from = *charge.since;
    charge.since.reset();
    for (auto month = month_of(from); begin_of(month) < now; month += std::chrono::months(1))
        if (auto time = overlap(from, now, month); time > Duration::zero()) charge.charged[month] += time;
}

WallTime reserved_until(const SessionClocks& clocks) {
    bool ends = clocks.ttl.deadline && clocks.ttl.on_expiry != OnExpiry::disconnect;
    return ends ? *clocks.ttl.deadline : WallTime::max();
}

std::int64_t cost_of(std::int64_t price_per_hour_micros, Duration time) {
    // 128 bits: 63 of a price and 63 of nanoseconds fit.
    __extension__ using Wide = __int128;
    return static_cast<std::int64_t>(static_cast<Wide>(price_per_hour_micros) * time.count() / hour.count());
}

std::int64_t cost_in_month(const Charge& charge, Month month, WallTime until) {
    if (charge.price_per_hour_micros == 0) return 0;
    auto settled = charge.charged.find(month);
    auto time = settled == charge.charged.end() ? Duration::zero() : settled->second;
    if (charge.since) time += overlap(*charge.since, until, month);
    return cost_of(charge.price_per_hour_micros, time);
}

}  // namespace infrastructure_sdk
