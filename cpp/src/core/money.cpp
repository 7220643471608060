#include "core/money.hpp"

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr std::int64_t one_unit = 1'000'000;
constexpr std::size_t most_fraction_digits = 6;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

std::int64_t parse_money(std::string_view text, std::string_view field) {
    auto reject = [&](const char* why) {
        throw Error(Errc::validation,
                    std::string(field) + ": '" + std::string(text) + "' is not allowed (" + why + "); " + money_grammar,
                    {{"field", std::string(field)}, {"value", std::string(text)}, {"allowed", money_grammar}});
    };
    if (text.empty()) reject("it is empty");
    if (text.front() == '-') reject("it is negative");
    auto point = text.find('.');
    std::string whole(text.substr(0, point));
    std::string fraction(point == std::string_view::npos ? "" : text.substr(point + 1));
    if (whole.empty() || (point != std::string_view::npos && fraction.empty())) reject("a digit is missing");
    std::int64_t micros = 0;
    auto append = [&](char digit) {
        if (!is_digit(digit)) reject("it is not a plain decimal");
        if (__builtin_mul_overflow(micros, 10, &micros) || __builtin_add_overflow(micros, digit - '0', &micros))
            reject("it is out of range");
    };
    for (char c : whole) append(c);
    if (fraction.size() > most_fraction_digits) reject("it is finer than a millionth");
    fraction.resize(most_fraction_digits, '0');
    for (char c : fraction) append(c);
    return micros;
}

std::string money_text(std::int64_t micros) {
    auto fraction = std::to_string(micros % one_unit);
    fraction.insert(0, most_fraction_digits - fraction.size(), '0');
    while (fraction.size() > 2 && fraction.back() == '0') fraction.pop_back();
    return std::to_string(micros / one_unit) + "." + fraction;
}

}  // namespace infrastructure_sdk
