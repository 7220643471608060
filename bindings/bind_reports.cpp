// Kept isolation reports, their keys and head records; checking them and signing waivers needs no opened SDK.

#include <cxxabi.h>
#include <unistd.h>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "sdk_handle.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/isolation/signed_report.hpp>
#include <infrastructure_sdk/isolation/waivers.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
using nlohmann::json;
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

namespace {

/// One of these names. @throws Error(validation) naming the field
template <class T>
T word_of(const json& document, const char* field, std::initializer_list<T> all) {
    auto name = document.value(field, std::string());
    std::string allowed;
    for (auto value : all) {
        if (name == name_of(value)) return value;
        allowed += (allowed.empty() ? "" : ", ") + std::string(name_of(value));
    }
    throw Error(Errc::validation, std::string(field) + ": '" + name + "' is not allowed; " + allowed,
                {{"field", field}, {"value", name}, {"allowed", allowed}});
}

/// What Python says, under the lock of the interpreter.
OwnVerdict answer_of(const py::function& judge, const OwnFacts& facts) {
    py::gil_scoped_acquire lock;
    try {
        auto [status, reason] = judge(facts).cast<std::pair<std::string, std::string>>();
        return {
            word_of(json{{"status", status}}, "status",
                    {FindingStatus::pass, FindingStatus::fail, FindingStatus::unknown, FindingStatus::not_applicable}),
            reason};
    } catch (py::error_already_set& error) {
        // Told here: it may be looked at under the lock only.
        throw std::runtime_error(error.what());
    }
}

/// What Python says, on whatever thread asks it. The function is let go under the lock of the interpreter.
std::function<OwnVerdict(const OwnFacts&)> asking(py::function judge) {
    auto let_go = [](py::function* function) {
        // When the interpreter is gone nothing may be touched any more.
        if (!Py_IsInitialized()) return;
        py::gil_scoped_acquire lock;
        delete function;
    };
    std::shared_ptr<py::function> held(new py::function(std::move(judge)), let_go);
    return [held](const OwnFacts& facts) {
        try {
            return answer_of(*held, facts);
        } catch (abi::__forced_unwind&) {
            // Python ends this thread, for the interpreter is gone: nothing may be unwound without its lock.
            for (;;) ::pause();
        }
    };
}

OwnCheck own_check_of(const json& document, py::function judge) {
    OwnCheck check;
    check.layer =
        word_of(document, "layer", {Layer::compute, Layer::network, Layer::storage, Layer::runtime, Layer::memory});
    check.severity =
        word_of(document, "severity", {Severity::low, Severity::medium, Severity::high, Severity::critical});
    check.floor = word_of(document, "floor", {Strength::e1, Strength::e2, Strength::e3, Strength::e4});
    for (auto [field, text] : {std::pair("id", &check.id), std::pair("title", &check.title),
                               std::pair("fix", &check.fix), std::pair("root_cause", &check.root_cause),
                               std::pair("controls", &check.controls), std::pair("meaning", &check.meaning)})
        *text = document.value(field, std::string());
    check.facts = document.value("facts", std::vector<std::string>());
    check.judge = asking(std::move(judge));
    return check;
}

Task<bool> take_up(InfrastructureSDK& sdk, OwnCheck check) {
    sdk.register_check(check);
    co_return true;
}

}  // namespace

void bind_reports(py::class_<SdkHandle>& sdk) {
    using S = const SdkHandle&;
    using Q = const QueuePtr&;
    using F = py::object;
    using Text = const std::string&;
    sdk.def("register_check",
            [](S self, Q queue, F future, double timeout_s, Text correlation_id, Text definition, py::function judge) {
                auto check = own_check_of(parse(definition), std::move(judge));
                return call_sdk<bool>(
                    self, queue, future, timeout_s, correlation_id,
                    [check](InfrastructureSDK& opened, Call) { return take_up(opened, check); },
                    [](bool done) -> py::object { return py::bool_(done); });
            });
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
