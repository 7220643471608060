#include "providers/qemu/activity.hpp"

#include <gtest/gtest.h>

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;

TEST(QemuActivity, CountsAThreadThatCarriesSeveralCpusOnce) {
    auto answer = json::parse(R"([{"cpu-index": 0, "thread-id": 7}, {"cpu-index": 1, "thread-id": 7}])");
    EXPECT_EQ(vcpu_threads(answer), (std::vector<std::int64_t>{7}));
}

TEST(QemuActivity, ReadsTheKernelsCount) {
    EXPECT_EQ(cpu_nanoseconds("1787023984 2134 551\n"), 1787023984u);
    EXPECT_EQ(cpu_nanoseconds(""), std::nullopt);
    EXPECT_EQ(cpu_nanoseconds("a b c"), std::nullopt);
}

TEST(QemuActivity, AddsUpTheDisks) {
    auto answer = json::parse(R"([{"qdev": "a", "stats": {"rd_bytes": 10, "wr_bytes": 1}},
                                  {"qdev": "b", "stats": {"rd_bytes": 5, "wr_bytes": 2}}])");
    EXPECT_EQ(disk_bytes(answer), (Transferred{15, 3}));
    EXPECT_EQ(disk_bytes(json::array()), (Transferred{0, 0}));
}

TEST(QemuActivity, LeavesTheLoopbackOut) {
    EXPECT_EQ(network_bytes({{"lo", "", {}, 900, 900}, {"eth0", "", {}, 10, 20}}), (Transferred{10, 20}));
    EXPECT_EQ(network_bytes({{"eth0", "", {}, {}, {}}}), std::nullopt);
}

TEST(QemuActivity, CountsVncClients) {
    EXPECT_EQ(vnc_clients(json::parse(R"({"enabled": true, "clients": [{}, {}]})")), 2u);
    EXPECT_EQ(vnc_clients(json::parse(R"({"enabled": false})")), 0u);
    EXPECT_EQ(vnc_clients(json::parse(R"({"enabled": true})")), std::nullopt);
}

TEST(QemuActivity, AddsUpKeyboardAndMouseOfAllCpus) {
    const std::string interrupts =
        "           CPU0       CPU1\n"
        "  1:         12          3   IO-APIC   1-edge      i8042\n"
        "  8:        500          0   IO-APIC   8-edge      rtc0\n"
        " 12:         30          0   IO-APIC  12-edge      i8042\n"
        " 25:         50          0   PCI-MSI 32769-edge      virtio0-virtqueues\n"
        " 29:          4          1   PCI-MSI 98305-edge      virtio4-virtqueues\n"
        " 33:          9          0   PCI-MSI 81921-edge      virtio40-input.0\n";
    const std::string devices =
        "N: Name=\"AT Translated Set 2 keyboard\"\nS: Sysfs=/devices/platform/i8042/serio0/input/input0\n\n"
        "N: Name=\"QEMU Virtio Tablet\"\nS: Sysfs=/devices/pci0000:00/0000:00:05.0/virtio4/input/input3\n";
    EXPECT_EQ(input_interrupts(interrupts, ""), 45u);
    EXPECT_EQ(input_interrupts(interrupts, devices), 50u);
    EXPECT_EQ(input_interrupts("NMI: 0 0 Non-maskable interrupts\n", ""), std::nullopt);
}

TEST(QemuActivity, TakesNoWrongAnswerForANumber) {
    for (const auto* text : {"null", "7", "[]", "[7]", "{}", R"([{"thread-id": "x"}])"})
        EXPECT_EQ(vcpu_threads(json::parse(text)), std::nullopt) << text;
    for (const auto* text : {"null", "7", "[7]", "{}", R"([{"stats": {"rd_bytes": -1}}])"})
        EXPECT_EQ(disk_bytes(json::parse(text)), std::nullopt) << text;
    for (const auto* text : {"null", "7", "[]", R"({"enabled": true, "clients": 3})"})
        EXPECT_EQ(vnc_clients(json::parse(text)), std::nullopt) << text;
}

}  // namespace
}  // namespace infrastructure_sdk::qemu
