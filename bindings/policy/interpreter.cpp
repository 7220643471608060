#include <infrastructure_sdk/policy/python_interpreter.hpp>

#include <pybind11/embed.h>

#include "errors.hpp"
#include "policy/bind_policy.hpp"
#include <infrastructure_sdk/error.hpp>

namespace py = pybind11;

PYBIND11_EMBEDDED_MODULE(_infrastructure_sdk_core, module) {
    // What it is called in the package: one file works with both.
    module.attr("__name__") = "infrastructure_sdk._core";
    infrastructure_sdk::bindings::bind_errors(module);
    infrastructure_sdk::bindings::bind_policy_values(module);
}

namespace infrastructure_sdk {
namespace {

struct BuiltinSource {
    const char* name;
    const char* text;
};
// The files of the package that policies need, as CMake found them.
constexpr BuiltinSource builtin_sources[] = {
#include <builtin_policy_modules.inc>
};

constexpr const char* install_modules = R"python(
import importlib.machinery, sys, types

class Modules:
    """Finds and loads the modules that are built in."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in sources:
            return None
        package = name == "infrastructure_sdk.policy"
        return importlib.machinery.ModuleSpec(name, Modules, origin="built in", is_package=package)

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        name = module.__name__
        exec(compile(sources[name], f"<{name}>", "exec", dont_inherit=True), module.__dict__)

package = types.ModuleType("infrastructure_sdk")
package.__path__ = []
package._core = core
sys.modules["infrastructure_sdk"] = package
sys.modules["infrastructure_sdk._core"] = core
sys.meta_path.insert(0, Modules)
)python";

void install() {
    py::dict sources;
    for (const auto& source : builtin_sources) sources[source.name] = source.text;
    py::dict names;
    names["__builtins__"] = py::module_::import("builtins");
    names["sources"] = sources;
    names["core"] = py::module_::import("_infrastructure_sdk_core");
    py::exec(install_modules, names);
}

}  // namespace

struct PythonInterpreter::Impl {
    PyThreadState* main = nullptr;
};

PythonInterpreter::PythonInterpreter(const std::string& executable) : impl_(std::make_unique<Impl>()) {
    if (Py_IsInitialized()) throw Error(Errc::conflict, "there is a Python interpreter in this process already");
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    config.parse_argv = 0;
    PyStatus status = PyStatus_Ok();
    if (!executable.empty()) status = PyConfig_SetBytesString(&config, &config.executable, executable.c_str());
    if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status))
        throw Error(Errc::unsupported,
                    std::string("Python cannot be started: ") + (status.err_msg ? status.err_msg : "unknown"),
                    {{"capability", "python"}});
    try {
        install();
    } catch (const py::error_already_set& error) {
        std::string message = error.what();
        throw Error(Errc::unsupported, "Python cannot be set up: " + message, {{"capability", "python"}});
    }
    impl_->main = PyEval_SaveThread();
}

PythonInterpreter::~PythonInterpreter() {
    PyEval_RestoreThread(impl_->main);
    Py_FinalizeEx();
}

}  // namespace infrastructure_sdk
