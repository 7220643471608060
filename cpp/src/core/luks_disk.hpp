#pragma once
// An empty qcow2 disk that is encrypted with LUKS 1, as bytes. Pure. qemu-img makes the same, but measures for two
// seconds how slow a passphrase can be made to guess; ours have 256 bits of chance and need no slowness.

#include <cstdint>
#include <string>
#include <vector>

#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/secret.hpp>

namespace infrastructure_sdk {

struct FilePart {
    std::uint64_t offset = 0;
    std::string bytes;
};

/// A file in which everything else reads as zeros.
struct SparseFile {
    std::uint64_t size = 0;
    std::vector<FilePart> parts;
};

/// AES-256 in XTS mode by 512-byte sectors (plain64), PBKDF2 with SHA-256, one of eight key slots in use.
/// Sources: QEMU's docs/interop/qcow2.txt; "LUKS On-Disk Format Specification Version 1.2.3", Fruhwirth, 2018.
/// @param size of the disk, in bytes, up to 64 TiB. @throws Error(validation, field=disk_size) above that
SparseFile encrypted_disk(std::uint64_t size, const Secret& passphrase, Random& random);

}  // namespace infrastructure_sdk
