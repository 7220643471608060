#pragma once

#include <optional>
#include <stop_token>
#include <string>

namespace infrastructure_sdk::qemu {

/// As `copy_file`, of a regular file alone. Blocking.
/// @param owner the uid that it must belong to: whoever may write to the folder may have put another there
/// @throws Error(store), Error(cancelled)
void copy_disk(const std::string& from, const std::string& to, std::optional<unsigned> owner, std::stop_token stop);

}  // namespace infrastructure_sdk::qemu
