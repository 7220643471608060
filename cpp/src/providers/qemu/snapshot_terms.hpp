#pragma once
// Whose memory can be copied, and which VM it fits. Pure.

#include <map>
#include <string>

#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk::qemu {

/// Why a guest of this shape cannot go on as another one; empty = it can.
std::string why_not_copied(const VmSpec& spec);
/// The same for a snapshot of its memory.
std::string why_no_memory_snapshot(const VmSpec& spec);

/// What of a machine its memory depends on, by name: equal in the VM that was copied and in one that goes on from it.
using MemoryTerms = std::map<std::string, std::string>;

/// @param boot_files the identity of kernel, initial RAM disk and disc
/// @param host what else must be the same, e.g. the boot of the host
MemoryTerms memory_terms(const VmSpec& spec, const std::string& accelerator, const std::string& boot_files,
                         const std::string& host);

/// @throws Error(conflict, reason=MemoryDoesNotFit), naming the first that differs
void check_terms(const std::string& snapshot, const MemoryTerms& saved, const MemoryTerms& here);

}  // namespace infrastructure_sdk::qemu
