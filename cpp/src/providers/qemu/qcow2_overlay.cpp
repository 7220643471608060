#include "providers/qemu/qcow2_overlay.hpp"

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

constexpr std::uint64_t cluster_bits = 16, cluster_bytes = 1u << cluster_bits;

void put(std::string& file, std::size_t offset, std::size_t size, std::uint64_t value) {
    for (std::size_t i = 0; i < size; ++i) file[offset + i] = static_cast<char>(value >> 8 * (size - 1 - i));
}

}  // namespace

std::string empty_qcow2(std::uint64_t virtual_size_bytes) {
    constexpr std::uint64_t largest = std::uint64_t{64} << 40;
    if (virtual_size_bytes == 0 || virtual_size_bytes > largest)
        throw Error(Errc::validation,
                    "disk_size: '" + std::to_string(virtual_size_bytes) + "' is not allowed; 1 byte to 64 TiB",
                    {{"field", "disk_size"}, {"value", std::to_string(virtual_size_bytes)}});
    auto size = (virtual_size_bytes + 511) / 512 * 512;
    // An entry of the first table covers what one cluster of entries of the second does.
    constexpr std::uint64_t covered = cluster_bytes / 8 * cluster_bytes;
    auto entries = (size + covered - 1) / covered;
    auto table_clusters = (entries * 8 + cluster_bytes - 1) / cluster_bytes;
    constexpr std::uint64_t counts_table = 1, counts = 2, table = 3;
    auto clusters = table + table_clusters;
    std::string file(clusters * cluster_bytes, '\0');
    put(file, 0, 4, 0x514649fb);  // "QFI\xfb"
    put(file, 4, 4, 3);
    put(file, 20, 4, cluster_bits);
    put(file, 24, 8, size);
    put(file, 36, 4, entries);
    put(file, 40, 8, table * cluster_bytes);
    put(file, 48, 8, counts_table * cluster_bytes);
    put(file, 56, 4, 1);
    put(file, 96, 4, 4);  // a reference count has 1 << 4 bits
    put(file, 100, 4, 104);
    put(file, counts_table * cluster_bytes, 8, counts * cluster_bytes);
    for (std::uint64_t i = 0; i < clusters; ++i) put(file, counts * cluster_bytes + 2 * i, 2, 1);
    return file;
}

}  // namespace infrastructure_sdk::qemu
