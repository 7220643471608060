// Limits, placement and health of local VMs: the pure parts.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "providers/qemu/command_line.hpp"
#include "providers/qemu/control_groups.hpp"
#include "providers/qemu/cpu_placement.hpp"
#include "providers/qemu/doctor_rules.hpp"
#include "providers/qemu/gpu.hpp"
#include "providers/qemu/host_memory.hpp"
#include "providers/qemu/limit_plan.hpp"
#include "providers/qemu/memory_model.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr const char* uuid = "11111111-2222-4333-8444-555555555555";
constexpr std::uint64_t mebibyte = 1ull << 20;

VmSpec small() {
    VmSpec spec;
    spec.id.value = uuid;
    spec.cpu_count = 1;
    spec.memory_bytes = 128 * mebibyte;
    spec.image.disk = "/images/disk.qcow2";
    spec.image.disk_size_bytes = 1ull << 30;
    return spec;
}

GroupOffers version_1() {
    return {{"cpu", {1, "/cg/cpu", ""}}, {"memory", {1, "/cg/memory/own", ""}}, {"pids", {1, "/cg/pids", ""}}};
}
GroupOffers version_2() {
    return {{"cpu", {2, "/cg/up", ""}}, {"memory", {2, "/cg/up", ""}}, {"pids", {2, "/cg/up", ""}}};
}

const LimitStatus* find(const std::vector<LimitStatus>& limits, const std::string& resource) {
    for (const auto& limit : limits)
        if (limit.resource == resource) return &limit;
    return nullptr;
}

TEST(LimitPlan, WritesVersion1IntoAGroupOfEachController) {
    auto plan = plan_limits(small(), {version_1(), "abc", 400 * mebibyte});
    ASSERT_THAT(plan.groups, SizeIs(3));
    EXPECT_EQ(plan.groups[0].folder, std::string("/cg/cpu/infra-sdk-abc/") + uuid);
    EXPECT_THAT(plan.groups[0].writes,
                ElementsAre(GroupWrite{"cpu.cfs_period_us", "100000"}, GroupWrite{"cpu.cfs_quota_us", "125000"}));
    EXPECT_EQ(plan.groups[1].folder, std::string("/cg/memory/own/infra-sdk-abc/") + uuid);
    EXPECT_THAT(plan.groups[1].writes, ElementsAre(GroupWrite{"memory.limit_in_bytes", "419430400"},
                                                   GroupWrite{"memory.memsw.limit_in_bytes", "419430400", true},
                                                   GroupWrite{"memory.swappiness", "0", true}));
    EXPECT_THAT(plan.groups[2].writes, ElementsAre(GroupWrite{"pids.max", "257"}));
    EXPECT_EQ(find(plan.limits, "cpu")->enforced_by, "cgroup v1");
    EXPECT_EQ(find(plan.limits, "cpu")->limit, 1250u);
    EXPECT_EQ(find(plan.limits, "disk")->limit, 1ull << 30);
}

TEST(LimitPlan, WritesVersion2IntoOneGroup) {
    auto plan = plan_limits(small(), {version_2(), "abc", 400 * mebibyte});
    ASSERT_THAT(plan.groups, SizeIs(1));
    EXPECT_EQ(plan.groups[0].controllers, "+cpu +memory +pids");
    EXPECT_THAT(plan.groups[0].writes,
                ElementsAre(GroupWrite{"cpu.max", "125000 100000"}, GroupWrite{"memory.max", "419430400"},
                            GroupWrite{"memory.swap.max", "0", true}, GroupWrite{"pids.max", "257"}));
    EXPECT_EQ(find(plan.limits, "memory")->enforced_by, "cgroup v2");
}

