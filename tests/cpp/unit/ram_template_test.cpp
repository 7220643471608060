// Templates of booted guests: what may be one, what they are known by, and the folder that holds them.

#include "providers/qemu/ram_template.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "providers/qemu/disk_copy.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/qcow2_overlay.hpp"
#include "providers/qemu/reseed_program.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

namespace fs = std::filesystem;

VmSpec tiny() {
    VmSpec spec;
    spec.id.value = "11111111-2222-4333-8444-555555555555";
    spec.name = spec.owner_session = "s-1";
    spec.image = {
        "linux-tiny", "v1", "/images/kernel", "/images/initrd", "console=ttyS0", "/images/disk.qcow2", "qcow2",
        64 << 20,     ""};
    spec.mac_address = "02:11:22:33:44:55";
    spec.channels = {"agent", "display"};
    return spec;
}

using Change = std::function<void(VmSpec&)>;

TEST(WhyBooted, NamesWhatCannotBeCopied) {
    EXPECT_EQ(why_booted(tiny()), "");
    const std::pair<Change, const char*> cases[] = {
        {[](VmSpec& s) { s.channels = {"display"}; }, "agent"},
        {[](VmSpec& s) { s.enlightenments = {"relaxed"}; }, "Windows"},
        {[](VmSpec& s) { s.tpm = true; }, "TPM"},
        {[](VmSpec& s) { s.firmware = Firmware::uefi; }, "UEFI"},
        {[](VmSpec& s) { s.firmware = Firmware::secure_boot; }, "UEFI"},
        {[](VmSpec& s) { s.gpu_count = 1; }, "GPU"},
        {[](VmSpec& s) { s.encryption = Encryption::all; }, "key of its own"},
        {[](VmSpec& s) { s.network = NetworkMode::internet; }, "an address"},
        {[](VmSpec& s) { s.network = NetworkMode::bridge; }, "an address"},
        {[](VmSpec& s) { s.snapshot = "snap-1"; }, "snapshot"}};
    for (const auto& [change, word] : cases) {
        auto spec = tiny();
        change(spec);
        EXPECT_NE(why_booted(spec).find(word), std::string::npos) << why_booted(spec);
    }
}

TEST(TemplateKey, IsOneForAllVmsOfAKindAndAnotherForAnyOther) {
    auto key_of = [](const VmSpec& spec, const char* image = "i", const char* program = "p", const char* host = "",
                     const char* accelerator = "tcg") {
        return template_key(spec, {accelerator, 64}, image, program, host).digest;
    };
    auto somebody_else = tiny();
    somebody_else.id.value = "99999999-2222-4333-8444-555555555555";
    somebody_else.name = somebody_else.owner_session = "s-2";
    somebody_else.mac_address = "02:99:22:33:44:55";
    EXPECT_EQ(key_of(tiny()), key_of(somebody_else));
    std::set<std::string> keys{key_of(tiny()), key_of(tiny(), "other"), key_of(tiny(), "i", "other"),
                               key_of(tiny(), "i", "p", "boot"), key_of(tiny(), "i", "p", "", "kvm")};
    const Change changes[] = {[](VmSpec& s) { s.machine = "pc-q35-7.1"; },
                              [](VmSpec& s) { s.cpu_count = 2; },
                              [](VmSpec& s) { s.memory_bytes *= 2; },
                              [](VmSpec& s) { s.disk_size_bytes = 1 << 30; },
                              [](VmSpec& s) { s.display = false; },
                              [](VmSpec& s) { s.network = NetworkMode::none; },
                              [](VmSpec& s) { s.clock = ClockBase::localtime; },
                              [](VmSpec& s) { s.image.version = "v2"; },
                              [](VmSpec& s) { s.image.name = "other"; },
                              [](VmSpec& s) { s.image.kernel_arguments += " quiet"; },
                              [](VmSpec& s) { s.image.disc = "/images/seed.iso"; },
                              [](VmSpec& s) { s.image.disk_size_bytes *= 2; }};
    for (const auto& change : changes) {
        auto spec = tiny();
        change(spec);
        keys.insert(key_of(spec));
    }
    EXPECT_EQ(keys.size(), 5 + std::size(changes));
}

