// Kept isolation reports, their keys and head records; checking them and signing waivers needs no opened SDK.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "sdk_handle.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/isolation/signed_report.hpp>
#include <infrastructure_sdk/isolation/waivers.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
namespace {

py::object kept_report(const KeptReport& report) {
    py::dict dict;
    dict["report_id"] = report.report_id;
    dict["session_id"] = report.session_id;
    dict["sequence"] = report.sequence;
    dict["digest"] = report.digest;
    dict["key_id"] = report.key_id;
    dict["created_at"] = to_rfc3339(report.created_at);
    dict["verdict"] = report.verdict;
    dict["lower"] = report.lower;
    dict["upper"] = report.upper;
    dict["envelope"] = report.envelope;
    return dict;
}

py::object kept_reports(const std::vector<KeptReport>& reports) {
    py::list list;
    for (const auto& report : reports) list.append(kept_report(report));
    return list;
}

py::object text(const std::string& value) { return py::str(value); }

py::object verify(const std::vector<std::pair<std::string, py::bytes>>& files, const std::vector<std::string>& keys,
                  const std::optional<py::bytes>& anchor, const std::string& session_id, bool complete,
                  const std::optional<std::string>& maximum_age, const std::optional<std::string>& now) {
    VerifyRequest request;
    for (const auto& [name, bytes] : files) request.files.push_back({name, std::string(bytes)});
    request.trusted_keys = keys;
    if (anchor) request.anchor = std::string(*anchor);
    request.session_id = session_id;
    request.complete = complete;
    if (maximum_age) request.maximum_age = parse_duration(*maximum_age, "maximum_age");
    if (now) request.now = parse_rfc3339(*now);
    return as_dict(verify_reports(request));
}

std::string waiver(const std::string& id, const std::string& check_id, const std::string& session_id,
                   const std::string& reason, const std::string& approved_by, const std::string& expires_at,
                   const std::string& private_key) {
    Waiver made{id, check_id, session_id, reason, approved_by, parse_rfc3339(expires_at)};
    return sign_waiver(made, Secret(private_key));
}

}  // namespace

void bind_report_files(py::module_& module) {
    module.def("verify_reports", &verify, py::arg("files"), py::arg("trusted_keys"), py::arg("anchor"),
               py::arg("session_id"), py::arg("complete"), py::arg("maximum_age"), py::arg("now"),
               "Checks files of signed isolation reports, offline.");
    module.def("sign_waiver", &waiver, py::arg("id"), py::arg("check_id"), py::arg("session_id"), py::arg("reason"),
               py::arg("approved_by"), py::arg("expires_at"), py::arg("private_key"),
               "One line of a waivers file, signed with an Ed25519 key in PEM form.");
}

void bind_reports(py::class_<SdkHandle>& sdk) {
    using S = const SdkHandle&;
    using Q = const QueuePtr&;
    using F = py::object;
    using Text = const std::string&;
    sdk.def("isolation_report",
            [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                return call_sdk<KeptReport>(
                    self, queue, future, timeout_s, correlation_id,
                    [id](InfrastructureSDK& opened, Call) { return opened.reports().get(id); }, kept_report);
            })
        .def("isolation_history",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string session_id) {
                 return call_sdk<std::vector<KeptReport>>(
                     self, queue, future, timeout_s, correlation_id,
                     [session_id](InfrastructureSDK& opened, Call) { return opened.reports().history(session_id); },
                     kept_reports);
             })
        .def("isolation_chain",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string session_id) {
                 return call_sdk<std::string>(
                     self, queue, future, timeout_s, correlation_id,
                     [session_id](InfrastructureSDK& opened, Call) { return opened.reports().chain(session_id); },
                     text);
             })
        .def("isolation_anchor",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id,
                const std::vector<std::string>& session_ids) {
                 return call_sdk<std::string>(
                     self, queue, future, timeout_s, correlation_id,
                     [session_ids](InfrastructureSDK& opened, Call) { return opened.reports().anchor(session_ids); },
                     text);
             })
        .def("isolation_keys",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id) {
                 return call_sdk<std::string>(
                     self, queue, future, timeout_s, correlation_id,
                     [](InfrastructureSDK& opened, Call) { return opened.reports().public_keys(); }, text);
             })
        .def("rotate_isolation_key", [](S self, Q queue, F future, double timeout_s, Text correlation_id) {
            return call_sdk<std::string>(
                self, queue, future, timeout_s, correlation_id,
                [](InfrastructureSDK& opened, Call call) { return opened.reports().rotate(call); }, text);
        });
}

}  // namespace infrastructure_sdk::bindings
