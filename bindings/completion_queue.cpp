#include "completion_queue.hpp"

#include <algorithm>

#include <boost/asio/post.hpp>
#include <pthread.h>
#include <sys/eventfd.h>

#include "errors.hpp"

namespace infrastructure_sdk::bindings {
namespace py = pybind11;

namespace {

std::atomic<unsigned> forks = 0;
const int counts_forks = ::pthread_atfork(nullptr, nullptr, [] { ++forks; });

/// A method's name that Python need not make again for each call.
PyObject* name(const char* text) { return PyUnicode_InternFromString(text); }

void call(const py::object& object, PyObject* method, const py::object& argument) {
    auto result = py::reinterpret_steal<py::object>(PyObject_CallMethodOneArg(object.ptr(), method, argument.ptr()));
    if (!result) throw py::error_already_set();
}

bool is_done(const py::object& future) {
    static PyObject* const done = name("done");
    auto result = py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(future.ptr(), done));
    if (!result) throw py::error_already_set();
    return result.is(py::handle(Py_True));
}

}  // namespace

unsigned fork_count() { return forks.load(std::memory_order_relaxed); }

void refuse_after_fork(unsigned made_at_fork_count) {
    if (made_at_fork_count != fork_count())
        throw Error(Errc::internal,
                    "this SDK was opened before a fork and cannot be used in the child: open another here "
                    "(multiprocessing: use the start method 'spawn')",
                    {{"reason", "Forked"}});
}

CompletionQueue::CompletionQueue() : eventfd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), forks_(fork_count()) {}

CompletionQueue::~CompletionQueue() { ::close(eventfd_); }

void CompletionQueue::wake() {
    std::uint64_t one = 1;
    (void)!::write(eventfd_, &one, sizeof one);
}

std::shared_ptr<Operation> CompletionQueue::begin(py::object future) {
    refuse_after_fork(forks_);
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

void CompletionQueue::launch(const Operation& operation, const Executor& executor, std::function<void()> start) {
    if (live_.size() == 1) return start();
    if (!starting_.empty() && starting_on_ != executor) flush();
    starting_on_ = executor;
    starting_.push_back(std::move(start));
    if (starting_.size() == 1)
        operation.future.attr("get_loop")().attr("call_soon")(py::cast(shared_from_this()).attr("flush"));
}

void CompletionQueue::flush() {
    if (starting_.empty() || forks_ != fork_count()) return;
    boost::asio::post(starting_on_, [starts = std::exchange(starting_, {})] {
        for (const auto& start : starts) start();
    });
}

void CompletionQueue::cancel(std::uint64_t id) {
    if (forks_ != fork_count()) return;
    auto it = live_.find(id);
    if (it == live_.end()) return;
    it->second->stop.request_stop();
    // It refers to the event loop, which may be gone before the operation ends.
    it->second->future = py::object();
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
        if (!future || is_done(future)) continue;
        static PyObject* const set_result = name("set_result");
        static PyObject* const set_exception = name("set_exception");
        try {
            if (operation->error) call(future, set_exception, to_exception(operation->error));
            else call(future, set_result, operation->result ? operation->result() : py::none());
        } catch (py::error_already_set& error) {
            // The conversion failed: the caller gets that, the loop goes on.
            call(future, set_exception, error.value());
        } catch (const std::exception&) {
            call(future, set_exception, to_exception(std::current_exception()));
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
    starting_.clear();
}

void bind_queue(py::module_& module) {
    py::class_<CompletionQueue, std::shared_ptr<CompletionQueue>>(module, "CompletionQueue",
                                                                  "Completions for one event loop. Not thread-safe.")
        .def(py::init<>())
        .def_property_readonly("descriptor", &CompletionQueue::descriptor, "Readable when there is something to drain.")
        .def_property_readonly("pending", &CompletionQueue::pending, "Operations that have not completed.")
        .def("cancel", &CompletionQueue::cancel, py::arg("operation"), "Ask an operation to stop.")
        .def("flush", &CompletionQueue::flush, "Start what waits for its start.")
        .def("drain", &CompletionQueue::drain, "Set the futures of what completed; returns how many.")
        .def("close", &CompletionQueue::close, "Deliver nothing more.");
}

}  // namespace infrastructure_sdk::bindings
