// Which guest's memory can be copied, and which VM it fits.

#include "providers/qemu/snapshot_terms.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

using testing::HasSubstr;

VmSpec tiny() {
    VmSpec spec;
    spec.image.name = "linux-tiny";
    spec.image.disk_size_bytes = 64 << 20;
    spec.channels = {"agent"};
    return spec;
}

TEST(SnapshotTerms, NameWhyAGuestCannotBecomeAnother) {
    EXPECT_EQ(why_no_memory_snapshot(tiny()), "");
    const std::pair<void (*)(VmSpec&), const char*> cases[] = {
        {[](VmSpec& s) { s.channels = {"display"}; }, "agent"},
        {[](VmSpec& s) { s.enlightenments = {"time"}; }, "Windows"},
        {[](VmSpec& s) { s.tpm = true; }, "TPM"},
        {[](VmSpec& s) { s.firmware = Firmware::uefi; }, "UEFI"},
        {[](VmSpec& s) { s.gpu_count = 1; }, "GPU"},
        {[](VmSpec& s) { s.network = NetworkMode::bridge; }, "bridge"},
    };
    for (const auto& [change, word] : cases) {
        auto spec = tiny();
        change(spec);
        EXPECT_THAT(why_no_memory_snapshot(spec), HasSubstr(word));
    }
    auto spec = tiny();
    spec.network = NetworkMode::internet;
    spec.encryption = Encryption::all;
    EXPECT_EQ(why_no_memory_snapshot(spec), "");
}

TEST(SnapshotTerms, AreBrokenByEachPartOfAMachineThatItsMemoryKnows) {
    const auto saved = memory_terms(tiny(), "tcg", "files", "");
    auto who = tiny();
    who.id.value = "another";
    who.name = "another";
    who.mac_address = "02:00:00:00:00:09";
    who.limits.disk_iops = 5;
    who.encryption = Encryption::all;
    EXPECT_NO_THROW(check_terms("snap-1", saved, memory_terms(who, "tcg", "files", "")));
    const std::pair<void (*)(VmSpec&), const char*> cases[] = {
        {[](VmSpec& s) { s.machine = "pc-q35-8.0"; }, "machine"},
        {[](VmSpec& s) { s.cpu_count = 2; }, "CPUs"},
        {[](VmSpec& s) { s.memory_bytes *= 2; }, "memory"},
        {[](VmSpec& s) { s.disk_size_bytes = 128 << 20; }, "disk_size"},
        {[](VmSpec& s) { s.display = false; }, "display"},
        {[](VmSpec& s) { s.network = NetworkMode::none; }, "network card"},
        {[](VmSpec& s) { s.watchdog = true; }, "watchdog"},
        {[](VmSpec& s) { s.clock = ClockBase::localtime; }, "clock"},
        {[](VmSpec& s) { s.image.disc = "/a.iso"; }, "driver disc"},
        {[](VmSpec& s) { s.image.name = "other"; }, "image"},
    };
    auto refused = [&](const MemoryTerms& here) -> std::string {
        try {
            check_terms("snap-1", saved, here);
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::conflict);
            EXPECT_EQ(error.context().at("reason"), "MemoryDoesNotFit");
            EXPECT_THAT(error.message(), HasSubstr("snap-1"));
            return error.context().at("field");
        }
        return "nothing";
    };
    for (const auto& [change, field] : cases) {
        auto spec = tiny();
        change(spec);
        EXPECT_EQ(refused(memory_terms(spec, "tcg", "files", "")), field);
    }
    EXPECT_EQ(refused(memory_terms(tiny(), "kvm", "files", "")), "accelerator");
    EXPECT_EQ(refused(memory_terms(tiny(), "tcg", "other files", "")), "image files");
    EXPECT_EQ(refused(memory_terms(tiny(), "tcg", "files", "another boot")), "boot of the host");
    EXPECT_THROW(check_terms("snap-1", {}, memory_terms(tiny(), "tcg", "files", "")), Error)
        << "a record without a term is no proof";
}

}  // namespace
}  // namespace infrastructure_sdk::qemu
