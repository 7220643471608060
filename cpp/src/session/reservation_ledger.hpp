#pragma once
// Admission and its rows, kept together: a change of a session takes or gives back in the transaction that records it.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "session/admission.hpp"
#include <infrastructure_sdk/session/pool.hpp>
#include <infrastructure_sdk/session/session.hpp>
#include <infrastructure_sdk/store/store.hpp>

namespace infrastructure_sdk {

/// What a session holds in its present state. `may_be_alive`: its death was not observed, so nothing is given back yet.
Reservation reservation_of(const Session& session, bool may_be_alive = false);

/// What an unclaimed unit holds: on the host's account and its template's warm one, on no user's.
Reservation reservation_of(const PoolUnit& unit);

/// Not thread-safe; on the engine's executor. No I/O: it fills batches, the engine commits them.
class ReservationLedger {
public:
    static constexpr const char* kind = "reservation";

    explicit ReservationLedger(std::vector<Limit> limits) : admission_(std::move(limits)) {}

    /// A change that is under way. Undone when it is destroyed before `committed`.
    class Change {
    public:
        Change(Admission& admission, Reservation wanted, bool ends);
        ~Change();
        Change(const Change&) = delete;
        Change& operator=(const Change&) = delete;
        /// The batch is on disk: what is given back is free from now on.
        void committed();

    private:
        Admission& admission_;
        Reservation wanted_;
        std::optional<Reservation> before_;
        bool ends_;
        bool done_ = false;
    };

    /// Takes what the session holds in its present state and adds the row to `batch`. What grows counts at once, so no
    /// other caller gets it meanwhile; what shrinks counts when it is on disk.
    /// @throws Error(quota_exceeded), Error(capacity), Error(budget_exceeded)
    std::unique_ptr<Change> change(const Session& session, Batch& batch, bool may_be_alive);
    /// The same for what holds an amount without being a session: `wanted.session_id` is its id.
    std::unique_ptr<Change> take(Reservation wanted, Batch& batch);
    /// The row goes with `batch`; call `release` when that is on disk.
    void give_back(const std::string& id, Batch& batch) { batch.erases.push_back({kind, id}); }
    void release(const std::string& id) { admission_.release(id); }
    void restore(Reservation reservation) { admission_.restore(std::move(reservation)); }

    /// A claim that is under way: what the unit held is the session's at once, so the host's total never moves.
    class Claim {
    public:
        Claim(Admission& admission, Reservation unit, Reservation session);
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
    std::unique_ptr<Claim> claim(const PoolUnit& unit, const Session& session, Batch& batch);
    /// Counts a unit whatever the limits are: it is there.
    void restore(const PoolUnit& unit) { admission_.restore(reservation_of(unit)); }

    /// A dry run of a new session, which would take over what `unit` holds.
    std::optional<Denial> check(const Session& session, const PoolUnit* unit = nullptr);
    /// What was held when the last owner died, whatever the limits are now.
    void restore(const Session& session, bool may_be_alive) {
        admission_.restore(reservation_of(session, may_be_alive));
    }
    std::vector<UsageLine> usage() const { return admission_.usage(); }

private:
    Admission admission_;
};

}  // namespace infrastructure_sdk
