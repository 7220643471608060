#include <infrastructure_sdk/isolation/isolation.hpp>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace infrastructure_sdk {

const char* name_of(Layer value) noexcept {
    constexpr std::array<const char*, 5> names{"compute", "network", "storage", "runtime", "memory"};
    return names[static_cast<std::size_t>(value)];
}
const char* name_of(Severity value) noexcept {
    constexpr std::array<const char*, 4> names{"low", "medium", "high", "critical"};
    return names[static_cast<std::size_t>(value)];
}
const char* name_of(FindingStatus value) noexcept {
    constexpr std::array<const char*, 5> names{"pass", "fail", "unknown", "not_applicable", "waived"};
    return names[static_cast<std::size_t>(value)];
}
const char* name_of(Verdict value) noexcept {
    constexpr std::array<const char*, 4> names{"isolated", "degraded", "unproven", "not_isolated"};
    return names[static_cast<std::size_t>(value)];
}
const char* name_of(Strength value) noexcept {
    constexpr std::array<const char*, 5> names{"E0", "E1", "E2", "E3", "E4"};
    return names[static_cast<std::size_t>(value)];
}

Finding Finding::pass(const CheckDefinition& check, std::vector<Evidence> evidence, std::string sentence) {
    if (evidence.empty()) return unknown(check, "no evidence was given for a pass");
    bool enough = std::any_of(evidence.begin(), evidence.end(), [&](const Evidence& item) {
        return item.strength >= check.floor && item.vantage != "guest";
    });
    if (!enough)
        return unknown(check, std::string("the evidence is weaker than ") + name_of(check.floor) + " or comes from the guest alone",
                       std::move(evidence));
    Finding finding;
    finding.check_ = &check;
    finding.status_ = FindingStatus::pass;
    finding.reason_ = std::move(sentence);
    finding.evidence_ = std::move(evidence);
    return finding;
}

Finding Finding::fail(const CheckDefinition& check, std::vector<Evidence> evidence, std::string sentence) {
    Finding finding;
    finding.check_ = &check;
    finding.status_ = FindingStatus::fail;
    finding.reason_ = std::move(sentence);
    finding.evidence_ = std::move(evidence);
    return finding;
}

Finding Finding::unknown(const CheckDefinition& check, std::string reason, std::vector<Evidence> evidence) {
    Finding finding;
    finding.check_ = &check;
    finding.reason_ = std::move(reason);
    finding.evidence_ = std::move(evidence);
    return finding;
}

Finding Finding::not_applicable(const CheckDefinition& check, std::vector<Evidence> evidence, std::string reason) {
    if (evidence.empty()) return unknown(check, "no evidence was given that it does not apply");
    Finding finding;
    finding.check_ = &check;
    finding.status_ = FindingStatus::not_applicable;
    finding.reason_ = std::move(reason);
    finding.evidence_ = std::move(evidence);
    return finding;
}

}  // namespace infrastructure_sdk
