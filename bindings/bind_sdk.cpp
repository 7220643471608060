#include <nlohmann/json.hpp>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "sdk_handle.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/policy/python_host.hpp>
#include <infrastructure_sdk/sdk.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
using nlohmann::json;
namespace {

using SdkPtr = std::shared_ptr<InfrastructureSDK>;
using RuntimePtr = std::shared_ptr<RuntimeHandle>;

TerminationReason parse_reason(const std::string& name) {
    std::string allowed;
    for (int i = 0; i <= static_cast<int>(TerminationReason::startup_failed); ++i) {
        auto reason = static_cast<TerminationReason>(i);
        if (name == name_of(reason)) return reason;
        allowed += (i ? ", " : "") + std::string(name_of(reason));
    }
    throw Error(Errc::validation, "reason: '" + name + "' is not allowed; " + allowed,
                {{"field", "reason"}, {"value", name}, {"allowed", allowed}});
}

std::vector<Layer> parse_layers(const std::vector<std::string>& names) {
    std::vector<Layer> layers;
    for (const auto& name : names) {
        bool found = false;
        for (auto layer : {Layer::compute, Layer::network, Layer::storage, Layer::runtime, Layer::memory})
            if (name == name_of(layer)) {
                layers.push_back(layer);
                found = true;
            }
        if (!found)
            throw Error(Errc::validation,
                        "layers: '" + name + "' is not allowed; compute, network, storage, runtime, memory",
                        {{"field", "layers"}, {"value", name}});
    }
    return layers;
}

/// Untrusted policies run in this interpreter's program, with this package.
PolicyWorkerPlace policy_worker_place() {
    PolicyWorkerPlace place;
    auto interpreter = py::module_::import("sys").attr("executable");
    if (!interpreter.is_none()) place.interpreter = interpreter.cast<std::string>();
    auto folders = py::module_::import("infrastructure_sdk").attr("__path__").cast<std::vector<std::string>>();
    if (!folders.empty() && !place.interpreter.empty()) place.package = folders.front();
    return place;
}

}  // namespace

