#include "providers/qemu/memory_model.hpp"

#include <algorithm>

namespace infrastructure_sdk::qemu {
namespace {

constexpr std::uint64_t mebibyte = 1ull << 20;

}  // namespace

std::uint64_t memory_overhead(const VmSpec& spec, bool kvm, int translation_cache_mib) {
    std::uint64_t mib = 50 + 8 * static_cast<std::uint64_t>(spec.cpu_count) + 8;
    if (spec.display) mib += 32;
    if (spec.tpm) mib += 53;
    if (!kvm) mib += static_cast<std::uint64_t>(translation_cache_mib);
    return mib * mebibyte + spec.memory_bytes / 512;
}

std::uint64_t memory_ceiling(const VmSpec& spec, bool kvm, int translation_cache_mib) {
    auto more = std::max(spec.memory_bytes / 8, 128 * mebibyte);
    auto bytes = spec.memory_bytes + memory_overhead(spec, kvm, translation_cache_mib) + more;
    return bytes / mebibyte * mebibyte;
}

}  // namespace infrastructure_sdk::qemu
