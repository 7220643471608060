// Each check as a pure function: what passes, and every way to fail.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <functional>

#include "support/isolation_scene.hpp"

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using test::Scene;
using testing::HasSubstr;
using Status = FindingStatus;

/// A finding with the sentence that people read.
void expect(const Finding& finding, Status status, const std::string& reason) {
    EXPECT_STREQ(name_of(finding.status()), name_of(status)) << finding.check().id << ": " << finding.reason();
    EXPECT_THAT(finding.reason(), HasSubstr(reason)) << finding.check().id;
}

void expect_failure(const char* check, const std::string& reason, const std::function<void(Scene&)>& spoil) {
    Scene scene;
    spoil(scene);
    auto finding = scene.judge(check);
    expect(finding, Status::fail, reason);
    EXPECT_FALSE(finding.evidence().empty()) << check << ": a failure shows what was seen";
}

TEST(IsolationChecks, AllTenPassInAnIsolatedVm) {
    Scene scene;
    EXPECT_EQ(isolation::checks().size(), 10u);
    for (const auto& check : isolation::checks()) {
        auto finding = scene.judge(check.definition.id);
        expect(finding, Status::pass, "");
        for (const auto& item : finding.evidence()) {
            EXPECT_EQ(item.check_id, check.definition.id);
            EXPECT_EQ(item.session_id, "a");
            EXPECT_EQ(item.instance_epoch, "boot/4711/99/uuid");
            EXPECT_EQ(item.sha256.size(), 64u);
            EXPECT_FALSE(item.locator.empty());
        }
    }
}

TEST(IsolationChecks, TheCatalogueIsOrderedUniqueAndComplete) {
    const auto& catalogue = check_catalogue();
    ASSERT_EQ(catalogue.size(), isolation::checks().size());
    for (std::size_t i = 0; i < catalogue.size(); ++i) {
        if (i > 0) {
            EXPECT_LT(std::string(catalogue[i - 1].id), catalogue[i].id);
        }
        for (const char* text : {catalogue[i].title, catalogue[i].root_cause, catalogue[i].fix, catalogue[i].controls})
            EXPECT_STRNE(text, "") << catalogue[i].id;
        EXPECT_FALSE(catalogue[i].facts.empty()) << catalogue[i].id;
        EXPECT_GE(catalogue[i].floor, Strength::e2) << catalogue[i].id;
    }
}

TEST(IsolationChecks, EvidenceIsCutBetweenCharacters) {
    Scene scene;
    std::string euros;
    for (int i = 0; i < 200; ++i) euros += "\xe2\x82\xac";
    scene["qom:/machine:dump-guest-core"] = true;
    scene["sys.core_pattern"] = "/" + euros;
    auto finding = scene.judge("MEM-06");
    ASSERT_EQ(finding.status(), Status::pass);
    const auto& excerpt = finding.evidence().back().excerpt;
    EXPECT_EQ(excerpt.size(), 499u);
    EXPECT_NO_THROW(json(excerpt).dump());
}

// ---- compute -------------------------------------------------------------------------------------------------------
TEST(CheckCmp01, FailsUnderEmulation) {
    expect_failure("CMP-01", "emulates", [](Scene& s) { s["qmp:query-kvm"]["enabled"] = false; });
}

TEST(CheckCmp01, FailsWhenQemuSaysKvmButHoldsNoVm) {
    expect_failure("CMP-01", "holds no KVM", [](Scene& s) { s["proc.files"][0]["target"] = "anon_inode:kvm-vcpu:0"; });
}

// ---- runtime -------------------------------------------------------------------------------------------------------
TEST(CheckRun01, FailsWhenAnyUidOfAnyThreadIsRoot) {
    expect_failure("RUN-01", "as root on 3 of 3 threads",
                   [](Scene& s) { s["proc.threads"] = std::vector(3, test::thread_status("0")); });
    expect_failure("RUN-01", "as root on 1 of 3 threads", [](Scene& s) {
        auto text = test::thread_status();
        s["proc.threads"][2] = text.replace(text.find("\t610001\nGid"), 7, "\t0");  // the file system uid alone
    });
}

TEST(CheckRun01, FailsOnACapabilityOfOneThreadAndToleratesLowPorts) {
    expect_failure("RUN-01", "capabilities on 1 of 3 threads",
                   [](Scene& s) { s["proc.threads"][1] = test::thread_status("610001", "0000000000200000"); });
    Scene scene;
    scene["proc.threads"][1] = test::thread_status("610001", "0000000000000400");
    EXPECT_EQ(scene.status("RUN-01"), Status::pass);
    scene["proc.threads"][1] = test::thread_status("610001", "0000000000000401");
    EXPECT_EQ(scene.status("RUN-01"), Status::fail);
}

