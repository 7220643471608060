#include "session/admission.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "session/amounts.hpp"

namespace infrastructure_sdk {
namespace {

constexpr std::size_t holders_named = 10;

std::size_t index(LimitScope scope) { return static_cast<std::size_t>(scope); }
std::size_t index(LimitResource resource) { return static_cast<std::size_t>(resource); }

[[noreturn]] void reject(const std::string& field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, field + ": '" + value + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

/// Null when the reservation has no account in that scope.
const std::string* subject_of(const Reservation& reservation, LimitScope scope) {
    static const std::string host;
    auto unless_warm = [&](const std::string& subject) {
        return reservation.warm || subject.empty() ? nullptr : &subject;
    };
    switch (scope) {
        case LimitScope::user: return unless_warm(reservation.user_id);
        case LimitScope::tenant: return unless_warm(reservation.tenant);
        case LimitScope::template_: return unless_warm(reservation.template_name);
        case LimitScope::host: break;
    }
    return &host;
}

Amounts amounts_in(const Reservation* reservation, LimitScope scope, const std::string& subject) {
    if (!reservation) return {};
    if (scope == LimitScope::host && !subject.empty())
        return reservation->gpu_type == subject ? reservation->amounts : Amounts{};
    const auto* own = subject_of(*reservation, scope);
    return own && *own == subject ? reservation->amounts : Amounts{};
}

bool has_same_accounts(const Reservation& a, const Reservation& b) {
    return a.user_id == b.user_id && a.tenant == b.tenant && a.template_name == b.template_name && a.warm == b.warm &&
           a.gpu_type == b.gpu_type;
}

void require_session(const Reservation& reservation) {
    if (reservation.session_id.empty()) reject("session_id", "", "a session's id is needed");
}

}  // namespace

Admission::Admission(std::vector<Limit> limits) : limits_(read(limits)) {}

void Admission::set_limits(std::vector<Limit> limits) { limits_ = read(limits); }

Admission::Limits Admission::read(const std::vector<Limit>& limits) {
    Limits result;
    for (const auto& limit : limits) {
        bool host = limit.scope == LimitScope::host;
        bool gpu_type = host && limit.resource == LimitResource::gpu;
        if (host != limit.subject.empty() && !gpu_type)
            reject("subject", limit.subject, host ? "the host has no subject" : "a subject or \"*\" is needed");
        require_amount(limit.resource, limit.value, name_of(limit.resource));
        auto& cap = result[index(limit.scope)][limit.subject][index(limit.resource)];
        if (cap)
            reject("subject", limit.subject,
                   std::string("one limit of ") + name_of(limit.resource) + " for each " + name_of(limit.scope));
        cap = limit.value;
    }
    return result;
}

std::optional<Denial> Admission::check(const Reservation& wanted) const {
    require_countable(wanted);
    for (auto scope : limit_scopes)
        if (const auto* subject = subject_of(wanted, scope))
            if (auto denial = check_scope(wanted, scope, *subject)) return denial;
    if (wanted.gpu_type.empty()) return std::nullopt;
    return check_scope(wanted, LimitScope::host, wanted.gpu_type);
}

std::optional<Denial> Admission::reserve(Reservation wanted) {
    require_session(wanted);
    if (auto denial = check(wanted)) return denial;
    restore(std::move(wanted));
    return std::nullopt;
}

void Admission::restore(Reservation reservation) {
    require_session(reservation);
    require_countable(reservation);
    if (auto held = reservations_.find(reservation.session_id); held != reservations_.end()) {
        if (has_same_accounts(held->second, reservation)) return replace(held->second, std::move(reservation));
        release(reservation.session_id);
    }
    auto& kept = reservations_[reservation.session_id];
    kept = std::move(reservation);
    visit_accounts(kept, [&](Accounts& accounts, const std::string& subject) {
        auto& account = accounts[subject];
        account.total += kept.amounts;
        account.members.insert(&kept);
    });
}

void Admission::replace(Reservation& held, Reservation wanted) {
    visit_accounts(held, [&](Accounts& accounts, const std::string& subject) {
        auto& total = accounts.find(subject)->second.total;
        total -= held.amounts;
        total += wanted.amounts;
    });
    held = std::move(wanted);
}

void Admission::release(const std::string& session_id) {
    auto found = reservations_.find(session_id);
    if (found == reservations_.end()) return;
    const auto& held = found->second;
    visit_accounts(held, [&](Accounts& accounts, const std::string& subject) {
        auto account = accounts.find(subject);
        account->second.total -= held.amounts;
        account->second.members.erase(&held);
        if (account->second.members.empty()) accounts.erase(account);
    });
    reservations_.erase(found);
}

std::optional<Reservation> Admission::find(const std::string& session_id) const {
    const auto* reservation = held(session_id);
    return reservation ? std::optional(*reservation) : std::nullopt;
}

Amounts Admission::in_use(LimitScope scope, const std::string& subject) const {
    const auto& accounts = accounts_[index(scope)];
    auto found = accounts.find(subject);
    return found == accounts.end() ? Amounts{} : found->second.total;
}

Amounts Admission::warm_in_use(const std::string& template_name) const {
    auto found = warm_.find(template_name);
    return found == warm_.end() ? Amounts{} : found->second.total;
}

std::vector<UsageLine> Admission::usage() const {
    std::vector<UsageLine> lines;
    for (auto scope : limit_scopes)
        for (const auto& [subject, caps] : limits_[index(scope)])
            for (auto resource : limit_resources)
                if (auto cap = caps[index(resource)]) add_usage(lines, {scope, subject, resource, *cap});
    return lines;
}

const Reservation* Admission::held(const std::string& session_id) const {
    auto found = reservations_.find(session_id);
    return found == reservations_.end() ? nullptr : &found->second;
}

std::optional<Limit> Admission::limit_on(LimitScope scope, const std::string& subject, LimitResource resource) const {
    const auto& limits = limits_[index(scope)];
    for (const auto& candidate : {subject, std::string("*")}) {
        auto found = limits.find(candidate);
        if (found == limits.end()) continue;
        if (auto cap = found->second[index(resource)]) return Limit{scope, candidate, resource, *cap};
    }
    return std::nullopt;
}

std::optional<Denial> Admission::check_scope(const Reservation& wanted, LimitScope scope,
                                             const std::string& subject) const {
    if (limits_[index(scope)].empty()) return std::nullopt;
    const auto* earlier = held(wanted.session_id);
    auto had = amounts_in(earlier, scope, subject);
    auto others = in_use(scope, subject);
    others -= had;
    for (auto resource : limit_resources) {
        auto asked = wanted.amounts.of(resource);
        if (asked <= had.of(resource)) continue;
        auto limit = limit_on(scope, subject, resource);
        // Neither side of the difference is negative, so it cannot overflow as a sum would.
        if (!limit || asked <= limit->value - others.of(resource)) continue;
        Denial denial{*limit, subject, others.of(resource), asked, {}, 0};
        name_holders(denial, earlier);
        return denial;
    }
    return std::nullopt;
}

void Admission::name_holders(Denial& denial, const Reservation* earlier) const {
    const auto& accounts = accounts_[index(denial.limit.scope)];
    auto account = accounts.find(denial.subject);
    if (account == accounts.end()) return;
    auto amount = [&](const Reservation* holder) { return holder->amounts.of(denial.limit.resource); };
    std::vector<const Reservation*> holders;
    for (const auto* member : account->second.members)
        if (member->ended) denial.spent += amount(member);
        else if (member != earlier && amount(member) > 0) holders.push_back(member);
    denial.holder_count = holders.size();
    auto last = holders.begin() + static_cast<std::ptrdiff_t>(std::min(holders.size(), holders_named));
    std::partial_sort(holders.begin(), last, holders.end(), [&](const Reservation* a, const Reservation* b) {
        return std::pair(amount(b), std::string_view(a->session_id)) <
               std::pair(amount(a), std::string_view(b->session_id));
    });
    std::for_each(holders.begin(), last,
                  [&](const Reservation* holder) { denial.holders.push_back(holder->session_id); });
}

void Admission::require_countable(const Reservation& wanted) const {
    if (!wanted.warm && wanted.user_id.empty()) reject("user_id", "", "a user is needed unless it is a warm unit");
    require_amounts(wanted.amounts);
    // Every account is a part of the host's, so what can be summed there can be summed everywhere.
    auto total = in_use(LimitScope::host, "");
    total -= amounts_in(held(wanted.session_id), LimitScope::host, "");
    total += wanted.amounts;
}

template <class Visit>
void Admission::visit_accounts(const Reservation& reservation, Visit visit) {
    for (auto scope : limit_scopes)
        if (const auto* subject = subject_of(reservation, scope)) visit(accounts_[index(scope)], *subject);
    if (!reservation.gpu_type.empty()) visit(accounts_[index(LimitScope::host)], reservation.gpu_type);
    if (reservation.warm) visit(warm_, reservation.template_name);
}

void Admission::add_usage(std::vector<UsageLine>& lines, const Limit& limit) const {
    if (limit.subject != "*") return lines.push_back(usage_of(limit, limit.subject));
    auto before = lines.size();
    for (const auto& [subject, account] : accounts_[index(limit.scope)])
        if (limit_on(limit.scope, subject, limit.resource) == limit) lines.push_back(usage_of(limit, subject));
    if (lines.size() == before) lines.push_back(usage_of(limit, "*"));
}

UsageLine Admission::usage_of(const Limit& limit, const std::string& subject) const {
    UsageLine line{limit, subject, 0, limit.value, 0};
    const auto& accounts = accounts_[index(limit.scope)];
    auto account = accounts.find(subject);
    if (account == accounts.end()) return line;
    line.in_use = account->second.total.of(limit.resource);
    line.free = std::max<std::int64_t>(0, limit.value - line.in_use);
    for (const auto* member : account->second.members) {
        auto amount = member->amounts.of(limit.resource);
        if (member->warm) line.warm += amount;
        if (member->ended) line.spent += amount;
        else if (amount > 0) ++line.holder_count;
    }
    return line;
}

}  // namespace infrastructure_sdk
