#pragma once
// Everything the checks look at, of a VM that is isolated; a test changes one thing of it.

#include <map>
#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>

#include "isolation/facts.hpp"

namespace infrastructure_sdk::test {

inline std::string thread_status(const std::string& uid = "610001", const std::string& cap_eff = "0000000000000000",
                                 const std::string& no_new_privs = "1", const std::string& seccomp = "2") {
    return "Name:\tqemu-system-x86\nUmask:\t0077\nTgid:\t4711\nPid:\t4711\nUid:\t" + uid + "\t" + uid + "\t" + uid +
           "\t" + uid + "\nGid:\t610001\t610001\t610001\t610001\nThreads:\t3\nCapInh:\t0000000000000000\nCapPrm:\t" +
           cap_eff + "\nCapEff:\t" + cap_eff + "\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t" +
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

inline nlohmann::json open_file(int fd, std::string target, std::uint64_t inode, bool writable) {
    return {{"fd", fd}, {"target", std::move(target)}, {"inode", inode}, {"writable", writable}, {"regular", true}};
}

inline nlohmann::json file_status(std::string name, unsigned mode, unsigned uid = 610001, bool has_acl = false) {
    bool directory = name == ".";
    return {{"name", std::move(name)}, {"mode", mode}, {"uid", uid}, {"is_directory", directory}, {"has_acl", has_acl}};
}

class Scene {
public:
    Scene() {
        (*this)["proc.threads"] = {thread_status(), thread_status(), thread_status()};
        (*this)["proc.ksm"] = ksm_stat();
        (*this)["proc.limits"] = limits("0");
        (*this)["proc.files"] = {
            open_file(9, "anon_inode:kvm-vm", 7, true), open_file(14, "/images/base.qcow2", 4712, false),
            open_file(20, "/vms/a/disk.qcow2", 4711, true), open_file(21, "/vms/a/serial.log", 4713, true)};
        (*this)["proc.locks"] =
            "1: OFDLCK ADVISORY  READ  -1 08:02:4711 100 101\n1: -> OFDLCK ADVISORY  WRITE -1 08:02:99 0 EOF\n"
            "2: POSIX  ADVISORY  WRITE 1 08:02:4712 0 EOF\n3: OFDLCK ADVISORY  READ  -1 08:02:4711 201 201\n";
        (*this)["proc.listeners"] = nlohmann::json::array();
        (*this)["file.directory"] = {file_status(".", 0700), file_status("disk.qcow2", 0600),
                                     file_status("memory.state", 0600), file_status("serial.log", 0600)};
        (*this)["sys.ksm_run"] = "0\n";
        (*this)["sys.core_pattern"] = "core\n";
        (*this)["qmp:query-kvm"] = {{"enabled", true}, {"present", true}};
        (*this)["qmp:query-chardev"] = {
            {{"label", "qmp"}, {"filename", "unix:qmp.sock,server=on"}, {"frontend-open", true}},
            {{"label", "agent"}, {"filename", "disconnected:unix:agent.sock,server=on"}},
            {{"label", "serial"}, {"filename", "file"}}};
        (*this)["qmp:query-vnc"] = {{"enabled", false}};
        (*this)["qmp:query-rx-filter"] = nlohmann::json::array({{{"name", "net0"}, {"main-mac", "52:54:00:aa:bb:cc"}}});
        (*this)["neighbours.macs"] = {{{"session", "b"}, {"macs", {"52:54:00:aa:bb:cd"}}},
                                      {{"session", "c"}, {"macs", {"52:54:00:aa:bb:ce"}}}};
        (*this)["qom:/machine:dump-guest-core"] = false;
        (*this)["process.uid"] = {{"expected_uid", 610001u}};
    }

    nlohmann::json& operator[](const std::string& name) { return values_[name]; }
    /// Nobody collected it.
    void forget(const std::string& name) { values_.erase(name); }
    /// The collector was refused.
    void deny(const std::string& name, const std::string& why) { denied_[name] = why; }
    /// The collector gave these bytes.
    void garble(const std::string& name, const std::string& bytes) { garbled_[name] = bytes; }

    Finding judge(const std::string& id) const {
        for (const auto& check : isolation::checks())
            if (check.definition.id == id) return check.judge(check.definition, facts());
        throw std::logic_error("no such check: " + id);
    }
    FindingStatus status(const std::string& id) const { return judge(id).status(); }

    std::string epoch = "boot/4711/99/uuid";
    std::string source = "procfs";
    std::string vantage = "node";

private:
    isolation::Facts facts() const {
        isolation::Facts facts;
        facts.session_id = "a";
        facts.epoch = epoch;
        for (const auto& [name, value] : values_) {
            Fact fact{name, source, "where " + name + " is", vantage, value.dump(), "", {}};
            if (auto bytes = garbled_.find(name); bytes != garbled_.end()) fact.json = bytes->second;
            if (auto why = denied_.find(name); why != denied_.end())
                fact.json.clear(), fact.could_not_look = why->second;
            facts.add(std::move(fact));
        }
        return facts;
    }
    std::map<std::string, nlohmann::json> values_;
    std::map<std::string, std::string> denied_, garbled_;
};

}  // namespace infrastructure_sdk::test
