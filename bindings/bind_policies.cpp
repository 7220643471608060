#include <nlohmann/json.hpp>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "sdk_handle.hpp"
#include <infrastructure_sdk/policy/policy_engine.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
namespace {

using S = const SdkHandle&;
using Q = const QueuePtr&;
using F = py::object;
using Text = const std::string&;

Task<std::vector<PolicyStatus>> list(InfrastructureSDK& sdk) { co_return sdk.policies().list(); }

Task<PolicyStatus> status(InfrastructureSDK& sdk, std::string name) { co_return sdk.policies().status(name); }

py::object statuses(const std::vector<PolicyStatus>& all) { return as_list(all); }

py::object status_dict(const PolicyStatus& status) { return as_dict(status); }

}  // namespace

void bind_policies(py::class_<SdkHandle>& sdk) {
    sdk.def("policies",
            [](S self, Q queue, F future, double timeout_s, Text correlation_id) {
                return call_sdk<std::vector<PolicyStatus>>(
                    self, queue, future, timeout_s, correlation_id,
                    [](InfrastructureSDK& sdk, Call) { return list(sdk); }, statuses);
            })
        .def("policy",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string name) {
                 return call_sdk<PolicyStatus>(
                     self, queue, future, timeout_s, correlation_id,
                     [name](InfrastructureSDK& sdk, Call) { return status(sdk, name); }, status_dict);
             })
        .def("policy_enable",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string name, bool enabled) {
                 return call_sdk<PolicyStatus>(
                     self, queue, future, timeout_s, correlation_id,
                     [name, enabled](InfrastructureSDK& sdk, Call call) {
                         return sdk.policies().set_enabled(name, enabled, call);
                     },
                     status_dict);
             })
        .def("policies_reload", [](S self, Q queue, F future, double timeout_s, Text correlation_id) {
            return call_sdk<std::vector<PolicyStatus>>(
                self, queue, future, timeout_s, correlation_id,
                [](InfrastructureSDK& sdk, Call call) { return sdk.reload_policies(call); }, statuses);
        });
}

void bind_builtin_policies(py::module_& module) {
    module.def("builtin_policies", [] { return as_list(builtin_policies()); });
}

}  // namespace infrastructure_sdk::bindings
