#include <infrastructure_sdk/isolation/drift.hpp>

#include <algorithm>
#include <utility>

namespace infrastructure_sdk {
namespace {

bool is_failure(FindingStatus status) { return status == FindingStatus::fail || status == FindingStatus::waived; }

/// pass and not_applicable are equally good, fail and waived equally bad.
int rank(FindingStatus status) {
    if (is_failure(status)) return 0;
    return status == FindingStatus::unknown ? 1 : 2;
}

}  // namespace

bool Drift::has_failure() const {
    return std::any_of(changes.begin(), changes.end(), [](const auto& change) { return is_failure(change.to); });
}

bool Drift::is_restored() const {
    return std::all_of(changes.begin(), changes.end(),
                       [](const auto& change) { return rank(change.to) > rank(change.from); });
}

std::optional<Drift> DriftDetector::observe(const IsolationReport& report) {
    Drift drift{report.id, report.instance_epoch, verdict_, report.score.verdict, {}};
    const bool first = known_.empty();
    for (const auto& finding : report.findings) {
        const auto* check = &finding.check();
        auto known = std::find_if(known_.begin(), known_.end(), [&](const auto& one) { return one.check == check; });
        if (known == known_.end()) {
            known_.push_back({check, finding.status(), rank(finding.status()) == 2});
            continue;
        }
        const auto status = finding.status();
        const bool unseen = status == FindingStatus::unknown;
        const bool again = std::exchange(known->unseen, unseen && rank(known->told) == 2);
        if (rank(status) == rank(known->told)) {
            known->told = status;
            continue;
        }
        if (unseen && (is_failure(known->told) || !again)) continue;
        drift.changes.push_back({check->id, check->severity, known->told, status, finding.reason()});
        known->told = status;
        known->was_good = known->was_good || rank(status) == 2;
        known->unseen = false;
    }
    if (first) verdict_ = report.score.verdict;
    if (drift.changes.empty()) return std::nullopt;
    verdict_ = report.score.verdict;
    return drift;
}

bool DriftDetector::is_failing() const {
    return std::any_of(known_.begin(), known_.end(),
                       [](const auto& known) { return known.was_good && is_failure(known.told); });
}

}  // namespace infrastructure_sdk