TEST(CheckRun02, FailsWhenOneThreadHasNoFilterOrOnlyStrictMode) {
    for (const char* mode : {"0", "1"})
        expect_failure("RUN-02", "no filter on 1 of 3 threads",
                       [&](Scene& s) { s["proc.threads"][2] = test::thread_status("610001", "0", "1", mode); });
}

TEST(CheckRun03, FailsWhenOneThreadMayGainPrivileges) {
    expect_failure("RUN-03", "gained on 1 of 3 threads",
                   [](Scene& s) { s["proc.threads"][0] = test::thread_status("610001", "0", "0"); });
}

TEST(CheckRun07, FailsOnEveryKindOfCharacterDeviceOnTheNetwork) {
    for (const char* name :
         {"tcp:127.0.0.1:4444,server=on", "disconnected:tcp:0.0.0.0:4444,server=on <-> 10.0.0.1:5", "telnet:::5555",
          "disconnected:telnet:::5555", "tn3270:::1", "disconnected:tn3270:::1", "websocket:::2",
          "disconnected:websocket:::2", "udp", "udp:10.0.0.1:99", "vsock:3:5000", "disconnected:vsock:3:5000"})
        expect_failure("RUN-07", std::string("agent is on the network: ") + name,
                       [&](Scene& s) { s["qmp:query-chardev"][1]["filename"] = name; });
}

TEST(CheckRun07, PassesWithDevicesOfThisHostAndDoesNotGuessAboutOthers) {
    for (const char* name :
         {"unix:x", "disconnected:unix:x", "file", "pipe", "pty:/dev/pts/3", "null", "mux", "ringbuf", "vc"}) {
        Scene scene;
        scene["qmp:query-chardev"][1]["filename"] = name;
        EXPECT_EQ(scene.status("RUN-07"), Status::pass) << name;
    }
    for (const char* name : {"unknown", "fd:5", "spicevmc", "", "tcpdump", "unixoid:x"}) {
        Scene scene;
        scene["qmp:query-chardev"][1]["filename"] = name;
        expect(scene.judge("RUN-07"), Status::unknown, "it is not known who can reach character device agent");
    }
}

TEST(CheckRun07, FailsOnAListeningTcpSocket) {
    expect_failure("RUN-07", "it listens on TCP: socket:[1075]",
                   [](Scene& s) { s["proc.listeners"].push_back("socket:[1075]"); });
}

TEST(CheckRun07, FailsOnVncOnTheNetworkWithOrWithoutAPassword) {
    for (const char* auth : {"none", "vnc"})
        expect_failure("RUN-07", std::string("VNC is on the network, authentication ") + auth, [&](Scene& s) {
            s["qmp:query-vnc"] = {{"enabled", true}, {"family", "ipv4"}, {"host", "127.0.0.1"}, {"auth", auth}};
        });
    Scene scene;
    scene["qmp:query-vnc"] = {{"enabled", true}, {"family", "unix"}, {"auth", "none"}};
    EXPECT_EQ(scene.status("RUN-07"), Status::pass);
}

TEST(CheckRun07, FailsWhenOthersMayEnterTheDirectoryOfTheSockets) {
    for (unsigned mode : {0711u, 0750u, 0755u, 0707u, 01777u})
        expect_failure("RUN-07", "open to others", [&](Scene& s) { s["file.directory"][0]["mode"] = mode; });
}

// ---- storage -------------------------------------------------------------------------------------------------------
TEST(CheckSto03, FailsWhenAWritableDiskIsNotLocked) {
    expect_failure("STO-03", "/vms/a/disk.qcow2 is open for writing without a lock",
                   [](Scene& s) { s["proc.locks"] = ""; });
    // Only a POSIX lock, only somebody waiting, only another inode.
    for (const char* locks :
         {"1: POSIX  ADVISORY  WRITE 1 08:02:4711 0 EOF\n", "1: -> OFDLCK ADVISORY  WRITE -1 08:02:4711 0 EOF\n",
          "1: OFDLCK ADVISORY  READ  -1 08:02:47110 100 101\n"})
        expect_failure("STO-03", "without a lock", [&](Scene& s) { s["proc.locks"] = locks; });
    expect_failure("STO-03", "/vms/a/data.qcow2",
                   [](Scene& s) { s["proc.files"].push_back(test::open_file(22, "/vms/a/data.qcow2", 5000, true)); });
}

TEST(CheckSto03, DoesNotApplyWithoutAWritableDisk) {
    Scene scene;
    scene["proc.files"][2]["writable"] = false;
    expect(scene.judge("STO-03"), Status::not_applicable, "no writable disk");
}

