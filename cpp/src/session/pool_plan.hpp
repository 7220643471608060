#pragma once
// What a warm pool does next, pure: units and the time in, actions out.

#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/session/pool.hpp>

namespace infrastructure_sdk {

struct PoolSituation {
    std::vector<PoolUnit> units;  ///< of this pool
    WallTime now;
    std::size_t free_boots = 0;  ///< how many VMs may begin to boot now
    bool drained = false;
    std::size_t asked = 0;               ///< by `refill`; counts when it is above what the schedule wants
    std::optional<WallTime> not_before;  ///< no boot earlier: the last one failed
};

struct PoolAction {
    enum class Kind { start, discard };
    Kind kind = Kind::start;
    std::string unit;    ///< of a discard
    std::string reason;  ///< of a discard: "expired", "excess", "drained"
    friend bool operator==(const PoolAction&, const PoolAction&) = default;
};

struct PoolPlan {
    std::size_t wanted = 0;
    std::vector<PoolAction> actions;
    std::optional<WallTime> next;  ///< when time alone changes the answer
};

/// A unit is renewed in the last tenth of `max_age`: a new one is booted beside it if `max` allows, and it stays
/// claimable until that one is ready or its time is up. More than wanted go, oldest first.
PoolPlan plan_pool(const Pool& pool, const PoolSituation& situation);

/// The ready units that the schedule wants at that time.
std::size_t scheduled_min(const Pool& pool, WallTime now);
/// The next beginning or end of a window; nullopt without a schedule.
std::optional<WallTime> next_boundary(const Pool& pool, WallTime now);
/// False when its time is up.
bool is_fresh(const Pool& pool, const PoolUnit& unit, WallTime now);
/// After that many failures in a row: 5 s, doubled each time, at most 5 minutes.
Duration boot_backoff(unsigned failures);

/// What a new owner does with a unit, given what the provider sees of its VM.
enum class UnitRecovery { keep, boot, discard };
UnitRecovery plan_unit_recovery(UnitState state, VmState vm);

}  // namespace infrastructure_sdk
