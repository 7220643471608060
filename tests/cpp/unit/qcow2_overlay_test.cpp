// New disks, as qemu-img sees them.

#include "providers/qemu/qcow2_overlay.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include <nlohmann/json.hpp>

#include "providers/qemu/process.hpp"
#include "providers/qemu/qcow2_header.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;

constexpr std::uint64_t gibibyte = 1u << 30, largest = std::uint64_t{64} << 40;

/// What qemu-img finds: nothing is wrong with the file, and it has the size that was asked for.
void expect_good(const std::string& path, std::uint64_t asked) {
    std::ofstream(path, std::ios::binary) << empty_qcow2(asked);
    const auto tool = find_program("qemu-img");
    ASSERT_FALSE(tool.empty());
    auto checked = json::parse(tool_output({tool, "check", "-f", "qcow2", "--output=json", path}));
    EXPECT_EQ(checked.at("check-errors"), 0) << asked;
    EXPECT_FALSE(checked.contains("corruptions") || checked.contains("leaks")) << checked.dump();
    auto info = json::parse(tool_output({tool, "info", "-f", "qcow2", "--output=json", path}));
    EXPECT_EQ(info.at("virtual-size"), (asked + 511) / 512 * 512);
    EXPECT_EQ(info.at("cluster-size"), 65536);
    EXPECT_EQ(info.at("format-specific").at("data").at("compat"), "1.1");
    EXPECT_FALSE(info.contains("backing-filename"));
}

TEST(Qcow2Overlay, IsWhatTheToolCallsGoodAtEverySize) {
    test::TemporaryDirectory place;
    for (std::uint64_t size : {std::uint64_t{1}, std::uint64_t{512}, gibibyte / 2, gibibyte / 2 + 512, 64 * gibibyte,
                               4096 * gibibyte + 512, largest})
        expect_good(place.path() + "/disk.qcow2", size);
}

TEST(Qcow2Overlay, IsReadByOurOwnParserAtRandomSizes) {
    std::mt19937_64 random(7);
    for (int i = 0; i < 200; ++i) {
        auto size = (random() % largest >> random() % 40) + 1;
        EXPECT_EQ(parse_qcow2_header(empty_qcow2(size)).virtual_size_bytes, (size + 511) / 512 * 512) << size;
    }
}

TEST(Qcow2Overlay, RefusesSizesThatCannotBe) {
    for (std::uint64_t size : {std::uint64_t{0}, largest + 1, ~std::uint64_t{0}}) {
        try {
            empty_qcow2(size);
            ADD_FAILURE() << size;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation);
            EXPECT_EQ(error.context().at("field"), "disk_size");
        }
    }
}

}  // namespace
}  // namespace infrastructure_sdk::qemu
