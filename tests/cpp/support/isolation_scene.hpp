#pragma once
// Everything the checks look at, of a VM that is isolated and of two neighbours; a test changes one thing of it.

#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "isolation/facts.hpp"

namespace infrastructure_sdk::test {

inline std::string thread_status(const std::string& uid = "610001", const std::string& cap_eff = "0000000000000000",
                                 const std::string& no_new_privs = "1", const std::string& seccomp = "2",
                                 const std::string& cpus = "0-1") {
    return "Name:\tqemu-system-x86\nUmask:\t0077\nTgid:\t4711\nPid:\t4711\nUid:\t" + uid + "\t" + uid + "\t" + uid +
           "\t" + uid + "\nGid:\t610001\t610001\t610001\t610001\nVmSwap:\t       0 kB\nHugetlbPages:\t    2048 kB\n" +
           "Cpus_allowed_list:\t" + cpus + "\nThreads:\t3\nCapInh:\t0000000000000000\nCapPrm:\t" + cap_eff +
           "\nCapEff:\t" + cap_eff + "\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t" +
           no_new_privs + "\nSeccomp:\t" + seccomp + "\nSeccomp_filters:\t1\n";
}

inline std::string ksm_stat(const std::string& merging_pages = "0", const std::string& merge_any = "no",
                            const std::string& mergeable = "no") {
    return "ksm_rmap_items 0\nksm_zero_pages 0\nksm_merging_pages " + merging_pages +
           "\nksm_process_profit 0\nksm_merge_any: " + merge_any + "\nksm_mergeable: " + mergeable + "\n";
}

inline std::string limits(const std::string& core_soft) {
    return "Limit                     Soft Limit           Hard Limit           Units     \n"
           "Max stack size            8388608              unlimited            bytes     \n"
           "Max core file size        " +
           core_soft +
           "                    unlimited            bytes     \n"
           "Max open files            1024                 524288               files     \n";
}

/// A descriptor of what is no file.
inline nlohmann::json open_thing(unsigned fd, std::string target, std::string kind = "other",
                                 std::string interface = "") {
    return {{"fd", fd},
            {"target", std::move(target)},
            {"kind", std::move(kind)},
            {"device", 14u},
            {"inode", 7u},
            {"access", "rw"},
            {"mapped", false},
            {"interface", std::move(interface)}};
}

inline nlohmann::json open_file(unsigned fd, std::string target, std::uint64_t inode, std::string access,
                                unsigned locks = 0, unsigned mode = 0600, unsigned uid = 610001) {
    auto file = open_thing(fd, std::move(target), "file");
    file["inode"] = inode;
    file["access"] = std::move(access);
    file["mode"] = mode;
    file["uid"] = uid;
    file["has_acl"] = false;
    file["locks"] = locks;
    file["encryption"] = "";
    file["folder"] = {{"mode", 0700u}, {"uid", uid}, {"has_acl", false}};
    return file;
}

inline nlohmann::json file_status(std::string name, unsigned mode, unsigned uid = 610001, bool has_acl = false) {
    std::string kind = name == "." ? "folder" : name.ends_with(".sock") ? "socket" : "file";
    return {{"name", std::move(name)}, {"kind", kind}, {"mode", mode}, {"uid", uid}, {"has_acl", has_acl}};
}

/// An attempt that was stopped, seen from both sides.
inline nlohmann::json stopped_attempt(const std::string& target) {
    return {{"attempts",
             {{{"target", target},
               {"control", true},
               {"left_port", true},
               {"received", false},
               {"answer", "none"},
               {"attempts", 3u},
               {"drops", 3u}}}}};
}

/// Denies by default what is forwarded, and accepts what belongs to a connection.
inline nlohmann::json ruleset(const char* policy = "drop") {
    return nlohmann::json::parse(
        R"({"nftables":[{"chain":{"family":"bridge","table":"isdk","name":"forward","hook":"forward","policy":")" +
        std::string(policy) + R"("}},
            {"rule":{"family":"bridge","table":"isdk","chain":"forward","expr":[
                {"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}},
                {"accept":null}]}}]})");
}

using Values = std::map<std::string, nlohmann::json>;

class Scene {
public:
    Scene() {
        fill(own_, "a", 0);
        neighbours.resize(2);
        fill(neighbours[0], "b", 1);
        fill(neighbours[1], "c", 2);
    }

    nlohmann::json& operator[](const std::string& name) { return own_[name]; }
    /// A fact of this VM, or with "neighbours:" that of the first neighbour.
    nlohmann::json& at(const std::string& name) {
        return is_neighbours(name) ? neighbours.at(0)[name.substr(11)] : own_[name];
    }
    /// Nobody collected it.
    void forget(const std::string& name) {
        if (is_neighbours(name)) neighbours.at(0).erase(name.substr(11));
        else own_.erase(name);
    }
    /// The collector was refused.
    void deny(const std::string& name, const std::string& why) { denied_[name] = why; }
    /// The collector gave these bytes.
    void garble(const std::string& name, const std::string& bytes) { garbled_[name] = bytes; }
    /// The collector looked at another instance.
    void mistake(const std::string& name) { mistaken_[name] = "boot/9999/1/other"; }

