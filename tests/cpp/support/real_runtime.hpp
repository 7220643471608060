#pragma once
// A runtime without a log, for tests of shells.

#include <infrastructure_sdk/detail/run.hpp>
#include <infrastructure_sdk/environment.hpp>

namespace infrastructure_sdk {

struct RealRuntime {
    Runtime runtime{make_null_sink()};
    template <class T>
    T operator()(Task<T> task) {
        return run(runtime, std::move(task));
    }
};

}  // namespace infrastructure_sdk
