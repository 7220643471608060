#pragma once
// Time and randomness come from outside, so that the whole product runs on a virtual clock.

#include <chrono>
#include <compare>
#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <string>

#include <infrastructure_sdk/async.hpp>

namespace infrastructure_sdk {

using Duration = std::chrono::nanoseconds;
/// UTC.
using WallTime = std::chrono::sys_time<std::chrono::nanoseconds>;

struct MonotonicTag {
    using duration = Duration;
    using rep = Duration::rep;
    using period = Duration::period;
    using time_point = std::chrono::time_point<MonotonicTag, Duration>;
    static constexpr bool is_steady = true;
};
/// Never goes back; includes the time the host slept (CLOCK_BOOTTIME on the system clock).
using MonotonicTime = std::chrono::time_point<MonotonicTag, Duration>;

/// Thread-safe.
class Clock {
public:
    virtual ~Clock() = default;
    virtual WallTime wall_now() const = 0;
    virtual MonotonicTime monotonic_now() const = 0;
    /// Completes at `when`, or as soon as `stop` is requested (without an error: the caller looks).
    virtual Task<void> sleep_until(MonotonicTime when, std::stop_token stop) = 0;
};

/// Thread-safe source of bytes.
class Random {
public:
    virtual ~Random() = default;
    virtual void fill(std::span<std::uint8_t> bytes) = 0;
};

std::shared_ptr<Clock> make_system_clock();
/// The kernel's CSPRNG.
std::shared_ptr<Random> make_system_random();

/// RFC 4122 version 4, lower case.
std::string make_uuid(Random& random);
/// "2026-11-24T15:07:48.123456789Z"; always UTC and nine digits.
std::string to_rfc3339(WallTime time);
/// @throws Error(validation)
WallTime parse_rfc3339(const std::string& text);

}  // namespace infrastructure_sdk