TEST(LimitPlan, SaysWhatDoesNotHold) {
    auto spec = small();
    spec.limits.network_bytes_per_second = 1000;
    GroupOffers none{{"cpu", {0, "", "/cg/cpu cannot be written"}}};
    auto plan = plan_limits(spec, {none, "abc", 1});
    EXPECT_THAT(plan.groups, IsEmpty());
    EXPECT_EQ(find(plan.limits, "cpu")->enforced_by, "");
    EXPECT_EQ(find(plan.limits, "cpu")->reason, "/cg/cpu cannot be written");
    EXPECT_THAT(find(plan.limits, "memory")->reason, HasSubstr("no control group controller 'memory'"));
    EXPECT_EQ(find(plan.limits, "network_bandwidth")->enforced_by, "");
    EXPECT_THAT(find(plan.limits, "network_bandwidth")->reason, HasSubstr("no rate limit"));
    EXPECT_EQ(find(plan.limits, "disk_iops"), nullptr) << "nothing was asked for";
    spec.network = NetworkMode::internet;
    plan = plan_limits(spec, {none, "abc", 1, "nft is not there"});
    EXPECT_EQ(find(plan.limits, "network_bandwidth")->reason, "nft is not there");
    plan = plan_limits(spec, {none, "abc", 1, ""});
    EXPECT_EQ(find(plan.limits, "network_bandwidth")->enforced_by, "nftables");
    EXPECT_EQ(find(plan.limits, "network_bandwidth")->limit, 1000u);
    for (const auto& limit : plan.limits) EXPECT_NE(limit.enforced_by.empty(), limit.reason.empty()) << limit.resource;
}

