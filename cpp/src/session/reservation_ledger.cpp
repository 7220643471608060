#include "session/reservation_ledger.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "session/amounts.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {

std::vector<Limit> with_gpus(std::vector<Limit> limits, const std::map<std::string, std::int64_t>& gpus) {
    for (const auto& [type, count] : gpus) limits.push_back({LimitScope::host, type, LimitResource::gpu, count});
    return limits;
}

std::optional<ReservationLedger::Metered> metered_of(const Session& session) {
    if (session.charge.price_per_hour_micros == 0) return std::nullopt;
    return ReservationLedger::Metered{session.charge, reserved_until(session.clocks)};
}

}  // namespace

Reservation reservation_of(const Session& session, bool may_be_alive) {
    Amounts full;
    full.sessions = 1;
    full.cpu_milli = session.cpu.milli();
    full.memory_bytes = session.memory.value();
    full.disk_bytes = session.disk_size.value();
    full.gpus = session.gpu_count;
    Reservation reservation;
    reservation.session_id = session.id;
    reservation.user_id = session.user_id;
    reservation.tenant = session.tenant;
    reservation.template_name = session.template_name;
    reservation.gpu_type = session.gpu_type;
    reservation.amounts = held_by(may_be_alive ? SessionState::terminating : session.state, full);
    // Nobody pays for a failed session whose VM is not known to be dead.
    if (session.charge.since) reservation.amounts.money_per_hour_micros = session.charge.price_per_hour_micros;
    return reservation;
}

Reservation reservation_of(const PoolUnit& unit) {
    Reservation reservation;
    reservation.session_id = unit.id;
    reservation.template_name = unit.template_name;
    reservation.warm = true;
    // A place of the host's sessions is taken by sessions only.
    reservation.amounts.cpu_milli = unit.cpu.milli();
    reservation.amounts.memory_bytes = unit.memory.value();
    reservation.amounts.disk_bytes = unit.disk_size.value();
    reservation.amounts.money_per_hour_micros = unit.price_per_hour_micros;
    return reservation;
}

// ---- changes -------------------------------------------------------------------------------------------------------

ReservationLedger::Change::Change(ReservationLedger& ledger, Reservation wanted, std::optional<Metered> metered,
                                  bool ends, std::optional<Session> ended)
    : ledger_(ledger),
      wanted_(std::move(wanted)),
      metered_(std::move(metered)),
      before_(ledger.admission_.find(wanted_.session_id)),
      ends_(ends),
      ended_(std::move(ended)) {
    if (const auto* known = ledger_.metered(wanted_.session_id)) metered_before_ = *known;
    // What grows is taken now; the rest waits for the disk.
    if (before_ && wanted_.amounts <= before_->amounts) return;
    if (auto denial = ledger_.admission_.reserve(wanted_)) throw ledger_.with_words(*denial).to_error();
    ledger_.set_metered(wanted_.session_id, metered_);
}

ReservationLedger::Change::~Change() {
    if (done_) return;
    ledger_.set_metered(wanted_.session_id, metered_before_);
    if (before_) ledger_.admission_.restore(*before_);
    else ledger_.admission_.release(wanted_.session_id);
    ledger_.recount(wanted_.session_id);
}

void ReservationLedger::Change::committed() {
    done_ = true;
    const auto& id = wanted_.session_id;
    ledger_.set_metered(id, ends_ ? std::nullopt : metered_);
    if (ends_) ledger_.admission_.release(id);
    else ledger_.admission_.restore(wanted_);
    // The month may have turned while it was written.
    ledger_.recount(id);
    if (ended_) ledger_.note_ended(*ended_);
}

ReservationLedger::Claim::Claim(ReservationLedger& ledger, Reservation unit, Reservation session,
                                std::optional<Metered> metered)
    : admission_(ledger.admission_), unit_(std::move(unit)) {
    admission_.release(unit_.session_id);
    try {
        change_.emplace(ledger, std::move(session), std::move(metered), false, std::nullopt);
    } catch (...) {
        admission_.restore(unit_);
        throw;
    }
}

