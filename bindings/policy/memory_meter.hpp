#pragma once
// Counts what Python allocates on a thread while a policy runs there, and refuses what is above its budget. What is
// given back counts too, whoever gives it back and when.

#include <atomic>
#include <cstdint>
#include <memory>

namespace infrastructure_sdk::bindings {

/// Of one policy.
struct MemoryMeter {
    explicit MemoryMeter(std::int64_t most) : budget(most) {}
    const std::int64_t budget;          ///< bytes; 0 = no limit
    std::atomic<std::int64_t> used{0};  ///< taken by the policy and not given back yet
    std::atomic<bool> refused{false};   ///< an allocation was refused since this was last cleared
};
using MeterPtr = std::shared_ptr<MemoryMeter>;

/// While it lives, this thread's allocations count for the meter. GIL held by its maker.
class MeteredScope {
public:
    explicit MeteredScope(const MeterPtr& meter);
    ~MeteredScope();
    MeteredScope(const MeteredScope&) = delete;
    MeteredScope& operator=(const MeteredScope&) = delete;

private:
    const MeterPtr* before_;
};

}  // namespace infrastructure_sdk::bindings