TEST(LimitPlan, LimitsEveryVmAndNeverFarAboveItsCpus) {
    std::mt19937 random(1);
    for (int round = 0; round < 500; ++round) {
        auto spec = small();
        spec.cpu_count = 1 + static_cast<int>(random() % 64);
        spec.limits.cpu_milli = random() % 2 ? 0 : 1 + static_cast<std::int64_t>(random() % 1000) * spec.cpu_count;
        const auto guest = spec.limits.cpu_milli ? spec.limits.cpu_milli : std::int64_t{1000} * spec.cpu_count;
        EXPECT_GE(cpu_ceiling(spec), guest);
        EXPECT_LE(cpu_ceiling(spec), std::int64_t{1000} * (spec.cpu_count + 1))
            << "the isolation check allows one more";
        spec.memory_bytes = (16 + random() % 100'000) * mebibyte;
        spec.display = random() % 2;
        const bool kvm = random() % 2;
        EXPECT_GT(memory_overhead(spec, kvm, 64), spec.memory_bytes / 512);
        EXPECT_GE(memory_overhead(spec, false, 64), memory_overhead(spec, true, 64));
        EXPECT_GT(memory_ceiling(spec, kvm, 64), spec.memory_bytes + memory_overhead(spec, kvm, 64));
        EXPECT_EQ(memory_ceiling(spec, kvm, 64) % 4096, 0u) << "the kernel counts pages";
    }
}

TEST(LimitPlan, AProcessOutsideItsGroupIsNotLimitedByIt) {
    auto plan = plan_limits(small(), {version_1(), "abc", mebibyte});
    auto before = plan.limits;
    note_not_joined(plan.limits, "");
    EXPECT_EQ(plan.limits, before);
    note_not_joined(plan.limits, "EACCES");
    EXPECT_EQ(find(plan.limits, "cpu")->enforced_by, "");
    EXPECT_THAT(find(plan.limits, "cpu")->reason, HasSubstr("EACCES"));
    EXPECT_EQ(find(plan.limits, "disk")->enforced_by, "qemu");
}

TEST(ChooseParent, TakesTheNearestGroupThatMayGive) {
    GroupLevel own{"/cg/user/app", {"memory"}, {}, true, true, false};
    GroupLevel user{"/cg/user", {"memory", "pids"}, {"memory"}, true, false, false};
    GroupLevel root{"/cg", {"cpu", "memory", "pids"}, {"memory"}, false, true, true};
    EXPECT_EQ(choose_parent({own, user, root}, "memory"), (GroupOffer{2, "/cg/user", ""}));
    EXPECT_EQ(choose_parent({own, user, root}, "pids"), (GroupOffer{2, "/cg/user", ""}));
    EXPECT_EQ(choose_parent({own, user, root}, "cpu").reason, "/cg cannot be written");
    EXPECT_EQ(choose_parent({own}, "memory").reason, "/cg/user/app has processes of its own");
    EXPECT_THAT(choose_parent({}, "cpu").reason, HasSubstr("'cpu'"));
    root.writable = true;
    EXPECT_EQ(choose_parent({root}, "cpu").version, 2) << "the root may have processes";
}

// Folders stand in for control groups: what is written where, and what happens when it cannot be.
TEST(ControlGroups, AreMadeWrittenAndTakenAway) {
    test::TemporaryDirectory place;
    GroupOffers offers{{"pids", {1, place.path(), ""}}};
    auto plan = plan_limits(small(), {offers, "abc", mebibyte});
    const auto folder = plan.groups.at(0).folder;
    fs::create_directories(folder);
    std::ofstream(folder + "/pids.max");
    std::ofstream(folder + "/cgroup.procs");
    make_groups(plan);
    EXPECT_EQ(find(plan.limits, "processes")->enforced_by, "cgroup v1") << find(plan.limits, "processes")->reason;
    EXPECT_EQ(join_groups({folder}, 4711), "");
    std::string text;
    std::getline(std::ifstream(folder + "/pids.max"), text);
    EXPECT_EQ(text, "257");
    std::getline(std::ifstream(folder + "/cgroup.procs"), text);
    EXPECT_EQ(text, "4711");
    EXPECT_EQ(remove_groups({folder}), std::vector{folder}) << "what is not empty stays";
    fs::remove_all(folder);
    EXPECT_THAT(remove_groups({folder}), IsEmpty()) << "what is gone is fine";
}

TEST(ControlGroups, ThatCannotBeMadeMakeTheirLimitsUnavailable) {
    test::TemporaryDirectory place;
    GroupOffers offers{{"pids", {1, place.path(), ""}}, {"cpu", {1, place.path() + "/absent", ""}}};
    auto plan = plan_limits(small(), {offers, "abc", mebibyte});
    make_groups(plan);
    EXPECT_THAT(plan.groups, IsEmpty());
    EXPECT_EQ(find(plan.limits, "processes")->enforced_by, "");
    EXPECT_THAT(find(plan.limits, "processes")->reason, HasSubstr("pids.max")) << "a plain folder has no such file";
    EXPECT_THAT(find(plan.limits, "cpu")->reason, HasSubstr("absent"));
    EXPECT_FALSE(fs::exists(place.path() + "/infra-sdk-abc")) << "nothing is left";
    EXPECT_NE(join_groups({place.path() + "/absent"}, 1), "");
}

TEST(ControlGroups, OfVmsThatAreGoneAreSwept) {
    test::TemporaryDirectory place, vms;
    const std::string other = "11111111-2222-4333-8444-666666666666";
    const auto ours = installation_group(place.path(), "abc") + "/",
               foreign = installation_group(place.path(), "def") + "/";
    for (const auto& folder : {ours + uuid, ours + other, ours + "kept", foreign + other})
        fs::create_directories(folder);
    fs::create_directories(vms.path() + "/" + uuid);
    sweep_groups({{"cpu", {1, place.path(), ""}}}, "abc", vms.path());
    EXPECT_TRUE(fs::exists(ours + uuid)) << "its VM is there";
    EXPECT_FALSE(fs::exists(ours + other));
    EXPECT_TRUE(fs::exists(ours + "kept")) << "not a VM's";
    EXPECT_TRUE(fs::exists(foreign + other)) << "another installation's";
}

TEST(CommandLine, LimitsTheDiskOnlyWhenAsked) {
    auto spec = small();
    auto has = [](const std::vector<std::string>& line, const std::string& word) {
        return std::find(line.begin(), line.end(), word) != line.end();
    };
    EXPECT_TRUE(has(command_line(spec, {}), "virtio-blk-pci,drive=disk"));
    EXPECT_FALSE(has(command_line(spec, {}), "i6300esb"));
    spec.limits.disk_iops = 50;
    spec.watchdog = true;
    auto line = command_line(spec, {});
    EXPECT_TRUE(has(line, "virtio-blk-pci,drive=disk-limited"));
    EXPECT_TRUE(has(line, R"({"qom-type":"throttle-group","id":"disk-limits","limits":{"iops-total":50}})"));
    EXPECT_TRUE(has(line, "i6300esb"));
    EXPECT_TRUE(has(line, "watchdog=poweroff"));
    spec.limits.disk_bytes_per_second = 1000;
    EXPECT_TRUE(has(command_line(spec, {}),
                    R"({"qom-type":"throttle-group","id":"disk-limits","limits":{"iops-total":50,"bps-total":1000}})"));
}

TEST(HostMemory, IsReadAndRefusesWhatDoesNotFit) {
    const auto memory = parse_host_memory("MemTotal:        8388608 kB\nMemFree: 1 kB\nMemAvailable:    1048576 kB\n",
                                          "some avg10=1.00 avg60=0.00\nfull avg10=0.50 avg60=0.00 total=1\n");
    EXPECT_EQ(memory.total_bytes, 8ull << 30);
    EXPECT_EQ(memory.available_bytes, 1ull << 30);
    EXPECT_EQ(memory.pressure, 0.5);
    EXPECT_EQ(memory_reserve(memory), 256 * mebibyte);
    EXPECT_NO_THROW(check_free_memory(768 * mebibyte, memory));
    try {
        check_free_memory(769 * mebibyte, memory);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::capacity);
        EXPECT_EQ(error.context().at("reason"), "HostMemoryPressure");
        EXPECT_THAT(error.message(), HasSubstr("needs 769Mi"));
        EXPECT_THAT(error.message(), HasSubstr("768Mi free"));
    }
    auto stalled = memory;
    stalled.pressure = 30;
    EXPECT_THROW(check_free_memory(1, stalled), Error);
    EXPECT_NO_THROW(check_free_memory(1ull << 50, parse_host_memory("", ""))) << "a host that does not tell";
    EXPECT_NO_THROW(check_free_memory(1ull << 50, parse_host_memory("MemTotal: many\n\0x", "full avg10=")));
}

