// Each check as a pure function: what passes, and every way to fail.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <functional>

#include "isolation/packet_rules.hpp"
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

TEST(IsolationChecks, ShowEvidenceOfTheVmThatWasLookedAt) {
    Scene scene;
    for (const auto& check : isolation::checks()) {
        auto finding = scene.judge(check.definition.id);
        EXPECT_FALSE(finding.evidence().empty());
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
        for (const char* text : {catalogue[i].title, catalogue[i].root_cause, catalogue[i].fix, catalogue[i].controls,
                                 catalogue[i].meaning})
            EXPECT_STRNE(text, "") << catalogue[i].id;
        EXPECT_FALSE(catalogue[i].facts.empty()) << catalogue[i].id;
        EXPECT_GE(catalogue[i].floor, Strength::e1) << catalogue[i].id;
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

TEST(CheckRun07, FailsOnAListeningTcpSocketThatLeadsNotIntoTheGuest) {
    auto listen = [](Scene& s) { s["proc.sockets"]["tcp"].push_back({{"address", "127.0.0.1"}, {"port", 4444u}}); };
    expect_failure("RUN-07", "it listens on TCP 127.0.0.1:4444", listen);
    Scene scene;
    listen(scene);
    scene["hmp:info usernet"] = "  TCP[HOST_FORWARD]  11  127.0.0.1 4444  10.0.2.15 22 0 0\r\n";
    EXPECT_EQ(scene.status("RUN-07"), Status::pass);
    scene.deny("hmp:info usernet", "refused");
    EXPECT_EQ(scene.status("RUN-07"), Status::unknown);
}

TEST(CheckRun07, DoesNotPassWithSocketsThatNobodyKnows) {
    Scene strange, lost;
    strange["proc.sockets"]["strange"] = 1u;
    expect(strange.judge("RUN-07"), Status::unknown, "1 sockets are of no known kind");
    lost["proc.sockets"]["unix"][0]["mode"] = nullptr;
    expect(lost.judge("RUN-07"), Status::unknown, "the file of qmp.sock was not found");
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

TEST(CheckRun07, FailsWhenOthersMayOpenASocket) {
    for (unsigned mode : {0711u, 0750u, 0755u, 0707u, 01777u})
        expect_failure("RUN-07", "socket qmp.sock is open to others", [&](Scene& s) {
            s["proc.sockets"]["unix"][0]["mode"] = mode;
            s["proc.sockets"]["unix"][0]["folder_mode"] = mode;
        });
    // One closed door is enough.
    for (const char* key : {"mode", "folder_mode"}) {
        Scene scene;
        scene["proc.sockets"]["unix"][0][key] = 0777u;
        EXPECT_EQ(scene.status("RUN-07"), Status::pass) << key;
    }
}

// ---- storage -------------------------------------------------------------------------------------------------------
TEST(CheckSto03, FailsWhenAnyWritableDiskIsNotLockedWhateverItsName) {
    expect_failure("STO-03", "/vms/a/disk.img is open for writing without a lock",
                   [](Scene& s) { s["proc.files"][4]["locks"] = 0u; });
    expect_failure("STO-03", "/dev/vg/data", [](Scene& s) {
        auto disk = test::open_file(22, "/dev/vg/data", 0, "rw");
        disk["kind"] = "block";
        disk["device"] = 99u;
        s["proc.files"].push_back(disk);
    });
    // A lock on the same inode of another device is not on this disk.
    expect_failure("STO-03", "/vms/a/data", [](Scene& s) {
        auto other = test::open_file(22, "/vms/a/data", 100, "rw");
        other["device"] = 15u;
        s["proc.files"].push_back(other);
    });
    // Through which descriptor of one disk it is locked does not matter.
    Scene twice;
    twice["proc.files"].push_back(test::open_file(22, "/vms/a/disk.img", 100, "rw"));
    EXPECT_EQ(twice.status("STO-03"), Status::pass);
}

TEST(CheckSto03, DoesNotTakeLogsAndMemoryForDisks) {
    Scene scene;
    scene["proc.files"][4]["access"] = "r";
    expect(scene.judge("STO-03"), Status::not_applicable, "no writable disk");
    auto memory = test::open_file(22, "/dev/shm/ram", 9, "rw");
    memory["mapped"] = true;
    scene["proc.files"].push_back(memory);
    scene["proc.files"].push_back(test::open_file(2, "/tmp/terminal", 9, "rw"));
    EXPECT_EQ(scene.status("STO-03"), Status::not_applicable);
}

TEST(CheckSto05, FailsOnOpenModesForeignOwnersAndAcls) {
    for (std::size_t i = 0; i < 3; ++i) {
        auto name = Scene()["file.directory"][i]["name"].get<std::string>();
        for (unsigned bit : {0040u, 0020u, 0010u, 0004u, 0002u, 0001u})
            expect_failure("STO-05", name + " is open to others",
                           [&](Scene& s) { s["file.directory"][i]["mode"] = (i == 0 ? 0700u : 0600u) | bit; });
        expect_failure("STO-05", name + " belongs to uid 610002",
                       [&](Scene& s) { s["file.directory"][i]["uid"] = 610002u; });
        expect_failure("STO-05", name + " has an ACL", [&](Scene& s) { s["file.directory"][i]["has_acl"] = true; });
    }
    // A disk may lie elsewhere and have any name.
    expect_failure("STO-05", "/vms/a/disk.img belongs to uid 5", [](Scene& s) { s["proc.files"][4]["uid"] = 5u; });
    expect_failure("STO-05", "the folder of /vms/a/disk.img is open to others",
                   [](Scene& s) { s["proc.files"][4]["folder"]["mode"] = 0711u; });
}

TEST(CheckSto05, TakesRootsFilesAsClosedAndLeavesSocketsToAnotherCheck) {
    Scene scene;
    scene["file.directory"].push_back(test::file_status("agent.sock", 0777, 0));
    scene["file.directory"].push_back(test::file_status("qemu.log", 0600, 0));
    EXPECT_EQ(scene.status("STO-05"), Status::pass);
    scene["file.directory"] = {{"declared", false}};  // then the disks alone decide
    EXPECT_EQ(scene.status("STO-05"), Status::pass);
    scene["proc.files"][4]["folder"] = nullptr;
    EXPECT_EQ(scene.status("STO-05"), Status::unknown);
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
    for (const char* mac : {"52:54:00:aa:bb:c0", "52:54:00:AA:BB:C0"})
        expect_failure("NET-12", "session c has the same address",
                       [&](Scene& s) { s.neighbours[1]["qmp:query-rx-filter"].push_back({{"main-mac", mac}}); });
    // A card of a model without filters is listed by the other command only.
    expect_failure("NET-12", "session c has the same address", [](Scene& s) {
        s.neighbours[1]["hmp:info network"] = "e1000.0: index=0,type=nic,model=e1000,macaddr=52:54:00:aa:bb:c0\r\n";
    });
    expect_failure("NET-12", "session b has the same address", [](Scene& s) {
        s.neighbours[0]["qmp:query-rx-filter"][0]["main-mac"] = "52:54:00:aa:bb:c0";
        s.neighbours[1].erase("qmp:query-rx-filter");  // enough was seen
    });
}

TEST(CheckNet12, IsUnknownWhenOneNeighbourCouldNotBeSeen) {
    Scene scene;
    scene.neighbours[1]["qmp:query-rx-filter"] = {{{"main-mac", "not a mac"}}};
    expect(scene.judge("NET-12"), Status::unknown, "a neighbour could not be looked at: c");
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
    EXPECT_EQ(scene.status("NET-12"), Status::pass);  // the other command lists one
    scene["hmp:info network"] = "";
    expect(scene.judge("NET-12"), Status::not_applicable, "no network device");
}

TEST(IsolationNetwork, AFilterOfAProbeIsKnownAndAnotherIsNot) {
    Scene scene;
    auto filter = [](const std::string& name, const std::string& type = "filter-mirror") {
        return "e1000.0: index=0,type=nic,model=e1000,macaddr=52:54:00:aa:bb:c1\r\n"
               " \\ net0: index=0,type=user,net=10.0.2.0,restrict=on\r\n"
               "filters:\r\n"
               "  - " +
               name + ": type=" + type +
               ",vnet_hdr_support=true,outdev=probe-sent,position=tail,status=on,queue=rx\r\n";
    };
    scene["hmp:info network"] = filter("probe-sent-filter");
    expect(scene.judge("NET-09"), Status::pass, "");
    scene["hmp:info network"] = filter("tap");
    expect(scene.judge("NET-09"), Status::unknown, "who gets the frames of filter tap (filter-mirror)");
    for (auto [name, type] : {std::pair("probe-x", "filter-mirror"), std::pair("probe-sent-filter", "filter-dump")}) {
        scene["hmp:info network"] = filter(name, type);
        expect(scene.judge("NET-09"), Status::unknown, name);
    }
}

// ---- packet filters ------------------------------------------------------------------------------------------------
TEST(PacketRules, AreReadNarrowly) {
    using isolation::Default;
    EXPECT_EQ(isolation::nft_default(test::ruleset(), "tap0", true), Default::denied);
    EXPECT_EQ(isolation::nft_default(test::ruleset("accept"), "tap0", true), Default::none);
    EXPECT_EQ(isolation::nft_default(json::object(), "tap0", true), Default::unclear);
    // What stops IPv4 alone stops half.
    auto of_family = [](const std::string& family) {
        auto rules = test::ruleset();
        for (auto& item : rules["nftables"]) item.begin().value()["family"] = family;
        return rules;
    };
    EXPECT_EQ(isolation::nft_default(of_family("inet"), "tap0", true), Default::denied);
    auto both = of_family("ip");
    EXPECT_EQ(isolation::nft_default(both, "tap0", true), Default::none);
    const auto second = of_family("ip6");
    for (const auto& item : second["nftables"]) both["nftables"].push_back(item);
    EXPECT_EQ(isolation::nft_default(both, "tap0", true), Default::denied);
    auto with = [](json expressions) {
        auto rules = test::ruleset();
        rules["nftables"].push_back(
            {{"rule",
              {{"family", "bridge"}, {"table", "isdk"}, {"chain", "forward"}, {"expr", std::move(expressions)}}}});
        return rules;
    };
    auto name = [](const char* key, const char* value) {
        return json{{"match", {{"op", "=="}, {"left", {{"meta", {{"key", key}}}}}, {"right", value}}}};
    };
    const json accept{{"accept", nullptr}}, jump{{"jump", {{"target", "x"}}}};
    // Accepts everything; accepts everything of this tap; of another; between two named ones; sends elsewhere.
    EXPECT_EQ(isolation::nft_default(with({accept}), "tap0", true), Default::none);
    EXPECT_EQ(isolation::nft_default(with({name("oifname", "tap0"), accept}), "tap0", true), Default::none);
    EXPECT_EQ(isolation::nft_default(with({name("oifname", "tap1"), accept}), "tap0", true), Default::denied);
    EXPECT_EQ(isolation::nft_default(with({name("iifname", "tap1"), accept}), "tap0", true), Default::unclear);
    EXPECT_EQ(isolation::nft_default(with({jump}), "tap0", true), Default::unclear);
    const std::string drop = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n", pass = "*filter\n:FORWARD ACCEPT [0:0]\n";
    const std::string then = std::string(isolation::ipv6_part) + "\n";
    EXPECT_EQ(isolation::iptables_default(drop + then + drop), Default::denied);
    EXPECT_EQ(isolation::iptables_default(drop + then + pass), Default::none);
    EXPECT_EQ(isolation::iptables_default(pass + then + drop), Default::none);
    EXPECT_EQ(isolation::iptables_default(drop + then), Default::none) << "no rule of IPv6";
    EXPECT_EQ(isolation::iptables_default(drop), Default::unclear) << "IPv6 was not looked at";
    EXPECT_EQ(isolation::iptables_default("*filter\n:FORWARD DROP [0:0]\n-A FORWARD -j ACCEPT\n"), Default::unclear);
    EXPECT_EQ(isolation::iptables_default("*nat\n:FORWARD DROP [0:0]\n"), Default::none);
    EXPECT_EQ(isolation::iptables_default(""), Default::none);
}

}  // namespace
}  // namespace infrastructure_sdk
