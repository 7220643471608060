#include "completion_queue.hpp"

#include <algorithm>

#include <sys/eventfd.h>

#include "errors.hpp"

namespace infrastructure_sdk::bindings {
namespace py = pybind11;

void refuse_after_fork(pid_t made_in) {
    if (made_in != ::getpid())
        throw Error(Errc::internal, "this SDK was opened before a fork and cannot be used in the child: open another here "
                                    "(multiprocessing: use the start method 'spawn')",
                    {{"reason", "Forked"}});
}

CompletionQueue::CompletionQueue() : eventfd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), pid_(::getpid()) {}

CompletionQueue::~CompletionQueue() { ::close(eventfd_); }

void CompletionQueue::wake() {
    std::uint64_t one = 1;
    (void)!::write(eventfd_, &one, sizeof one);
}

std::shared_ptr<Operation> CompletionQueue::begin(py::object future) {
    refuse_after_fork(pid_);
    auto operation = std::make_shared<Operation>();
    operation->id = next_++;
    operation->future = std::move(future);
    live_[operation->id] = operation;
    return operation;
}

void CompletionQueue::complete(std::shared_ptr<Operation> operation) {
    bool first;
    {
        std::lock_guard lock(mutex_);
        if (closed_) return;
        first = done_.empty();
        done_.push_back(std::move(operation));
    }
    if (first) wake();
}

void CompletionQueue::cancel(std::uint64_t id) {
    if (pid_ != ::getpid()) return;
    if (auto it = live_.find(id); it != live_.end()) it->second->stop.request_stop();
}

int CompletionQueue::drain() {
    constexpr std::size_t most = 512;
    std::uint64_t count;
    (void)!::read(eventfd_, &count, sizeof count);
    std::vector<std::shared_ptr<Operation>> batch;
    {
        std::lock_guard lock(mutex_);
        if (done_.size() <= most) {
            batch.swap(done_);
        } else {
            batch.assign(done_.begin(), done_.begin() + most);
            done_.erase(done_.begin(), done_.begin() + most);
            wake();
        }
    }
    for (auto& operation : batch) {
        live_.erase(operation->id);
        auto future = std::move(operation->future);
        operation->future = py::object();
        if (!future || py::cast<bool>(future.attr("done")())) continue;
        try {
            if (operation->error) future.attr("set_exception")(to_exception(operation->error));
            else future.attr("set_result")(operation->result ? operation->result() : py::none());
        } catch (py::error_already_set& error) {
            // The conversion failed: the caller gets that, the loop goes on.
            future.attr("set_exception")(error.value());
        } catch (const std::exception&) {
            future.attr("set_exception")(to_exception(std::current_exception()));
        }
        operation->result = nullptr;
    }
    return static_cast<int>(batch.size());
}

void CompletionQueue::close() {
    {
        std::lock_guard lock(mutex_);
        closed_ = true;
        done_.clear();
    }
    for (auto& entry : live_) {
        entry.second->stop.request_stop();
        entry.second->future = py::object();
    }
    live_.clear();
}

void bind_queue(py::module_& module) {
    py::class_<CompletionQueue, std::shared_ptr<CompletionQueue>>(module, "CompletionQueue",
                                                                  "Completions for one event loop. Not thread-safe.")
        .def(py::init<>())
        .def_property_readonly("descriptor", &CompletionQueue::descriptor, "Readable when there is something to drain.")
        .def_property_readonly("pending", &CompletionQueue::pending, "Operations that have not completed.")
        .def("cancel", &CompletionQueue::cancel, py::arg("operation"), "Ask an operation to stop.")
        .def("drain", &CompletionQueue::drain, "Set the futures of what completed; returns how many.")
        .def("close", &CompletionQueue::close, "Deliver nothing more.");
}

}  // namespace infrastructure_sdk::bindings
