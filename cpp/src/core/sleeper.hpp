#pragma once
// How a coroutine waits to be woken. Cheaper than a timer, and no call of the operating system.

#include <memory>

#include <infrastructure_sdk/async.hpp>

namespace infrastructure_sdk {

/// One wait of one coroutine. Copies are the same wait. What still sleeps when its execution context ends is destroyed
/// with it.
class Sleeper {
public:
    /// @param executor the coroutine's own; serial.
    explicit Sleeper(Executor executor);
    /// Ends the wait, or the one that is still to come. From any thread.
    void wake() const;
    /// Once, on the executor.
    Task<void> sleep() const;

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace infrastructure_sdk