ReservationLedger::Claim::~Claim() {
    if (done_) return;
    change_.reset();
    admission_.restore(unit_);
}

void ReservationLedger::Claim::committed() {
    done_ = true;
    change_->committed();
}

// ---- the ledger ----------------------------------------------------------------------------------------------------

ReservationLedger::ReservationLedger(std::vector<Limit> limits, std::string currency,
                                     const std::map<std::string, std::int64_t>& gpus, bool keeps_rows)
    : admission_(with_gpus(std::move(limits), gpus)), currency_(std::move(currency)), keeps_rows_(keeps_rows) {}

std::unique_ptr<ReservationLedger::Change> ReservationLedger::change(Session& session, Batch& batch, bool may_be_alive,
                                                                     WallTime now) {
    turn(now);
    auto before = admission_.find(session.id);
    // Its ttl counts from its creation, so its cost does too.
    meter(session.charge, session.state, before ? now : session.created_at);
    auto wanted = full_reservation_of(session, may_be_alive);
    bool ends = session.state == SessionState::terminated;
    // An end takes nothing: it is refused by no limit.
    if (before && session.state == SessionState::terminating) wanted.amounts = before->amounts;
    std::optional<std::uint64_t> version;
    if (!before) version = 0;
    if (ends) batch.erases.push_back({kind, session.id});
    else if (before != wanted) batch.puts.push_back({kind, session.id, row_of(wanted), version});
    auto metered = metered_of(session);
    auto ended = ends && metered ? std::optional(session) : std::nullopt;
    return std::make_unique<Change>(*this, std::move(wanted), std::move(metered), ends, std::move(ended));
}

std::unique_ptr<ReservationLedger::Change> ReservationLedger::take(Reservation wanted, Batch& batch) {
    batch.puts.push_back({kind, wanted.session_id, row_of(wanted), std::nullopt});
    return std::make_unique<Change>(*this, std::move(wanted), std::nullopt, false, std::nullopt);
}

std::unique_ptr<ReservationLedger::Change> ReservationLedger::change(const PoolUnit& unit, Batch& batch, bool ends) {
    auto wanted = reservation_of(unit);
    if (ends) batch.erases.push_back({kind, unit.id});
    else batch.puts.push_back({kind, unit.id, row_of(wanted), std::nullopt});
    return std::make_unique<Change>(*this, std::move(wanted), std::nullopt, ends, std::nullopt);
}

std::unique_ptr<ReservationLedger::Claim> ReservationLedger::claim(const PoolUnit& unit, Session& session, Batch& batch,
                                                                   WallTime now) {
    turn(now);
    meter(session.charge, session.state, session.created_at);
    auto wanted = full_reservation_of(session, false);
    batch.puts.push_back({kind, session.id, row_of(wanted), std::nullopt});
    batch.erases.push_back({kind, unit.id});
    return std::make_unique<Claim>(*this, reservation_of(unit), std::move(wanted), metered_of(session));
}

std::optional<Denial> ReservationLedger::check(Session session, const PoolUnit* unit, WallTime now) {
    turn(now);
    meter(session.charge, session.state, session.created_at);
    auto wanted = full_reservation_of(session, false);
    wanted.session_id.clear();
    if (unit) admission_.release(unit->id);
    auto denial = admission_.check(wanted);
    if (unit) admission_.restore(reservation_of(*unit));
    return denial ? std::optional(with_words(*denial)) : std::nullopt;
}

void ReservationLedger::restore(const Session& session, bool may_be_alive, WallTime now) {
    turn(now);
    if (session.state == SessionState::terminated) return note_ended(session);
    set_metered(session.id, metered_of(session));
    admission_.restore(full_reservation_of(session, may_be_alive));
}

