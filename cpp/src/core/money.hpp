#pragma once
// Exact money: millionths of a currency, written as a decimal.

#include <cstdint>
#include <string>
#include <string_view>

namespace infrastructure_sdk {

constexpr const char* money_grammar = "a decimal with at most 6 digits after the point, such as \"0.50\"";

/// "0.50" -> 500000. @param field named in the error.
/// @throws Error(validation) when negative, finer than a millionth, out of range or not a plain decimal.
std::int64_t parse_money(std::string_view text, std::string_view field = "money");

/// At least two digits after the point, no more than needed: "0.50", "12.000001".
std::string money_text(std::int64_t micros);

}  // namespace infrastructure_sdk
