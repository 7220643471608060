#include "session/reservation_ledger.hpp"

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {

Reservation reservation_of(const Session& session, bool may_be_alive) {
    Amounts full;
    full.sessions = 1;
    full.cpu_milli = session.cpu.milli();
    full.memory_bytes = session.memory.value();
    full.disk_bytes = session.disk_size.value();
    Reservation reservation;
    reservation.session_id = session.id;
    reservation.user_id = session.user_id;
    reservation.template_name = session.template_name;
    reservation.amounts = held_by(may_be_alive ? SessionState::terminating : session.state, full);
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
    return reservation;
}

ReservationLedger::Change::Change(Admission& admission, Reservation wanted, bool ends)
    : admission_(admission), wanted_(std::move(wanted)), before_(admission.find(wanted_.session_id)), ends_(ends) {
    // What grows is taken now; the rest waits for the disk.
    if (before_ && wanted_.amounts <= before_->amounts) return;
    if (auto denial = admission_.reserve(wanted_)) throw denial->to_error();
}

ReservationLedger::Change::~Change() {
    if (done_) return;
    if (before_) admission_.restore(*before_);
    else admission_.release(wanted_.session_id);
}

void ReservationLedger::Change::committed() {
    done_ = true;
    if (ends_) admission_.release(wanted_.session_id);
    else admission_.restore(wanted_);
}

std::unique_ptr<ReservationLedger::Change> ReservationLedger::change(const Session& session, Batch& batch,
                                                                     bool may_be_alive) {
    auto wanted = reservation_of(session, may_be_alive);
    bool ends = session.state == SessionState::terminated;
    auto before = admission_.find(session.id);
    std::optional<std::uint64_t> version;
    if (!before) version = 0;
    if (ends) batch.erases.push_back({kind, session.id});
    else if (before != wanted) batch.puts.push_back({kind, session.id, nlohmann::json(wanted).dump(), version});
    return std::make_unique<Change>(admission_, std::move(wanted), ends);
}

std::unique_ptr<ReservationLedger::Change> ReservationLedger::take(Reservation wanted, Batch& batch) {
    batch.puts.push_back({kind, wanted.session_id, nlohmann::json(wanted).dump(), std::nullopt});
    return std::make_unique<Change>(admission_, std::move(wanted), false);
}

ReservationLedger::Claim::Claim(Admission& admission, Reservation unit, Reservation session)
    : admission_(admission), unit_(std::move(unit)) {
    admission_.release(unit_.session_id);
    try {
        change_.emplace(admission_, std::move(session), false);
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

std::unique_ptr<ReservationLedger::Change> ReservationLedger::change(const PoolUnit& unit, Batch& batch, bool ends) {
    auto wanted = reservation_of(unit);
    if (ends) batch.erases.push_back({kind, unit.id});
    else batch.puts.push_back({kind, unit.id, nlohmann::json(wanted).dump(), std::nullopt});
    return std::make_unique<Change>(admission_, std::move(wanted), ends);
}

std::unique_ptr<ReservationLedger::Claim> ReservationLedger::claim(const PoolUnit& unit, const Session& session,
                                                                   Batch& batch) {
    auto wanted = reservation_of(session);
    batch.puts.push_back({kind, session.id, nlohmann::json(wanted).dump(), std::nullopt});
    batch.erases.push_back({kind, unit.id});
    return std::make_unique<Claim>(admission_, reservation_of(unit), std::move(wanted));
}

std::optional<Denial> ReservationLedger::check(const Session& session, const PoolUnit* unit) {
    auto wanted = reservation_of(session);
    wanted.session_id.clear();
    if (!unit) return admission_.check(wanted);
    admission_.release(unit->id);
    auto denial = admission_.check(wanted);
    admission_.restore(reservation_of(*unit));
    return denial;
}

}  // namespace infrastructure_sdk
