#pragma once
// The words of admission: what a session holds, what a user, tenant, template or the host may hold, and why not more.

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/session/session.hpp>

namespace infrastructure_sdk {

enum class LimitScope { user, tenant, host, template_ };
/// "user", "tenant", "host", "template"
const char* name_of(LimitScope scope) noexcept;

enum class LimitResource {
    sessions,         ///< a count
    cpu,              ///< thousandths of a CPU
    memory,           ///< bytes
    disk,             ///< bytes
    gpu,              ///< a count
    money_per_hour,   ///< millionths of the currency: what running sessions cost an hour
    money_per_month,  ///< millionths of the currency, accrued and to come in this calendar month: see Reservation
};
const char* name_of(LimitResource resource) noexcept;

/// Exact amounts, never negative. Arithmetic either succeeds or throws and changes nothing.
struct Amounts {
    std::int64_t sessions = 0;
    std::int64_t cpu_milli = 0;
    std::int64_t memory_bytes = 0;
    std::int64_t disk_bytes = 0;
    std::int64_t gpus = 0;
    std::int64_t money_per_hour_micros = 0;
    std::int64_t money_per_month_micros = 0;

    std::int64_t& of(LimitResource resource);
    std::int64_t of(LimitResource resource) const;

    /// @throws Error(validation) when an amount is negative or a sum is out of range.
    Amounts& operator+=(const Amounts& other);
    /// @throws Error(validation) when an amount is negative or more is taken than there is.
    Amounts& operator-=(const Amounts& other);

    friend bool operator==(const Amounts&, const Amounts&) = default;
    /// `a <= b` when no amount of `a` is more than that of `b`; unordered when each has more of something.
    friend std::partial_ordering operator<=>(const Amounts& left, const Amounts& right);
};

/// At most `value` of `resource` for a subject. A limit on a subject replaces the one on "*" for that resource.
struct Limit {
    LimitScope scope = LimitScope::user;
    /// User id, tenant or template name; "*" = every one on its own; host: "", or for `gpu` a type of GPU.
    std::string subject;
    LimitResource resource = LimitResource::sessions;
    std::int64_t value = 0;  ///< in the unit of `resource`; 0 = none at all

    friend bool operator==(const Limit&, const Limit&) = default;
};

/// What one session, or one warm unit, holds.
///
/// `amounts.money_per_month_micros` is what the session has cost this month and will cost until its ttl or the month's
/// end, whichever is first: see cost_in_month. What ended sessions have cost this month is held on, as a reservation
/// with `ended` and nothing but that amount. A warm unit costs nobody's month; its price per hour counts for the host.
struct Reservation {
    std::string session_id;
    std::string user_id;        ///< needed unless `warm`
    std::string tenant;         ///< "" = none: no tenant's limit counts it
    std::string template_name;  ///< "" = none: no template's limit counts it
    bool warm = false;          ///< an unclaimed unit: counts for the host and the template's warm account only
    Amounts amounts;
    std::string gpu_type = {};  ///< of `amounts.gpus`; "" = none: no type's limit counts it
    bool ended = false;         ///< what ended sessions of that user, tenant and template have cost this month

    friend bool operator==(const Reservation&, const Reservation&) = default;
};

/// Why a reservation does not fit, or which policy denied the session: then all but `policy` and `reason` is empty.
/// When it would replace an earlier one of the same session, `in_use` and `holders` are those of the others and
/// `requested` is the whole new amount.
struct Denial {
    Limit limit;
    std::string subject;  ///< whose account is full: `limit.subject`, or the one for whom "*" stands; "" = the host
    std::int64_t in_use = 0;
    std::int64_t requested = 0;
    std::vector<std::string> holders;        ///< session ids, biggest first, at most 10
    std::size_t holder_count = 0;            ///< of all
    std::int64_t spent = 0;                  ///< of `in_use`: by sessions that have ended, so nobody can give it back
    std::string currency = {};               ///< of money, e.g. "USD"; "" = not said
    std::optional<WallTime> renews_at = {};  ///< of money per month: when the next month begins
    std::string policy = {};                 ///< the name of the policy that denied it; "" = a limit did
    std::string reason = {};                 ///< what the policy says

    /// One sentence with the limit, its value, what is in use and by whom, what was asked for, and what would help.
    std::string message() const;
    /// What would make room: "suspend or end one of them, or ask for less".
    std::string help() const;
    /// admission_denied for a policy (context: policy, reason). budget_exceeded for money; capacity for the host; else
    /// quota_exceeded. Context: scope, subject, resource, limit,
    /// in_use, requested, holders, holder_count, help; for money also spent, currency, renews_at.
    Error to_error() const;

    friend bool operator==(const Denial&, const Denial&) = default;
};

/// How far a limit is used.
struct UsageLine {
    Limit limit;
    std::string subject;  ///< as in Denial; "*" when nobody to whom the limit applies holds anything
    std::int64_t in_use = 0;
    std::int64_t free = 0;  ///< 0 when more is in use than the limit allows, as after it was lowered
    std::size_t holder_count = 0;
    std::int64_t warm = 0;      ///< of `in_use`: unclaimed warm units; the host's only
    std::int64_t spent = 0;     ///< of `in_use`: sessions that have ended, this month's money only
    std::string currency = {};  ///< of money

    friend bool operator==(const UsageLine&, const UsageLine&) = default;
};

/// What a session holds in a state, of what it holds while active. Everything from pending until its death was
/// observed, so a session that is stuck in terminating still counts. `suspended` and `failed` give back cpu, memory,
/// gpu and money per hour, and keep their place, disk and month's money. Nothing once terminated.
/// For a failed session whose VM may be alive, ask for `terminating`: only an observed death gives memory back.
Amounts held_by(SessionState state, const Amounts& full);

/// Reads a YAML (or JSON) document:
///
///     limits:
///       - {scope: user, subject: "*", sessions: 3, cpu: "4", memory: 8Gi, disk: 100Gi, gpu: 1}
///       - {scope: tenant, subject: physics, sessions: 50, money_per_hour: "0.50", money_per_month: "40.00"}
///       - {scope: host, memory: 16Gi, cpu: "8"}
///
/// A Limit for each resource, in the order of the document. Money is a quoted decimal in the configured currency.
/// Unknown or repeated keys, wrong or empty values and a resource limited twice are errors, all reported at once.
/// @param source named in errors. @throws Error(validation)
std::vector<Limit> parse_limits(const std::string& yaml, const std::string& source);

}  // namespace infrastructure_sdk
