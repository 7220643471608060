#pragma once

#include <deque>
#include <memory>
#include <mutex>

#include <infrastructure_sdk/environment.hpp>

#include "completion_queue.hpp"

namespace infrastructure_sdk::bindings {

/// A Runtime for Python: knows the process it was made in, keeps log records until Python fetches them.
class RuntimeHandle {
public:
    explicit RuntimeHandle(const std::string& level);
    ~RuntimeHandle();
    const Environment& environment() const {
        refuse_after_fork(forks_);
        return runtime_->environment();
    }
    void stop();
    void release_after_fork();
    std::vector<LogRecord> take_logs();

private:
    struct Logs {
        std::mutex mutex;
        std::deque<LogRecord> records;
    };
    unsigned forks_;
    std::shared_ptr<Logs> logs_ = std::make_shared<Logs>();
    std::unique_ptr<Runtime> runtime_;
    bool stopped_ = false;
};

}  // namespace infrastructure_sdk::bindings
