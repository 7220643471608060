#pragma once

#include <infrastructure_sdk/store/store.hpp>

namespace infrastructure_sdk {

/// The version that `put` gives to its record when `stored` (0 = none) is what is there.
/// @throws Error(conflict) when `put` expects another one
std::uint64_t next_version(const Put& put, std::uint64_t stored);

/// @throws Error(store): the store was closed
[[noreturn]] void refuse_closed();

}  // namespace infrastructure_sdk
