// The diagonal: of a scene in which every check is settled, one property is changed; that fails its check, and no other
// check but the declared companions changes.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <set>

#include "support/isolation_scene.hpp"

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using test::Scene;
using Status = FindingStatus;

struct Fault {
    std::string check;
    std::string what;
    std::function<void(Scene&)> seed;
    std::set<std::string> companions{};
};

/// Both the attempt went through.
void reach(Scene& scene, const std::string& probe) { scene[probe]["attempts"][0]["received"] = true; }

void on_every_thread(Scene& scene, const std::string& from, const std::string& to) {
    for (auto& text : scene["proc.threads"]) {
        auto changed = text.get<std::string>();
        changed.replace(changed.find(from), from.size(), to);
        text = changed;
    }
}

std::vector<Fault> compute_faults() {
    return {
        {"CMP-01", "emulation", [](Scene& s) { s["qmp:query-kvm"]["enabled"] = false; }},
        {"CMP-01", "no virtual machine", [](Scene& s) { s["proc.files"][0]["target"] = "anon_inode:kvm-vcpu"; }},
        {"CMP-02", "a core with a neighbour",
         [](Scene& s) {
             on_every_thread(s, "list:\t0-1", "list:\t0-2");
             s["proc.core_cookies"] = {0u, 0u};
         }},
        {"CMP-03", "no mitigation", [](Scene& s) { s["sys.vulnerabilities"]["mds"] = "Vulnerable: no microcode"; }},
        {"CMP-03", "open siblings",
         [](Scene& s) { s["sys.vulnerabilities"]["mds"] = "Mitigation: Clear CPU buffers; SMT vulnerable"; }},
        {"CMP-04", "no limit", [](Scene& s) { s["cgroup.cpu"][0]["quota_us"] = nullptr; }},
        {"CMP-04", "a limit far above", [](Scene& s) { s["cgroup.cpu"][0]["quota_us"] = 900000u; }},
        {"CMP-05", "no limit", [](Scene& s) { s["cgroup.pids"][0]["limit"] = nullptr; }},
        {"CMP-05", "a high limit", [](Scene& s) { s["cgroup.pids"][0]["limit"] = 4097u; }},
        {"CMP-06", "not alone", [](Scene& s) { s["process.promises"]["exclusive"] = true; }},
        {"CMP-07", "no IOMMU", [](Scene& s) { s["proc.files"][2]["target"] = "/dev/vfio/noiommu-0"; }},
        {"CMP-07", "a shared group",
         [](Scene& s) { s.neighbours[1]["proc.files"].push_back(test::open_thing(30, "/dev/vfio/0")); }},
        {"CMP-08", "counters", [](Scene& s) { s["qom:/machine/unattached/device[0]:pmu"] = true; }},
    };
}

