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
    MemoryMeter meter;
};

/// Loads, lints and tries it. @throws Error(policy)
std::unique_ptr<LoadedPolicy> load_policy(const PolicyText& text, const PythonPolicyOptions& options);

/// Never throws for what the policy does. `took` is left to the caller.
PolicyAnswer ask(LoadedPolicy& policy, PolicyRequest request, const std::string& state);

/// What an interrupted policy sees: a BaseException, so that it does not get lost in an `except Exception`.
PyObject* overdue_exception();

}  // namespace infrastructure_sdk::bindings
