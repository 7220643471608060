// Snapshots, forks and recovery on the opened SDK.

#include <nlohmann/json.hpp>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "errors.hpp"
#include "sdk_handle.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
namespace {

/// (session document, None) or (None, exception).
py::object as_entry(const ForkEntry& entry) {
    if (entry.session) return py::make_tuple(as_dict(*entry.session), py::none());
    return py::make_tuple(py::none(), to_exception(std::make_exception_ptr(entry.error.value())));
}

}  // namespace

void bind_snapshots(py::class_<SdkHandle>& sdk) {
    using S = const SdkHandle&;
    using Q = const QueuePtr&;
    using F = py::object;
    using Text = const std::string&;
    auto session_dict = [](const Session& session) { return as_dict(session); };
    auto snapshot_dict = [](const Snapshot& snapshot) { return as_dict(snapshot); };
    sdk.def("recover",
            [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                return call_sdk<Session>(
                    self, queue, future, timeout_s, correlation_id,
                    [id](InfrastructureSDK& sdk, Call call) { return sdk.sessions().recover_session(id, call); },
                    session_dict);
            })
        .def("snapshot",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::string name,
                 Text mode) {
                 auto parsed = parse_snapshot_mode(mode);
                 return call_sdk<Snapshot>(
                     self, queue, future, timeout_s, correlation_id,
                     [id, name, parsed](InfrastructureSDK& sdk, Call call) {
                         return sdk.sessions().snapshot(id, name, call, parsed);
                     },
                     snapshot_dict);
             })
        .def("fork",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, Text request) {
                 auto parsed = fork_request_from_json(parse(request));
                 return call_sdk<std::vector<ForkEntry>>(
                     self, queue, future, timeout_s, correlation_id,
                     [parsed](InfrastructureSDK& sdk, Call call) { return sdk.sessions().fork(parsed, call); },
                     [](const std::vector<ForkEntry>& entries) -> py::object {
                         py::list list;
                         for (const auto& entry : entries) list.append(as_entry(entry));
                         return list;
                     });
             })
        .def("get_snapshot",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                 return call_sdk<Snapshot>(
                     self, queue, future, timeout_s, correlation_id,
                     [id](InfrastructureSDK& sdk, Call) { return sdk.sessions().get_snapshot(id); }, snapshot_dict);
             })
        .def("list_snapshots",
             [=](S self, Q queue, F future, double timeout_s, Text correlation_id,
                 std::optional<std::string> session_id, std::optional<std::string> user_id) {
                 SnapshotFilter filter{session_id, user_id};
                 return call_sdk<std::vector<Snapshot>>(
                     self, queue, future, timeout_s, correlation_id,
                     [filter](InfrastructureSDK& sdk, Call) { return sdk.sessions().list_snapshots(filter); },
                     [](const std::vector<Snapshot>& found) { return as_list(found); });
             })
        .def("delete_snapshot", [=](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
            auto sdk = self.sdk;
            return submit_void(queue, future, self.runtime->environment(), {timeout_s, correlation_id},
                               [sdk, id](Call call) { return sdk->sessions().delete_snapshot(id, call); });
        });
}

}  // namespace infrastructure_sdk::bindings
