#include "policy/loaded_policy.hpp"

#include <cxxabi.h>
#include <unistd.h>

#include "policy/values.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
namespace {

constexpr std::size_t most_detail_bytes = 2000;

/// At most so many bytes, cut between characters.
std::string shortened(std::string text) {
    if (text.size() <= most_detail_bytes) return text;
    std::size_t end = most_detail_bytes;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    text.resize(end);
    return text;
}

/// Texts may hold lone surrogates, which no UTF-8 has.
std::string utf8(py::handle text) {
    auto bytes = py::reinterpret_steal<py::bytes>(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "replace"));
    if (!bytes) throw py::error_already_set();
    return bytes;
}

/// Takes the error that Python has set. Asking it for its text runs code of the policy, which may raise again.
std::string take_traceback() {
    PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    auto kind = py::reinterpret_steal<py::object>(type);
    auto error = py::reinterpret_steal<py::object>(value);
    auto frames = py::reinterpret_steal<py::object>(trace);
    if (error && frames) PyException_SetTraceback(error.ptr(), frames.ptr());
    try {
        auto describe = py::module_::import("infrastructure_sdk.policy.loader").attr("short_traceback");
        return shortened(utf8(describe(error)));
    } catch (const py::error_already_set&) {
        return kind ? reinterpret_cast<PyTypeObject*>(kind.ptr())->tp_name : "an error";
    }
}

PolicyIdentity identity_of(const py::object& definition) {
    auto stamp = definition.attr("identity");
    auto text = [&](const char* name) { return utf8(stamp.attr(name)); };
    return {text("name"), text("version"), text("author"), text("sha256")};
}

std::unique_ptr<LoadedPolicy> load(const PolicyText& text, const PythonPolicyOptions& options, const MeterPtr& meter) {
    auto module = py::module_::import("infrastructure_sdk.policy.loader");
    MeteredScope metered(meter);
    auto definition =
        module.attr("load_source")(py::str(text.source), py::str(text.origin), py::arg("lint") = options.lint);
    module.attr("dry_run")(definition);
    auto loaded = std::make_unique<LoadedPolicy>();
    loaded->identity = identity_of(definition);
    loaded->keeps_state = definition.attr("keeps_state").cast<bool>();
    for (auto point : definition.attr("points")) {
        auto parsed = parse_decision_point(point.cast<std::string>());
        loaded->points.push_back(parsed);
        loaded->handlers[static_cast<std::size_t>(parsed)] = definition.attr("handlers")[point];
    }
    return loaded;
}

/// No object of Python lives in this frame.
PyObject* call_handler(PyObject* handler, PyObject* const* arguments, std::size_t count) {
    try {
        return PyObject_Vectorcall(handler, arguments, count, nullptr);
    } catch (abi::__forced_unwind&) {
        rest_after_python();
    }
}

/// A decision out of what the policy returned. @throws Error(policy)
PolicyDecision checked_decision(py::handle returned, const PolicyRequest& request) {
    auto decision = decision_from(returned);
    if (!decision)
        throw Error(Errc::policy, std::string("it returned ") + Py_TYPE(returned.ptr())->tp_name + ", not a decision",
                    {{"field", "decision"}, {"allowed", "the decision class of the point"}});
    check(*decision, request);
    return std::move(*decision);
}

/// The decision and the state, from what the handler returned.
void read_answer(const LoadedPolicy& policy, const py::object& returned, const PolicyRequest& request,
                 PolicyAnswer& answer) {
    if (!policy.keeps_state) {
        answer.decision = checked_decision(returned, request);
        return;
    }
    auto pair = returned.cast<py::tuple>();
    answer.decision = checked_decision(pair[0], request);
    answer.state = utf8(pair[1]);
}

}  // namespace

void rest_after_python() {
    for (;;) ::pause();
}

PyObject* overdue_exception() {
    // Kept for ever: nothing of Python may be destroyed after its end.
    static PyObject* kind = PyErr_NewException("infrastructure_sdk._core.PolicyOverdue", PyExc_BaseException, nullptr);
    return kind;
}

std::unique_ptr<LoadedPolicy> load_policy(const PolicyText& text, const PythonPolicyOptions& options) {
    auto meter = std::make_shared<MemoryMeter>(static_cast<std::int64_t>(options.memory_budget));
    try {
        auto loaded = load(text, options, meter);
        loaded->meter = meter;
        return loaded;
    } catch (py::error_already_set& error) {
        error.restore();
        throw Error(Errc::policy, "the policy was not taken: " + take_traceback(), {{"field", "policy"}});
    }
}

PolicyAnswer ask(LoadedPolicy& policy, const PolicyRequest& request, const std::string& state) {
    PolicyAnswer answer;
    auto point = point_of(request);
    answer.decision = standard_decision(point);
    auto fail = [&](PolicyAnswer::Outcome outcome, std::string detail) {
        answer.outcome = outcome;
        answer.decision = standard_decision(point);
        answer.state.clear();
        answer.detail = shortened(std::move(detail));
    };
    const auto& handler = policy.handlers[static_cast<std::size_t>(point)];
    if (!handler) {
        fail(PolicyAnswer::Outcome::refused, std::string("it has nothing to say at ") + name_of(point));
        return answer;
    }
    policy.meter->refused = false;
    try {
        ShownRequest shown(request);
        py::object returned;
        {
            MeteredScope metered(policy.meter);
            PyObject* arguments[2] = {shown.ptr(), nullptr};
            py::object kept;
            if (policy.keeps_state) {
                kept = py::str(state);
                arguments[1] = kept.ptr();
            }
            returned =
                py::reinterpret_steal<py::object>(call_handler(handler.ptr(), arguments, policy.keeps_state ? 2 : 1));
            if (!returned) fail(PolicyAnswer::Outcome::failed, take_traceback());
        }
        if (returned) read_answer(policy, returned, request, answer);
    } catch (const Error& error) {
        fail(PolicyAnswer::Outcome::invalid, error.message());
    } catch (const py::cast_error&) {
        fail(PolicyAnswer::Outcome::invalid, "its answer could not be read");
    } catch (const std::exception&) {
        fail(PolicyAnswer::Outcome::failed, "its answer could not be read");
    }
    if (policy.meter->refused && answer.outcome == PolicyAnswer::Outcome::failed)
        answer.detail =
            shortened("memory budget of " + std::to_string(policy.meter->budget) + " bytes: " + answer.detail);
    return answer;
}

}  // namespace infrastructure_sdk::bindings
