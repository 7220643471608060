#include "errors.hpp"

#include <infrastructure_sdk/config/config.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;

py::object to_exception(std::exception_ptr error) {
    auto from_code = py::module_::import("infrastructure_sdk.exceptions").attr("from_code");
    auto text = [](const std::string& bytes) {
        return py::reinterpret_steal<py::object>(
            PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace"));
    };
    try {
        std::rethrow_exception(error);
    } catch (const Error& e) {
        py::dict context;
        for (const auto& entry : e.context()) context[text(entry.first)] = text(entry.second);
        if (!e.remote_message().empty()) context["remote_message"] = text(e.remote_message());
        if (auto config = dynamic_cast<const ConfigError*>(&e)) {
            py::list problems;
            for (const auto& problem : config->problems()) {
                py::dict item;
                item["path"] = text(problem.path);
                item["value"] = text(problem.value);
                item["allowed"] = text(problem.allowed);
                item["origin"] = text(problem.origin);
                item["did_you_mean"] = text(problem.did_you_mean);
                item["message"] = text(problem.message);
                problems.append(item);
            }
            context["problems"] = problems;
        }
        return from_code(name_of(e.errc()), text(e.message()), e.retryable(), context);
    } catch (const std::exception& e) {
        return from_code("internal", text(e.what()), false, py::dict());
    }
}

void bind_errors(py::module_&) {
    py::register_exception_translator([](std::exception_ptr error) {
        try {
            if (error) std::rethrow_exception(error);
        } catch (const Error&) {
            auto exception = to_exception(error);
            PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
        }
    });
}

}  // namespace infrastructure_sdk::bindings
