#include "core/async_tools.hpp"

#include <list>

namespace infrastructure_sdk {

void check(const Call& call, const Clock& clock, const char* doing) {
    if (call.stop.stop_requested()) throw Error(Errc::cancelled, std::string("cancelled: ") + doing);
    if (call.deadline.expired(clock)) throw Error(Errc::timeout, std::string("out of time: ") + doing);
}

struct Signal::State {
    Executor executor;
    std::list<std::stop_source> waiters;
};

Signal::Signal(Executor executor) : state_(std::make_shared<State>(State{std::move(executor), {}})) {}

void Signal::notify_all() {
    // Waiters remove themselves when they run again.
    for (auto& waiter : state_->waiters) waiter.request_stop();
}

Task<void> Signal::wait(const Clock& clock, Call call) {
    auto state = state_;
    auto position = state->waiters.emplace(state->waiters.end());
    auto source = *position;
    {
        std::stop_callback forward(call.stop, [source]() mutable { source.request_stop(); });
        // Clock is owned by the Environment, which outlives every coroutine that it runs.
        if (call.deadline.is_never()) co_await until_stopped(source.get_token());
        else co_await const_cast<Clock&>(clock).sleep_until(call.deadline.when(), source.get_token());
    }
    state->waiters.erase(position);
}

Task<void> Signal::wait() {
    auto state = state_;
    auto position = state->waiters.emplace(state->waiters.end());
    co_await until_stopped(position->get_token());
    state->waiters.erase(position);
}

struct AsyncMutex::State {
    explicit State(Executor executor) : changed(std::move(executor)) {}
    Signal changed;
    bool held = false;
};

AsyncMutex::AsyncMutex(Executor executor) : state_(std::make_shared<State>(std::move(executor))) {}

AsyncMutex::Guard::~Guard() {
    if (!mutex_) return;
    auto state = std::static_pointer_cast<State>(mutex_);
    state->held = false;
    state->changed.notify_all();
}

Task<AsyncMutex::Guard> AsyncMutex::lock(const Clock& clock, Call call, const char* doing) {
    auto state = state_;
    while (state->held) {
        check(call, clock, doing);
        co_await state->changed.wait(clock, call);
    }
    state->held = true;
    co_return Guard(state);
}

struct TaskGroup::State {
    explicit State(Executor e) : executor(e), none_runs(e) {}
    Executor executor;
    Signal none_runs;
    std::size_t running = 0;
    std::stop_source stop;
};

TaskGroup::TaskGroup(Executor executor) : state_(std::make_shared<State>(std::move(executor))) {}

namespace {

template <class State>
Task<void> run_child(std::shared_ptr<State> state, std::shared_ptr<const Logger> logger, std::string name,
                     Task<void> task) {
    try {
        co_await std::move(task);
    } catch (const Error& error) {
        if (error.errc() != Errc::cancelled && logger)
            logger->log(LogLevel::error, "core", "a background task failed: " + name, {{"detail", error.message()}});
    } catch (const std::exception& error) {
        if (logger)
            logger->log(LogLevel::error, "core", "a background task failed: " + name, {{"detail", error.what()}});
    }
    if (--state->running == 0) state->none_runs.notify_all();
}

}  // namespace

void TaskGroup::spawn(std::shared_ptr<const Logger> logger, std::string name, Task<void> task) {
    ++state_->running;
    asio::co_spawn(state_->executor, run_child(state_, std::move(logger), std::move(name), std::move(task)),
                   asio::detached);
}

Task<void> TaskGroup::join() {
    auto state = state_;
    while (state->running > 0) co_await state->none_runs.wait();
}

std::size_t TaskGroup::size() const { return state_->running; }
std::stop_source& TaskGroup::stop_source() { return state_->stop; }

}  // namespace infrastructure_sdk
