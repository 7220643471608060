#pragma once
// Admission and its rows, kept together: a change of a session takes or gives back in the transaction that records it.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "session/admission.hpp"
#include "session/deadline_index.hpp"
#include <infrastructure_sdk/session/pool.hpp>
#include <infrastructure_sdk/session/session.hpp>
#include <infrastructure_sdk/store/store.hpp>

namespace infrastructure_sdk {

/// What a session holds in its present state, but for the month's money. `may_be_alive`: its death was not observed, so
/// nothing but money is given back yet.
Reservation reservation_of(const Session& session, bool may_be_alive = false);

/// What an unclaimed unit holds: on the host's account and its template's warm one, on no user's.
Reservation reservation_of(const PoolUnit& unit);

/// A row says what was held when it was written. The money of a month moves with time: it follows from the sessions'
/// records (see cost.hpp), ended ones too, so a new owner counts exactly what the last one did.
///
/// Not thread-safe; on the engine's executor. No I/O and no clock: it fills batches, the engine commits them.
class ReservationLedger {
public:
    static constexpr const char* kind = "reservation";

    /// @param currency of money, in denials and usage. @param gpus how many of each type the host has: a limit too.
    /// @param keeps_rows false = the store gives no row back, so none is put in words.
    explicit ReservationLedger(std::vector<Limit> limits, std::string currency = {},
                               const std::map<std::string, std::int64_t>& gpus = {}, bool keeps_rows = true);
    ReservationLedger(const ReservationLedger&) = delete;
    ReservationLedger& operator=(const ReservationLedger&) = delete;

    /// What a session's money of a month follows from.
    struct Metered {
        Charge charge;
        WallTime until;  ///< reserved_until
    };

    /// A change that is under way. Undone when it is destroyed before `committed`.
    class Change {
    public:
        /// @param ended what stays of a session that ends with it.
        Change(ReservationLedger& ledger, Reservation wanted, std::optional<Metered> metered, bool ends,
               std::optional<Session> ended);
        ~Change();
        Change(const Change&) = delete;
        Change& operator=(const Change&) = delete;
        /// The batch is on disk: what is given back is free from now on.
        void committed();

    private:
        ReservationLedger& ledger_;
        Reservation wanted_;
        std::optional<Metered> metered_;
        std::optional<Reservation> before_;
        std::optional<Metered> metered_before_;
        bool ends_;
        std::optional<Session> ended_;
        bool done_ = false;
    };

    /// Takes what the session holds in its present state, moves its meter and adds the row to `batch`: call it before
    /// the session is written. What grows counts at once, so no other caller gets it meanwhile; what shrinks counts
    /// when it is on disk. @throws Error(quota_exceeded), Error(capacity), Error(budget_exceeded)
    std::unique_ptr<Change> change(Session& session, Batch& batch, bool may_be_alive, WallTime now);
    /// The same for what holds an amount without being a session: `wanted.session_id` is its id.
    std::unique_ptr<Change> take(Reservation wanted, Batch& batch);
    /// The row goes with `batch`; call `release` when that is on disk.
    void give_back(const std::string& id, Batch& batch) { batch.erases.push_back({kind, id}); }
    void release(const std::string& id) { admission_.release(id); }
    void restore(Reservation reservation) { admission_.restore(std::move(reservation)); }

    /// A claim that is under way: what the unit held is the session's at once, so the host's total never moves.
    class Claim {
    public:
        Claim(ReservationLedger& ledger, Reservation unit, Reservation session, std::optional<Metered> metered);
        ~Claim();
        Claim(const Claim&) = delete;
        Claim& operator=(const Claim&) = delete;
        void committed();

    private:
        Admission& admission_;
        Reservation unit_;
        std::optional<Change> change_;
        bool done_ = false;
    };

    /// As `change`, for a unit that begins (or, with `ends`, for one whose VM is gone).
    std::unique_ptr<Change> change(const PoolUnit& unit, Batch& batch, bool ends);
    /// @throws as `change` when the user's own limits do not let the session in; then the unit keeps what it holds.
    std::unique_ptr<Claim> claim(const PoolUnit& unit, Session& session, Batch& batch, WallTime now);
    /// Counts a unit whatever the limits are: it is there.
    void restore(const PoolUnit& unit) { admission_.restore(reservation_of(unit)); }

    /// A dry run of a new session, which would take over what `unit` holds.
    std::optional<Denial> check(Session session, const PoolUnit* unit, WallTime now);
    /// What was held when the last owner died, whatever the limits are now; of a terminated session what it has cost.
    void restore(const Session& session, bool may_be_alive, WallTime now);
    std::vector<UsageLine> usage(WallTime now);

    /// What ended sessions have cost this month, one entry for each account; in millionths.
    struct EndedMoney {
        std::string user_id;
        std::string tenant;
        std::int64_t micros = 0;
    };
    std::vector<EndedMoney> ended_money(WallTime now);

private:
    using Account = std::tuple<std::string, std::string, std::string>;  // user, tenant, template

    /// Brings the month's money up to `now`.
    void turn(WallTime now);
    /// What it holds of the month's money by now, whatever the limits are: it is spent, or was granted.
    void recount(const std::string& id);
    void recount_ended(const Account& account);
    std::int64_t month_money(const Metered& metered) const;
    Reservation full_reservation_of(const Session& session, bool may_be_alive) const;
    const Metered* metered(const std::string& id) const;
    void set_metered(const std::string& id, std::optional<Metered> metered);
    void note_ended(const Session& session);
    Denial with_words(Denial denial) const;
    std::string row_of(const Reservation& reservation) const;

    Admission admission_;
    std::string currency_;
    bool keeps_rows_;
    WallTime now_ = WallTime::min();  // of the last turn
    Month month_{};
    std::map<std::string, Metered> metered_;  // sessions with a price that are not terminated
    DeadlineIndex<WallTime> outlived_;        // of those that cost, when they cost more than was reserved
    std::map<Account, std::map<Month, std::int64_t>> ended_;  // in millionths; few: one for each account and month
};

}  // namespace infrastructure_sdk
