// The extension module: an ordered list of what is bound.

#include <pybind11/pybind11.h>

#include "policy/bind_policy.hpp"

namespace infrastructure_sdk::bindings {
void bind_errors(pybind11::module_& module);
void bind_words(pybind11::module_& module);
void bind_config(pybind11::module_& module);
void bind_queue(pybind11::module_& module);
void bind_runtime(pybind11::module_& module);
void bind_sdk(pybind11::module_& module);
void bind_report_files(pybind11::module_& module);
void bind_builtin_policies(pybind11::module_& module);
void bind_simulation(pybind11::module_& module);
}  // namespace infrastructure_sdk::bindings

PYBIND11_MODULE(_core, module) {
    using namespace infrastructure_sdk::bindings;
    module.doc() = "The native core of infrastructure_sdk.";
    bind_errors(module);
    bind_words(module);
    bind_config(module);
    bind_queue(module);
    bind_runtime(module);
    bind_sdk(module);
    bind_report_files(module);
    bind_builtin_policies(module);
    bind_policy_values(module);
    bind_policy_hosts(module);
    bind_simulation(module);
}
