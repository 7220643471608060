#pragma once
// What changed in a session's isolation between one look and the next. Pure.

#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/isolation/isolation.hpp>

namespace infrastructure_sdk {

/// A check whose answer is another one now.
struct DriftChange {
    std::string check_id;
    Severity severity{};
    FindingStatus from{};
    FindingStatus to{};
    std::string reason;  ///< of the finding as it is now
};

struct Drift {
    std::string report_id;       ///< of the report that shows it
    std::string instance_epoch;  ///< of the process that was looked at
    Verdict from{};
    Verdict to{};
    std::vector<DriftChange> changes;  ///< by check id, at least one

    /// A check fails that did not.
    bool has_failure() const;
    /// Every change is for the better.
    bool is_restored() const;
};

/// Follows one session from report to report, also over suspend and resume. A failure is told at the first look that
/// shows it; one that is seen no more is over only when its check passes or does not apply, not when nobody could look.
/// What could not be looked at is told at the second look in a row: a passing trouble is no news. Not thread-safe.
class DriftDetector {
public:
    /// @param report of all layers. nullopt = the first report, or nothing to tell.
    std::optional<Drift> observe(const IsolationReport& report);
    bool has_looked() const { return !known_.empty(); }
    /// A check that was good once fails, as far as the last report shows.
    bool is_failing() const;

private:
    struct Known {
        const CheckDefinition* check;
        FindingStatus told;
        bool was_good;
        bool unseen = false;  // the last look could not see it, which is not told yet
    };
    std::vector<Known> known_;
    Verdict verdict_ = Verdict::unproven;  // as told last
};

}  // namespace infrastructure_sdk
