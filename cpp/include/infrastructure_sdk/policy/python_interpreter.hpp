#pragma once
// Python inside a C++ program, for `load_python_policy`. In the library `infrastructure_sdk::policy_python`.

#include <memory>
#include <string>

namespace infrastructure_sdk {

/// The interpreter, with `infrastructure_sdk.policy` built in: no Python package needs to be installed. Make one in
/// main, before any policy is loaded, and let it go last, on the same thread. It takes no signal handlers and leaves
/// Python's lock free. At its end, policies that still run are interrupted and waited for, for a second.
class PythonInterpreter {
public:
    /// @param executable the python of a virtual environment, so that policies find what is installed there; empty =
    /// only the standard library. @throws Error(unsupported) when Python cannot be started; Error(conflict) when it
    /// runs.
    explicit PythonInterpreter(const std::string& executable = "");
    ~PythonInterpreter();
    PythonInterpreter(const PythonInterpreter&) = delete;
    PythonInterpreter& operator=(const PythonInterpreter&) = delete;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace infrastructure_sdk
