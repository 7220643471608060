#include <infrastructure_sdk/environment.hpp>

#include <thread>

#include "core/asio.hpp"

namespace infrastructure_sdk {

struct Runtime::Impl {
    Impl(std::shared_ptr<LogSink> sink, LogLevel level, unsigned blocking_threads)
        : io(1), guard(asio::make_work_guard(io)), pool(blocking_threads) {
        environment.clock = make_system_clock();
        environment.random = make_system_random();
        environment.logger = std::make_shared<const Logger>(std::move(sink), environment.clock, level);
        environment.executor = io.get_executor();
        environment.blocking = pool.get_executor();
        thread = std::thread([this] { io.run(); });
    }
    asio::io_context io;
    asio::executor_work_guard<asio::io_context::executor_type> guard;
    asio::thread_pool pool;
    Environment environment;
    std::thread thread;
    bool stopped = false;
};

Runtime::Runtime(std::shared_ptr<LogSink> sink, LogLevel level, unsigned blocking_threads)
    : impl_(std::make_unique<Impl>(std::move(sink), level, blocking_threads)) {}

Runtime::~Runtime() {
    if (impl_) stop();
}

const Environment& Runtime::environment() const noexcept { return impl_->environment; }

void Runtime::stop() {
    if (impl_->stopped) return;
    impl_->stopped = true;
    impl_->guard.reset();
    impl_->io.stop();
    impl_->thread.join();
    // Blocking work is finite; what it would post to the stopped loop is dropped with it.
    impl_->pool.join();
}

void Runtime::release_after_fork() noexcept { (void)impl_.release(); }

}  // namespace infrastructure_sdk
