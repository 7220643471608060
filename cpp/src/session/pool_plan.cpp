#include "session/pool_plan.hpp"

#include <algorithm>

namespace infrastructure_sdk {
namespace {

using std::chrono::days;
using std::chrono::floor;
using std::chrono::minutes;

bool begins_on(const PoolWindow& window, std::chrono::sys_days day) {
    int weekday = static_cast<int>(std::chrono::weekday(day).iso_encoding()) - 1;
    return window.days.empty() || std::find(window.days.begin(), window.days.end(), weekday) != window.days.end();
}

struct Span {
    WallTime from;
    WallTime to;
};

Span span_of(const PoolWindow& window, std::chrono::sys_days day) {
    auto end = window.to_minute <= window.from_minute ? day + days(1) : day;
    return {day + minutes(window.from_minute), end + minutes(window.to_minute)};
}

WallTime renewed_at(const Pool& pool, const PoolUnit& unit) { return *unit.ready_at + pool.max_age / 10 * 9; }
WallTime expires_at(const Pool& pool, const PoolUnit& unit) { return *unit.ready_at + pool.max_age; }

void keep_earlier(std::optional<WallTime>& next, WallTime when) {
    if (!next || when < *next) next = when;
}

}  // namespace

std::size_t scheduled_min(const Pool& pool, WallTime now) {
    std::optional<std::size_t> within;
    auto today = floor<days>(now);
    for (const auto& window : pool.schedule)
        for (auto day : {today - days(1), today}) {
            auto span = span_of(window, day);
            if (begins_on(window, day) && span.from <= now && now < span.to)
                within = std::max(within.value_or(0), window.min);
        }
    return within.value_or(pool.min);
}

std::optional<WallTime> next_boundary(const Pool& pool, WallTime now) {
    std::optional<WallTime> next;
    auto today = floor<days>(now);
    for (const auto& window : pool.schedule)
        for (int offset = -1; offset <= 7; ++offset) {
            auto day = today + days(offset);
            if (!begins_on(window, day)) continue;
            auto span = span_of(window, day);
            for (auto when : {span.from, span.to})
                if (when > now) keep_earlier(next, when);
        }
    return next;
}

bool is_fresh(const Pool& pool, const PoolUnit& unit, WallTime now) {
    return !unit.ready_at || now < expires_at(pool, unit);
}

Duration boot_backoff(unsigned failures) {
    if (failures == 0) return Duration::zero();
    constexpr Duration first = std::chrono::seconds(5), longest = std::chrono::minutes(5);
    return std::min<Duration>(first * (1u << std::min(failures - 1, 10u)), longest);
}

PoolPlan plan_pool(const Pool& pool, const PoolSituation& situation) {
    using Kind = PoolAction::Kind;
    const auto now = situation.now;
    PoolPlan plan;
    plan.next = next_boundary(pool, now);
    plan.wanted = situation.drained ? 0 : std::min(pool.max, std::max(scheduled_min(pool, now), situation.asked));

    std::vector<const PoolUnit*> fresh, due;
    std::size_t booting = 0, existing = 0;
    auto discard = [&](const PoolUnit& unit, const char* reason) {
        plan.actions.push_back({Kind::discard, unit.id, reason});
        --existing;
    };
    for (const auto& unit : situation.units) {
        if (unit.state == UnitState::discarding) continue;
        ++existing;
        if (situation.drained) discard(unit, "drained");
        else if (unit.state == UnitState::booting) ++booting;
        else if (!is_fresh(pool, unit, now)) discard(unit, "expired");
        else (now < renewed_at(pool, unit) ? fresh : due).push_back(&unit);
    }
    auto older = [](const PoolUnit* a, const PoolUnit* b) {
        return std::pair(*a->ready_at, std::cref(a->id).get()) < std::pair(*b->ready_at, std::cref(b->id).get());
    };
    std::sort(fresh.begin(), fresh.end(), older);
    std::sort(due.begin(), due.end(), older);

    // Those that are due go first, but only when enough others are ready.
    for (const auto* unit : due) {
        if (fresh.size() >= plan.wanted) discard(*unit, fresh.size() > plan.wanted ? "excess" : "expired");
        else keep_earlier(plan.next, expires_at(pool, *unit));
    }
    for (std::size_t i = 0; i < fresh.size(); ++i) {
        if (fresh.size() - i > plan.wanted) discard(*fresh[i], "excess");
        else keep_earlier(plan.next, renewed_at(pool, *fresh[i]));
    }
    auto coming = std::min(fresh.size(), plan.wanted) + booting;
    if (coming >= plan.wanted) return plan;
    if (situation.not_before && now < *situation.not_before) {
        keep_earlier(plan.next, *situation.not_before);
        return plan;
    }
    auto room = pool.max > existing ? pool.max - existing : 0;
    auto starts = std::min({plan.wanted - coming, room, situation.free_boots});
    for (std::size_t i = 0; i < starts; ++i) plan.actions.push_back({Kind::start, {}, {}});
    return plan;
}

UnitRecovery plan_unit_recovery(UnitState state, VmState vm) {
    if (state == UnitState::discarding) return UnitRecovery::discard;
    if (state == UnitState::booting)
        // Every step of a boot may be asked again, also of a VM that was made and not started yet; one that died while
        // it booted is not worth a second look.
        return vm == VmState::failed ? UnitRecovery::discard : UnitRecovery::boot;
    // `unknown` is not death. A unit that runs was touched by somebody: nobody gets it.
    return vm == VmState::paused || vm == VmState::unknown ? UnitRecovery::keep : UnitRecovery::discard;
}

}  // namespace infrastructure_sdk
