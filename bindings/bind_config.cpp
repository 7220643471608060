#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <infrastructure_sdk/config/config.hpp>
#include <infrastructure_sdk/sdk.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;

void bind_config(py::module_& module) {
    py::class_<Config>(module, "Config", "An immutable configuration.")
        .def(py::init<>())
        .def_static("from_file", &Config::from_file, py::arg("path"))
        .def_static("from_json", &Config::from_json, py::arg("json"), py::arg("origin") = "argument")
        .def_static("from_environment", &Config::from_environment, py::arg("environment"))
        .def_static("from_dotenv", &Config::from_dotenv, py::arg("path"))
        .def("overlaid_with", &Config::overlaid_with, py::arg("over"))
        .def("to_json", &Config::to_json)
        .def("origin", &Config::origin, py::arg("path"))
        .def("is_set", &Config::is_set, py::arg("path"));
    module.def("config_schema", &config_json_schema, "JSON Schema of configuration files, as text.");
    module.def("config_reference", &config_reference, "Every option, as Markdown.");
    module.def("default_state_directory", &default_state_directory);
    module.def("default_image_directory", &default_image_directory);
}

}  // namespace infrastructure_sdk::bindings
