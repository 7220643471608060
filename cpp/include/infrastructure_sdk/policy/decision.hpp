#pragma once
// The points at which a policy decides: what it is told, and what it may answer. Values only: a policy reads no clock,
// draws nothing at random and does no I/O, so the same request always has the same answer and can be asked again.
//
// An answer of `standard` (the default of each decision) leaves it to the engine's own rules.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/vm/vm_place.hpp>

namespace infrastructure_sdk {

/// Of requests and decisions; it grows when a field or an answer is added.
constexpr int policy_schema_version = 1;
/// Of a reason; bytes.
constexpr std::size_t policy_text_limit = 2000;
/// How much larger than it would be a session can be made.
constexpr int policy_size_factor = 16;

enum class DecisionPoint { admit, place, size, idle, schedule, budget, isolation, interruption };
constexpr std::size_t decision_point_count = 8;
const char* name_of(DecisionPoint point) noexcept;
/// @throws Error(validation)
DecisionPoint parse_decision_point(const std::string& name);

/// What a policy is told of a session, as of the moment of its request.
struct PolicySession {
    std::string id;  ///< empty when it is asked for and does not exist yet
    std::string user_id;
    std::string tenant;  ///< empty = none
    std::string template_name;
    std::string session_type;
    std::string state;  ///< "active", ...: the name of a SessionState
    double cpu_cores = 0;
    std::int64_t memory_bytes = 0;
    std::int64_t disk_bytes = 0;
    std::int64_t gpu_count = 0;
    std::string gpu_type;
    std::map<std::string, std::string> tags;
    WallTime created_at;
    std::optional<WallTime> last_activity_at;
    std::optional<WallTime> expires_at;
    double price_per_hour = 0;  ///< while it runs, in the configured currency
    friend bool operator==(const PolicySession&, const PolicySession&) = default;
};

/// How much is in use when the request is made.
struct PolicyUsage {
    std::int64_t sessions_of_user = 0;    ///< that are not terminated
    std::int64_t sessions_of_tenant = 0;  ///< 0 without a tenant
    std::int64_t sessions = 0;            ///< of everybody
    std::int64_t gpus_of_user = 0;
    std::int64_t gpus = 0;  ///< of everybody
    friend bool operator==(const PolicyUsage&, const PolicyUsage&) = default;
};

/// May this session be created? Asked before the limits, which apply all the same.
struct AdmitRequest {
    WallTime now;
    PolicySession session;
    PolicyUsage usage;
    friend bool operator==(const AdmitRequest&, const AdmitRequest&) = default;
};
struct AdmitDecision {
    enum class Action { standard, deny };
    Action action = Action::standard;
    std::string reason;  ///< for people; of a denial it is what the user reads
    friend bool operator==(const AdmitDecision&, const AdmitDecision&) = default;
};

const char* name_of(AdmitDecision::Action action) noexcept;
/// @throws Error(validation)
AdmitDecision::Action parse_admit_action(const std::string& name);

using PlaceCandidate = VmPlace;
/// Where? Asked before a session's VM is made, by providers that have more than one place for it; a unit of a pool has
/// no session yet and is not asked about.
struct PlaceRequest {
    WallTime now;
    PolicySession session;
    std::vector<PlaceCandidate> candidates;  ///< all of them fit
    friend bool operator==(const PlaceRequest&, const PlaceRequest&) = default;
};
struct PlaceDecision {
    std::string candidate;  ///< the name of one of them; empty = standard
    std::string reason;
    friend bool operator==(const PlaceDecision&, const PlaceDecision&) = default;
};

/// How large? Asked at the creation, before admission.
struct SizeRequest {
    WallTime now;
    PolicySession session;  ///< with the size that it would have
    friend bool operator==(const SizeRequest&, const SizeRequest&) = default;
};
struct SizeDecision {
    std::optional<double> cpu_cores;           ///< none = standard; above zero, at most policy_size_factor times
    std::optional<std::int64_t> memory_bytes;  ///< the same
    std::string reason;
    friend bool operator==(const SizeDecision&, const SizeDecision&) = default;
};

/// What may happen to a running session.
enum class SessionAction {
    standard,  ///< what the engine would do without the policy
    keep,      ///< nothing
    disconnect,
    suspend,
    terminate,
};
const char* name_of(SessionAction action) noexcept;
/// @throws Error(validation)
SessionAction parse_session_action(const std::string& name);

/// The idle clock has run out: what now? A session whose use could not be seen is never asked about.
struct IdleRequest {
    WallTime now;
    PolicySession session;
    Duration quiet_for{};
    Duration idle_timeout{};
    std::int64_t connections = 0;  ///< display clients and forwarded connections
    bool use_fully_seen = true;    ///< false when a wanted signal (network, disk) could not be looked at
    SessionAction standard = SessionAction::suspend;
    friend bool operator==(const IdleRequest&, const IdleRequest&) = default;
};

/// Asked of each running session at a fixed interval: do the hours say something about it?
struct ScheduleRequest {
    WallTime now;
    PolicySession session;
    std::optional<Duration> quiet_for;  ///< none when its use is not watched or could not be seen
    friend bool operator==(const ScheduleRequest&, const ScheduleRequest&) = default;
};

/// Asked of each running session at a fixed interval.
struct BudgetRequest {
    WallTime now;
    PolicySession session;
    double spent_by_session = 0;          ///< this month, in the configured currency
    double spent_by_user = 0;             ///< this month, all sessions
    double spent_by_tenant = 0;           ///< this month; 0 without a tenant
    std::optional<double> limit_of_user;  ///< the smallest monthly limit that applies; none = no limit
    std::optional<double> limit_of_tenant;
    std::string currency;
    friend bool operator==(const BudgetRequest&, const BudgetRequest&) = default;
};

/// The isolation of a session was looked at: what follows? Only an answer that is stricter than `standard` is carried
/// out (keep < disconnect < suspend < terminate).
struct IsolationRequest {
    WallTime now;
    PolicySession session;
    std::string verdict;     ///< "isolated", "degraded", "unproven" or "not_isolated"
    double score_lower = 0;  ///< 0..100
    double score_upper = 0;
    std::vector<std::string> failed_checks;  ///< ids, sorted
    bool is_start = false;                   ///< the gate before the session becomes active
    SessionAction standard = SessionAction::keep;
    friend bool operator==(const IsolationRequest&, const IsolationRequest&) = default;
};

/// The host will take resources away.
struct InterruptionRequest {
    WallTime now;
    PolicySession session;
    std::string kind;                  ///< "disk_full", "memory_pressure"; later "spot", "maintenance"
    std::optional<WallTime> deadline;  ///< none = not known
    SessionAction standard = SessionAction::keep;
    friend bool operator==(const InterruptionRequest&, const InterruptionRequest&) = default;
};

/// The answer at idle, schedule, budget, isolation and interruption.
struct SessionDecision {
    SessionAction action = SessionAction::standard;
    std::string reason;
    /// With `keep`: do not ask again before. None = at the next look. At most a day counts. With `standard` the same
    /// at schedule and budget, for a policy that knows when its answer may change; it holds over a suspension too. At
    /// the other points it means nothing.
    std::optional<Duration> ask_again_after;
    friend bool operator==(const SessionDecision&, const SessionDecision&) = default;
};

/// In the order of DecisionPoint.
using PolicyRequest = std::variant<AdmitRequest, PlaceRequest, SizeRequest, IdleRequest, ScheduleRequest, BudgetRequest,
                                   IsolationRequest, InterruptionRequest>;
using PolicyDecision = std::variant<AdmitDecision, PlaceDecision, SizeDecision, SessionDecision>;

DecisionPoint point_of(const PolicyRequest& request) noexcept;
const PolicySession& session_of(const PolicyRequest& request) noexcept;
/// The decision that leaves it to the engine.
PolicyDecision standard_decision(DecisionPoint point);
bool is_standard(const PolicyDecision& decision) noexcept;
const std::string& reason_of(const PolicyDecision& decision) noexcept;
/// "deny", "suspend", "resize", "place", ...; "standard" of one that leaves it to the engine.
std::string action_of(const PolicyDecision& decision);
/// Whether it is one that can be carried out: of the type of its point, in bounds, about what was asked.
/// @throws Error(policy) naming the field, the value and what is allowed.
void check(const PolicyDecision& decision, const PolicyRequest& request);

/// Stable JSON with sorted keys, one line: for the audit, for replays and for policies in another process. Times are
/// RFC 3339 with nanoseconds, durations in seconds (a double: exact to the nanosecond up to 26 days), what is not there
/// is null. A request also has `point` and `schema_version`. Bytes that are not UTF-8 are replaced.
std::string to_json(const PolicyRequest& request);
std::string to_json(const PolicyDecision& decision);
/// Fields that are missing have their defaults, so that what an older version wrote can be read. @throws
/// Error(validation) naming the field: unknown fields, other types and newer schema versions are refused.
PolicyRequest policy_request_from_json(const std::string& text);
PolicyDecision policy_decision_from_json(DecisionPoint point, const std::string& text);

}  // namespace infrastructure_sdk
