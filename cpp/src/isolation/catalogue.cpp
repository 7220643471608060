#include <algorithm>
#include <utility>

#include "isolation/facts.hpp"

namespace infrastructure_sdk {
namespace isolation {

const std::vector<Check>& checks() {
    using L = Layer;
    using S = Severity;
    static const std::vector<Check> table{
        {{"CMP-01",
          L::compute,
          S::high,
          Strength::e3,
          "Hardware virtualization is really in use",
          "accelerator",
          "run on a host with KVM; treat sessions on this one as for development only",
          "SC-39, SC-49, SC-3(1)",
          {"qmp:query-kvm", "proc.files"}},
         judge_cmp_01},
        {{"MEM-01",
          L::memory,
          S::high,
          Strength::e3,
          "Memory pages are not merged with other processes",
          "page-merging",
          "start with mem-merge=off, without PR_SET_MEMORY_MERGE, and switch KSM off",
          "SC-4",
          {"proc.ksm", "sys.ksm_run"}},
         judge_mem_01},
        {{"MEM-06",
          L::memory,
          S::medium,
          Strength::e3,
          "Guest memory does not get into core dumps",
          "core-dump",
          "start with dump-guest-core=off",
          "SC-28, SI-11",
          {"qom:/machine:dump-guest-core", "proc.limits", "sys.core_pattern"}},
         judge_mem_06},
        {{"NET-12",
          L::network,
          S::medium,
          Strength::e2,
          "The MAC address is this session's alone",
          "network-identity",
          "derive the MAC address from the session's id",
          "IA-3, SC-7",
          {"qmp:query-rx-filter", "neighbours.macs"}},
         judge_net_12},
        {{"RUN-01",
          L::runtime,
          S::critical,
          Strength::e3,
          "The hypervisor process has no privileges",
          "process-privileges",
          "start it under a uid of its own without capabilities",
          "AC-6, SC-39; CIS 5.2.7, 5.2.9",
          {"proc.threads"}},
         judge_run_01},
        {{"RUN-02",
          L::runtime,
          S::high,
          Strength::e3,
          "A system call filter is on every thread",
          "seccomp",
          "start with -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
          "SC-39, CM-7; CIS 5.7.2",
          {"proc.threads"}},
         judge_run_02},
        {{"RUN-03",
          L::runtime,
          S::medium,
          Strength::e3,
          "The hypervisor process cannot gain privileges",
          "privilege-regain",
          "set no_new_privs and drop the bounding set",
          "AC-6(10); CIS 5.2.6",
          {"proc.threads"}},
         judge_run_03},
        {{"RUN-07",
          L::runtime,
          S::critical,
          Strength::e3,
          "Control channels are private",
          "control-channels",
          "use unix sockets in a 0700 directory for QMP, the agent and VNC; no TCP",
          "AC-17, IA-2, SC-8",
          {"qmp:query-chardev", "qmp:query-vnc", "proc.listeners", "file.directory"}},
         judge_run_07},
        {{"STO-03",
          L::storage,
          S::high,
          Strength::e3,
          "Writable disks are locked",
          "image-locking",
          "never use file.locking=off",
          "SI-7, SC-4",
          {"proc.files", "proc.locks"}},
         judge_sto_03},
        {{"STO-05",
          L::storage,
          S::high,
          Strength::e3,
          "Disk and memory files are private",
          "file-modes",
          "directory 0700, files 0600, owned by the VM's uid, no ACL",
          "AC-3, AC-6, SC-28",
          {"file.directory", "process.uid"}},
         judge_sto_05},
    };
    return table;
}

std::vector<std::string> recommendations(const std::vector<Finding>& findings, WallTime now) {
    struct Item {
        std::pair<double, double> reached;  ///< the weakest layer, then what all layers lose (negative)
        std::string text;
    };
    std::vector<Item> items;
    for (const auto& finding : findings) {
        if (finding.status() != FindingStatus::fail && finding.status() != FindingStatus::unknown) continue;
        std::vector<Finding> without;
        for (const auto& other : findings)
            if (std::string(other.check().root_cause) != finding.check().root_cause) without.push_back(other);
        // The weakest layer decides; among equals, what helps its own layer most. A layer without findings loses
        // nothing.
        std::pair<double, double> reached{100, 0};
        for (const auto& layer : layer_scores(without, now)) {
            reached.first = std::min(reached.first, layer.lower);
            reached.second -= 100 - layer.lower;
        }
        items.push_back({reached, std::string(finding.check().id) + " (" + name_of(finding.status()) +
                                      "): " + finding.check().fix});
    }
    std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.reached > b.reached; });
    std::vector<std::string> texts;
    for (auto& item : items) texts.push_back(std::move(item.text));
    return texts;
}

}  // namespace isolation

const std::vector<CheckDefinition>& check_catalogue() {
    static const std::vector<CheckDefinition> definitions = [] {
        std::vector<CheckDefinition> result;
        for (const auto& check : isolation::checks()) result.push_back(check.definition);
        return result;
    }();
    return definitions;
}

}  // namespace infrastructure_sdk
