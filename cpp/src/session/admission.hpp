#pragma once
// Admission, pure: who may hold how much, and who does. Exact, because every change goes through one object.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include <infrastructure_sdk/session/limits.hpp>

namespace infrastructure_sdk {

/// Keeps running totals for each user, tenant, template and the host, so that a verdict takes O(log n) whatever is
/// held. Not thread-safe; belongs to the engine's executor. Every method either succeeds or throws and changes nothing.
///
/// A refusal names the first limit that does not hold, in this order: scopes user, tenant, template, host; within a
/// scope sessions, cpu, memory, disk, gpu, money_per_hour, money_per_month.
///
/// GPUs of one type are counted by a limit of the host with that type as its subject, after the host's own.
///
/// A limit never refuses what does not grow: a session can be suspended although its user's limit was lowered below
/// what he holds.
class Admission {
public:
    /// @throws Error(validation) when a value is out of range, a subject is missing (or given for the host and another
    /// resource than gpu), or a resource of a subject is limited twice.
    explicit Admission(std::vector<Limit> limits);
    Admission(Admission&&) = default;
    Admission& operator=(Admission&&) = default;

    /// What is held stays held, above the new limits too. Throws as the constructor.
    void set_limits(std::vector<Limit> limits);

    /// What `reserve` would say. An empty `session_id` stands for a session that does not exist yet.
    /// @throws Error(validation) for amounts out of range or a missing user.
    std::optional<Denial> check(const Reservation& wanted) const;

    /// Takes the reservation unless it is denied. An earlier one of the same session is replaced at once if the new one
    /// fits, and kept if it does not: resume, and the claim of a warm unit that bears its session's id.
    /// Throws as `check`, and when there is no `session_id`.
    std::optional<Denial> reserve(Reservation wanted);

    /// Takes it whatever the limits say, replacing an earlier one: for what is held already, as read from the store, or
    /// what `find` gave before a change that could not be written. Throws as `reserve`.
    void restore(Reservation reservation);

    /// Does nothing when the session holds nothing.
    void release(const std::string& session_id);

    std::optional<Reservation> find(const std::string& session_id) const;

    /// Warm units count for the host alone. @param subject "" for the host; a type of GPU for those that hold it.
    Amounts in_use(LimitScope scope, const std::string& subject) const;
    /// What the unclaimed warm units of a template hold.
    Amounts warm_in_use(const std::string& template_name) const;

    /// A line for each limit, ordered by scope (as refusals are), subject, resource. A limit on "*" has one for each
    /// subject that it applies to and that has a reservation; if there is none, one with the subject "*".
    std::vector<UsageLine> usage() const;

private:
    struct Account {
        Amounts total;
        std::set<const Reservation*> members;  ///< within `reservations_`
    };
    using Accounts = std::map<std::string, Account>;
    using Caps = std::array<std::optional<std::int64_t>, 7>;    ///< by LimitResource
    using Limits = std::array<std::map<std::string, Caps>, 4>;  ///< by LimitScope, then subject

    static Limits read(const std::vector<Limit>& limits);
    /// The same accounts hold another amount.
    void replace(Reservation& held, Reservation wanted);
    const Reservation* held(const std::string& session_id) const;
    std::optional<Limit> limit_on(LimitScope scope, const std::string& subject, LimitResource resource) const;
    std::optional<Denial> check_scope(const Reservation& wanted, LimitScope scope, const std::string& subject) const;
    void name_holders(Denial& denial, const Reservation* earlier) const;
    void require_countable(const Reservation& wanted) const;
    template <class Visit>
    void visit_accounts(const Reservation& reservation, Visit visit);
    void add_usage(std::vector<UsageLine>& lines, const Limit& limit) const;
    UsageLine usage_of(const Limit& limit, const std::string& subject) const;

    Limits limits_;
    std::unordered_map<std::string, Reservation> reservations_;  ///< by session
    std::array<Accounts, 4> accounts_;  ///< by LimitScope; only of subjects that have a reservation
    Accounts warm_;                     ///< by template
};

}  // namespace infrastructure_sdk