std::vector<UsageLine> ReservationLedger::usage(WallTime now) {
    turn(now);
    auto lines = admission_.usage();
    for (auto& line : lines)
        if (is_money(line.limit.resource)) line.currency = currency_;
    return lines;
}

std::vector<ReservationLedger::EndedMoney> ReservationLedger::ended_money(WallTime now) {
    std::vector<EndedMoney> all;
    for (const auto& [account, months] : ended_)
        if (auto found = months.find(month_of(now)); found != months.end())
            all.push_back({std::get<0>(account), std::get<1>(account), found->second});
    return all;
}

// ---- the month's money ---------------------------------------------------------------------------------------------

void ReservationLedger::turn(WallTime now) {
    if (now == now_) return;
    const bool back = now < now_;
    const auto month = month_of(now);
    now_ = now;
    if (month == month_ && !back) {
        for (const auto& id : outlived_.due(now)) recount(id);
        return;
    }
    month_ = month;
    for (const auto& entry : metered_) recount(entry.first);
    for (const auto& entry : ended_) recount_ended(entry.first);
}

void ReservationLedger::recount(const std::string& id) {
    const auto* known = metered(id);
    auto held = known ? admission_.find(id) : std::nullopt;
    if (!held) return;
    auto money = month_money(*known);
    if (money == held->amounts.money_per_month_micros) return;
    held->amounts.money_per_month_micros = money;
    admission_.restore(std::move(*held));
}

std::int64_t ReservationLedger::month_money(const Metered& metered) const {
    return cost_in_month(metered.charge, month_, std::max(metered.until, now_));
}

Reservation ReservationLedger::full_reservation_of(const Session& session, bool may_be_alive) const {
    auto reservation = reservation_of(session, may_be_alive);
    auto metered = metered_of(session);
    if (metered && session.state != SessionState::terminated)
        reservation.amounts.money_per_month_micros = month_money(*metered);
    return reservation;
}

const ReservationLedger::Metered* ReservationLedger::metered(const std::string& id) const {
    auto found = metered_.find(id);
    return found == metered_.end() ? nullptr : &found->second;
}

void ReservationLedger::set_metered(const std::string& id, std::optional<Metered> metered) {
    outlived_.set(id, metered && metered->charge.since ? std::optional(metered->until) : std::nullopt);
    if (metered) metered_[id] = std::move(*metered);
    else metered_.erase(id);
}

void ReservationLedger::note_ended(const Session& session) {
    if (session.charge.charged.empty()) return;
    Account account{session.user_id, session.tenant, session.template_name};
    auto& months = ended_[account];
    for (const auto& [month, time] : session.charge.charged)
        months[month] += cost_of(session.charge.price_per_hour_micros, time);
    recount_ended(account);
}

void ReservationLedger::recount_ended(const Account& account) {
    const auto& [user, tenant, template_name] = account;
    Reservation total;
    // No id of a session is like it.
    total.session_id = "ended/" + std::to_string(user.size()) + "/" + user + "/" + std::to_string(tenant.size()) + "/" +
                       tenant + "/" + template_name;
    const auto& months = ended_.at(account);
    auto found = months.find(month_);
    if (found == months.end() || found->second == 0) return admission_.release(total.session_id);
    total.user_id = user;
    total.tenant = tenant;
    total.template_name = template_name;
    total.ended = true;
    total.amounts.money_per_month_micros = found->second;
    admission_.restore(std::move(total));
}

std::string ReservationLedger::row_of(const Reservation& reservation) const {
    return keeps_rows_ ? nlohmann::json(reservation).dump() : std::string();
}

Denial ReservationLedger::with_words(Denial denial) const {
    if (!is_money(denial.limit.resource)) return denial;
    denial.currency = currency_;
    if (denial.limit.resource == LimitResource::money_per_month)
        denial.renews_at = begin_of(month_ + std::chrono::months(1));
    return denial;
}

}  // namespace infrastructure_sdk
