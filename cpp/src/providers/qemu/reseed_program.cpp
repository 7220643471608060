#include "providers/qemu/reseed_program.hpp"

#include <cstdint>
#include <iterator>

namespace infrastructure_sdk::qemu {
namespace {

/// lea path(%rip),%rdi; xor %esi,%esi; mov $2,%eax; syscall           open(path, O_RDONLY)
/// mov %eax,%edi; mov $0x5207,%esi; xor %edx,%edx; mov $16,%eax; syscall      ioctl(fd, RNDRESEEDCRNG)
/// mov %eax,%edi; neg %edi; mov $60,%eax; syscall                     exit(-result)
/// path: "/dev/urandom"
constexpr std::uint8_t code[] = {
    0x48, 0x8d, 0x3d, 0x24, 0x00, 0x00, 0x00, 0x31, 0xf6, 0xb8, 0x02, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x89, 0xc7, 0xbe,
    0x07, 0x52, 0x00, 0x00, 0x31, 0xd2, 0xb8, 0x10, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x89, 0xc7, 0xf7, 0xdf, 0xb8, 0x3c,
    0x00, 0x00, 0x00, 0x0f, 0x05, 0x2f, 0x64, 0x65, 0x76, 0x2f, 0x75, 0x72, 0x61, 0x6e, 0x64, 0x6f, 0x6d, 0x00,
};

void put(std::string& file, std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) file += static_cast<char>(value >> 8 * i);
}

}  // namespace

std::string reseed_program() {
    constexpr std::uint64_t base = 0x400000, headers = 64 + 56, size = headers + sizeof code;
    std::string file(
        "\x7f"
        "ELF\2\1\1\0\0\0\0\0\0\0\0\0",
        16);
    put(file, 2, 2);   // an executable
    put(file, 62, 2);  // x86-64
    put(file, 1, 4);
    put(file, base + headers, 8);  // where it starts
    put(file, 64, 8);              // the program header
    put(file, 0, 8);
    put(file, 0, 4);
    put(file, 64, 2);
    put(file, 56, 2);
    put(file, 1, 2);
    put(file, 64, 2);
    put(file, 0, 4);
    put(file, 1, 4);  // to be loaded
    put(file, 5, 4);  // to be read and run
    put(file, 0, 8);
    put(file, base, 8);
    put(file, base, 8);
    put(file, size, 8);
    put(file, size, 8);
    put(file, 4096, 8);
    file.append(std::begin(code), std::end(code));
    return file;
}

}  // namespace infrastructure_sdk::qemu
