#pragma once

#include <pybind11/pybind11.h>

namespace infrastructure_sdk::bindings {

/// Requests and decisions: in the package's module and in that of a C++ program.
void bind_policy_values(pybind11::module_& module);
/// Hosts, in the package only.
void bind_policy_hosts(pybind11::module_& module);

}  // namespace infrastructure_sdk::bindings
