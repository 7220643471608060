#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace infrastructure_sdk {

std::string base64_encode(std::string_view bytes);
/// Strict: padded, no white space. nullopt = not base64.
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace infrastructure_sdk
