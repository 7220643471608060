#pragma once
// Counts what Python allocates on a thread while a policy runs there, and refuses what is above its budget.

#include <cstddef>
#include <cstdint>

namespace infrastructure_sdk::bindings {

/// Of one policy; used by one thread at a time.
struct MemoryMeter {
    std::int64_t budget = 0;  ///< bytes; 0 = no limit
    std::int64_t used = 0;    ///< taken while the policy ran and not given back while it ran
    bool refused = false;     ///< an allocation was refused since this was last cleared
};

/// While it lives, this thread's allocations count for the meter. GIL held by its maker.
class MeteredScope {
public:
    explicit MeteredScope(MemoryMeter& meter);
    ~MeteredScope();
    MeteredScope(const MeteredScope&) = delete;
    MeteredScope& operator=(const MeteredScope&) = delete;

private:
    MemoryMeter* before_;
};

}  // namespace infrastructure_sdk::bindings