TEST(CheckSto05, FailsOnOpenModesForeignOwnersAndAcls) {
    const char* names[] = {".", "disk.qcow2", "memory.state", "serial.log"};
    for (std::size_t i = 0; i < std::size(names); ++i) {
        auto name = std::string(names[i]);
        for (unsigned bit : {0040u, 0020u, 0010u, 0004u, 0002u, 0001u})
            expect_failure("STO-05", name + " is open to others",
                           [&](Scene& s) { s["file.directory"][i]["mode"] = (i == 0 ? 0700u : 0600u) | bit; });
        expect_failure("STO-05", name + " belongs to uid 610002",
                       [&](Scene& s) { s["file.directory"][i]["uid"] = 610002u; });
        expect_failure("STO-05", name + " has an ACL", [&](Scene& s) { s["file.directory"][i]["has_acl"] = true; });
    }
}

TEST(CheckSto05, LooksAtTheGuestsDataOnly) {
    Scene scene;
    scene["file.directory"].push_back(test::file_status("qmp.sock", 0777, 0));
    EXPECT_EQ(scene.status("STO-05"), Status::pass);
}

// ---- memory --------------------------------------------------------------------------------------------------------
TEST(CheckMem01, FailsWhenPagesAreMergedOrMayBe) {
    expect_failure("MEM-01", "17 of its pages are merged", [](Scene& s) { s["proc.ksm"] = test::ksm_stat("17"); });
    for (const char* run : {"0\n", "1\n"}) {
        expect_failure("MEM-01", "marked for merging", [&](Scene& s) {
            s["proc.ksm"] = test::ksm_stat("0", "yes", "no");
            s["sys.ksm_run"] = run;
        });
        expect_failure("MEM-01", "marked for merging", [&](Scene& s) {
            s["proc.ksm"] = test::ksm_stat("0", "no", "yes");
            s["sys.ksm_run"] = run;
        });
    }
}

TEST(CheckMem06, PassesWithoutGuestMemoryInTheDumpOrWithoutDumps) {
    Scene scene;
    scene["proc.limits"] = test::limits("unlimited");
    scene["sys.core_pattern"] = "|/usr/lib/systemd/systemd-coredump";
    EXPECT_EQ(scene.status("MEM-06"), Status::pass);  // dump-guest-core is off
    scene["qom:/machine:dump-guest-core"] = true;
    EXPECT_EQ(scene.status("MEM-06"), Status::fail);
    scene["proc.limits"] = test::limits("0");
    scene["sys.core_pattern"] = "/var/crash/core.%p\n";
    EXPECT_EQ(scene.status("MEM-06"), Status::pass);
}

TEST(CheckMem06, FailsWhenACrashWouldWriteGuestMemory) {
    struct Row {
        const char *limit, *pattern;
    };
    // A limit of zero does not stop a pipe or a socket.
    for (auto row : {Row{"unlimited", "core\n"}, Row{"1024", "core\n"}, Row{"0", "|/bin/handler"},
                     Row{"0", "@/run/dump.sock"}, Row{"0", "@@/run/dump.sock"}})
        expect_failure("MEM-06", "a crash would write guest memory", [&](Scene& s) {
            s["qom:/machine:dump-guest-core"] = true;
            s["proc.limits"] = test::limits(row.limit);
            s["sys.core_pattern"] = row.pattern;
        });
}

// ---- network -------------------------------------------------------------------------------------------------------
TEST(CheckNet12, FailsOnAnAddressThatAnotherSessionHas) {
    expect_failure("NET-12", "session c has the same address",
                   [](Scene& s) { s["neighbours.macs"][1]["macs"].push_back("52:54:00:aa:bb:cc"); });
    expect_failure("NET-12", "session c has the same address",
                   [](Scene& s) { s["neighbours.macs"][1]["macs"] = {"52:54:00:AA:BB:CC"}; });
    expect_failure("NET-12", "session b has the same address", [](Scene& s) {
        s["neighbours.macs"][0]["macs"] = {"52:54:00:aa:bb:cc"};
        s["neighbours.macs"][1] = {{"session", "c"}, {"could_not_look", "refused"}};  // enough was seen
    });
    expect_failure("NET-12", "session b has the same address", [](Scene& s) {  // the second of two devices
        s["qmp:query-rx-filter"].push_back({{"name", "net1"}, {"main-mac", "52:54:00:aa:bb:cd"}});
    });
}

TEST(CheckNet12, FailsOnTheAddressThatQemuGivesEverybody) {
    for (const char* mac : {"52:54:00:12:34:56", "52:54:00:12:34:57"}) {
        Scene scene;
        scene["qmp:query-rx-filter"][0]["main-mac"] = mac;
        EXPECT_EQ(scene.status("NET-12"), mac == std::string("52:54:00:12:34:56") ? Status::fail : Status::pass) << mac;
    }
}

TEST(CheckNet12, DoesNotApplyWithoutANetworkDevice) {
    Scene scene;
    scene["qmp:query-rx-filter"] = json::array();
    expect(scene.judge("NET-12"), Status::not_applicable, "no network device");
}

}  // namespace
}  // namespace infrastructure_sdk
