#pragma once
// From a C++ task to a Python future.

#include <boost/asio/co_spawn.hpp>

#include <infrastructure_sdk/deadline.hpp>
#include <infrastructure_sdk/environment.hpp>

#include "completion_queue.hpp"

namespace infrastructure_sdk::bindings {

using QueuePtr = std::shared_ptr<CompletionQueue>;

/// How Python states a call: seconds (negative = no limit) and a correlation id.
struct CallArguments {
    double timeout_s = -1;
    std::string correlation_id;
};

/// Spawns `make(call)` on the runtime; `convert` turns its value into a Python object later, with the GIL.
/// GIL held. @returns the operation's id.
template <class T, class Convertor>
std::uint64_t submit(const QueuePtr& queue, pybind11::object future, const Environment& environment,
                     const CallArguments& how, std::function<Task<T>(Call)> make, Convertor convert) {
    auto operation = queue->begin(std::move(future));
    Call call{Deadline(), operation->stop.get_token(), how.correlation_id};
    if (how.timeout_s >= 0)
        call.deadline = Deadline::after(
            *environment.clock,
            std::chrono::duration_cast<Duration>(std::chrono::duration<double>(std::min(how.timeout_s, 1e8))));
    auto start = [executor = environment.executor, call = std::move(call), queue, operation, convert, make] {
        boost::asio::co_spawn(
            executor, make(call), [queue, operation, convert, make](std::exception_ptr error, T value) mutable {
                operation->error = error;
                if (!error) operation->result = [convert, value = std::move(value)] { return convert(value); };
                queue->complete(std::move(operation));
            });
    };
    queue->launch(*operation, environment.executor, std::move(start));
    return operation->id;
}

/// For tasks that give nothing.
inline std::uint64_t submit_void(const QueuePtr& queue, pybind11::object future, const Environment& environment,
                                 const CallArguments& how, std::function<Task<void>(Call)> make) {
    auto wrapped = [](std::function<Task<void>(Call)> inner, Call call) -> Task<bool> {
        co_await inner(call);
        co_return true;
    };
    std::function<Task<bool>(Call)> outer = [make, wrapped](Call call) { return wrapped(make, call); };
    return submit<bool>(queue, std::move(future), environment, how, outer,
                        [](bool) -> pybind11::object { return pybind11::none(); });
}

}  // namespace infrastructure_sdk::bindings
