#pragma once
// The one place where public headers meet Asio. `Task<T>` is lazy: nothing runs until it is awaited
// or spawned on an executor.

#include <utility>  // Boost 1.74's awaitable.hpp uses std::exchange without including it

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

namespace infrastructure_sdk {

template <class T>
using Task = boost::asio::awaitable<T, boost::asio::any_io_executor>;

using Executor = boost::asio::any_io_executor;

}  // namespace infrastructure_sdk
