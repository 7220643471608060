#pragma once

#include <pybind11/pybind11.h>

#include <nlohmann/json.hpp>

namespace infrastructure_sdk::bindings {

/// Needs the GIL.
pybind11::object to_python(const nlohmann::json& value);

}  // namespace infrastructure_sdk::bindings