TEST(TemplateKey, IsOfTheSameKindWhenOnlyTheFilesChanged) {
    auto kind_of = [](const VmSpec& spec, const char* image) { return template_key(spec, {}, image, "p", "").kind; };
    EXPECT_EQ(kind_of(tiny(), "old"), kind_of(tiny(), "new"));
    auto larger = tiny();
    larger.memory_bytes *= 2;
    EXPECT_NE(kind_of(tiny(), "old"), kind_of(larger, "old"));
}

TEST(TemplateRecord, ComesBackAsItWasAndNothingElseIsOne) {
    TemplateRecord record{{"d", "k"}, "why", WallTime(std::chrono::seconds(5)), "linux-tiny", "{}", 1 << 20,
                          "eth0",     true};
    auto read = template_from_text(to_text(record));
    ASSERT_TRUE(read);
    EXPECT_EQ(to_text(*read), to_text(record));
    for (const char* text : {"", "{}", "[]", "null", R"({"schema":2})", R"({"schema":1,"digest":1})"})
        EXPECT_FALSE(template_from_text(text)) << text;
}

TEST(CpuTicks, AreReadPastANameThatHoldsAnything) {
    EXPECT_EQ(cpu_ticks("7 (a) b 1) S 1 7 7 0 -1 1 2 3 4 5 30 12 0 0 20 0 1 0 99 1"), 42u);
    EXPECT_FALSE(cpu_ticks("7 (a) S 1 7"));
    EXPECT_FALSE(cpu_ticks(""));
}

TEST(ReseedProgram, RunsAndTellsWhoMayNot) {
    test::TemporaryDirectory place;
    auto path = place.path() + "/reseed";
    std::ofstream(path, std::ios::binary) << reseed_program();
    fs::permissions(path, fs::perms::owner_all);
    // Of this host: whoever is root reseeds it, which does no harm; anybody else is told so (EPERM).
    const bool root = ::geteuid() == 0;
    const auto shell = find_program("sh");
    EXPECT_EQ(tool_output({shell, "-c", path + "; echo $?"}), root ? "0\n" : "1\n");
}

TEST(CopyDisk, TakesARegularFileOfTheExpectedOwnerAlone) {
    test::TemporaryDirectory place;
    const auto from = place.path() + "/from", to = place.path() + "/to", link = place.path() + "/link",
               pipe = place.path() + "/pipe";
    const std::string bytes((9 << 20) + 5, 'x');
    std::ofstream(from, std::ios::binary) << bytes;
    copy_disk(from, to, ::geteuid(), {});
    std::ifstream copied(to, std::ios::binary);
    EXPECT_TRUE(std::string(std::istreambuf_iterator<char>(copied), {}) == bytes);
    fs::create_symlink(from, link);
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    EXPECT_THROW(copy_disk(link, to, {}, {}), Error);
    EXPECT_THROW(copy_disk(pipe, to, {}, {}), Error);
    EXPECT_THROW(copy_disk(from, to, ::geteuid() + 1, {}), Error);
    std::stop_source over;
    over.request_stop();
    try {
        copy_disk(from, to, ::geteuid(), over.get_token());
        ADD_FAILURE() << "it was stopped";
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::cancelled);
    }
}

class TemplateFolderTest : public testing::Test {
protected:
    static constexpr std::uint64_t size = 4 << 20;
    static std::string digest(char c) { return std::string(32, c); }

    RamTemplatePtr make(char name, char kind, const std::string& ram) {
        TemplateRecord record;
        record.key = {digest(name), digest(kind)};
        record.memory_bytes = size;
        int memory = make_guest_memory(size);
        EXPECT_EQ(::pwrite(memory, ram.data(), ram.size(), 1 << 20), static_cast<ssize_t>(ram.size()));
        ::close(folder_.begin(record.key.digest));
        std::ofstream(disk()) << empty_qcow2(1 << 20);
        auto made = folder_.finish(record, memory, disk());
        ::close(memory);
        return made;
    }
    std::string disk() const { return place_.path() + "/disk.qcow2"; }
    std::string path() const { return place_.path() + "/templates"; }
    static std::string ram_of(const RamTemplatePtr& from, std::size_t length) {
        std::string text(length, '\0');
        EXPECT_EQ(::pread(from->memory(), text.data(), length, 1 << 20), static_cast<ssize_t>(length));
        return text;
    }

    test::TemporaryDirectory place_;
    TemplateFolder folder_{path()};
};

