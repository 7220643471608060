// Hosts of policies as Python sees them, to try a policy under the same conditions as the engine.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "policy/values.hpp"
#include "runtime_handle.hpp"
#include "submit.hpp"
#include <infrastructure_sdk/policy/process_host.hpp>
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

Task<HostPtr> load_untrusted(Environment environment, std::string source, std::string origin,
                             ProcessPolicyOptions options, Call call) {
    co_return co_await load_process_policy(environment, source, origin, options, call);
}

std::uint64_t open_python(const std::shared_ptr<RuntimeHandle>& runtime, const QueuePtr& queue, py::object future,
                          double timeout_s, const std::string& correlation_id, const std::string& source,
                          const std::string& origin, std::size_t memory_budget, bool lint) {
    PythonPolicyOptions options;
    options.memory_budget = memory_budget;
    options.lint = lint;
    auto environment = runtime->environment();
    std::function<Task<HostPtr>(Call)> make = [environment, text = PolicyText{source, origin}, options](Call call) {
        return load_python_policy(environment, text, options, call);
    };
    return submit<HostPtr>(queue, std::move(future), environment, {timeout_s, correlation_id}, make,
                           [runtime](const HostPtr& host) { return py::cast(HostHandle{runtime, host}); });
}

std::uint64_t open_process(const std::shared_ptr<RuntimeHandle>& runtime, const QueuePtr& queue, py::object future,
                           double timeout_s, const std::string& correlation_id, const std::string& source,
                           const std::string& origin, std::size_t memory_budget, const std::string& interpreter,
                           const std::string& package) {
    ProcessPolicyOptions options;
    options.memory_budget = memory_budget;
    options.interpreter = interpreter;
    options.package = package;
    auto environment = runtime->environment();
    std::function<Task<HostPtr>(Call)> make = [environment, source, origin, options](Call call) -> Task<HostPtr> {
        return load_untrusted(environment, source, origin, options, call);
    };
    return submit<HostPtr>(queue, std::move(future), environment, {timeout_s, correlation_id}, make,
                           [runtime](const HostPtr& host) { return py::cast(HostHandle{runtime, host}); });
}

py::list texts(const std::vector<std::string>& values) {
    py::list list;
    for (const auto& value : values) list.append(text(value));
    return list;
}

/// Empty for a policy in this process.
py::dict sandbox_of(const HostHandle& self) {
    py::dict dict;
    auto process = std::dynamic_pointer_cast<ProcessPolicy>(self.host);
    if (!process) return dict;
    dict["protections"] = texts(process->protections());
    dict["missing"] = texts(self.host->missing_protections());
    dict["pid"] = process->pid();
    return dict;
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
        .def_static("open_python", &open_python)
        .def_static("open_process", &open_process)
        .def("sandbox", &sandbox_of, "Protections in force and missing; empty for one in this process.")
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
    module.def("enter_policy_sandbox", &enter_policy_sandbox, "socket"_a,
               "For the process of a policy: give up all but reading and writing this descriptor.");
}

}  // namespace infrastructure_sdk::bindings
