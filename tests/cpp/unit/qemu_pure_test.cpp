// The pure parts of the QEMU provider: command lines, records, lines, process files.

#include <gtest/gtest.h>

#include <algorithm>

#include <random>

#include <nlohmann/json.hpp>

#include "core/base64.hpp"
#include "providers/qemu/command_line.hpp"
#include "providers/qemu/debris.hpp"
#include "providers/qemu/host_check.hpp"
#include "providers/qemu/line_splitter.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/vm_record.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/vm/template.hpp>

namespace infrastructure_sdk::qemu {
namespace {

VmSpec tiny() {
    VmSpec spec;
    spec.id.value = "11111111-2222-4333-8444-555555555555";
    spec.name = "s-1";
    spec.owner_session = "s-1";
    spec.image = {
        "linux-tiny", "v1", "/images/kernel", "/images/initrd", "console=ttyS0", "/images/disk.qcow2", "qcow2",
        64 << 20,     ""};
    spec.mac_address = "02:11:22:33:44:55";
    spec.channels = {"agent", "display"};
    return spec;
}

TEST(CommandLine, OfATinyGuestUnderEmulationIsExactlyThis) {
    std::vector<std::string> expected{
        "-name",
        "guest=11111111-2222-4333-8444-555555555555,debug-threads=on",
        "-uuid",
        "11111111-2222-4333-8444-555555555555",
        "-machine",
        "pc-q35-7.2,mem-merge=off,dump-guest-core=off",
        "-accel",
        "tcg,thread=single,tb-size=64",
        "-m",
        "128",
        "-smp",
        "1",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-vga",
        "std",
        "-vnc",
        "unix:vnc.sock",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-rtc",
        "base=utc",
        "-chardev",
        "socket,id=qmp,fd=10,server=on,wait=off",
        "-mon",
        "chardev=qmp,mode=control",
        "-chardev",
        "socket,id=agent,fd=11,server=on,wait=off",
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        "-chardev",
        "file,id=serial,path=serial.log,append=on",
        "-serial",
        "chardev:serial",
        "-device",
        "pvpanic",
        "-object",
        "rng-builtin,id=rng0",
        "-device",
        "virtio-rng-pci,rng=rng0",
        "-kernel",
        "/proc/self/fd/12",
        "-initrd",
        "/proc/self/fd/13",
        "-append",
        "console=ttyS0 isdk.hostname=s-1",
        "-add-fd",
        "fd=14,set=1",
        "-blockdev",
        R"({"driver":"file","node-name":"base-file","filename":"/dev/fdset/1","read-only":true})",
        "-blockdev",
        R"({"driver":"qcow2","node-name":"base","file":"base-file","read-only":true,"backing":null})",
        "-blockdev",
        R"({"driver":"file","node-name":"disk-file","filename":"disk.qcow2"})",
        "-blockdev",
        R"({"driver":"qcow2","node-name":"disk","file":"disk-file","backing":"base"})",
        "-device",
        "virtio-blk-pci,drive=disk",
        "-netdev",
        "user,id=net0,restrict=on,ipv6=off",
        "-device",
        "virtio-net-pci,netdev=net0,mac=02:11:22:33:44:55,romfile=",
        "-device",
        "virtio-tablet-pci"};
    EXPECT_EQ(command_line(tiny(), {}), expected);
}

TEST(CommandLine, OfEncryptedDisksHoldsPipesForTheirPassphrases) {
    auto plain = command_line(tiny(), {});
    auto line = command_line(tiny(), {"tcg", 64, true, true});
    std::vector<std::string> more;
    for (const auto& word : line)
        if (std::find(plain.begin(), plain.end(), word) == plain.end()) more.push_back(word);
    std::vector<std::string> expected{
        "secret,id=base-key,file=/proc/self/fd/29", "secret,id=disk-key,file=/proc/self/fd/28",
        R"({"driver":"qcow2","node-name":"base","file":"base-file","read-only":true,"encrypt":{"format":"luks","key-secret":"base-key"},"backing":null})",
        R"({"driver":"qcow2","node-name":"disk","file":"disk-file","backing":"base","encrypt":{"format":"luks","key-secret":"disk-key"}})"};
    EXPECT_EQ(more, expected);
    auto diskless = tiny();
    diskless.image.disk.clear();
    for (const auto& word : command_line(diskless, {"tcg", 64, true, true}))
        EXPECT_EQ(word.find("key"), std::string::npos) << word;
}

TEST(CommandLine, HoldsNoPathOfTheHostAndNoTcp) {
    const auto line = command_line(tiny(), {});
    for (const auto& word : line) {
        EXPECT_EQ(word.find("/images"), std::string::npos) << word;
        EXPECT_EQ(word.find("tcp"), std::string::npos) << word;
    }
    auto display = std::find(line.begin(), line.end(), "-vnc");
    ASSERT_NE(display, line.end());
    EXPECT_TRUE((display + 1)->starts_with("unix:"));
}

TEST(CommandLine, FollowsTheSpec) {
    auto spec = tiny();
    spec.network = NetworkMode::none;
    spec.display = false;
    spec.cpu_count = 2;
    spec.image.disk_format = "raw";
    spec.image.kernel.clear();
    auto line = command_line(spec, {"kvm", 64});
    auto has = [&](const std::string& word) { return std::find(line.begin(), line.end(), word) != line.end(); };
    EXPECT_TRUE(has("kvm"));
    EXPECT_TRUE(has("2"));
    EXPECT_FALSE(has("-netdev"));
    EXPECT_FALSE(has("-kernel"));
    EXPECT_FALSE(has("std"));
    EXPECT_TRUE(has(R"({"driver":"raw","node-name":"base","file":"base-file","read-only":true})"));
    EXPECT_EQ(incoming(line).size(), line.size() + 2);
}

TEST(CommandLine, OfATemplateAndItsCopiesDiffersInTheRamAlone) {
    const auto line = command_line(tiny(), {});
    for (bool writes : {true, false}) {
        auto expected = line;
        *(std::find(expected.begin(), expected.end(), "-machine") + 1) += ",memory-backend=pc.ram";
        expected.push_back("-object");
        expected.push_back(
            "memory-backend-file,id=pc.ram,x-use-canonical-path-for-ramblock-id=off,size=134217728,"
            "mem-path=/proc/self/fd/20,share=" +
            std::string(writes ? "on" : "off"));
        EXPECT_EQ(with_ram_file(line, 128 << 20, writes), expected);
    }
}

VmSpec windows_11() {
    const auto& source = builtin_templates().at("windows-11");
    auto spec = tiny();
    spec.image = {};
    spec.image.disk = "/images/disk.qcow2";
    spec.image.disk_format = "qcow2";
    spec.image.disc = "/images/virtio-win.iso";
    spec.machine = source.machine;
    spec.firmware = source.firmware;
    spec.tpm = source.tpm;
    spec.enlightenments = source.enlightenments;
    spec.clock = source.clock;
    spec.cpu_count = static_cast<int>(source.cpu.value());
    spec.memory_bytes = static_cast<std::uint64_t>(source.memory.value());
    return spec;
}

TEST(CommandLine, OfWindows11UnderKvmIsExactlyThis) {
    std::vector<std::string> expected{
        "-name",
        "guest=11111111-2222-4333-8444-555555555555,debug-threads=on",
        "-uuid",
        "11111111-2222-4333-8444-555555555555",
        "-machine",
        "pc-q35-7.2,mem-merge=off,dump-guest-core=off,hpet=off,smm=on,"
        "pflash0=firmware-code,pflash1=firmware-variables",
        "-accel",
        "kvm",
        "-cpu",
        "host,hv-relaxed=on,hv-vapic=on,hv-spinlocks=0x1fff,hv-vpindex=on,hv-runtime=on,hv-time=on,hv-synic=on,"
        "hv-stimer=on,hv-stimer-direct=on,hv-tlbflush=on,hv-ipi=on,hv-frequencies=on,hv-reenlightenment=on,"
        "hv-reset=on",
        "-global",
        "kvm-pit.lost_tick_policy=delay",
        "-m",
        "4096",
        "-smp",
        "2",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-vga",
        "std",
        "-vnc",
        "unix:vnc.sock",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-rtc",
        "base=localtime,driftfix=slew",
        "-global",
        "driver=cfi.pflash01,property=secure,value=on",
        "-global",
        "ICH9-LPC.disable_s3=1",
        "-add-fd",
        "fd=16,set=2",
        "-blockdev",
        R"({"driver":"file","node-name":"firmware-code-file","filename":"/dev/fdset/2","read-only":true})",
        "-blockdev",
        R"({"driver":"raw","node-name":"firmware-code","file":"firmware-code-file","read-only":true})",
        "-blockdev",
        R"({"driver":"file","node-name":"firmware-variables-file","filename":"firmware.fd"})",
        "-blockdev",
        R"({"driver":"raw","node-name":"firmware-variables","file":"firmware-variables-file"})",
        "-chardev",
        "socket,id=tpm,fd=17",
        "-tpmdev",
        "emulator,id=tpm0,chardev=tpm",
        "-device",
        "tpm-crb,tpmdev=tpm0",
        "-chardev",
        "socket,id=qmp,fd=10,server=on,wait=off",
        "-mon",
        "chardev=qmp,mode=control",
        "-chardev",
        "socket,id=agent,fd=11,server=on,wait=off",
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        "-chardev",
        "file,id=serial,path=serial.log,append=on",
        "-serial",
        "chardev:serial",
        "-device",
        "pvpanic",
        "-object",
        "rng-builtin,id=rng0",
        "-device",
        "virtio-rng-pci,rng=rng0",
        "-add-fd",
        "fd=14,set=1",
        "-blockdev",
        R"({"driver":"file","node-name":"base-file","filename":"/dev/fdset/1","read-only":true})",
        "-blockdev",
        R"({"driver":"qcow2","node-name":"base","file":"base-file","read-only":true,"backing":null})",
        "-blockdev",
        R"({"driver":"file","node-name":"disk-file","filename":"disk.qcow2"})",
        "-blockdev",
        R"({"driver":"qcow2","node-name":"disk","file":"disk-file","backing":"base"})",
        "-device",
        "virtio-blk-pci,drive=disk",
        "-add-fd",
        "fd=18,set=3",
        "-blockdev",
        R"({"driver":"file","node-name":"disc-file","filename":"/dev/fdset/3","read-only":true})",
        "-blockdev",
        R"({"driver":"raw","node-name":"disc","file":"disc-file","read-only":true})",
        "-device",
        "ide-cd,drive=disc,bus=ide.0",
        "-netdev",
        "user,id=net0,restrict=on,ipv6=off",
        "-device",
        "virtio-net-pci,netdev=net0,mac=02:11:22:33:44:55,romfile=",
        "-device",
        "virtio-tablet-pci"};
    EXPECT_EQ(command_line(windows_11(), {"kvm", 64}), expected);
}

TEST(CommandLine, OfWindowsUnderEmulationAsksForNoEnlightenment) {
    auto line = command_line(windows_11(), {});
    for (const auto& word : line) {
        EXPECT_EQ(word.find("hv-"), std::string::npos) << word;
        EXPECT_EQ(word.find("kvm"), std::string::npos) << word;
    }
    auto processor = std::find(line.begin(), line.end(), "-cpu");
    ASSERT_NE(processor, line.end());
    EXPECT_EQ(*(processor + 1), "max");
}

TEST(CommandLine, OfTheTpmHoldsNoPathOfTheHost) {
    std::vector<std::string> expected{
        "socket", "--tpm2", "--tpmstate", "dir=tpm,mode=0600", "--ctrl", "type=unixio,clientfd=17", "--terminate"};
    EXPECT_EQ(tpm_command_line(), expected);
}

TEST(CommandLine, OfACloudImageHasItsSeedOnVirtio) {
    auto spec = tiny();
    spec.image.disc = "/images/seed.iso";
    auto line = command_line(spec, {});
    EXPECT_NE(std::find(line.begin(), line.end(), "virtio-blk-pci,drive=disc"), line.end());
}

TEST(CommandLine, OfUefiWithoutSecureBootLocksNothing) {
    auto spec = tiny();
    spec.firmware = Firmware::uefi;
    auto line = command_line(spec, {});
    auto has = [&](const std::string& word) { return std::find(line.begin(), line.end(), word) != line.end(); };
    EXPECT_FALSE(has("driver=cfi.pflash01,property=secure,value=on"));
    EXPECT_TRUE(has("fd=16,set=2"));
    EXPECT_FALSE(has("-tpmdev"));
}

TEST(HostCheck, RefusesWhatIsMissingAndNamesThePackage) {
    auto refused = [](const VmSpec& spec, const HostFacts& host) -> std::pair<Errc, std::string> {
        try {
            check_host(spec, host);
        } catch (const Error& error) {
            return {error.errc(), error.message()};
        }
        return {Errc{}, ""};
    };
    HostFacts bare;
    HostFacts full{8ull << 30, FirmwareFiles{"c", "v"}, FirmwareFiles{"c", "v"}, "/usr/bin/swtpm"};
    EXPECT_EQ(refused(tiny(), bare).second, "");
    EXPECT_EQ(refused(windows_11(), full).second, "");
    auto no_firmware = full;
    no_firmware.secure_boot.reset();
    EXPECT_EQ(refused(windows_11(), no_firmware).first, Errc::unsupported);
    EXPECT_NE(refused(windows_11(), no_firmware).second.find("apt-get install ovmf"), std::string::npos);
    auto no_tpm = full;
    no_tpm.tpm_program.clear();
    EXPECT_EQ(refused(windows_11(), no_tpm).first, Errc::unsupported);
    EXPECT_NE(refused(windows_11(), no_tpm).second.find("apt-get install swtpm"), std::string::npos);
    auto small = full;
    small.memory_bytes = 2ull << 30;
    EXPECT_EQ(refused(windows_11(), small).first, Errc::capacity);
    EXPECT_NE(refused(windows_11(), small).second.find("4096Mi are more than this host has (2048Mi)"),
              std::string::npos);
}

TEST(HostCheck, AHostWithoutThePackagesHasNeither) {
    auto host = look_at_host("/nonexistent", "no-such-program");
    EXPECT_FALSE(host.uefi || host.secure_boot);
    EXPECT_TRUE(host.tpm_program.empty());
    EXPECT_GT(host.memory_bytes, 0u);
}

TEST(Debris, OfATpmIsOursAndNothingBesideIt) {
    FolderEntry entry;
    entry.name = ".gone-11111111-2222-4333-8444-555555555555";
    entry.directory = true;
    entry.files = {"vm.json", "guest/firmware.fd", "guest/tpm.log", "guest/tpm/tpm2-00.permall", "guest/tpm/.lock"};
    EXPECT_EQ(judge(entry), Debris::remove);
    for (const char* strange : {"guest/tpm/folder/", "guest/tpm2/", "guest/other.fd", "tpm/file"}) {
        auto with = entry;
        with.files.push_back(strange);
        EXPECT_EQ(judge(with), Debris::leave) << strange;
    }
}

TEST(CommandLine, NamesItsVmOnlyByAnExactUuidOfAQemu) {
    auto line = command_line(tiny(), {});
    line.insert(line.begin(), "/usr/bin/qemu-system-x86_64");
    EXPECT_TRUE(names_vm(line, "11111111-2222-4333-8444-555555555555"));
    EXPECT_FALSE(names_vm(line, "11111111-2222-4333-8444-55555555555"));
    line.front() = "/bin/grep";
    EXPECT_FALSE(names_vm(line, "11111111-2222-4333-8444-555555555555"));
    EXPECT_FALSE(names_vm({}, ""));
}

TEST(VmRecords, RoundTripAndRefuseGarbage) {
    VmRecord record;
    record.spec = tiny();
    record.phase = VmState::suspended;
    record.arguments = command_line(record.spec, {});
    record.uid = 610007;
    record.process = ProcessIdentity{"boot", 42, 4711, record.spec.id.value};
    record.memory_sha256 = "abc";
    record.spec.firmware = Firmware::secure_boot;
    record.spec.clock = ClockBase::localtime;
    record.spec.tpm = true;
    record.spec.enlightenments = {"relaxed"};
    record.spec.image.disc = "/images/drivers.iso";
    record.tpm_process = ProcessIdentity{"boot", 43, 4712, record.spec.id.value};
    record.firmware_code = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd";
    record.spec.owner_user = "alice";
    record.spec.encryption = Encryption::all;
    record.memory_key = record.disk_key = record.base_key = record.stray_disk_key = "key-1:d3JhcHBlZA==";
    record.memory_epoch = 3;
    auto text = to_text(record);
    EXPECT_EQ(to_text(record_from_text(text)), text);
    for (std::size_t cut = 0; cut + 2 < text.size(); cut += 7)
        EXPECT_THROW(record_from_text(text.substr(0, cut)), Error);
    EXPECT_THROW(record_from_text("[]"), Error);
}

TEST(VmRecords, OfOlderOwnersAreNotEncrypted) {
    VmRecord record;
    record.spec = tiny();
    auto document = nlohmann::json::parse(to_text(record));
    for (const char* name : {"memory_key", "memory_epoch", "disk_key", "base_key", "stray_disk_key"})
        document.erase(name);
    for (const char* name : {"owner_user", "encryption"}) document["spec"].erase(name);
    auto old = record_from_text(document.dump());
    EXPECT_EQ(old.spec.encryption, Encryption::off);
    EXPECT_EQ(old.memory_key + old.disk_key + old.spec.owner_user, "");
}

TEST(VmRecords, SettleSaysUnknownWhenItCouldNotLook) {
    VmRecord record;
    record.phase = VmState::running;
    EXPECT_EQ(settle(record, true, ""), VmState::unknown);
    EXPECT_EQ(settle(record, true, "running"), VmState::running);
    EXPECT_EQ(settle(record, true, "paused"), VmState::paused);
    record.cloning = true;
    EXPECT_EQ(settle(record, true, "running"), VmState::starting) << "what runs may still be another guest";
    record.cloning = false;
    EXPECT_EQ(settle(record, false, ""), VmState::failed);
    record.phase = VmState::suspending;
    EXPECT_EQ(settle(record, false, ""), VmState::failed);
    record.memory_sha256 = "complete";
    EXPECT_EQ(settle(record, false, ""), VmState::suspended);
    record.phase = VmState::starting;
    EXPECT_EQ(settle(record, false, ""), VmState::suspended);
    record.phase = VmState::running;
    EXPECT_EQ(settle(record, false, ""), VmState::failed) << "the guest may have run: its disk is newer than the file";
    record.phase = VmState::starting;
    record.memory_sha256.clear();
    EXPECT_EQ(settle(record, false, ""), VmState::stopped);
    record.phase = VmState::stopped;
    EXPECT_EQ(settle(record, true, "running"), VmState::stopped);
}

TEST(Lines, AreTheSameHoweverTheBytesArrive) {
    const std::string stream = "{\"a\":1}\r\n\n\xff{\"return\":7}\n{\"b\":\"x\"}\nrest";
    std::vector<std::string> expected{"{\"a\":1}", "{\"return\":7}", "{\"b\":\"x\"}"};
    for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
        LineSplitter splitter(100);
        auto lines = splitter.feed(std::string_view(stream).substr(0, cut));
        for (auto& line : splitter.feed(std::string_view(stream).substr(cut))) lines.push_back(line);
        EXPECT_EQ(lines, expected) << cut;
    }
    LineSplitter small(10);
    EXPECT_TRUE(small.feed("12345678901234").empty());
    EXPECT_TRUE(small.overflown());
    EXPECT_TRUE(small.feed("\nok\n").empty());
}

TEST(Base64, IsStrictAndRoundTrips) {
    std::mt19937 random(3);
    for (int size = 0; size < 300; ++size) {
        std::string bytes(static_cast<std::size_t>(size), '\0');
        for (auto& c : bytes) c = static_cast<char>(random());
        EXPECT_EQ(base64_decode(base64_encode(bytes)), bytes);
    }
    for (const char* text : {"a", "ab=", "a=bc", "ab c", "ab\nc", "====", "abc%", "=abc"})
        EXPECT_FALSE(base64_decode(text)) << text;
}

TEST(ProcessFiles, StartTimeSurvivesStrangeNames) {
    std::string rest = " S 1 1 1 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 3 0 123456 1000 10 0";
    EXPECT_EQ(parse_start_time("42 (qemu) (x)" + rest), 123456u);
    EXPECT_EQ(parse_start_time("42 (a b\nc)" + rest), 123456u);
    EXPECT_EQ(parse_start_time("42 (qemu) Z 1 1 1 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 3 0 123456 1000 10 0"),
              std::nullopt);
    EXPECT_EQ(parse_start_time("42 (qemu) S 1 1"), std::nullopt);
    EXPECT_EQ(parse_start_time(""), std::nullopt);
}

}  // namespace
}  // namespace infrastructure_sdk::qemu
