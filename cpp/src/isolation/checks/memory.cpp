// Checks on guest memory: MEM-01, MEM-06.

#include "isolation/facts.hpp"
#include "isolation/procfs.hpp"

namespace infrastructure_sdk::isolation {

Finding judge_mem_01(const CheckDefinition& check, const Facts& facts) {
    auto text = facts.value("proc.ksm");
    auto ksm = text && text->is_string() ? parse_ksm_stat(text->get<std::string>()) : std::nullopt;
    if (!ksm) return Finding::unknown(check, facts.why("proc.ksm"));
    auto seen = facts.evidence(check, "proc.ksm",
                               "ksm_merging_pages " + std::to_string(ksm->merging_pages) + ", mergeable " +
                                   (ksm->mergeable ? "yes" : "no") + ", merge_any " + (ksm->merge_any ? "yes" : "no"));
    if (ksm->merging_pages > 0)
        return Finding::fail(check, {seen},
                             std::to_string(ksm->merging_pages) + " of its pages are merged with others");
    if (!ksm->mergeable && !ksm->merge_any) return Finding::pass(check, {seen}, "the kernel may not merge its pages");
    auto run = facts.value("sys.ksm_run");
    if (!run || !run->is_string()) return Finding::unknown(check, facts.why("sys.ksm_run"), {seen});
    auto host = facts.evidence(check, "sys.ksm_run", "/sys/kernel/mm/ksm/run " + run->get<std::string>());
    // Whoever asked for merging gets it as soon as somebody switches KSM on.
    return Finding::fail(check, {seen, host}, "its pages are marked for merging");
}

Finding judge_mem_06(const CheckDefinition& check, const Facts& facts) {
    auto dump = facts.value("qom:/machine:dump-guest-core");
    if (dump && dump->is_boolean() && !dump->get<bool>())
        return Finding::pass(check, {facts.evidence(check, "qom:/machine:dump-guest-core", "dump-guest-core false")},
                             "guest memory is left out of core dumps");
    auto limits = facts.value("proc.limits");
    auto core = limits && limits->is_string() ? parse_core_limit(limits->get<std::string>()) : std::nullopt;
    auto pattern = facts.value("sys.core_pattern");
    if (!dump || !dump->is_boolean()) return Finding::unknown(check, facts.why("qom:/machine:dump-guest-core"));
    if (!core) return Finding::unknown(check, facts.why("proc.limits"));
    if (!pattern || !pattern->is_string() || pattern->get_ref<const std::string&>().empty())
        return Finding::unknown(check, facts.why("sys.core_pattern"));
    bool no_core = core->value_or(1) == 0;
    auto seen = facts.evidence(check, "proc.limits", no_core ? "core limit 0" : "core limit above 0");
    auto target = pattern->get<std::string>();
    auto where = facts.evidence(check, "sys.core_pattern", target);
    // A pipe, and a socket since Linux 6.16, gets the dump whatever the limit is (fs/coredump.c).
    if (no_core && !target.starts_with("|") && !target.starts_with("@"))
        return Finding::pass(check, {seen, where}, "core dumps are off");
    return Finding::fail(check, {seen, where}, "a crash would write guest memory into a core dump");
}

}  // namespace infrastructure_sdk::isolation