std::vector<Fault> network_faults() {
    const char* open =
        "net0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:aa:bb:c0\r\n"
        " \\ net0: index=0,type=user,net=10.0.2.0,restrict=off\r\n";
    auto rule = [](const char* side) {
        json match{{"match", {{"op", "=="}, {"left", {{"meta", {{"key", side}}}}}, {"right", "tap0"}}}};
        json accept{{"accept", nullptr}};
        return json{
            {"rule", {{"family", "bridge"}, {"table", "isdk"}, {"chain", "forward"}, {"expr", {match, accept}}}}};
    };
    return {
        {"NET-01", "to the guest", [=](Scene& s) { s["nft.ruleset"]["nftables"].push_back(rule("oifname")); }},
        {"NET-02", "from the guest", [=](Scene& s) { s["nft.ruleset"]["nftables"].push_back(rule("iifname")); }},
        {"NET-02", "no rule", [](Scene& s) { s["nft.ruleset"] = test::ruleset("accept"); }, {"NET-01"}},
        {"NET-03", "not enforced", [](Scene& s) { reach(s, "probe.gate"); }, {"NET-04", "NET-05", "NET-07", "NET-11"}},
        {"NET-04", "another guest", [](Scene& s) { reach(s, "probe.guests"); }},
        {"NET-05", "metadata", [](Scene& s) { reach(s, "probe.metadata"); }},
        {"NET-07", "a service of the host", [](Scene& s) { reach(s, "probe.host"); }},
        {"NET-07", "open user network", [=](Scene& s) { s["hmp:info network"] = open; }, {"NET-01", "NET-02"}},
        {"NET-08", "the host's network", [](Scene& s) { s["proc.namespaces"]["net"] = 1u; }},
        {"NET-08", "the network of the process that looks",
         [](Scene& s) {
             s["sys.our_namespaces"] = s["sys.init_namespaces"];
             s["sys.our_namespaces"]["net"] = 1000u;
         }},
        {"NET-08", "a neighbour's network", [](Scene& s) { s["proc.namespaces"]["net"] = 1002u; }},
        {"NET-09", "a second network",
         [](Scene& s) {
             auto text = s["hmp:info network"].get<std::string>();
             s["hmp:info network"] = text + "net1: index=0,type=tap,ifname=tap9\r\n";
         }},
        {"NET-10", "an open port", [](Scene& s) { s["sys.taps"][0]["isolated"] = false; }},
        {"NET-10", "a reflecting port", [](Scene& s) { s["sys.taps"][0]["hairpin"] = true; }},
        {"NET-11", "a forged frame", [](Scene& s) { reach(s, "probe.spoofing"); }},
        {"NET-12", "a neighbour's address",
         [](Scene& s) { s["qmp:query-rx-filter"][0]["main-mac"] = "52:54:00:AA:BB:C2"; }},
        {"NET-12", "the default address",
         [](Scene& s) { s["qmp:query-rx-filter"][0]["main-mac"] = "52:54:00:12:34:56"; }},
        {"NET-13", "a forwarded port",
         [](Scene& s) { s["hmp:info usernet"] = "  TCP[HOST_FORWARD]  11  127.0.0.1 34567  10.0.2.15 22 0 0\r\n"; }},
        {"NET-13",
         "a listener for everybody",
         [](Scene& s) { s["proc.sockets"]["tcp"] = {{{"address", "0.0.0.0"}, {"port", 5900u}}}; },
         {"RUN-07"}},
    };
}

std::vector<Fault> storage_faults() {
    return {
        {"STO-01", "a hard link", [](Scene& s) { s.neighbours[1]["proc.files"][4]["inode"] = 100u; }},
        {"STO-02", "a writable base", [](Scene& s) { s["proc.files"][3]["mode"] = 0644u; }},
        {"STO-02", "a changed base", [](Scene& s) { s["file.digests"][0]["actual"] = "d2"; }},
        {"STO-03", "no lock", [](Scene& s) { s["proc.files"][4]["locks"] = 0u; }},
        {"STO-04", "a foreign backing file",
         [](Scene& s) { s["qmp:query-named-block-nodes"][1]["image"]["backing-filename"] = "/etc/shadow"; }},
        {"STO-04", "a foreign data file",
         [](Scene& s) {
             s["qmp:query-named-block-nodes"][1]["image"]["format-specific"]["data"]["data-file"] = "../b/disk.img";
         }},
        {"STO-05", "a disk for everybody", [](Scene& s) { s["proc.files"][4]["mode"] = 0644u; }},
        {"STO-05", "an open folder", [](Scene& s) { s["file.directory"][0]["mode"] = 0755u; }},
        {"STO-06",
         "a shared folder",
         [](Scene& s) { s["qomlist:/machine/peripheral"].push_back({{"type", "child<virtio-9p-pci>"}}); },
         {"RUN-12"}},
        {"STO-06", "a folder as a disk", [](Scene& s) { s["qmp:query-named-block-nodes"][1]["drv"] = "vvfat"; }, {}},
        {"STO-07", "no encryption",
         [](Scene& s) {
             s["qmp:query-named-block-nodes"][1]["drv"] = "qcow2";
             s["qmp:query-named-block-nodes"][1]["encrypted"] = false;
             s["proc.files"][4]["encryption"] = "";
         }},
        {"STO-08", "a neighbour's image",
         [](Scene& s) { s.neighbours[0]["process.paths"]["vm_directory"] = "/images/base"; }},
        {"STO-09", "leftovers", [](Scene& s) { reach(s, "probe.leftovers"); }},
    };
}

