#pragma once
// What the first bytes of a qcow2 file say, pure. A VM can write anything into its own disk file: before a tool of ours
// opens one, its header must name no other file.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace infrastructure_sdk::qemu {

constexpr std::size_t qcow2_header_bytes = 104;

struct Qcow2Header {
    std::uint64_t virtual_size_bytes = 0;
};

/// @param bytes the first `qcow2_header_bytes` of the file.
/// @throws Error(provider, reason=DiskNotUsable) when it is not version 3, or has a backing file, an external data
/// file, the mark of corruption or a feature that is not known here, or is encrypted otherwise than said: with LUKS, or
/// not at all.
Qcow2Header parse_qcow2_header(std::string_view bytes, bool encrypted = false);

}  // namespace infrastructure_sdk::qemu