TEST(CpuPlacement, TakesFreeCoresFirstAndLeavesOneCpu) {
    // Two cores of two threads.
    const HostCpus host{{0, 0}, {1, 1}, {2, 0}, {3, 1}};
    EXPECT_THAT(place_cpus(host, {}, 2), ElementsAre(0, 2)) << "the threads of one core";
    EXPECT_THAT(place_cpus(host, {0}, 1), ElementsAre(1)) << "not the other thread of a core that is taken";
    EXPECT_THAT(place_cpus(host, {0}, 2), ElementsAre(1, 3));
    EXPECT_THROW(place_cpus(host, {}, 4), Error);
    EXPECT_THROW(place_cpus({}, {}, 1), Error);
    try {
        place_cpus(host, {0, 1}, 2);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::capacity);
        EXPECT_THAT(error.message(), HasSubstr("at most 1"));
    }
}

TEST(CpuPlacement, NeverGivesACpuTwice) {
    std::mt19937 random(2);
    for (int round = 0; round < 300; ++round) {
        HostCpus host;
        const int cores = 1 + static_cast<int>(random() % 8);
        for (int cpu = 0; cpu < 2 * cores; ++cpu) host[cpu] = cpu % cores;
        std::set<int> taken;
        for (;;) {
            std::vector<int> given;
            try {
                given = place_cpus(host, taken, 1 + static_cast<int>(random() % 3));
            } catch (const Error&) {
                break;
            }
            for (int cpu : given) {
                EXPECT_TRUE(host.contains(cpu));
                EXPECT_TRUE(taken.insert(cpu).second);
            }
        }
        EXPECT_LT(taken.size(), host.size());
    }
}

GpuFacts one_gpu() {
    GpuFacts facts;
    facts.gpus = {{"0000:01:00.0", "10de:2204", "vfio-pci", false, "7"}};
    facts.companions = {{"0000:01:00.1", "10de:1aef", "vfio-pci", false, "7"},
                        {"0000:00:01.0", "8086:1", "pcieport", true, "7"}};
    facts.iommu = facts.vfio = true;
    facts.open_groups = {"7"};
    return facts;
}