std::vector<Fault> runtime_faults() {
    return {
        {"RUN-01", "a capability", [](Scene& s) { on_every_thread(s, "CapEff:\t0000000000000000", "CapEff:\t1"); }},
        {"RUN-02", "no filter", [](Scene& s) { on_every_thread(s, "Seccomp:\t2", "Seccomp:\t0"); }},
        {"RUN-03", "privileges", [](Scene& s) { on_every_thread(s, "NoNewPrivs:\t1", "NoNewPrivs:\t0"); }},
        {"RUN-04", "no label", [](Scene& s) { s["proc.label"] = ""; }},
        {"RUN-04", "unconfined", [](Scene& s) { s["proc.label"] = "unconfined\n"; }},
        {"RUN-04", "a neighbour's label", [](Scene& s) { s["proc.label"] = "libvirt-1 (enforce)\n"; }},
        {"RUN-05", "the host's mounts", [](Scene& s) { s["proc.namespaces"]["mnt"] = 1u; }},
        {"RUN-05", "the mounts of the process that looks",
         [](Scene& s) {
             s["sys.our_namespaces"] = s["sys.init_namespaces"];
             s["sys.our_namespaces"]["mnt"] = 1000u;
         }},
        {"RUN-06", "a token", [](Scene& s) { s["proc.environ"].push_back("API_TOKEN"); }},
        {"RUN-06", "a key", [](Scene& s) { s["proc.files"].push_back(test::open_file(40, "/root/.ssh/id", 9, "w")); }},
        {"RUN-07", "a TCP monitor",
         [](Scene& s) { s["qmp:query-chardev"][0]["filename"] = "tcp:127.0.0.1:4444,server=on"; }},
        {"RUN-07", "an open socket",
         [](Scene& s) {
             s["proc.sockets"]["unix"][0]["mode"] = 0755u;
             s["proc.sockets"]["unix"][0]["folder_mode"] = 0755u;
         }},
        {"RUN-07", "an abstract socket", [](Scene& s) { s["proc.sockets"]["unix"][0]["path"] = "@qmp"; }},
        {"RUN-08", "another user", [](Scene& s) { reach(s, "probe.sockets"); }},
        {"RUN-09", "a weak start", [](Scene& s) { reach(s, "probe.admission"); }},
        {"RUN-10", "an old QEMU",
         [](Scene& s) { s["qmp:query-version"] = {{"qemu", {{"major", 8u}, {"minor", 2u}, {"micro", 2u}}}}; }},
        {"RUN-11", "a neighbour's keys", [](Scene& s) { s["agent.identity"]["host_keys"] = {"k2"}; }},
        {"RUN-12", "a device", [](Scene& s) { s["qmp:query-pci"][0]["devices"][0]["id"]["device"] = 0x100eu; }},
        {"RUN-12", "a socket to the host",
         [](Scene& s) { s["proc.files"].push_back(test::open_thing(41, "/dev/vhost-vsock")); }},
    };
}

std::vector<Fault> memory_faults() {
    return {
        {"MEM-01", "merge-any", [](Scene& s) { s["proc.ksm"] = test::ksm_stat("0", "yes", "no"); }},
        {"MEM-02", "a neighbour's memory",
         [](Scene& s) {
             s.neighbours[1]["proc.maps"][0]["inode"] = 300u;
             s.neighbours[1]["proc.maps"][0]["huge"] = false;
         }},
        {"MEM-03", "a neighbour's uid",
         [](Scene& s) {
             s["sys.ptrace_scope"] = "absent";
             s.neighbours[1]["proc.threads"] = std::vector(3, test::thread_status("610001", "0", "1", "2", "2-3"));
         }},
        {"MEM-04", "no limit", [](Scene& s) { s["cgroup.memory"] = json::array(); }},
        {"MEM-05", "swapped", [](Scene& s) { on_every_thread(s, "VmSwap:\t       0", "VmSwap:\t      99"); }},
        {"MEM-05", "may be swapped", [](Scene& s) { s["cgroup.swap"] = json::array(); }},
        {"MEM-06", "a core dump",
         [](Scene& s) {
             s["qom:/machine:dump-guest-core"] = true;
             s["proc.limits"] = test::limits("unlimited");
         }},
        {"MEM-07", "no limit", [](Scene& s) { s["cgroup.hugetlb"][0]["limit"] = nullptr; }},
        {"MEM-08", "not encrypted", [](Scene& s) { s["qmp:query-sev"]["state"] = "uninit"; }},
    };
}

std::vector<Fault> all_faults() {
    std::vector<Fault> all;
    for (auto part : {compute_faults, network_faults, storage_faults, runtime_faults, memory_faults})
        for (auto& fault : part()) all.push_back(std::move(fault));
    return all;
}

