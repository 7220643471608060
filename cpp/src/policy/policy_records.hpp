#pragma once
// The stored forms of what the policy engine remembers.

#include <nlohmann/json_fwd.hpp>

#include "policy/policy_engine_impl.hpp"

namespace infrastructure_sdk {

void to_json(nlohmann::json& document, const PolicyStop& stop);
void to_json(nlohmann::json& document, const PolicyBook& book);
/// @throws Error(store)
PolicyStop policy_stop_from_json(const nlohmann::json& document);
/// Of what is stored by name; states are records of their own. @throws Error(store)
PolicyBook policy_book_from_json(const nlohmann::json& document);

}  // namespace infrastructure_sdk