TEST(Gpus, AreUsableOnlyWhenTheWholeGroupIs) {
    auto reason = [](const GpuFacts& facts) { return judge_gpus(facts).found.at(0).second; };
    EXPECT_EQ(reason(one_gpu()), "");
    EXPECT_NE(judge_gpus(one_gpu()).reason, "");
    EXPECT_THAT(judge_gpus({}).reason, HasSubstr("no PCI graphics device"));
    auto facts = one_gpu();
    facts.gpus[0].driver = "nvidia";
    EXPECT_THAT(reason(facts), HasSubstr("its driver is nvidia"));
    facts = one_gpu();
    facts.companions[0].driver = "snd_hda_intel";
    EXPECT_THAT(reason(facts), HasSubstr("IOMMU group 7 also holds 0000:01:00.1 with driver snd_hda_intel"));
    facts = one_gpu();
    facts.open_groups.clear();
    EXPECT_THAT(reason(facts), HasSubstr("/dev/vfio/7 may not be opened"));
    facts = one_gpu();
    facts.vfio = false;
    EXPECT_THAT(reason(facts), HasSubstr("modprobe vfio-pci"));
    facts = one_gpu();
    facts.gpus[0].group.reset();
    EXPECT_THAT(reason(facts), HasSubstr("in no IOMMU group"));
    facts.iommu = false;
    EXPECT_THAT(reason(facts), HasSubstr("intel_iommu=on"));
    EXPECT_THAT(judge_gpus(facts).reason, HasSubstr("0000:01:00.0: "));
}

TEST(Gpus, AreFoundInSysfs) {
    test::TemporaryDirectory root;
    const auto devices = root.path() + "/sys/bus/pci/devices/";
    auto device = [&](const std::string& address, const std::string& kind, const std::string& driver) {
        fs::create_directories(devices + address);
        std::ofstream(devices + address + "/class") << kind << "\n";
        std::ofstream(devices + address + "/vendor") << "0x10de\n";
        std::ofstream(devices + address + "/device") << "0x2204\n";
        fs::create_symlink("../../../drivers/" + driver, devices + address + "/driver");
        fs::create_symlink("../../../kernel/iommu_groups/7", devices + address + "/iommu_group");
    };
    device("0000:01:00.0", "0x030000", "vfio-pci");
    device("0000:01:00.1", "0x040300", "snd_hda_intel");
    fs::create_directories(root.path() + "/sys/kernel/iommu_groups/7");
    auto facts = look_at_gpus(root.path());
    ASSERT_THAT(facts.gpus, SizeIs(1));
    EXPECT_EQ(facts.gpus[0].type, "10de:2204");
    EXPECT_EQ(facts.gpus[0].group, "7");
    EXPECT_TRUE(facts.iommu);
    EXPECT_FALSE(facts.vfio);
    EXPECT_THAT(judge_gpus(facts).reason, HasSubstr("also holds 0000:01:00.1 with driver snd_hda_intel"));
    EXPECT_THAT(look_at_gpus(root.path() + "/nowhere").gpus, IsEmpty());
}

// ---- doctor --------------------------------------------------------------------------------------------------------

DoctorFacts good_host() {
    DoctorFacts facts;
    facts.root = true;
    facts.qemu = {"qemu-system-x86_64", "qemu-system-x86", true, "QEMU 7.2", ""};
    facts.qemu_img = {"qemu-img", "qemu-utils", true, "qemu-img 7.2", ""};
    facts.accelerator = "kvm";
    facts.accelerator_reason = "it boots";
    facts.kvm = DeviceAccess::granted;
    facts.firmware = "/usr/share/OVMF/OVMF_CODE.fd";
    facts.tpm_program = "/usr/bin/swtpm";
    facts.state_directory = "/var/lib/infra-sdk";
    facts.state_free_bytes = 100ull << 30;
    facts.image_version = "1";
    facts.groups = version_2();
    facts.user_namespaces = 1000;
    facts.ksm = "0";
    facts.memory_bytes = 16ull << 30;
    facts.memory_available_bytes = 12ull << 30;
    facts.cpus = 8;
    facts.clock_synchronized = true;
    facts.clock_source = "tsc";
    for (auto mode : {"none", "isolated", "internet", "bridge"}) facts.networks[mode] = "";
    return facts;
}

TEST(Doctor, FindsNothingOnAGoodHost) {
    const auto lines = judge_host(good_host());
    EXPECT_THAT(lines, SizeIs(16));
    for (const auto& line : lines) {
        EXPECT_EQ(line.status, "ok") << line.name << ": " << line.detail;
        EXPECT_EQ(line.advice, "") << line.name;
        EXPECT_NE(line.meaning, "") << line.name;
    }
}

struct Ailment {
    const char* line;
    const char* status;
    const char* advice;  ///< a part of it
    void (*make)(DoctorFacts&);
};