std::map<std::string, Status> statuses(const Scene& scene) {
    std::map<std::string, Status> found;
    auto facts = scene.facts();
    for (const auto& check : isolation::checks()) found[check.definition.id] = isolation::judge(check, facts).status();
    return found;
}

TEST(IsolationTwins, InTheGoodSceneEveryCheckIsSettled) {
    Scene scene;
    EXPECT_EQ(isolation::checks().size(), 50u);
    for (const auto& check : isolation::checks()) {
        auto finding = scene.judge(check.definition.id);
        // Both depend on what a local VM does not have: a class of its own host, and a cluster.
        bool absent = std::string(check.definition.id) == "CMP-06" || std::string(check.definition.id) == "NET-06";
        EXPECT_STREQ(name_of(finding.status()), absent ? "not_applicable" : "pass")
            << check.definition.id << ": " << finding.reason();
    }
}

TEST(IsolationTwins, EveryFaultFailsItsCheckAndNoneButTheDeclaredCompanions) {
    const auto before = statuses(Scene());
    for (const auto& fault : all_faults()) {
        Scene scene;
        fault.seed(scene);
        auto after = statuses(scene);
        auto name = fault.check + " " + fault.what;
        EXPECT_STREQ(name_of(after[fault.check]), "fail") << name << ": " << scene.judge(fault.check).reason();
        for (const auto& [check, status] : after) {
            bool expected = check == fault.check || fault.companions.contains(check);
            EXPECT_EQ(status != before.at(check), expected)
                << name << " and " << check << " " << name_of(status) << ": " << scene.judge(check).reason();
        }
    }
}

TEST(IsolationTwins, EveryCheckHasAFault) {
    std::set<std::string> faulty;
    for (const auto& fault : all_faults()) faulty.insert(fault.check);
    for (const auto& check : isolation::checks())
        // A local VM belongs to no cluster, whatever is changed of it.
        EXPECT_EQ(faulty.contains(check.definition.id), std::string(check.definition.id) != "NET-06")
            << check.definition.id;
}

TEST(IsolationTwins, EveryCheckDeclaresWhereItsEvidenceOnAClusterIs) {
    const std::string neighbours = "neighbours:";
    for (const auto& check : isolation::checks()) {
        const auto& names = check.definition.kubernetes_facts;
        EXPECT_FALSE(names.empty()) << check.definition.id;
        for (auto name : names) {
            if (name.starts_with(neighbours)) name.erase(0, neighbours.size());
            bool known = false;
            for (const char* place : {"k8s:", "exec:", "agent:", "probe."})
                known = known || (name.starts_with(place) && name != place);
            EXPECT_TRUE(known) << check.definition.id << " reads " << name;
        }
        // Behaviour is tried there too, or somebody else is asked who may.
        bool tried = std::any_of(names.begin(), names.end(), [](const auto& name) {
            return name.starts_with("probe.") || name == "k8s:subjectaccessreview";
        });
        EXPECT_TRUE(check.definition.floor < Strength::e4 || tried) << check.definition.id;
    }
}

TEST(IsolationTwins, OnAClusterNothingIsDecidedUntilSomebodyCollectsThere) {
    // Whatever is true of the VM: what local collectors saw proves nothing there.
    std::vector<Scene> scenes(1);
    for (const auto& fault : all_faults()) {
        Scene spoilt;
        fault.seed(spoilt);
        scenes.push_back(std::move(spoilt));
    }
    for (auto& scene : scenes) {
        scene.platform = "kubernetes";
        for (const auto& check : isolation::checks()) {
            auto finding = scene.judge(check.definition.id);
            EXPECT_EQ(finding.status(), Status::unknown) << check.definition.id;
            for (const auto& name : check.definition.kubernetes_facts)
                EXPECT_THAT(finding.reason(), testing::HasSubstr(name)) << check.definition.id;
            EXPECT_TRUE(finding.evidence().empty()) << check.definition.id;
        }
    }
}

TEST(IsolationTwins, OnAnUnknownPlatformNothingIsDecidedEither) {
    Scene scene;
    scene.platform = "elsewhere";
    for (const auto& check : isolation::checks()) {
        auto finding = scene.judge(check.definition.id);
        EXPECT_EQ(finding.status(), Status::unknown) << check.definition.id;
        EXPECT_THAT(finding.reason(), testing::HasSubstr("elsewhere")) << check.definition.id;
    }
}

}  // namespace
}  // namespace infrastructure_sdk
