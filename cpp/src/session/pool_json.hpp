#pragma once
// The stored form of a unit.

#include <nlohmann/json_fwd.hpp>

#include <infrastructure_sdk/session/pool.hpp>

namespace infrastructure_sdk {

/// @throws Error(validation)
PoolUnit pool_unit_from_json(const nlohmann::json& json);

}  // namespace infrastructure_sdk
