#pragma once
// Completions on their way to an event loop: the engine thread queues them and writes an eventfd, the loop's thread
// drains. No Python is touched on an engine thread.

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <unordered_map>
#include <vector>

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/async.hpp>

namespace infrastructure_sdk::bindings {

/// Makes the Python result, in drain, with the GIL.
using Convert = std::function<pybind11::object()>;

struct Operation {
    std::uint64_t id = 0;
    pybind11::object future;  // released in drain, where the GIL is held
    std::stop_source stop;
    std::exception_ptr error;
    Convert result;
};

/// One for each (event loop, runtime).
class CompletionQueue : public std::enable_shared_from_this<CompletionQueue> {
public:
    CompletionQueue();
    ~CompletionQueue();

    int descriptor() const { return eventfd_; }
    /// GIL held. The operation's id is given back to Python, its completion goes to `complete`.
    std::shared_ptr<Operation> begin(pybind11::object future);
    /// Any thread, no GIL.
    void complete(std::shared_ptr<Operation> operation);
    /// GIL held. `start` spawns the operation on `executor`: at once if no other is under way, otherwise together with
    /// what this turn of the event loop starts, so that a thousand operations wake the engine once and not each time.
    void launch(const Operation& operation, const Executor& executor, std::function<void()> start);
    /// GIL held. Spawns what `launch` kept.
    void flush();
    /// GIL held. Asks the operation to stop and lets go of its future; it still completes.
    void cancel(std::uint64_t id);
    /// GIL held. Sets at most 512 futures; more come with the next wake-up. Returns how many.
    int drain();
    std::size_t pending() const { return live_.size(); }
    /// GIL held. Nothing is delivered any more; futures are let go.
    void close();

private:
    void wake();
    int eventfd_;
    unsigned forks_;
    std::mutex mutex_;
    std::vector<std::shared_ptr<Operation>> done_;
    bool closed_ = false;
    std::unordered_map<std::uint64_t, std::shared_ptr<Operation>> live_;
    std::uint64_t next_ = 1;
    std::vector<std::function<void()>> starting_;
    Executor starting_on_;
};

void bind_queue(pybind11::module_& module);

/// How often this process and its parents were forked, the parents up to the fork: unlike getpid() no system call.
unsigned fork_count();
/// @throws Error(internal) in a forked child, where the engine's threads do not exist.
void refuse_after_fork(unsigned made_at_fork_count);

}  // namespace infrastructure_sdk::bindings
