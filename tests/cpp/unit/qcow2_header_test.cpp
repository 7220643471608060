// A VM can write anything into its own disk file.

#include "providers/qemu/qcow2_header.hpp"

#include <gtest/gtest.h>

#include <string>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

/// What `qemu-img create -f qcow2 disk.qcow2 64M` writes first.
std::string good() {
    std::string bytes(qcow2_header_bytes, '\0');
    bytes.replace(0, 8, std::string("QFI\xfb\0\0\0\3", 8));
    bytes[23] = 16;    // cluster bits
    bytes[28] = 4;     // 64 MiB
    bytes[103] = 112;  // header length
    return bytes;
}

std::string reason_of(const std::string& bytes) {
    try {
        parse_qcow2_header(bytes);
    } catch (const Error& error) {
        EXPECT_EQ(error.context().at("reason"), "DiskNotUsable");
        return error.message();
    }
    return {};
}

TEST(Qcow2Header, ReadsTheSizeOfAPlainDisk) {
    EXPECT_EQ(parse_qcow2_header(good()).virtual_size_bytes, 64u << 20);
    auto dirty = good();
    dirty[79] = 1;
    EXPECT_EQ(reason_of(dirty), "") << "as a killed QEMU may leave it";
}

TEST(Qcow2Header, RefusesWhatNamesAnotherFileOrIsNotKnown) {
    struct Case {
        std::size_t at;
        char value;
        const char* why;
    };
    for (const auto& [at, value, why] :
         {Case{0, 'X', "not a qcow2"}, Case{7, 2, "version 2"}, Case{15, 1, "backing file"}, Case{8, 1, "backing file"},
          Case{19, 5, "backing file"}, Case{35, 2, "encrypted"}, Case{79, 4, "data file"}, Case{79, 5, "data file"},
          Case{79, 2, "corrupt"}, Case{79, 16, "not known"}, Case{72, 1, "not known"}}) {
        auto bytes = good();
        bytes[at] = value;
        EXPECT_NE(reason_of(bytes).find(why), std::string::npos) << at << ": " << reason_of(bytes);
    }
    auto luks = good(), aes = good();
    luks[35] = 2;
    aes[35] = 1;
    EXPECT_EQ(parse_qcow2_header(luks, true).virtual_size_bytes, 64u << 20);
    for (const auto& other : {good(), aes}) EXPECT_THROW(parse_qcow2_header(other, true), Error);
    EXPECT_NE(reason_of(good().substr(0, 103)), "");
    EXPECT_NE(reason_of(""), "");
}

}  // namespace
}  // namespace infrastructure_sdk::qemu
