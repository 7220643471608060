#include <infrastructure_sdk/quantity.hpp>

#include <array>
#include <limits>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr std::int64_t most_milli = std::numeric_limits<std::int64_t>::max();

struct Suffix {
    std::string_view name;
    __int128 milli;  // thousandths in one
};
constexpr __int128 power(__int128 base, int exponent) { return exponent == 0 ? 1 : base * power(base, exponent - 1); }
constexpr std::array<Suffix, 13> suffixes{{{"", 1000},
                                           {"m", 1},
                                           {"k", 1000 * power(10, 3)},
                                           {"M", 1000 * power(10, 6)},
                                           {"G", 1000 * power(10, 9)},
                                           {"T", 1000 * power(10, 12)},
                                           {"P", 1000 * power(10, 15)},
                                           {"Ki", 1000 * power(1024, 1)},
                                           {"Mi", 1000 * power(1024, 2)},
                                           {"Gi", 1000 * power(1024, 3)},
                                           {"Ti", 1000 * power(1024, 4)},
                                           {"Pi", 1000 * power(1024, 5)},
                                           {"E", 1000 * power(10, 18)}}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

Quantity Quantity::from_units(std::int64_t units) {
    if (units < 0 || units > most_milli / 1000)
        throw Error(Errc::validation, "quantity: '" + std::to_string(units) + "' is out of range");
    return from_milli(units * 1000);
}

Quantity Quantity::parse(std::string_view text, std::string_view field) {
    auto reject = [&](const char* why) {
        constexpr const char* allowed = "a Kubernetes quantity such as 2, 500m, 4Gi or 1.5G";
        throw Error(Errc::validation,
                    std::string(field) + ": '" + std::string(text) + "' is not allowed (" + why + "); " + allowed,
                    {{"field", std::string(field)}, {"value", std::string(text)}, {"allowed", allowed}});
    };
    if (text.empty()) reject("it is empty");
    if (text.front() == '-') reject("it is negative");
    std::string_view rest = text;
    if (rest.front() == '+') rest.remove_prefix(1);
    __int128 digits = 0, scale = 1;
    std::size_t count = 0;
    bool point = false;
    while (!rest.empty() && (is_digit(rest.front()) || (rest.front() == '.' && !point))) {
        if (rest.front() == '.') {
            point = true;
        } else {
            if (++count > 24) reject("it has too many digits");
            digits = digits * 10 + (rest.front() - '0');
            if (point) scale *= 10;
        }
        rest.remove_prefix(1);
    }
    if (count == 0) reject("a number is missing");
    __int128 unit = 0;
    if (rest.size() >= 2 && (rest.front() == 'e' || rest.front() == 'E')) {
        rest.remove_prefix(1);
        bool negative = rest.front() == '-';
        if (negative || rest.front() == '+') rest.remove_prefix(1);
        int exponent = 0;
        if (rest.empty() || rest.size() > 2) reject("its exponent is wrong");
        for (char c : rest) {
            if (!is_digit(c)) reject("its exponent is wrong");
            exponent = exponent * 10 + (c - '0');
        }
        if (exponent > 18) reject("its exponent is out of range");
        unit = 1000;
        if (negative) {
            if (scale > power(10, 18)) reject("it is finer than a thousandth");
            scale *= power(10, exponent);
        } else {
            unit *= power(10, exponent);
        }
    } else {
        for (const auto& suffix : suffixes)
            if (rest == suffix.name) unit = suffix.milli;
        if (unit == 0) reject("its unit is unknown");
    }
    if (digits != 0 && unit > (static_cast<__int128>(1) << 126) / digits) reject("it is out of range");
    __int128 milli = digits * unit;
    if (milli % scale != 0) reject("it is finer than a thousandth");
    milli /= scale;
    if (milli > most_milli) reject("it is out of range");
    return from_milli(static_cast<std::int64_t>(milli));
}

std::string Quantity::to_string() const {
    if (milli_ % 1000 != 0) return std::to_string(milli_) + "m";
    std::int64_t units = milli_ / 1000;
    if (units == 0) return "0";
    constexpr std::array<std::string_view, 5> binary{"Ki", "Mi", "Gi", "Ti", "Pi"};
    constexpr std::array<std::string_view, 5> decimal{"k", "M", "G", "T", "P"};
    auto reduce = [&](std::int64_t base, const auto& names) {
        std::int64_t rest = units;
        std::string_view name;
        for (auto candidate : names) {
            if (rest % base != 0) break;
            rest /= base;
            name = candidate;
        }
        return name.empty() ? std::string() : std::to_string(rest) + std::string(name);
    };
    if (auto text = reduce(1024, binary); !text.empty()) return text;
    if (auto text = reduce(1000, decimal); !text.empty()) return text;
    return std::to_string(units);
}

}  // namespace infrastructure_sdk
