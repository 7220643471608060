#include <nlohmann/json.hpp>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "json_to_python.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/sdk.hpp>
#include <infrastructure_sdk/version.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;

void bind_words(py::module_& module) {
    module.def("version", &version, "The library's version.");
    module.def(
        "parse_duration",
        [](const std::string& text, const std::string& field) {
            return std::chrono::duration<double>(parse_duration(text, field)).count();
        },
        py::arg("text"), py::arg("field") = "duration", "Seconds of a Go duration such as 1h30m.");
    module.def(
        "parse_quantity",
        [](const std::string& text, const std::string& field) { return Quantity::parse(text, field).milli(); },
        py::arg("text"), py::arg("field") = "quantity", "Thousandths of a Kubernetes quantity such as 4Gi.");
    module.def("template_schema", &template_json_schema, "JSON Schema of template files, as text.");
    module.def("probed_checks", &probed_checks, "Ids of the checks that active probes decide, or add to.");
    module.def(
        "checks",
        [] {
            py::list result;
            for (const auto& check : check_catalogue()) {
                nlohmann::json item{{"id", check.id},
                                    {"layer", name_of(check.layer)},
                                    {"severity", name_of(check.severity)},
                                    {"title", check.title},
                                    {"fix", check.fix},
                                    {"controls", check.controls},
                                    {"meaning", check.meaning},
                                    {"floor", name_of(check.floor)},
                                    {"root_cause", check.root_cause},
                                    {"facts", check.facts},
                                    {"kubernetes_facts", check.kubernetes_facts}};
                result.append(to_python(item));
            }
            return result;
        },
        "The isolation checks of this build.");
}

}  // namespace infrastructure_sdk::bindings
