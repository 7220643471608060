#include <infrastructure_sdk/isolation/isolation.hpp>

#include <algorithm>
#include <array>

#include "isolation/facts.hpp"

namespace infrastructure_sdk {
namespace {

/// Why this evidence supports neither a pass nor a not_applicable; empty when it does.
std::string insufficient(const CheckDefinition& check, Strength floor, const std::vector<Evidence>& evidence) {
    if (evidence.empty()) return "no evidence was given";
    bool enough = false;
    for (const auto& item : evidence) {
        if (item.check_id != check.id) return "an evidence is of another check: " + item.check_id;
        if (item.source.empty() || item.sha256.empty() || item.instance_epoch.empty())
            return "an evidence does not tell its source, its digest or whom it is of";
        if (item.session_id != evidence.front().session_id || item.instance_epoch != evidence.front().instance_epoch)
            return "the evidence is of more than one subject";
        enough = enough || (item.strength > Strength::e0 && item.strength >= floor &&
                            isolation::vantage_factor(item.vantage) > 0);
    }
    return enough ? ""
                  : std::string("the evidence is weaker than ") + name_of(floor) + " or comes from the guest alone";
}

}  // namespace

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
    if (auto why = insufficient(check, check.floor, evidence); !why.empty())
        return unknown(check, why, std::move(evidence));
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
    if (auto why = insufficient(check, std::min(check.floor, Strength::e3), evidence); !why.empty())
        return unknown(check, why, std::move(evidence));
    Finding finding;
    finding.check_ = &check;
    finding.status_ = FindingStatus::not_applicable;
    finding.reason_ = std::move(reason);
    finding.evidence_ = std::move(evidence);
    return finding;
}

Finding Finding::waived(const Finding& failure, const Waiver& waiver, WallTime now) {
    auto session = failure.evidence_.empty() ? std::string() : failure.evidence_.front().session_id;
    bool holds = failure.status_ == FindingStatus::fail && waiver.check_id == failure.check_->id &&
                 (waiver.session_id.empty() || waiver.session_id == session) && now < waiver.expires_at &&
                 !waiver.id.empty() && !waiver.reason.empty() && !waiver.approved_by.empty();
    if (!holds) return failure;
    Finding finding = failure;
    finding.status_ = FindingStatus::waived;
    finding.reason_ += "; accepted by " + waiver.approved_by + " (" + waiver.id + "): " + waiver.reason;
    return finding;
}

}  // namespace infrastructure_sdk
