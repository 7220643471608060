#include "runtime_handle.hpp"

#include <nlohmann/json.hpp>
#include <pybind11/stl.h>

#include "json_to_python.hpp"
#include "submit.hpp"

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
namespace {
constexpr std::size_t most_logs = 10'000;  // the oldest go first
}

RuntimeHandle::RuntimeHandle(const std::string& level) : forks_(fork_count()) {
    auto sink = make_callback_sink([logs = logs_](const LogRecord& record) {
        std::lock_guard lock(logs->mutex);
        if (logs->records.size() >= most_logs) logs->records.pop_front();
        logs->records.push_back(record);
    });
    runtime_ = std::make_unique<Runtime>(sink, parse_log_level(level));
}

RuntimeHandle::~RuntimeHandle() {
    if (forks_ == fork_count()) stop();
    else release_after_fork();
}

void RuntimeHandle::stop() {
    if (stopped_ || forks_ != fork_count() || !runtime_) return;
    stopped_ = true;
    py::gil_scoped_release release;
    runtime_->stop();
}

void RuntimeHandle::release_after_fork() {
    // The threads and their locks belong to the parent: leaving them alone is the only safe thing.
    if (runtime_) runtime_->release_after_fork();
}

std::vector<LogRecord> RuntimeHandle::take_logs() {
    std::lock_guard lock(logs_->mutex);
    std::vector<LogRecord> records(std::make_move_iterator(logs_->records.begin()),
                                   std::make_move_iterator(logs_->records.end()));
    logs_->records.clear();
    return records;
}

void bind_runtime(py::module_& module) {
    py::class_<RuntimeHandle, std::shared_ptr<RuntimeHandle>>(module, "Runtime", "The native engine's threads.")
        .def(py::init<const std::string&>(), py::arg("level"))
        .def("stop", &RuntimeHandle::stop, "Let nothing new start and join the threads.")
        .def("release_after_fork", &RuntimeHandle::release_after_fork,
             "For a forked child: leave the parent's threads alone.")
        .def(
            "take_logs",
            [](RuntimeHandle& self) {
                py::list result;
                for (const auto& record : self.take_logs()) {
                    nlohmann::json fields = nlohmann::json::object();
                    for (const auto& field : record.fields) fields[field.name] = field.value;
                    nlohmann::json item{{"time", to_rfc3339(record.time)},
                                        {"level", name_of(record.level)},
                                        {"logger", record.logger},
                                        {"message", record.message},
                                        {"correlation_id", record.correlation_id},
                                        {"fields", fields}};
                    result.append(to_python(item));
                }
                return result;
            },
            "Log records since the last call.")
        .def(
            "noop",
            [](RuntimeHandle& self, const QueuePtr& queue, py::object future) {
                std::function<Task<bool>(Call)> make = [](Call) -> Task<bool> { co_return true; };
                return submit<bool>(queue, std::move(future), self.environment(), {}, make,
                                    [](bool) -> py::object { return py::none(); });
            },
            py::arg("queue"), py::arg("future"), "Go to the engine and back.")
        .def(
            "sleep",
            [](RuntimeHandle& self, const QueuePtr& queue, py::object future, double seconds, double timeout_s) {
                auto environment = self.environment();
                auto work = [](Environment env, double length, Call call) -> Task<bool> {
                    auto until = Deadline::after(
                        *env.clock, std::chrono::duration_cast<Duration>(std::chrono::duration<double>(length)));
                    co_await env.clock->sleep_until(until.earlier(call.deadline).when(), call.stop);
                    if (call.stop.stop_requested()) throw Error(Errc::cancelled, "the sleep was cancelled");
                    if (call.deadline.expired(*env.clock)) throw Error(Errc::timeout, "the sleep took too long");
                    co_return true;
                };
                std::function<Task<bool>(Call)> make = [environment, work, seconds](Call call) {
                    return work(environment, seconds, call);
                };
                return submit<bool>(queue, std::move(future), environment, {timeout_s, {}}, make,
                                    [](bool) -> py::object { return py::none(); });
            },
            py::arg("queue"), py::arg("future"), py::arg("seconds"), py::arg("timeout_s"),
            "Sleep in the engine; for tests of cancellation and deadlines.");
}

}  // namespace infrastructure_sdk::bindings