void bind_sdk(py::module_& module) {
    using S = const SdkHandle&;
    using Q = const QueuePtr&;
    using F = py::object;
    using Text = const std::string&;
    auto session_dict = [](const Session& session) { return as_dict(session); };
    auto pool_dict = [](const PoolStatus& status) { return as_dict(status); };
    auto bytes = [](const std::string& value) -> py::object { return py::bytes(value); };

    module.def(
        "open_sdk",
        [](const RuntimePtr& runtime, Q queue, F future, double timeout_s, Text correlation_id, const Config& config) {
            auto environment = runtime->environment();
            auto policies = make_python_policy_factory(environment, policy_worker_place());
            std::function<Task<SdkPtr>(Call)> make = [environment, config, policies](Call call) {
                return InfrastructureSDK::open(environment, config, call, policies);
            };
            return submit<SdkPtr>(
                queue, std::move(future), environment, {timeout_s, correlation_id}, make,
                [runtime](const SdkPtr& sdk) -> py::object { return py::cast(SdkHandle{runtime, sdk}); });
        },
        py::arg("runtime"), py::arg("queue"), py::arg("future"), py::arg("timeout_s"), py::arg("correlation_id"),
        py::arg("config"));
    module.def(
        "doctor",
        [](const RuntimePtr& runtime, Q queue, F future, double timeout_s, Text correlation_id, const Config& config) {
            auto environment = runtime->environment();
            auto options = qemu_options(config);
            std::function<Task<std::vector<DoctorLine>>(Call)> make = [environment, options](Call call) {
                return qemu_doctor(environment, options, call);
            };
            return submit<std::vector<DoctorLine>>(queue, std::move(future), environment, {timeout_s, correlation_id},
                                                   make,
                                                   [](const std::vector<DoctorLine>& lines) { return as_list(lines); });
        },
        py::arg("runtime"), py::arg("queue"), py::arg("future"), py::arg("timeout_s"), py::arg("correlation_id"),
        py::arg("config"));

    py::class_<SdkHandle> handle(module, "Sdk", "An opened SDK; every method starts an operation and returns its id.");
    bind_snapshots(handle);
    bind_access(handle);
    bind_reports(handle);
    bind_policies(handle);
    handle.def("capabilities", [](S self) { return as_dict(self.sdk->capabilities()); })
        .def("templates",
             [](S self) {
                 py::list list;
                 for (const auto& entry : self.sdk->templates()) list.append(as_dict(entry.second));
                 return list;
             })
        .def("create",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, Text request) {
                 auto parsed = session_request_from_json(parse(request));
                 return call_sdk<Session>(
                     self, queue, future, timeout_s, correlation_id,
                     [parsed](InfrastructureSDK& sdk, Call call) { return sdk.sessions().create(parsed, call); },
                     session_dict);
             })
        .def("plan",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, Text request) {
                 auto parsed = session_request_from_json(parse(request));
                 return call_sdk<Session>(
                     self, queue, future, timeout_s, correlation_id,
                     [parsed](InfrastructureSDK& sdk, Call) { return sdk.sessions().plan(parsed); }, session_dict);
             })
        .def("can_create",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, Text request) {
                 auto parsed = session_request_from_json(parse(request));
                 return call_sdk<std::optional<Denial>>(
                     self, queue, future, timeout_s, correlation_id,
                     [parsed](InfrastructureSDK& sdk, Call) { return sdk.sessions().can_create(parsed); },
                     [](const std::optional<Denial>& denial) -> py::object {
                         return denial ? as_dict(*denial) : py::none();
                     });
             })
        .def("list_keys",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id) {
                 return call_sdk<std::vector<UserKeys>>(
                     self, queue, future, timeout_s, correlation_id,
                     [](InfrastructureSDK& sdk, Call call) { return sdk.list_keys(call); },
                     [](const std::vector<UserKeys>& users) { return as_list(users); });
             })
        .def("rotate_keys",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string user) {
                 return call_sdk<KeyRotation>(
                     self, queue, future, timeout_s, correlation_id,
                     [user](InfrastructureSDK& sdk, Call call) { return sdk.rotate_keys(user, call); },
                     [](const KeyRotation& rotation) { return as_dict(rotation); });
             })
        .def("erase_keys",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string user) {
                 auto sdk = self.sdk;
                 return submit_void(queue, future, self.runtime->environment(), {timeout_s, correlation_id},
                                    [sdk, user](Call call) { return sdk->erase_keys(user, call); });
             })
        .def("usage",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id) {
                 return call_sdk<std::vector<UsageLine>>(
                     self, queue, future, timeout_s, correlation_id,
                     [](InfrastructureSDK& sdk, Call) { return sdk.sessions().usage(); },
                     [](const std::vector<UsageLine>& lines) { return as_list(lines); });
             })
        .def("get",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                 return call_sdk<Session>(
                     self, queue, future, timeout_s, correlation_id,
                     [id](InfrastructureSDK& sdk, Call) { return sdk.sessions().get(id); }, session_dict);
             })
        .def("list",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, Text filter) {
                 auto parsed = session_filter_from_json(parse(filter));
                 return call_sdk<SessionPage>(
                     self, queue, future, timeout_s, correlation_id,
                     [parsed](InfrastructureSDK& sdk, Call) { return sdk.sessions().list(parsed); },
                     [](const SessionPage& page) { return as_dict(page); });
             })
        .def("wait",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, Text state) {
                 auto parsed = parse_session_state(state);
                 return call_sdk<Session>(
                     self, queue, future, timeout_s, correlation_id,
                     [id, parsed](InfrastructureSDK& sdk, Call call) { return sdk.sessions().wait(id, parsed, call); },
                     session_dict);
             })
        .def("suspend",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                 return call_sdk<Session>(
                     self, queue, future, timeout_s, correlation_id,
                     [id](InfrastructureSDK& sdk, Call call) { return sdk.sessions().suspend(id, call); },
                     session_dict);
             })
        .def("resume",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                 return call_sdk<Session>(
                     self, queue, future, timeout_s, correlation_id,
                     [id](InfrastructureSDK& sdk, Call call) { return sdk.sessions().resume(id, call); }, session_dict);
             })
        .def("terminate",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, Text reason) {
                 auto parsed = parse_reason(reason);
                 return call_sdk<Session>(
                     self, queue, future, timeout_s, correlation_id,
                     [id, parsed](InfrastructureSDK& sdk, Call call) {
                         return sdk.sessions().terminate(id, parsed, call);
                     },
                     session_dict);
             })
        .def("touch",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                 return call_sdk<Session>(
                     self, queue, future, timeout_s, correlation_id,
                     [id](InfrastructureSDK& sdk, Call call) { return sdk.sessions().touch(id, call); }, session_dict);
             })
        .def(
            "extend",
            [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, Text by) {
                auto parsed = parse_duration(by, "by");
                return call_sdk<Session>(
                    self, queue, future, timeout_s, correlation_id,
                    [id, parsed](InfrastructureSDK& sdk, Call call) { return sdk.sessions().extend(id, parsed, call); },
                    session_dict);
            })
        .def("hold",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::string name,
                 Text length, std::string note) {
                 auto parsed = parse_duration(length, "length");
                 return call_sdk<Session>(
                     self, queue, future, timeout_s, correlation_id,
                     [id, name, parsed, note](InfrastructureSDK& sdk, Call call) {
                         return sdk.sessions().hold(id, name, parsed, note, call);
                     },
                     session_dict);
             })
        .def("release",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::string name) {
                 return call_sdk<Session>(
                     self, queue, future, timeout_s, correlation_id,
                     [id, name](InfrastructureSDK& sdk, Call call) { return sdk.sessions().release(id, name, call); },
                     session_dict);
             })
        .def("ping",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                 auto sdk = self.sdk;
                 return submit_void(queue, future, self.runtime->environment(), {timeout_s, correlation_id},
                                    [sdk, id](Call call) { return sdk->sessions().ping(id, call); });
             })
        .def("explain",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id,
                 const std::vector<std::string>& what_if) {
                 std::vector<Duration> timeouts;
                 for (const auto& timeout : what_if) timeouts.push_back(parse_duration(timeout, "what_if"));
                 return call_sdk<Explanation>(
                     self, queue, future, timeout_s, correlation_id,
                     [id, timeouts](InfrastructureSDK& sdk, Call call) {
                         return sdk.sessions().explain(id, timeouts, call);
                     },
                     [](const Explanation& explanation) { return as_dict(explanation); });
             })
        .def("events",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::optional<std::string> subject,
                 std::uint64_t after, std::size_t limit) {
                 EventQuery query{after, subject, limit};
                 return call_sdk<std::vector<Event>>(
                     self, queue, future, timeout_s, correlation_id,
                     [query](InfrastructureSDK& sdk, Call) { return sdk.sessions().events(query); },
                     [](const std::vector<Event>& events) { return as_list(events); });
             })
        .def("next_events",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::optional<std::string> subject,
                 std::uint64_t after, std::size_t limit) {
                 EventQuery query{after, subject, limit};
                 return call_sdk<std::vector<Event>>(
                     self, queue, future, timeout_s, correlation_id,
                     [query](InfrastructureSDK& sdk, Call call) { return sdk.sessions().next_events(query, call); },
                     [](const std::vector<Event>& events) { return as_list(events); });
             })
        .def("read_file",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::string path,
                 std::size_t limit) {
                 return call_sdk<std::string>(
                     self, queue, future, timeout_s, correlation_id,
                     [id, path, limit](InfrastructureSDK& sdk, Call call) {
                         return sdk.sessions().read_file(id, path, limit, call);
                     },
                     bytes);
             })
        .def("write_file",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::string path,
                 const py::bytes& data) {
                 std::string content(data);
                 auto sdk = self.sdk;
                 return submit_void(queue, future, self.runtime->environment(), {timeout_s, correlation_id},
                                    [sdk, id, path, content](Call call) {
                                        return sdk->sessions().write_file(id, path, content, call);
                                    });
             })
        .def("screenshot",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                 return call_sdk<std::string>(
                     self, queue, future, timeout_s, correlation_id,
                     [id](InfrastructureSDK& sdk, Call call) { return sdk.sessions().screenshot(id, call); }, bytes);
             })
        .def("pools",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id) {
                 return call_sdk<std::vector<PoolStatus>>(
                     self, queue, future, timeout_s, correlation_id,
                     [](InfrastructureSDK& sdk, Call) { return sdk.sessions().pools(); },
                     [](const std::vector<PoolStatus>& list) { return as_list(list); });
             })
        .def("pool",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string name) {
                 return call_sdk<PoolStatus>(
                     self, queue, future, timeout_s, correlation_id,
                     [name](InfrastructureSDK& sdk, Call) { return sdk.sessions().pool(name); }, pool_dict);
             })
        .def("drain_pool",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string name) {
                 return call_sdk<PoolStatus>(
                     self, queue, future, timeout_s, correlation_id,
                     [name](InfrastructureSDK& sdk, Call call) { return sdk.sessions().drain_pool(name, call); },
                     pool_dict);
             })
        .def("refill_pool",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string name,
                 std::optional<std::size_t> units) {
                 return call_sdk<PoolStatus>(
                     self, queue, future, timeout_s, correlation_id,
                     [name, units](InfrastructureSDK& sdk, Call call) {
                         return sdk.sessions().refill_pool(name, units, call);
                     },
                     pool_dict);
             })
        .def("wait_pool",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string name) {
                 return call_sdk<PoolStatus>(
                     self, queue, future, timeout_s, correlation_id,
                     [name](InfrastructureSDK& sdk, Call call) { return sdk.sessions().wait_pool(name, call); },
                     pool_dict);
             })
        .def("inspect_vm",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                 return call_sdk<VmStatus>(
                     self, queue, future, timeout_s, correlation_id,
                     [id](InfrastructureSDK& sdk, Call call) { return sdk.sessions().inspect_vm(id, call); },
                     [](const VmStatus& status) { return as_dict(status); });
             })
        .def("list_vms",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id) {
                 return call_sdk<std::vector<VmStatus>>(
                     self, queue, future, timeout_s, correlation_id,
                     [](InfrastructureSDK& sdk, Call call) { return sdk.list_vms(call); },
                     [](const std::vector<VmStatus>& list) { return as_list(list); });
             })
        .def("validate_isolation",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id,
                 const std::vector<std::string>& layers, const std::vector<std::string>& probes) {
                 auto parsed = parse_layers(layers);
                 return call_sdk<IsolationReport>(
                     self, queue, future, timeout_s, correlation_id,
                     [id, parsed, probes](InfrastructureSDK& sdk, Call call) {
                         return sdk.probe_isolation(id, parsed, probes, call);
                     },
                     [](const IsolationReport& report) { return as_dict(report); });
             })
        .def("audit_isolation",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id,
                 const std::vector<std::pair<std::int64_t, std::string>>& pids, bool all,
                 const std::vector<std::string>& layers) {
                 auto parsed = parse_layers(layers);
                 std::vector<QemuProcess> processes;
                 for (const auto& [pid, socket] : pids) processes.push_back({pid, socket});
                 return call_sdk<std::vector<IsolationReport>>(
                     self, queue, future, timeout_s, correlation_id,
                     [processes, all, parsed](InfrastructureSDK& sdk, Call call) {
                         return sdk.audit_isolation(processes, all, parsed, call);
                     },
                     [](const std::vector<IsolationReport>& reports) { return as_list(reports); });
             })
        .def("webhooks",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id) {
                 return call_sdk<std::vector<WebhookStatus>>(
                     self, queue, future, timeout_s, correlation_id,
                     [](InfrastructureSDK& sdk, Call) { return sdk.webhooks().list(); },
                     [](const std::vector<WebhookStatus>& list) { return as_list(list); });
             })
        .def("webhook_deliveries",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::optional<std::string> webhook,
                 std::optional<std::string> state, std::size_t limit) {
                 DeliveryFilter filter{webhook, std::nullopt, limit};
                 if (state) filter.state = parse_delivery_state(*state);
                 return call_sdk<std::vector<Delivery>>(
                     self, queue, future, timeout_s, correlation_id,
                     [filter](InfrastructureSDK& sdk, Call) { return sdk.webhooks().deliveries(filter); },
                     [](const std::vector<Delivery>& list) { return as_list(list); });
             })
        .def("webhook_redeliver",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                 return call_sdk<Delivery>(
                     self, queue, future, timeout_s, correlation_id,
                     [id](InfrastructureSDK& sdk, Call) { return sdk.webhooks().redeliver(id); },
                     [](const Delivery& delivery) { return as_dict(delivery); });
             })
        .def("webhook_test",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string name) {
                 return call_sdk<Delivery>(
                     self, queue, future, timeout_s, correlation_id,
                     [name](InfrastructureSDK& sdk, Call call) { return sdk.webhooks().test(name, call); },
                     [](const Delivery& delivery) { return as_dict(delivery); });
             })
        .def("close", [=](S self, Q queue, F future, double timeout_s, Text correlation_id) {
            auto sdk = self.sdk;
            return submit_void(queue, future, self.runtime->environment(), {timeout_s, correlation_id},
                               [sdk](Call) { return sdk->close(); });
        });
}

}  // namespace infrastructure_sdk::bindings
