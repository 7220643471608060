#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace infrastructure_sdk {

/// The candidate nearest to `word` by edit distance, if within 2; else empty. Pure.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace infrastructure_sdk
