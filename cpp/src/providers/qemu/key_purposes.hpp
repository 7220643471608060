#pragma once
// What each wrapped key is good for, and for nothing else; new keys.

#include <string>

#include "providers/qemu/vm_record.hpp"
#include <infrastructure_sdk/secret.hpp>

namespace infrastructure_sdk::qemu {

std::string purpose_of_memory(const VmRecord& record);
std::string purpose_of_disk(const VmRecord& record);
std::string purpose_of_base(const VmRecord& record);
std::string purpose_of_snapshot(const std::string& id);
std::string purpose_of_snapshot_memory(const std::string& id);

/// 32 random bytes.
Secret new_key(Random& random);
/// The same as text, which QEMU's passphrases have to be.
Secret new_passphrase(Random& random);

}  // namespace infrastructure_sdk::qemu
