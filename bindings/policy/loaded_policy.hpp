#pragma once
// A policy that Python has loaded, and one question to it. All of it needs the GIL.

#include <array>
#include <memory>
#include <string>
#include <vector>

#include <pybind11/pybind11.h>

#include "policy/memory_meter.hpp"
#include <infrastructure_sdk/policy/policy_host.hpp>
#include <infrastructure_sdk/policy/python_host.hpp>

namespace infrastructure_sdk::bindings {

struct LoadedPolicy {
    PolicyIdentity identity;
    std::vector<DecisionPoint> points;
    std::array<pybind11::object, decision_point_count> handlers;  ///< empty where it is not asked
    bool keeps_state = false;
    MeterPtr meter;
};

/// Loads, lints and tries it. @throws Error(policy)
std::unique_ptr<LoadedPolicy> load_policy(const PolicyText& text, const PythonPolicyOptions& options);

/// Never throws for what the policy does. `took` is left to the caller.
PolicyAnswer ask(LoadedPolicy& policy, const PolicyRequest& request, const std::string& state);

/// For threads that Python ends by unwinding (before 3.14, when they want its lock after its own end): nothing of ours
/// can be unwound without the lock, so such a thread rests until the process ends. Call it where abi::__forced_unwind
/// is caught. Needs no GIL.
[[noreturn]] void rest_after_python();

/// What an interrupted policy sees: a BaseException, so that it does not get lost in an `except Exception`.
PyObject* overdue_exception();

}  // namespace infrastructure_sdk::bindings
