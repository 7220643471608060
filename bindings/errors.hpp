#pragma once

#include <exception>

#include <pybind11/pybind11.h>

namespace infrastructure_sdk::bindings {

/// The Python exception for a C++ one. Needs the GIL. Used by the translator and by the completion queue.
pybind11::object to_exception(std::exception_ptr error);
void bind_errors(pybind11::module_& module);

}  // namespace infrastructure_sdk::bindings
