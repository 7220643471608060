#pragma once
// Who answers at the decision points.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/async.hpp>
#include <infrastructure_sdk/deadline.hpp>
#include <infrastructure_sdk/policy/decision.hpp>

namespace infrastructure_sdk {

/// Which policy it was: goes into every event about a decision.
struct PolicyIdentity {
    std::string name;
    std::string version;  ///< as its author says; may be empty
    std::string author;   ///< may be empty
    std::string sha256;   ///< lower-case hex of its source; of built-in rules, of their settings
    friend bool operator==(const PolicyIdentity&, const PolicyIdentity&) = default;
};

/// What became of one question.
struct PolicyAnswer {
    enum class Outcome {
        decided,
        failed,     ///< it raised
        timed_out,  ///< no answer within its budget; it may still run
        invalid,    ///< not a decision of that point, or out of bounds
        refused,    ///< not asked: not loaded, out of memory budget, or its process is gone
    };
    Outcome outcome = Outcome::decided;
    PolicyDecision decision;  ///< the standard one unless `decided`
    std::string detail;       ///< of all but `decided`: why, for people; at most 2000 bytes
    Duration took{};          ///< as measured by the host's own clock; zero under a virtual clock
    std::string state;        ///< JSON that the policy asks to be given next time; empty = unchanged
};
const char* name_of(PolicyAnswer::Outcome outcome) noexcept;

/// An answer that leaves it to the engine, and why. Of `detail` 2000 bytes are kept, cut between characters.
PolicyAnswer not_decided(PolicyAnswer::Outcome outcome, DecisionPoint point, std::string detail);

/// For one answer, unless something else is said.
constexpr Duration standard_time_budget = std::chrono::milliseconds(50);
/// Of a policy in Python, in bytes, unless something else is said.
constexpr std::size_t standard_memory_budget = 64u << 20;
/// A PolicyAnswer's state may have so many bytes.
constexpr std::size_t policy_state_limit = 16 * 1024;

/// One loaded policy. Hosts are: built-in rules, Python in this process, Python in a process of its own. Called on the
/// engine's executor.
class PolicyHost {
public:
    virtual ~PolicyHost() = default;
    virtual const PolicyIdentity& identity() const = 0;
    /// The points that it wants to be asked at.
    virtual std::vector<DecisionPoint> points() const = 0;
    /// Never throws for what the policy does; `call` has its time budget as a deadline. @param state what it left
    /// last time for this session, or empty. @throws Error(cancelled) when the call is stopped.
    virtual Task<PolicyAnswer> decide(PolicyRequest request, std::string state, Call call) = 0;
    /// The same, for a host that can tell at once without blocking: then nothing is waited for and `decide` is not
    /// called. nullopt = it cannot.
    virtual std::optional<PolicyAnswer> decide_now(const PolicyRequest& request, const std::string& state) {
        (void)request, (void)state;
        return std::nullopt;
    }
    /// Of one in a process of its own: what this host does not allow, each with its reason ("network: Operation not
    /// permitted"); empty = all of it is in force.
    virtual std::vector<std::string> missing_protections() const { return {}; }
    /// Questions that it has given up and that the policy still has not come back from: each keeps a thread and may
    /// keep a core.
    virtual std::size_t overdue() const { return 0; }
    /// Lets go; nothing may be asked afterwards. Completes when what can be ended has ended.
    virtual Task<void> close() = 0;
};

}  // namespace infrastructure_sdk
