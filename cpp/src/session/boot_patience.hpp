#pragma once
// How long a guest may take to boot: longer than allowed while it gets on. Pure.

#include <algorithm>
#include <cstdint>
#include <optional>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

class BootPatience {
public:
    BootPatience(MonotonicTime now, Duration allowed) : started_(now), allowed_(allowed), next_look_(now + step()) {}

    /// Until when to wait before the guest is looked at.
    MonotonicTime next_look() const { return next_look_; }
    /// @param moved bytes that its disks and network cards have moved so far; nullopt = could not look, which is no
    /// progress. False = the time is over: all that was allowed has passed and nothing moved since the last look, or
    /// `longest` times as much has passed.
    bool goes_on(MonotonicTime now, std::optional<std::uint64_t> moved) {
        const bool advanced = moved && moved_ && *moved > *moved_;
        if (moved) moved_ = moved;
        next_look_ = now + step();
        if (now < started_ + allowed_) return true;
        return advanced && now < started_ + allowed_ * longest;
    }

private:
    static constexpr int looks = 4;    // while `allowed` passes
    static constexpr int longest = 4;  // a guest that never comes to an end does not hold its place for ever
    Duration step() const { return std::max<Duration>(allowed_ / looks, std::chrono::milliseconds(1)); }

    MonotonicTime started_;
    Duration allowed_;
    MonotonicTime next_look_;
    std::optional<std::uint64_t> moved_;
};

}  // namespace infrastructure_sdk
