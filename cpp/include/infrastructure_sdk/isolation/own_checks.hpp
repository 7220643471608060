#pragma once
// Checks of the user's own, beside those of the catalogue: in reports, score, drift and exports alike.

#include <functional>
#include <map>
#include <string>
#include <vector>

#include <infrastructure_sdk/isolation/isolation.hpp>

namespace infrastructure_sdk {

/// What an own check says. `waived` counts as unknown: only a signed waiver waives.
struct OwnVerdict {
    FindingStatus status = FindingStatus::unknown;
    std::string reason;  ///< a sentence; empty = the check's title
};

/// The facts that the check named, by name, as JSON text; that of "neighbours:X" is an object of X by session id.
using OwnFacts = std::map<std::string, std::string>;

struct OwnCheck {
    std::string id;  ///< two to four words of capitals and digits with hyphens, e.g. "ACME-01"; none of the catalogue's
    Layer layer{};
    Severity severity{};
    Strength floor = Strength::e3;  ///< a pass needs evidence this strong; E1 to E4
    std::string title;              ///< what a pass proves
    std::string fix;
    std::string root_cause;  ///< failures with the same word count once; empty = the id
    std::string controls;    ///< "SC-39, SC-49"
    std::string meaning;     ///< for people: what a failure would let somebody do
    /// What it reads: names that the catalogue's checks read, "qmp:query-..." and "hmp:info ..."; "neighbours:X" = X of
    /// every other session. At least one.
    std::vector<std::string> facts;
    /// Pure, from the facts to a verdict, on any thread. It is asked only when every fact could be had: otherwise the
    /// finding is `unknown`. When it throws, or takes longer than five seconds, its own finding is `unknown` with that
    /// reason, and no other is touched.
    std::function<OwnVerdict(const OwnFacts&)> judge;
};

}  // namespace infrastructure_sdk