    Finding judge(const std::string& id) const {
        for (const auto& check : isolation::checks())
            if (check.definition.id == id) return isolation::judge(check, facts(check.definition.facts));
        throw std::logic_error("no such check: " + id);
    }
    FindingStatus status(const std::string& id) const { return judge(id).status(); }

    std::string epoch = "boot/4711/99/uuid";
    std::string source;  ///< of every fact; empty = as it is
    std::string vantage = "node";
    std::string platform = "local";
    std::vector<Values> neighbours;
    bool neighbours_listed = true;

    /// @param names those that are wanted; empty = all
    isolation::Facts facts(const std::vector<std::string>& names = {}) const {
        isolation::Facts all;
        std::set<std::string> wanted;
        for (const auto& name : names) wanted.insert(is_neighbours(name) ? name.substr(11) : name);
        all.session_id = "a";
        all.epoch = epoch;
        all.platform = platform;
        fill_facts(all, own_, "", wanted);
        if (!neighbours_listed) return all;
        all.neighbours.emplace();
        for (std::size_t i = 0; i < neighbours.size(); ++i) {
            auto other = std::make_shared<isolation::Facts>();
            other->session_id = std::string(1, static_cast<char>('b' + i));
            other->epoch = "boot/" + std::to_string(4712 + i) + "/99/uuid";
            fill_facts(*other, neighbours[i], i == 0 ? "neighbours:" : "-", wanted);
            all.neighbours->push_back(other);
        }
        return all;
    }

private:
    static bool is_neighbours(const std::string& name) { return name.starts_with("neighbours:"); }

    /// `number` tells the VMs apart.
    static void fill(Values& v, const std::string& name, unsigned number) {
        using json = nlohmann::json;
        auto uid = 610001 + number;
        auto digit = std::to_string(number);
        auto cpus = number == 0 ? "0-1" : "2-3";
        v["proc.threads"] =
            std::vector<std::string>(3, thread_status(std::to_string(uid), "0000000000000000", "1", "2", cpus));
        v["proc.ksm"] = ksm_stat();
        v["proc.limits"] = limits("0");
        auto tap = open_thing(11, "/dev/net/tun", "other", "tap" + digit);
        auto base = open_file(14, "/images/base/disk.qcow2", 4712, "r", 2, 0444, 0);
        auto disk = open_file(20, "/vms/" + name + "/disk.img", 100 + number, "rw", 4, 0600, uid);
        disk["encryption"] = "CRYPT-LUKS2-" + digit;
        v["proc.files"] = {open_thing(9, "anon_inode:kvm-vm"),
                           tap,
                           open_thing(12, "/dev/vfio/" + digit),
                           base,
                           disk,
                           open_file(21, "/vms/" + name + "/serial.log", 200 + number, "w", 0, 0600, uid)};
        v["proc.sockets"] = {{"tcp", json::array()},
                             {"unix", {{{"path", "qmp.sock"}, {"mode", 0600u}, {"folder_mode", 0700u}}}},
                             {"strange", 0u}};
        v["proc.maps"] = {
            {{"device", 5u}, {"inode", 300 + number}, {"path", "/memfd:ram"}, {"shared", true}, {"huge", true}}};
        for (const char* space : {"net", "pid", "mnt", "ipc", "user"}) v["proc.namespaces"][space] = 1000u + number;
        for (const char* space : {"net", "pid", "mnt", "ipc", "user"}) v["sys.init_namespaces"][space] = 1u;
        v["proc.environ"] = {"PATH", "LC_ALL", "HOME"};
        v["proc.label"] = "libvirt-" + digit + " (enforce)";
        v["proc.core_cookies"] = {11u + number, 11u + number};
        v["cgroup.cpu"] = {{{"path", "/vm"}, {"quota_us", 200000u}, {"period_us", 100000u}}};
        for (const char* limit : {"cgroup.pids", "cgroup.memory", "cgroup.hugetlb"})
            v[limit] = {{{"path", "/vm"}, {"limit", 4096u}}};
        v["cgroup.swap"] = {{{"path", "/vm"}, {"limit", 0u}}};
        v["file.directory"] = {file_status(".", 0700, uid), file_status("disk.img", 0600, uid),
                               file_status("memory.state", 0600, uid), file_status("qmp.sock", 0600, 0)};
        v["file.digests"] = {{{"path", "/images/base/disk.qcow2"}, {"actual", "d1"}, {"registered", "d1"}}};
        v["sys.ksm_run"] = "0\n";
        v["sys.core_pattern"] = "core\n";
        v["sys.vulnerabilities"] = {{"mds", "Mitigation: Clear CPU buffers; SMT mitigated"}};
        v["sys.smt"] = "1\n";
        v["sys.siblings"] = {"0-1", "2-3"};
        v["sys.swaps"] = {{{"name", "/swap"}, {"encryption", ""}}};
        v["sys.ptrace_scope"] = "1\n";
        v["sys.iommu_groups"] = {{digit, 1u}};
        v["sys.taps"] = {{{"name", "tap" + digit}, {"master", "br0"}, {"isolated", true}, {"hairpin", false}}};
        v["nft.ruleset"] = ruleset();
        fill_monitor(v, name, number);
        v["process.identity"] = {{"boot_id", "boot"}, {"pid", 4711u + number}};
        v["process.paths"] = {{"vm_directory", "/vms/" + name}, {"image_directory", "/images/base"}};
        v["process.promises"] = {
            {"exclusive", false}, {"encrypted", true}, {"confidential", true}, {"ports", json::array()}};
        v["agent.identity"] = {{"machine_id", "m" + digit}, {"host_keys", {"k" + digit}}};
        for (const char* probe :
             {"gate", "guests", "metadata", "host", "spoofing", "sockets", "admission", "leftovers", "attestation"})
            v["probe." + std::string(probe)] = stopped_attempt(probe);
    }

