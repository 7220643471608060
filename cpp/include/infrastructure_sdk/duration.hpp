#pragma once
// Go's duration grammar, exact: "1h30m", "250ms", "1.5s". Units ns, us, µs, ms, s, m, h.

#include <string>
#include <string_view>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

/// @param field named in the error.
/// @throws Error(validation) on anything outside the grammar, on overflow of 64-bit nanoseconds, on a fraction finer
/// than a nanosecond, and on a negative value.
Duration parse_duration(std::string_view text, std::string_view field = "duration");

/// The shortest exact form: "1h30m", "250ms", "0s".
std::string to_string(Duration duration);

}  // namespace infrastructure_sdk
