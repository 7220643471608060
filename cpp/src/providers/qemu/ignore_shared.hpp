#pragma once

#include <nlohmann/json.hpp>

namespace infrastructure_sdk::qemu {

/// For `migrate-set-capabilities`: whether a stream leaves out memory that is in a shared file. Pure.
inline nlohmann::json ignore_shared_memory(bool on) {
    nlohmann::json capability{{"capability", "x-ignore-shared"}, {"state", on}};
    auto capabilities = nlohmann::json::array();
    capabilities.push_back(std::move(capability));
    nlohmann::json arguments;
    arguments["capabilities"] = std::move(capabilities);
    return arguments;
}

}  // namespace infrastructure_sdk::qemu
