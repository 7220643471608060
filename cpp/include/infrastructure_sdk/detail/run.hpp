#pragma once

#include <future>

#include <infrastructure_sdk/async.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_future.hpp>

#include <infrastructure_sdk/environment.hpp>

namespace infrastructure_sdk {

template <class T>
T run(Runtime& runtime, Task<T> task) {
    return boost::asio::co_spawn(runtime.environment().executor, std::move(task), boost::asio::use_future).get();
}

}  // namespace infrastructure_sdk
