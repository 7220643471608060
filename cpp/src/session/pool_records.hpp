#pragma once
// What is written of a unit beside its record. Pure.

#include <infrastructure_sdk/event.hpp>
#include <infrastructure_sdk/session/pool.hpp>
#include <infrastructure_sdk/store/store.hpp>

#include <nlohmann/json.hpp>

namespace infrastructure_sdk {

/// What is about to happen to it.
Put unit_intent(const PoolUnit& unit, WallTime now);
/// @param more of its data
Event unit_event(const char* type, const PoolUnit& unit, WallTime now, nlohmann::json more = nlohmann::json::object());

}  // namespace infrastructure_sdk