    static void fill_monitor(Values& v, const std::string& name, unsigned number) {
        using json = nlohmann::json;
        auto mac = "52:54:00:aa:bb:c" + std::to_string(number);
        v["qmp:query-kvm"] = {{"enabled", true}};
        v["qmp:query-chardev"] = {{{"label", "qmp"}, {"filename", "unix:qmp.sock,server=on"}},
                                  {{"label", "agent"}, {"filename", "disconnected:unix:agent.sock,server=on"}},
                                  {{"label", "serial"}, {"filename", "file"}}};
        v["qmp:query-vnc"] = {{"enabled", false}};
        v["qmp:query-rx-filter"] = json::array({{{"main-mac", mac}}});
        v["qmp:query-cpus-fast"] = json::array({{{"thread-id", 1u}, {"qom-path", "/machine/unattached/device[0]"}}});
        v["qmp:query-uuid"] = {{"UUID", "uuid-" + name}};
        v["qmp:query-version"] = {{"qemu", {{"major", 9u}, {"minor", 2u}, {"micro", 0u}}}};
        v["qmp:query-sev"] = {{"state", "running"}};
        v["qmp:query-pci"] = json::array({{{"devices",
                                            {{{"id", {{"vendor", 0x8086u}, {"device", 0x1237u}}}},
                                             {{"id", {{"vendor", 0x1af4u}, {"device", 0x1000u}}}}}}}});
        json file{{"filename", "/vms/" + name + "/disk.img"}};
        json disk{{"filename", "/vms/" + name + "/disk.img"}, {"backing-filename", "/images/base/disk.qcow2"}};
        json base{{"filename", "/dev/fdset/1"}};
        v["qmp:query-named-block-nodes"] = {{{"drv", "file"}, {"ro", false}, {"encrypted", false}, {"image", file}},
                                            {{"drv", "luks"}, {"ro", false}, {"encrypted", true}, {"image", disk}},
                                            {{"drv", "file"}, {"ro", true}, {"encrypted", false}, {"image", base}}};
        v["hmp:info network"] = "net0: index=0,type=nic,model=virtio-net-pci,macaddr=" + mac +
                                "\r\n \\ net0: index=0,type=tap,ifname=tap" + std::to_string(number) + "\r\n";
        v["hmp:info usernet"] = "";
        v["qom:/machine:dump-guest-core"] = false;
        v["qom:/machine/unattached/device[0]:pmu"] = false;
        v["qomlist:/machine/peripheral"] = {{{"type", "string"}}, {{"type", "child<virtio-blk-pci>"}}};
        v["qomlist:/machine/peripheral-anon"] = {{{"type", "string"}}, {{"type", "child<virtio-net-pci>"}}};
    }

    static std::string source_of(const std::string& name) {
        if (name.starts_with("probe.")) return "probe";
        if (name == "process.paths" || name == "process.promises") return "provider";
        return "procfs";
    }

    void fill_facts(isolation::Facts& into, const Values& values, const std::string& prefix,
                    const std::set<std::string>& wanted) const {
        for (const auto& [name, value] : values) {
            if (!wanted.empty() && !wanted.contains(name)) continue;
            Fact fact{name,
                      source.empty() ? source_of(name) : source,
                      "where " + name + " is",
                      vantage,
                      value.dump(),
                      "",
                      {},
                      into.epoch};
            if (name == "agent.identity") fact.vantage = "guest";
            if (auto bytes = garbled_.find(prefix + name); bytes != garbled_.end()) fact.json = bytes->second;
            if (auto why = denied_.find(prefix + name); why != denied_.end())
                fact.json.clear(), fact.could_not_look = why->second;
            if (auto other = mistaken_.find(prefix + name); other != mistaken_.end()) fact.instance = other->second;
            into.add(std::move(fact));
        }
    }

    Values own_;
    std::map<std::string, std::string> denied_, garbled_, mistaken_;
};

}  // namespace infrastructure_sdk::test