TEST(Doctor, NamesEachAilmentAloneWithItsCure) {
    const Ailment ailments[] = {
        {"network", "warning", "bridge: there is no nft",
         [](DoctorFacts& f) { f.networks["bridge"] = "there is no nft"; }},
        {"qemu", "error", "apt-get install qemu-system-x86", [](DoctorFacts& f) { f.qemu.found = false; }},
        {"qemu", "error", "--reinstall", [](DoctorFacts& f) { f.qemu.trouble = "it crashes"; }},
        {"qemu-img", "error", "apt-get install qemu-utils", [](DoctorFacts& f) { f.qemu_img.found = false; }},
        {"accelerator", "warning", "hardware virtualization", [](DoctorFacts& f) { f.accelerator = "tcg"; }},
        {"kvm-permission", "warning", "usermod -aG kvm", [](DoctorFacts& f) { f.kvm = DeviceAccess::refused; }},
        {"kvm-permission", "warning", "firmware", [](DoctorFacts& f) { f.kvm = DeviceAccess::absent; }},
        {"secure-boot", "warning", "apt-get install ovmf", [](DoctorFacts& f) { f.firmware.clear(); }},
        {"secure-boot", "warning", "apt-get install swtpm", [](DoctorFacts& f) { f.tpm_program.clear(); }},
        {"state-directory", "error", "--state-dir", [](DoctorFacts& f) { f.state_free_bytes.reset(); }},
        {"state-directory", "warning", "free some", [](DoctorFacts& f) { f.state_free_bytes = 1; }},
        {"image", "warning", "image build", [](DoctorFacts& f) { f.image_version.clear(); }},
        {"cgroups", "warning", "container", [](DoctorFacts& f) { f.groups["cpu"] = {0, "", "read-only"}; }},
        {"ksm", "warning", "echo 0", [](DoctorFacts& f) { f.ksm = "1"; }},
        {"memory", "warning", "suspend", [](DoctorFacts& f) { f.memory_available_bytes = mebibyte; }},
        {"memory", "warning", "suspend", [](DoctorFacts& f) { f.memory_pressure = 50; }},
        {"memory", "warning", "", [](DoctorFacts& f) { f.memory_bytes = 0; }},
        {"clock", "warning", "chrony", [](DoctorFacts& f) { f.clock_synchronized = false; }},
        {"clock", "warning", "", [](DoctorFacts& f) { f.clock_synchronized.reset(); }},
        {"gpu", "warning", "vfio-pci",
         [](DoctorFacts& f) { f.gpu.found = {{"0000:01:00.0", "its driver is nvidia"}}; }},
    };
    for (const auto& ailment : ailments) {
        auto facts = good_host();
        ailment.make(facts);
        for (const auto& line : judge_host(facts)) {
            EXPECT_EQ(line.status, line.name == ailment.line ? ailment.status : "ok")
                << ailment.line << ": " << line.name;
            if (line.name == ailment.line) {
                EXPECT_THAT(line.advice, HasSubstr(ailment.advice));
            }
        }
    }
}

TEST(Doctor, TellsAnOrdinaryUserWhatIsMissing) {
    auto facts = good_host();
    facts.root = false;
    auto status = [&](const std::string& name) {
        for (const auto& line : judge_host(facts))
            if (line.name == name) return line.status + ": " + line.advice;
        return std::string();
    };
    EXPECT_THAT(status("uid-separation"), HasSubstr("run as root"));
    EXPECT_EQ(status("user-namespaces"), "ok: ");
    facts.user_namespaces_restricted = true;
    EXPECT_THAT(status("user-namespaces"), HasSubstr("unprivileged_userns_clone=1"));
    facts.user_namespaces = 0;
    EXPECT_THAT(status("user-namespaces"), HasSubstr("max_user_namespaces"));
    facts.user_namespaces.reset();
    EXPECT_EQ(status("user-namespaces"), "warning: run as root");
    facts.groups["cpu"] = {0, "", "/sys/fs/cgroup cannot be written"};
    EXPECT_THAT(status("cgroups"), HasSubstr("Delegate=yes"));
    facts.swaps = {"/dev/sda2"};
    EXPECT_EQ(status("swap"), "ok: ") << "the group of memory keeps guests out of it";
    facts.groups["memory"].version = 0;
    EXPECT_THAT(status("swap"), HasSubstr("swapoff"));
}

}  // namespace
}  // namespace infrastructure_sdk::qemu
