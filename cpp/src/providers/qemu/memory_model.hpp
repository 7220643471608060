#pragma once
// How much memory of the host a VM takes beside its guest's. Pure.

#include <cstdint>

#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk::qemu {

/// Bytes that QEMU is expected to use beside the guest's memory.
/// Source: KubeVirt's pkg/hypervisor/kvm/hypervisorbackend.go, without the parts of its launcher: 50 MiB for QEMU,
/// 1/512 of the guest for page tables, 8 MiB for each CPU, 8 MiB for I/O, 32 MiB for a screen, 53 MiB for a TPM.
/// Emulation adds the translation cache. Measured with a 96 MiB guest under emulation: 150 MiB without mapped files.
std::uint64_t memory_overhead(const VmSpec& spec, bool kvm, int translation_cache_mib);

/// What the VM's processes may use at most: the guest's memory, the overhead, and an eighth of the guest's memory (at
/// least 128 MiB) more, because whoever reaches this is killed.
std::uint64_t memory_ceiling(const VmSpec& spec, bool kvm, int translation_cache_mib);

}  // namespace infrastructure_sdk::qemu
