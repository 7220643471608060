// Checks on the processor and on what shares it.

#include <algorithm>
#include <iterator>
#include <set>

#include "isolation/checks/judges.hpp"
#include "isolation/look.hpp"
#include "isolation/readings.hpp"

namespace infrastructure_sdk::isolation {
namespace {

using Cpus = std::set<std::uint64_t>;

std::optional<bool> read_enabled(const Json& value) {
    auto enabled = value.is_object() && value.contains("enabled") ? value["enabled"] : Json();
    return read_flag(enabled);
}

/// The processors that the threads may run on, with every sibling of them; nullopt when a thread does not tell.
std::optional<Cpus> closed_cpus(const std::vector<ThreadStatus>& threads, const std::vector<std::string>& siblings) {
    Cpus cpus;
    for (const auto& thread : threads) {
        if (thread.cpus.empty()) return std::nullopt;
        cpus.insert(thread.cpus.begin(), thread.cpus.end());
    }
    for (const auto& text : siblings) {
        auto core = parse_cpu_list(text);
        if (!core) return std::nullopt;
        if (std::any_of(core->begin(), core->end(), [&](auto cpu) { return cpus.contains(cpu); }))
            cpus.insert(core->begin(), core->end());
    }
    return cpus;
}

bool overlap(const Cpus& a, const Cpus& b) {
    return std::any_of(a.begin(), a.end(), [&](auto cpu) { return b.contains(cpu); });
}

/// Core scheduling keeps a core's siblings to threads of one cookie; zero is the cookie of everybody.
bool own_cookies(const Facts& facts) {
    auto own = facts.as("proc.core_cookies", read_numbers);
    if (!own || own->empty() || std::count(own->begin(), own->end(), 0u) > 0 || !facts.neighbours) return false;
    for (const auto& other : *facts.neighbours) {
        auto theirs = other->as("proc.core_cookies", read_numbers);
        if (!theirs) return false;
        for (auto cookie : *theirs)
            if (std::count(own->begin(), own->end(), cookie) > 0) return false;
    }
    return true;
}

}  // namespace

Finding judge_cmp_01(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto enabled = look.need("qmp:query-kvm", read_enabled);
    if (enabled) look.saw("qmp:query-kvm", *enabled ? "enabled" : "not enabled");
    if (enabled && !*enabled) {
        look.fault("QEMU emulates the processor (TCG); emulation is no security boundary");
        return look.conclude({});
    }
    auto files = look.need("proc.files", read_files);
    bool open = files && std::any_of(files->begin(), files->end(),
                                     [](const auto& file) { return file.target == "anon_inode:kvm-vm"; });
    look.saw("proc.files", open ? "anon_inode:kvm-vm is open" : "no anon_inode:kvm-vm is open");
    if (files && !open) look.fault("QEMU holds no KVM virtual machine");
    return look.conclude("the processor runs the guest (KVM)");
}

Finding judge_cmp_02(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto smt = look.need("sys.smt", read_word);
    if (smt) look.saw("sys.smt", "smt/active " + *smt);
    if (smt && *smt == "0") return look.conclude("no processor core runs two threads at a time");
    if (smt && *smt != "1") look.blind("could not look at sys.smt: it says " + *smt);
    auto siblings = look.need("sys.siblings", read_strings);
    auto threads = look.need("proc.threads", read_threads);
    auto others = look.neighbours("proc.threads", read_threads);
    if (look.is_blind()) return look.conclude({});
    look.saw("sys.siblings", std::to_string(siblings->size()) + " processor cores");
    auto own = closed_cpus(*threads, *siblings);
    if (siblings->empty() || !own) {
        look.blind("could not look at proc.threads: it is not known where the threads may run");
        return look.conclude({});
    }
    look.saw("proc.threads", std::to_string(own->size()) + " processors with their siblings");
    const bool scheduled_apart = own_cookies(facts);
    for (const auto& [session, theirs] : others) {
        auto cpus = closed_cpus(theirs, *siblings);
        if (!cpus) look.blind("a neighbour could not be looked at: " + session + ": where its threads may run");
        else if (overlap(*own, *cpus) && !scheduled_apart)
            look.fault("it may run on a core together with session " + session);
    }
    return look.conclude("no core can run this session and another one at the same time");
}

Finding judge_cmp_03(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto smt = look.need("sys.smt", read_word);
    auto files = look.need("sys.vulnerabilities", read_texts);
    if (smt && *smt != "0" && *smt != "1") look.blind("could not look at sys.smt: it says " + *smt);
    std::string excerpt;
    for (const auto& [name, text] : files ? *files : std::map<std::string, std::string>()) {
        if (text.empty()) look.blind("could not look at sys.vulnerabilities: " + name + " says nothing");
        bool open = text.starts_with("Vulnerable");
        // Siblings leak only when they run: CMP-02 looks at who shares a core.
        bool siblings = text.find("SMT vulnerable") != std::string::npos && smt && *smt == "1";
        if (open || siblings) {
            look.fault("the processor is open to " + name + ": " + text);
            excerpt += name + ": " + text + "; ";
        }
    }
    look.saw("sys.vulnerabilities", excerpt.empty() ? "nothing is vulnerable" : excerpt);
    return look.conclude("the kernel reports no open processor vulnerability");
}

Finding judge_cmp_04(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto limit = look.need("cgroup.cpu", read_cpu_limit);
    auto vcpus = look.need("qmp:query-cpus-fast", read_vcpus);
    if (limit) look.saw("cgroup.cpu", *limit ? std::to_string(**limit) + " cores" : "no limit");
    if (limit && !*limit) look.fault("nothing limits its processor time");
    // One core more than the guest has, for QEMU's own threads.
    if (limit && *limit && vcpus && **limit > static_cast<double>(vcpus->size()) + 1)
        look.fault("its limit of " + std::to_string(**limit) + " cores is far above its " +
                   std::to_string(vcpus->size()) + " virtual processors");
    return look.conclude("its processor time is capped");
}

Finding judge_cmp_05(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto limit = look.need("cgroup.pids", read_limit);
    if (!limit) return look.conclude({});
    auto text = limit->smallest ? std::to_string(*limit->smallest) : std::string("no limit");
    look.saw("cgroup.pids", text);
    if (!limit->smallest || *limit->smallest > 4096) look.fault("its processes are capped too high: " + text);
    return look.conclude("it may start at most " + text + " processes");
}

Finding judge_cmp_06(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto promises = look.need("process.promises", read_promises);
    auto identity = look.need("process.identity", read_object);
    look.saw("process.promises", promises && promises->exclusive ? "exclusive" : "not exclusive");
    if (identity) look.saw("process.identity", "boot " + text_at(*identity, "boot_id").value_or("?"));
    if (promises && promises->exclusive) {
        auto others = look.neighbours("process.identity", read_object);
        for (const auto& other : others) look.fault("session " + other.session + " runs on the same host");
        return look.conclude("no other session runs on this host");
    }
    return look.absent("all sessions share this one host, and this one does not ask for a host of its own");
}

Finding judge_cmp_07(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto files = look.need("proc.files", read_files);
    if (!files) return look.conclude({});
    auto groups_of = [](const std::vector<OpenFile>& list) {
        std::set<std::string> groups;
        for (const auto& file : list)
            if (file.target.starts_with("/dev/vfio/") && file.target != "/dev/vfio/vfio")
                groups.insert(file.target.substr(10));
        return groups;
    };
    auto own = groups_of(*files);
    look.saw("proc.files", std::to_string(own.size()) + " device groups are open");
    if (own.empty()) return look.absent("no device of the host is passed through");
    auto sizes = look.need("sys.iommu_groups", read_counts);
    look.saw("sys.iommu_groups", sizes ? std::to_string(sizes->size()) + " groups" : "");
    for (const auto& group : own) {
        if (group.starts_with("noiommu")) look.fault("device group " + group + " is behind no IOMMU");
        else if (sizes && (!sizes->contains(group) || sizes->at(group) == 0))
            look.fault("device group " + group + " holds no device of an IOMMU");
    }
    for (const auto& [session, theirs] : look.neighbours("proc.files", read_files))
        for (const auto& group : groups_of(theirs))
            if (own.contains(group)) look.fault("session " + session + " has device group " + group + " too");
    return look.conclude("its passed-through devices are its own and behind an IOMMU");
}

Finding judge_cmp_08(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    const std::string first = "/machine/unattached/device[0]";
    auto vcpus = look.need("qmp:query-cpus-fast", read_vcpus);
    auto pmu = look.need("qom:" + first + ":pmu", read_flag);
    if (vcpus && vcpus->front().path != first)
        look.blind("could not look at the first processor: it is " + vcpus->front().path);
    if (pmu) look.saw("qom:" + first + ":pmu", *pmu ? "pmu true" : "pmu false");
    if (pmu && *pmu) look.fault("the guest sees performance counters");
    return look.conclude("the guest sees no performance counters");
}

}  // namespace infrastructure_sdk::isolation
