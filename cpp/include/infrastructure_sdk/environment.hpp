#pragma once
// Everything the core may know of the outside world: clock, random, executors, logger.

#include <memory>

#include <infrastructure_sdk/async.hpp>
#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/log.hpp>

namespace infrastructure_sdk {

struct Environment {
    std::shared_ptr<Clock> clock;
    std::shared_ptr<Random> random;
    std::shared_ptr<const Logger> logger;
    /// Serial: one handler at a time. All engine state is touched here only.
    Executor executor;
    /// A small thread pool for work that blocks (SQLite, hashing, waiting for a process image).
    Executor blocking;
};

/// Owns the threads behind an Environment with system clock and random.
/// `stop()` (and the destructor) let nothing new start, cancel what runs and join. Not to be called from its own
/// threads.
class Runtime {
public:
    explicit Runtime(std::shared_ptr<LogSink> sink, LogLevel level = LogLevel::info, unsigned blocking_threads = 4);
    ~Runtime();
    Runtime(const Runtime&) = delete;
    Runtime& operator=(const Runtime&) = delete;

    const Environment& environment() const noexcept;
    void stop();
    /// Gives up the threads without joining them: for a forked child, where they do not exist.
    void release_after_fork() noexcept;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace infrastructure_sdk
