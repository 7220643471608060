#pragma once
// A new qcow2 file, pure.

#include <cstdint>
#include <string>

namespace infrastructure_sdk::qemu {

/// The bytes of an empty qcow2 file, version 3, with clusters of 64 KiB and without a backing file in its header: QEMU
/// is told of that at every start. The same as `qemu-img create` makes, without a process.
/// @param virtual_size_bytes rounded up to sectors of 512 bytes. @throws Error(validation) for 0 or above 64 TiB
/// Source: https://www.qemu.org/docs/master/interop/qcow2.html
std::string empty_qcow2(std::uint64_t virtual_size_bytes);

}  // namespace infrastructure_sdk::qemu
