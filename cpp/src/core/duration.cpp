#include <infrastructure_sdk/duration.hpp>

#include <array>
#include <limits>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

struct Unit {
    std::string_view name;
    std::int64_t nanoseconds;
};
// Longest names first: "ms" before "m".
constexpr std::array<Unit, 7> units{{{"ns", 1},
                                     {"us", 1'000},
                                     {"\xc2\xb5s", 1'000},
                                     {"ms", 1'000'000},
                                     {"s", 1'000'000'000},
                                     {"m", 60'000'000'000},
                                     {"h", 3'600'000'000'000}}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

Duration parse_duration(std::string_view text, std::string_view field) {
    auto reject = [&](const char* why) {
        constexpr const char* allowed = "a duration such as 90s, 1h30m or 250ms (units ns, us, ms, s, m, h)";
        throw Error(Errc::validation,
                    std::string(field) + ": '" + std::string(text) + "' is not allowed (" + why + "); " + allowed,
                    {{"field", std::string(field)}, {"value", std::string(text)}, {"allowed", allowed}});
    };
    if (text == "0") return Duration::zero();
    if (text.empty()) reject("it is empty");
    if (text.front() == '-') reject("it is negative");
    __int128 total = 0;
    constexpr __int128 most = std::numeric_limits<std::int64_t>::max();
    std::string_view rest = text;
    while (!rest.empty()) {
        std::size_t i = 0;
        __int128 whole = 0;
        for (; i < rest.size() && is_digit(rest[i]); ++i) {
            whole = whole * 10 + (rest[i] - '0');
            if (whole > most) reject("it is too long");
        }
        std::size_t digits = i;
        __int128 fraction = 0, scale = 1;
        if (i < rest.size() && rest[i] == '.') {
            std::size_t first = ++i;
            for (; i < rest.size() && is_digit(rest[i]); ++i) {
                if (scale > 1'000'000'000'000'000) reject("its fraction is too fine");
                fraction = fraction * 10 + (rest[i] - '0');
                scale *= 10;
            }
            digits += i - first;
        }
        if (digits == 0) reject("a number is missing");
        rest.remove_prefix(i);
        const Unit* unit = nullptr;
        for (const auto& candidate : units)
            if (rest.starts_with(candidate.name)) {
                unit = &candidate;
                break;
            }
        if (!unit) reject("a unit is missing");
        rest.remove_prefix(unit->name.size());
        __int128 part = fraction * unit->nanoseconds;
        if (part % scale != 0) reject("it is finer than a nanosecond");
        total += whole * unit->nanoseconds + part / scale;
        if (total > most) reject("it is too long");
    }
    return Duration(static_cast<std::int64_t>(total));
}

std::string to_string(Duration duration) {
    if (duration == Duration::zero()) return "0s";
    std::string text = duration < Duration::zero() ? "-" : "";
    auto left = static_cast<unsigned __int128>(duration < Duration::zero() ? -static_cast<__int128>(duration.count())
                                                                           : static_cast<__int128>(duration.count()));
    for (auto it = units.rbegin(); it != units.rend(); ++it) {
        if (it->name.front() == '\xc2') continue;
        auto count = left / static_cast<unsigned __int128>(it->nanoseconds);
        left %= static_cast<unsigned __int128>(it->nanoseconds);
        if (count != 0) text += std::to_string(static_cast<std::uint64_t>(count)) + std::string(it->name);
    }
    return text;
}

}  // namespace infrastructure_sdk