TEST_F(TemplateFolderTest, GivesBackTheRamThatNobodyCanChange) {
    auto made = make('a', 'k', "of the donor");
    auto record = folder_.find(digest('a'));
    ASSERT_TRUE(record);
    auto loaded = folder_.load(*record);
    for (const auto& one : {made, loaded}) {
        EXPECT_EQ(ram_of(one, 12), "of the donor");
        EXPECT_EQ(::pwrite(one->memory(), "x", 1, 0), -1);
        EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, one->memory(), 0), MAP_FAILED);
        EXPECT_NE(::ftruncate(one->memory(), 0), 0);
        EXPECT_TRUE(fs::exists(one->state_path()) && fs::exists(one->disk_path()));
    }
}

TEST_F(TemplateFolderTest, KeepsOneOfAKindAndThoseUsedLast) {
    make('a', 'k', "old");
    make('b', 'k', "new");
    EXPECT_FALSE(folder_.find(digest('a')));
    EXPECT_TRUE(folder_.find(digest('b')));
    for (char c : std::string("cdef0123456789")) make(c, c, "one of many");
    folder_.sweep();
    EXPECT_EQ(std::distance(fs::directory_iterator(path()), fs::directory_iterator()), 8);
    EXPECT_TRUE(folder_.find(digest('9'))) << "the newest";
    EXPECT_FALSE(folder_.find(digest('b'))) << "the oldest";
}

TEST_F(TemplateFolderTest, RemovesWhatIsHalfMadeAndLeavesWhatIsNotOurs) {
    make('a', 'k', "whole");
    ::close(folder_.begin(digest('b')));
    fs::create_directory(path() + "/" + digest('c'));
    fs::create_directory(path() + "/somebody");
    make('d', 'd', "unreadable");
    std::ofstream(path() + "/" + digest('d') + "/template.json") << "{";
    EXPECT_FALSE(folder_.find(digest('b')));
    folder_.sweep();
    std::set<std::string> left;
    for (const auto& entry : fs::directory_iterator(path())) left.insert(entry.path().filename());
    EXPECT_EQ(left, (std::set<std::string>{digest('a'), "somebody"}));
}

TEST_F(TemplateFolderTest, RefusesRamThatIsNotWhole) {
    make('a', 'k', "whole");
    fs::resize_file(path() + "/" + digest('a') + "/ram", size - 4096);
    try {
        folder_.load(folder_.find(digest('a')).value());
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::store);
    }
}

TEST_F(TemplateFolderTest, SealsNothingThatADonorStillWrites) {
    int memory = make_guest_memory(size);
    void* donor = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    ASSERT_NE(donor, MAP_FAILED);
    TemplateRecord record;
    record.key = {digest('a'), digest('k')};
    record.memory_bytes = size;
    ::close(folder_.begin(digest('a')));
    EXPECT_THROW(folder_.finish(record, memory, ""), Error);
    EXPECT_FALSE(folder_.find(digest('a')));
    ::munmap(donor, size);
    ::close(memory);
}

TEST_F(TemplateFolderTest, RefusesADiskThatNamesAnotherFile) {
    int memory = make_guest_memory(size);
    TemplateRecord record;
    record.key = {digest('a'), digest('k')};
    record.memory_bytes = size;
    ::close(folder_.begin(digest('a')));
    auto bytes = empty_qcow2(1 << 20);
    bytes[15] = 1;  // the offset of a backing file's name
    std::ofstream(disk()) << bytes;
    EXPECT_THROW(folder_.finish(record, memory, disk()), Error);
    EXPECT_FALSE(folder_.find(digest('a')));
    ::close(memory);
}

TEST_F(TemplateFolderTest, RemembersARefusal) {
    TemplateRecord record;
    record.key = {digest('a'), digest('k')};
    record.refused = "the guest has no shell";
    folder_.refuse(record);
    folder_.sweep();
    EXPECT_EQ(folder_.find(digest('a')).value().refused, "the guest has no shell");
}

TEST_F(TemplateFolderTest, TellsWhenThereIsNoRoom) {
    EXPECT_EQ(folder_.why_no_room(1), "");
    EXPECT_NE(folder_.why_no_room(std::uint64_t{1} << 60).find("disk space"), std::string::npos);
}

}  // namespace
}  // namespace infrastructure_sdk::qemu
