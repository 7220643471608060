#pragma once
// The words of admission: what a session holds, what a user, tenant, template or the host may hold, and why not more.

#include <compare>
#include <cstdint>
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
    money_per_hour,   ///< millionths of a dollar, while the session runs
    money_per_month,  ///< millionths of a dollar, accrued and committed: see Reservation
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
    std::string subject;  ///< user id, tenant or template name; "*" = every one on its own; host: ""
    LimitResource resource = LimitResource::sessions;
    std::int64_t value = 0;  ///< in the unit of `resource`; 0 = none at all

    friend bool operator==(const Limit&, const Limit&) = default;
};

/// What one session, or one warm unit, holds.
///
/// `amounts.money_per_month_micros` is the caller's projection: what the session has cost this month and will cost
/// until it expires. What ended sessions have cost this month stays in the budget only while it is held, as a
/// reservation of its own with nothing but that amount.
struct Reservation {
    std::string session_id;
    std::string user_id;        ///< needed unless `warm`
    std::string tenant;         ///< "" = none: no tenant's limit counts it
    std::string template_name;  ///< "" = none: no template's limit counts it
    bool warm = false;          ///< an unclaimed unit: counts for the host and the template's warm account only
    Amounts amounts;

    friend bool operator==(const Reservation&, const Reservation&) = default;
};

/// Why a reservation does not fit. When it would replace an earlier one of the same session, `in_use` and `holders` are
/// those of the others and `requested` is the whole new amount.
struct Denial {
    Limit limit;
    std::string subject;  ///< whose account is full: `limit.subject`, or the one for whom "*" stands; "" = the host
    std::int64_t in_use = 0;
    std::int64_t requested = 0;
    std::vector<std::string> holders;  ///< session ids, biggest first, at most 10
    std::size_t holder_count = 0;      ///< of all

    /// One sentence with the limit, its value, what is in use and by whom, and what was asked for.
    std::string message() const;
    /// budget_exceeded for money; capacity for the host; else quota_exceeded. Context: scope, subject, resource, limit,
    /// in_use, requested, holders, holder_count.
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
/// A Limit for each resource, in the order of the document. Money is a quoted decimal of dollars. Unknown or repeated
/// keys, wrong or empty values and a resource limited twice are errors, all reported at once.
/// @param source named in errors. @throws Error(validation)
std::vector<Limit> parse_limits(const std::string& yaml, const std::string& source);

}  // namespace infrastructure_sdk
