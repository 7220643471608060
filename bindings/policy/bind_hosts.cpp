// Hosts of policies as Python sees them, to try a policy under the same conditions as the engine.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "policy/values.hpp"
#include "runtime_handle.hpp"
#include "submit.hpp"
#include <infrastructure_sdk/policy/python_host.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
using namespace py::literals;
namespace {

using HostPtr = std::shared_ptr<PolicyHost>;

/// A host and the runtime that it lives on.
struct HostHandle {
    std::shared_ptr<RuntimeHandle> runtime;
    HostPtr host;
};

py::object text(const std::string& value) {
    return py::reinterpret_steal<py::object>(
        PyUnicode_DecodeUTF8(value.data(), static_cast<Py_ssize_t>(value.size()), "replace"));
}

py::object answer_of(const PolicyAnswer& answer) {
    py::dict dict;
    dict["outcome"] = name_of(answer.outcome);
    dict["decision"] = to_python(answer.decision);
    dict["detail"] = text(answer.detail);
    dict["took"] = to_seconds(answer.took);
    dict["state"] = text(answer.state);
    return dict;
}

HostHandle open_python(const std::shared_ptr<RuntimeHandle>& runtime, const std::string& source,
                       const std::string& origin, std::size_t memory_budget, bool lint, bool inline_calls) {
    PythonPolicyOptions options;
    options.memory_budget = memory_budget;
    options.lint = lint;
    options.inline_calls = inline_calls;
    auto environment = runtime->environment();
    py::gil_scoped_release release;
    return {runtime, make_python_policy(environment, {source, origin}, options)};
}

std::uint64_t decide(const HostHandle& self, const QueuePtr& queue, py::object future, double timeout_s,
                     const std::string& correlation_id, const py::object& request, const std::string& state) {
    auto asked = request_from(request);
    if (!asked)
        throw Error(Errc::validation, "request must be one of the request classes, e.g. IdleRequest",
                    {{"field", "request"}, {"allowed", "a request"}});
    auto host = self.host;
    std::function<Task<PolicyAnswer>(Call)> make = [host, asked = *asked, state](Call call) {
        return host->decide(asked, state, call);
    };
    return submit<PolicyAnswer>(queue, std::move(future), self.runtime->environment(), {timeout_s, correlation_id},
                                make, answer_of);
}

std::uint64_t close(const HostHandle& self, const QueuePtr& queue, py::object future, double timeout_s,
                    const std::string& correlation_id) {
    auto host = self.host;
    return submit_void(queue, std::move(future), self.runtime->environment(), {timeout_s, correlation_id},
                       [host](Call) { return host->close(); });
}

}  // namespace

void bind_policy_hosts(py::module_& module) {
    py::class_<HostHandle>(module, "PolicyHost", "A loaded policy and what asks it.")
        .def_static("open_python", &open_python, "runtime"_a, "source"_a, "origin"_a, "memory_budget"_a, "lint"_a,
                    "inline_calls"_a, "In this process.")
        .def_property_readonly(
            "identity",
            [](const HostHandle& self) {
                const auto& identity = self.host->identity();
                return py::make_tuple(text(identity.name), text(identity.version), text(identity.author),
                                      text(identity.sha256));
            },
            "Name, version, author, sha256.")
        .def_property_readonly(
            "points",
            [](const HostHandle& self) {
                py::list names;
                for (auto point : self.host->points()) names.append(name_of(point));
                return py::tuple(names);
            },
            "Where it wants to be asked.")
        .def("decide", &decide)
        .def("close", &close);
}

}  // namespace infrastructure_sdk::bindings
