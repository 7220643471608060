// Checks on guest memory.

#include <algorithm>
#include <set>

#include "isolation/checks/judges.hpp"
#include "isolation/look.hpp"
#include "isolation/probes/verdict.hpp"
#include "isolation/readings.hpp"

namespace infrastructure_sdk::isolation {
namespace {

constexpr std::uint64_t sys_ptrace = 1u << 19;

std::optional<KsmStat> read_ksm(const Json& value) {
    return value.is_string() ? parse_ksm_stat(value.get_ref<const std::string&>()) : std::nullopt;
}
std::optional<std::optional<std::uint64_t>> read_core_limit(const Json& value) {
    return value.is_string() ? parse_core_limit(value.get_ref<const std::string&>()) : std::nullopt;
}

/// Who a process is to the kernel when it wants to read another's memory.
struct Tracer {
    std::set<std::uint64_t> uids;
    bool traces_all = false;
};
std::optional<Tracer> read_tracer(const Json& value) {
    auto threads = read_threads(value);
    if (!threads) return std::nullopt;
    Tracer tracer;
    for (const auto& thread : *threads) {
        tracer.uids.insert(thread.uids.begin(), thread.uids.end());
        tracer.traces_all = tracer.traces_all || (thread.effective_capabilities & sys_ptrace) != 0;
    }
    return tracer;
}

std::string limit_text(const Limit& limit) {
    return limit.smallest ? std::to_string(*limit.smallest) + " bytes" : "no limit";
}

}  // namespace

Finding judge_mem_01(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto ksm = look.need("proc.ksm", read_ksm);
    if (!ksm) return look.conclude({});
    look.saw("proc.ksm", "ksm_merging_pages " + std::to_string(ksm->merging_pages) + ", mergeable " +
                             (ksm->mergeable ? "yes" : "no") + ", merge_any " + (ksm->merge_any ? "yes" : "no"));
    if (ksm->merging_pages > 0) look.fault(std::to_string(ksm->merging_pages) + " of its pages are merged with others");
    // Whoever asked for merging gets it as soon as somebody switches KSM on.
    if (ksm->mergeable || ksm->merge_any) look.fault("its pages are marked for merging");
    return look.conclude("the kernel may not merge its pages");
}

Finding judge_mem_02(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    using Key = std::pair<std::uint64_t, std::uint64_t>;
    auto maps = look.need("proc.maps", read_maps);
    std::set<Key> own;
    for (const auto& map : maps ? *maps : std::vector<Mapping>())
        if (map.shared) own.emplace(map.device, map.inode);
    look.saw("proc.maps", std::to_string(own.size()) + " shared writable mappings");
    for (const auto& [session, theirs] : look.neighbours("proc.maps", read_maps))
        for (const auto& map : theirs)
            if (map.shared && own.contains(Key{map.device, map.inode}))
                look.fault("session " + session + " maps the same memory: " + map.path);
    return look.conclude("no memory that it maps is mapped by another session");
}

Finding judge_mem_03(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto own = look.need("proc.threads", read_tracer);
    auto scope = look.need("sys.ptrace_scope", read_word);
    auto spaces = look.need("proc.namespaces", read_namespaces);
    auto others = look.neighbours("proc.threads", read_tracer);
    auto their_spaces = look.neighbours("proc.namespaces", read_namespaces);
    if (!own || !scope || !spaces) return look.conclude({});
    look.saw("proc.threads", "uid " + std::to_string(*own->uids.begin()));
    look.saw("sys.ptrace_scope", "ptrace_scope " + *scope);
    // Without Yama the scope is that of classic ptrace: everybody of the same uid.
    bool open = *scope == "absent" || *scope == "0";
    std::map<std::string_view, const std::map<std::string, std::uint64_t>*> spaces_of;
    for (const auto& [session, theirs] : their_spaces) spaces_of[session] = &theirs;
    for (const auto& [session, theirs] : others) {
        auto space = spaces_of.find(session);
        if (space == spaces_of.end()) continue;  // said above to be unseen
        bool together =
            space->second->at("pid") == spaces->at("pid") && space->second->at("user") == spaces->at("user");
        bool same =
            std::any_of(theirs.uids.begin(), theirs.uids.end(), [&](auto uid) { return own->uids.contains(uid); });
        if (same && (open || together)) look.fault("session " + session + " runs under the same uid and may read it");
        if (theirs.traces_all && together) look.fault("session " + session + " may trace every process of this host");
    }
    if (facts.value("probe.memory")) judge_probe(look, "probe.memory");
    return look.conclude("no other session's process may read its memory");
}

Finding judge_mem_04(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto limit = look.need("cgroup.memory", read_limit);
    if (limit) look.saw("cgroup.memory", limit_text(*limit));
    if (limit && !limit->smallest) look.fault("nothing limits its memory");
    return look.conclude("its memory is capped");
}

Finding judge_mem_05(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto swaps = look.need("sys.swaps", read_swaps);
    if (!swaps) return look.conclude({});
    bool encrypted = std::all_of(swaps->begin(), swaps->end(),
                                 [](const auto& swap) { return swap.encryption.starts_with("CRYPT-"); });
    look.saw("sys.swaps", std::to_string(swaps->size()) + " swap areas");
    if (swaps->empty()) return look.conclude("the host has no swap");
    if (encrypted) return look.conclude("every swap area of the host is encrypted");
    auto threads = look.need("proc.threads", read_threads);
    auto limit = look.need("cgroup.swap", read_limit);
    if (limit) look.saw("cgroup.swap", limit_text(*limit));
    if (threads && !threads->front().swap_kb) look.blind("could not look at proc.threads: it tells no VmSwap");
    auto used = threads ? threads->front().swap_kb.value_or(0) : 0;
    look.saw("proc.threads", "VmSwap " + std::to_string(used) + " kB");
    if (used > 0) look.fault(std::to_string(used) + " kB of it are in swap that is not encrypted");
    if (limit && limit->smallest != 0u) look.fault("it may be written to swap that is not encrypted");
    return look.conclude("it may not be swapped out");
}

Finding judge_mem_06(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto dump = look.need("qom:/machine:dump-guest-core", read_flag);
    if (dump) look.saw("qom:/machine:dump-guest-core", *dump ? "dump-guest-core true" : "dump-guest-core false");
    if (dump && !*dump) return look.conclude("guest memory is left out of core dumps");
    auto core = look.need("proc.limits", read_core_limit);
    auto pattern = look.need("sys.core_pattern", read_word);
    if (look.is_blind()) return look.conclude({});
    bool no_core = core->value_or(1) == 0;
    look.saw("proc.limits", no_core ? "core limit 0" : "core limit above 0");
    look.saw("sys.core_pattern", *pattern);
    // A pipe, and a socket since Linux 6.16, gets the dump whatever the limit is (fs/coredump.c).
    if (!no_core || pattern->starts_with("|") || pattern->starts_with("@"))
        look.fault("a crash would write guest memory into a core dump");
    return look.conclude("core dumps are off");
}

Finding judge_mem_07(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    using Key = std::pair<std::uint64_t, std::uint64_t>;
    auto threads = look.need("proc.threads", read_threads);
    auto maps = look.need("proc.maps", read_maps);
    if (threads && !threads->front().huge_kb) look.blind("could not look at proc.threads: it tells no HugetlbPages");
    if (look.is_blind()) return look.conclude({});
    auto used = *threads->front().huge_kb;
    std::set<Key> own;
    for (const auto& map : *maps)
        if (map.huge) own.emplace(map.device, map.inode);
    look.saw("proc.threads", "HugetlbPages " + std::to_string(used) + " kB");
    look.saw("proc.maps", std::to_string(own.size()) + " mappings on huge pages");
    if (used == 0 && own.empty()) return look.absent("it uses no huge pages");
    auto limit = look.need("cgroup.hugetlb", read_limit);
    if (limit) look.saw("cgroup.hugetlb", limit_text(*limit));
    if (limit && !limit->smallest) look.fault("nothing limits its huge pages");
    for (const auto& [session, theirs] : look.neighbours("proc.maps", read_maps))
        for (const auto& map : theirs)
            if (map.huge && own.contains(Key{map.device, map.inode}))
                look.fault("session " + session + " uses the same huge pages: " + map.path);
    return look.conclude("its huge pages are its own and capped");
}

Finding judge_mem_08(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto promises = look.need("process.promises", read_promises);
    auto identity = look.need("process.identity", read_object);
    look.saw("process.promises", promises && promises->confidential ? "confidential" : "not confidential");
    if (identity) look.saw("process.identity", "boot " + text_at(*identity, "boot_id").value_or("?"));
    if (!promises || !promises->confidential) return look.absent("encrypted memory was not promised");
    auto sev = look.need("qmp:query-sev", read_object);
    auto state = sev ? text_at(*sev, "state") : std::nullopt;
    if (sev && !state) look.blind("could not look at qmp:query-sev: what was read makes no sense");
    if (state) look.saw("qmp:query-sev", "state " + *state);
    if (state && *state != "running") look.fault("encrypted memory was promised and is not on: " + *state);
    judge_probe(look, "probe.attestation");
    return look.conclude("the guest proved that its memory is encrypted");
}

}  // namespace infrastructure_sdk::isolation
