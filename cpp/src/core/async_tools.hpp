#pragma once
// Coroutine tools: run blocking work, wait for a condition, count children.

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>

#include "core/asio.hpp"
#include <infrastructure_sdk/deadline.hpp>
#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {

/// Runs `work` on the blocking pool; the coroutine goes on where it was. The work is not interrupted by cancellation.
template <class F>
Task<std::invoke_result_t<F>> run_blocking(Executor blocking, F work) {
    using Result = std::invoke_result_t<F>;
    auto call = [](F f) -> Task<Result> { co_return f(); };
    co_return co_await asio::co_spawn(blocking, call(std::move(work)), asio::use_awaitable);
}

/// @throws Error(cancelled) or Error(timeout)
void check(const Call& call, const Clock& clock, const char* doing);

/// Completes when `stop` is requested.
Task<void> until_stopped(std::stop_token stop);

/// Wakes every waiter. Used on the serial executor only.
class Signal {
public:
    explicit Signal(Executor executor);
    void notify_all();
    /// Completes on notify_all, at the deadline or on stop, whichever is first, without an error.
    Task<void> wait(const Clock& clock, Call call);
    /// Completes on notify_all.
    Task<void> wait();

private:
    struct State;
    std::shared_ptr<State> state_;
};

/// One at a time, across awaits. Used on the serial executor only.
class AsyncMutex {
public:
    explicit AsyncMutex(Executor executor);
    class Guard {
    public:
        Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
        Guard& operator=(Guard&&) = delete;
        ~Guard();

    private:
        friend class AsyncMutex;
        explicit Guard(std::shared_ptr<void> mutex) : mutex_(std::move(mutex)) {}
        std::shared_ptr<void> mutex_;
    };
    /// @throws Error(cancelled) or Error(timeout), naming `doing`, while it waits.
    Task<Guard> lock(const Clock& clock, Call call, const char* doing);

private:
    struct State;
    std::shared_ptr<State> state_;
};

/// Counts spawned children so that their owner can join them.
class TaskGroup {
public:
    explicit TaskGroup(Executor executor);
    /// `name` is for the log when the child throws; Error(cancelled) is silent.
    void spawn(std::shared_ptr<const Logger> logger, std::string name, Task<void> task);
    Task<void> join();
    std::size_t size() const;
    /// Stops every child that listens to it.
    std::stop_source& stop_source();

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace infrastructure_sdk
