#pragma once
// Findings with the status that a test wants, upon evidence that supports it.

#include <stdexcept>
#include <string>
#include <vector>

#include <infrastructure_sdk/isolation/isolation.hpp>

namespace infrastructure_sdk::test {

/// Complete evidence of kernel state, as the collectors make it.
inline Evidence evidence_for(const CheckDefinition& check, WallTime collected_at) {
    Evidence item;
    item.id = std::string(check.id) + "/proc.threads";
    item.check_id = check.id;
    item.session_id = "session-1";
    item.instance_epoch = "boot/4711/99/uuid";
    item.source = "procfs";
    item.locator = "/proc/4711/task/*/status";
    item.vantage = "node";
    item.strength = Strength::e3;
    item.collected_at = collected_at;
    item.sha256 = std::string(64, '0');
    return item;
}

inline Finding make_finding(const CheckDefinition& check, FindingStatus status, std::vector<Evidence> evidence) {
    switch (status) {
        case FindingStatus::pass: return Finding::pass(check, std::move(evidence), "as it should be");
        case FindingStatus::fail: return Finding::fail(check, std::move(evidence), "not as it should be");
        case FindingStatus::unknown: return Finding::unknown(check, "could not look", std::move(evidence));
        case FindingStatus::not_applicable: return Finding::not_applicable(check, std::move(evidence), "there is none");
        case FindingStatus::waived:
            return Finding::waived(Finding::fail(check, std::move(evidence), "not as it should be"),
                                   {"w-1", check.id, "", "known", "an admin", WallTime::max()}, WallTime());
    }
    throw std::logic_error("there is no such status");
}

inline Finding make_finding(const CheckDefinition& check, FindingStatus status, WallTime collected_at) {
    std::vector<Evidence> evidence;
    if (status != FindingStatus::unknown) evidence.push_back(evidence_for(check, collected_at));
    return make_finding(check, status, std::move(evidence));
}

}  // namespace infrastructure_sdk::test
