#pragma once
// Evidence supports a Finding of a Check; Findings make an IsolationReport.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

enum class Layer { compute, network, storage, runtime, memory };
enum class Severity { low, medium, high, critical };
enum class FindingStatus { pass, fail, unknown, not_applicable, waived };
enum class Verdict { isolated, degraded, unproven, not_isolated };
/// E0 our own intent .. E4 behaviour observed two-sided.
enum class Strength { e0, e1, e2, e3, e4 };
const char* name_of(Layer) noexcept;
const char* name_of(Severity) noexcept;
const char* name_of(FindingStatus) noexcept;
const char* name_of(Verdict) noexcept;
const char* name_of(Strength) noexcept;

/// What was seen, where, when and of whom.
struct Evidence {
    std::string id;
    std::string check_id;
    std::string session_id;
    std::string instance_epoch;  ///< boot id, pid, start time: void when any changes
    std::string source;          ///< "procfs", "qmp", "file-stat", ...
    std::string locator;
    std::string vantage;  ///< "node", "guest", "peer", ...
    Strength strength = Strength::e0;
    WallTime collected_at;
    Duration ttl = std::chrono::seconds(30);
    std::string sha256;   ///< of the raw bytes, hex
    std::string excerpt;  ///< redacted, at most 500 characters
};

struct CheckDefinition {
    const char* id;
    Layer layer;
    Severity severity;
    Strength floor;
    const char* title;       ///< what a pass proves
    const char* root_cause;  ///< failures with the same word count once
    const char* fix;
    const char* controls;            ///< "SC-39, SC-49"
    std::vector<std::string> facts;  ///< names of the facts it reads of a local VM; "neighbours:X" = X of every other
    std::vector<std::string> kubernetes_facts{};  ///< of a cluster's VM: "k8s:", "exec:", "agent:", "probe."
    const char* meaning = "";                     ///< for people: what a failure would let somebody do
};

/// A person's decision to live with a failure, for a time.
struct Waiver {
    std::string id;
    std::string check_id;
    std::string session_id;  ///< empty = every session
    std::string reason;
    std::string approved_by;
    WallTime expires_at;
};

/// Made only by the functions below, so that a pass without evidence cannot be written.
class Finding {
public:
    /// `unknown` instead when the evidence is below the check's floor or E0, comes from the guest alone, does not tell
    /// its source, digest and instance epoch, or is of another check or of more than one subject.
    static Finding pass(const CheckDefinition&, std::vector<Evidence> evidence, std::string sentence);
    static Finding fail(const CheckDefinition&, std::vector<Evidence> evidence, std::string sentence);
    static Finding unknown(const CheckDefinition&, std::string reason, std::vector<Evidence> evidence = {});
    /// Needs evidence like a pass: why it does not apply. Kernel state (E3) is enough also for a check whose pass needs
    /// a probe: where there is nothing, there is nothing to try.
    static Finding not_applicable(const CheckDefinition&, std::vector<Evidence> evidence, std::string reason);
    /// The failure as accepted; the score still counts it. The failure unchanged when it is none, or when the waiver is
    /// of another check or session, has ended by `now`, or does not tell its reason and who approved it.
    static Finding waived(const Finding& failure, const Waiver& waiver, WallTime now);

    const CheckDefinition& check() const { return *check_; }
    FindingStatus status() const { return status_; }
    const std::string& reason() const { return reason_; }
    const std::vector<Evidence>& evidence() const { return evidence_; }

private:
    Finding() = default;
    const CheckDefinition* check_ = nullptr;
    FindingStatus status_ = FindingStatus::unknown;
    std::string reason_;
    std::vector<Evidence> evidence_;
};

/// facts: severity -> loss p (critical .90, high .50, medium .20, low .05); noisy-OR over root causes; weakest layer.
struct Score {
    double lower = 0;       ///< unknown counts as fail, 0..100
    double upper = 100;     ///< unknown counts as pass
    double coverage = 0;    ///< share of the weight that was decided, 0..1
    double confidence = 0;  ///< 0..1
    Verdict verdict = Verdict::unproven;
};
/// Pure. `now` ages the evidence: from ttl to twice ttl its weight falls to zero, then the pass (or the not_applicable)
/// that rests on it becomes unknown. With nothing decided the verdict is unproven; with nothing applicable the bounds
/// are 0 and 100.
Score score(const std::vector<Finding>& findings, WallTime now);

struct LayerScore {
    Layer layer;
    double lower;
    double upper;
};
/// Of the layers to which any of the findings applies.
std::vector<LayerScore> layer_scores(const std::vector<Finding>& findings, WallTime now);

struct IsolationReport {
    std::string id;
    std::string session_id;
    std::string vm_id;
    std::string instance_epoch;
    WallTime created_at;
    Duration elapsed{};
    Score score;
    std::vector<LayerScore> layers;
    std::vector<Finding> findings;             ///< ordered by check id
    std::vector<std::string> recommendations;  ///< what raises the lower bound most, first
    std::vector<Waiver> waivers;               ///< those that made a failure a waived one
};

/// The checks that this build knows.
const std::vector<CheckDefinition>& check_catalogue();

}  // namespace infrastructure_sdk
