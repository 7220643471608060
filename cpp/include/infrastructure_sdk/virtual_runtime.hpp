#pragma once
// A runtime without threads on a virtual clock: the whole product, deterministic.

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include <infrastructure_sdk/environment.hpp>

#include <boost/asio/co_spawn.hpp>

namespace infrastructure_sdk {

struct VirtualRuntimeOptions {
    std::uint64_t seed = 1;
    /// 2026-01-01T00:00:00Z.
    WallTime start = WallTime(std::chrono::seconds(1'767'225'600));
    std::shared_ptr<LogSink> sink;  ///< none = no log
    LogLevel level = LogLevel::info;
};

/// Runs what is ready, and when nothing is, moves the clock to the next timer. The same seed gives the same order,
/// times and random bytes. One thread: the caller's. `blocking` runs inline.
class VirtualRuntime {
public:
    explicit VirtualRuntime(VirtualRuntimeOptions options = {});
    ~VirtualRuntime();
    VirtualRuntime(const VirtualRuntime&) = delete;
    VirtualRuntime& operator=(const VirtualRuntime&) = delete;

    const Environment& environment() const noexcept;
    /// Runs until nothing is ready and the next timer, if any, is after `when`; then the clock stands at `when`.
    void run_until(MonotonicTime when);
    void run_for(Duration length);
    /// Runs what is ready, or else the next timer. False = neither is there, or the runtime was halted.
    bool step();
    /// As kill -9 does to a process: nothing of what is ready or waiting ever runs. What holds it is destroyed with
    /// this.
    void halt() noexcept;
    bool halted() const noexcept;
    /// Sets the wall clock, as an operator or NTP may; the monotonic clock and timers are not touched.
    void set_wall_time(WallTime time);

    /// Steps until the task is done. @throws what it throws; Error(timeout) when it waits for something that never
    /// comes, Error(cancelled) when the runtime was halted.
    template <class T>
    T run(Task<T> task);
    void run(Task<void> task);

private:
    [[noreturn]] void refuse() const;
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

template <class T>
T VirtualRuntime::run(Task<T> task) {
    // Shared with the handler, which may outlive this call when the runtime is halted.
    struct Outcome {
        bool done = false;
        std::exception_ptr error;
        std::optional<T> value;
    };
    auto outcome = std::make_shared<Outcome>();
    boost::asio::co_spawn(environment().executor, std::move(task), [outcome](std::exception_ptr error, T value) {
        outcome->done = true;
        outcome->error = error;
        if (!error) outcome->value = std::move(value);
    });
    while (!outcome->done)
        if (!step()) refuse();
    if (outcome->error) std::rethrow_exception(outcome->error);
    return std::move(*outcome->value);
}

}  // namespace infrastructure_sdk
