#pragma once
// An absolute point in time, passed by value so that nested calls share one budget.

#include <stop_token>
#include <string>
#include <utility>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

class Deadline {
public:
    /// Never expires.
    constexpr Deadline() = default;
    constexpr explicit Deadline(MonotonicTime when) : when_(when) {}
    static Deadline after(const Clock& clock, Duration budget) { return Deadline(clock.monotonic_now() + budget); }

    constexpr MonotonicTime when() const { return when_; }
    constexpr bool is_never() const { return when_ == MonotonicTime::max(); }
    bool expired(const Clock& clock) const { return !is_never() && clock.monotonic_now() >= when_; }
    /// Zero when expired.
    Duration remaining(const Clock& clock) const {
        if (is_never()) return Duration::max();
        auto left = when_ - clock.monotonic_now();
        return left < Duration::zero() ? Duration::zero() : left;
    }
    constexpr Deadline earlier(Deadline other) const { return when_ < other.when_ ? *this : other; }

private:
    MonotonicTime when_ = MonotonicTime::max();
};

/// What every asynchronous operation is given: how long, who may stop it, whom it belongs to.
struct Call {
    // Constructors, because g++ 12 destroys a temporary aggregate of a co_await expression twice.
    Call() {}
    Call(Deadline deadline, std::stop_token stop = {}, std::string correlation_id = {})
        : deadline(deadline), stop(std::move(stop)), correlation_id(std::move(correlation_id)) {}

    Deadline deadline;
    std::stop_token stop;
    std::string correlation_id;

    Call within(Deadline other) const { return {deadline.earlier(other), stop, correlation_id}; }
};

}  // namespace infrastructure_sdk
