// Checks on the hypervisor's process: CMP-01, RUN-01, RUN-02, RUN-03.

#include <algorithm>
#include <optional>

#include "isolation/facts.hpp"
#include "isolation/procfs.hpp"

namespace infrastructure_sdk::isolation {
namespace {

std::optional<std::vector<ThreadStatus>> threads_of(const Facts& facts) {
    auto value = facts.value("proc.threads");
    if (!value || !value->is_array() || value->empty()) return std::nullopt;
    std::vector<ThreadStatus> threads;
    for (const auto& text : *value) {
        if (!text.is_string()) return std::nullopt;
        auto status = parse_thread_status(text.get<std::string>());
        if (!status) return std::nullopt;
        threads.push_back(*status);
    }
    return threads;
}

std::string count(std::size_t bad, std::size_t all) {
    return std::to_string(bad) + " of " + std::to_string(all) + " threads";
}

}  // namespace

Finding judge_cmp_01(const CheckDefinition& check, const Facts& facts) {
    auto kvm = facts.value("qmp:query-kvm");
    if (!kvm || !kvm->is_object() || !kvm->contains("enabled") || !(*kvm)["enabled"].is_boolean())
        return Finding::unknown(check, facts.why("qmp:query-kvm"));
    auto seen = facts.evidence(check, "qmp:query-kvm", kvm->dump());
    if (!(*kvm)["enabled"].get<bool>())
        return Finding::fail(check, {seen}, "QEMU emulates the processor (TCG); emulation is no security boundary");
    auto files = facts.value("proc.files");
    // A process without descriptors does not exist.
    if (!files || !files->is_array() || files->empty()) return Finding::unknown(check, facts.why("proc.files"), {seen});
    bool open = false;
    for (const auto& file : *files) {
        auto target = text_at(file, "target");
        if (!target) return Finding::unknown(check, facts.why("proc.files"), {seen});
        open = open || *target == "anon_inode:kvm-vm";
    }
    auto descriptor =
        facts.evidence(check, "proc.files", open ? "anon_inode:kvm-vm is open" : "no anon_inode:kvm-vm is open");
    if (!open) return Finding::fail(check, {seen, descriptor}, "QEMU says KVM but holds no KVM virtual machine");
    return Finding::pass(check, {seen, descriptor}, "the processor runs the guest (KVM)");
}

Finding judge_run_01(const CheckDefinition& check, const Facts& facts) {
    auto threads = threads_of(facts);
    if (!threads) return Finding::unknown(check, facts.why("proc.threads"));
    constexpr std::uint64_t net_bind_service = 1u << 10;  // tolerated: it reaches nothing of other sessions
    std::size_t root = 0, capable = 0;
    for (const auto& thread : *threads) {
        root += std::count(thread.uids.begin(), thread.uids.end(), 0u) > 0;
        capable += (thread.effective_capabilities & ~net_bind_service) != 0;
    }
    auto uid = std::to_string(threads->front().uids.front());
    auto seen = facts.evidence(check, "proc.threads",
                               "Uid " + uid + ", CapEff " + std::to_string(threads->front().effective_capabilities) +
                                   " on " + std::to_string(threads->size()) + " threads");
    if (root > 0) return Finding::fail(check, {seen}, "it runs as root on " + count(root, threads->size()));
    if (capable > 0) return Finding::fail(check, {seen}, "it has capabilities on " + count(capable, threads->size()));
    return Finding::pass(check, {seen}, "it runs as uid " + uid + " without capabilities");
}

Finding judge_run_02(const CheckDefinition& check, const Facts& facts) {
    auto threads = threads_of(facts);
    if (!threads) return Finding::unknown(check, facts.why("proc.threads"));
    std::size_t open = 0;
    for (const auto& thread : *threads) open += thread.seccomp != 2;
    auto seen = facts.evidence(check, "proc.threads", "Seccomp 2 on " + count(threads->size() - open, threads->size()));
    if (open > 0) return Finding::fail(check, {seen}, "no filter on " + count(open, threads->size()));
    return Finding::pass(check, {seen}, "seccomp filters all " + std::to_string(threads->size()) + " threads");
}

Finding judge_run_03(const CheckDefinition& check, const Facts& facts) {
    auto threads = threads_of(facts);
    if (!threads) return Finding::unknown(check, facts.why("proc.threads"));
    std::size_t open = 0;
    for (const auto& thread : *threads) open += !thread.no_new_privileges;
    auto seen =
        facts.evidence(check, "proc.threads", "NoNewPrivs 1 on " + count(threads->size() - open, threads->size()));
    if (open > 0) return Finding::fail(check, {seen}, "privileges may be gained on " + count(open, threads->size()));
    return Finding::pass(check, {seen}, "no_new_privs is set on all " + std::to_string(threads->size()) + " threads");
}

}  // namespace infrastructure_sdk::isolation
