#include "providers/qemu/qcow2_header.hpp"

#include <string>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

/// Big-endian, `size` bytes. The format: https://www.qemu.org/docs/master/interop/qcow2.html
std::uint64_t number_at(std::string_view bytes, std::size_t offset, std::size_t size) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value = value << 8 | static_cast<unsigned char>(bytes[offset + i]);
    return value;
}

[[noreturn]] void refuse(const std::string& why) {
    throw Error(Errc::provider, "a VM's disk is not used: " + why, {{"reason", "DiskNotUsable"}});
}

}  // namespace

Qcow2Header parse_qcow2_header(std::string_view bytes, bool encrypted) {
    if (bytes.size() < qcow2_header_bytes || bytes.substr(0, 4) != "QFI\xfb") refuse("it is not a qcow2 file");
    if (number_at(bytes, 4, 4) != 3) refuse("its format has version " + std::to_string(number_at(bytes, 4, 4)));
    if (number_at(bytes, 8, 8) != 0 || number_at(bytes, 16, 4) != 0) refuse("its header names a backing file");
    constexpr std::uint64_t luks = 2;
    auto method = number_at(bytes, 32, 4);
    if (!encrypted && method != 0) refuse("it is encrypted");
    if (encrypted && method != luks) refuse("it is not encrypted with LUKS");
    constexpr std::uint64_t dirty = 1, corrupt = 2, data_file = 4;
    auto features = number_at(bytes, 72, 8);
    if (features & data_file) refuse("its header names a data file");
    if (features & corrupt) refuse("it is marked as corrupt");
    if (features & ~dirty) refuse("it has features that are not known: " + std::to_string(features));
    return {number_at(bytes, 24, 8)};
}

}  // namespace infrastructure_sdk::qemu
