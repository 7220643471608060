#include "session/clock_rules.hpp"

#include <algorithm>
#include <array>

#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr std::array<const char*, 3> action_names{"disconnect", "suspend", "terminate"};

struct ClockRow {
    const char* name;
    TerminationReason reason;
    SessionClock SessionClocks::* clock;
};
constexpr std::array<ClockRow, 4> rows{
    {{"ttl", TerminationReason::ttl, &SessionClocks::ttl},
     {"idle_timeout", TerminationReason::idle, &SessionClocks::idle_timeout},
     {"disconnect_timeout", TerminationReason::disconnect, &SessionClocks::disconnect_timeout},
     {"retention", TerminationReason::retention, &SessionClocks::retention}}};

const ClockRow& row_of(ClockKind clock) { return rows[static_cast<std::size_t>(clock)]; }

[[noreturn]] void reject(const std::string& field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, field + ": '" + value + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

/// As in the configuration; keeps sums of times inside 64 bits.
constexpr Duration longest_limit = std::chrono::hours(87600);

void stop(SessionClock& clock) {
    clock.deadline.reset();
    clock.spent = false;
}

void run(SessionClock& clock, WallTime from) {
    stop(clock);
    if (clock.limit) clock.deadline = from + *clock.limit;
}

bool is_over(SessionState state) { return state == SessionState::terminating || state == SessionState::terminated; }

/// Whether the clock counts in this state and its action would change anything.
bool applies(ClockKind clock, OnExpiry action, SessionState state) {
    if (is_over(state)) return false;
    switch (clock) {
        case ClockKind::idle_timeout:
        case ClockKind::disconnect_timeout: return state == SessionState::active;
        case ClockKind::retention: return state == SessionState::suspended;
        case ClockKind::ttl: break;
    }
    return action == OnExpiry::terminate || state == SessionState::active;
}

ClockDeadline deadline_of(ClockKind kind, const SessionClock& clock, Duration warn_before) {
    // A short clock warns half-way, not before it has begun.
    const auto ahead = clock.limit ? std::min(warn_before, *clock.limit / 2) : warn_before;
    return {kind, clock.on_expiry, *clock.deadline, *clock.deadline - ahead, kind != ClockKind::idle_timeout};
}

}  // namespace

const char* name_of(OnExpiry action) noexcept { return action_names[static_cast<std::size_t>(action)]; }
const char* name_of(ClockKind clock) noexcept { return row_of(clock).name; }
TerminationReason reason_of(ClockKind clock) noexcept { return row_of(clock).reason; }

OnExpiry parse_on_expiry(const std::string& name) {
    for (std::size_t i = 0; i < action_names.size(); ++i)
        if (name == action_names[i]) return static_cast<OnExpiry>(i);
    reject("on_expiry", name, "allowed: disconnect, suspend, terminate");
}

ClockKind parse_clock_kind(const std::string& name) {
    for (std::size_t i = 0; i < rows.size(); ++i)
        if (name == rows[i].name) return static_cast<ClockKind>(i);
    reject("clock", name, "allowed: ttl, idle_timeout, disconnect_timeout, retention");
}

SessionClock& clock_of(SessionClocks& clocks, ClockKind clock) { return clocks.*row_of(clock).clock; }
const SessionClock& clock_of(const SessionClocks& clocks, ClockKind clock) { return clocks.*row_of(clock).clock; }

void check(const SessionClocks& clocks) {
    for (const auto& row : rows)
        if (const auto& limit = (clocks.*row.clock).limit;
            limit && (*limit <= Duration::zero() || *limit > longest_limit))
            reject(row.name, to_string(*limit), "above zero, at most " + to_string(longest_limit));
    if (clocks.ttl.limit && clocks.maximum_ttl && *clocks.ttl.limit > *clocks.maximum_ttl)
        reject("ttl", to_string(*clocks.ttl.limit),
               "at most " + to_string(*clocks.maximum_ttl) + " (session.maximum_ttl)");
    if (clocks.warn_before < Duration::zero())
        reject("warn_before", to_string(clocks.warn_before), "it must not be negative");
    if (clocks.disconnect_timeout.on_expiry == OnExpiry::disconnect)
        reject("disconnect_timeout.on_expiry", "disconnect", "allowed: suspend, terminate (nobody is connected then)");
    if (clocks.retention.on_expiry != OnExpiry::terminate)
        reject("retention.on_expiry", name_of(clocks.retention.on_expiry), "allowed: terminate (it is suspended then)");
}

SessionClocks start_clocks(SessionClocks clocks, WallTime created_at) {
    clocks.created_at = created_at;
    clocks.connected = false;
    for (const auto& row : rows) stop(clocks.*row.clock);
    run(clocks.ttl, created_at);
    return clocks;
}

void note_active(SessionClocks& clocks, WallTime at) {
    clocks.connected = false;
    stop(clocks.retention);
    stop(clocks.disconnect_timeout);
    run(clocks.idle_timeout, at);
}

void note_suspended(SessionClocks& clocks, WallTime at) {
    clocks.connected = false;
    stop(clocks.idle_timeout);
    stop(clocks.disconnect_timeout);
    run(clocks.retention, at);
}

void note_activity(SessionClocks& clocks, WallTime at) {
    auto& idle = clocks.idle_timeout;
    if (idle.limit && idle.deadline && *idle.deadline < at + *idle.limit) run(idle, at);
}

void note_clients(SessionClocks& clocks, bool connected, WallTime at) {
    if (connected) stop(clocks.disconnect_timeout);
    else if (clocks.connected) run(clocks.disconnect_timeout, at);
    clocks.connected = connected;
}

void note_disconnected(SessionClocks& clocks, ClockKind clock) { clock_of(clocks, clock).spent = true; }

void extend(SessionClocks& clocks, Duration by, WallTime now) {
    if (by <= Duration::zero() || by > longest_limit)
        reject("by", to_string(by), "above zero, at most " + to_string(longest_limit));
    if (!clocks.ttl.limit) return;
    const auto base = std::max(clocks.ttl.deadline.value_or(now), now);
    if (clocks.maximum_ttl) {
        const auto latest = clocks.created_at + *clocks.maximum_ttl;
        if (base + by > latest)
            reject("by", to_string(by), "until " + to_rfc3339(latest) + " at the latest (session.maximum_ttl)");
    }
    clocks.ttl.deadline = base + by;
    clocks.ttl.spent = false;
}

std::vector<ClockDeadline> deadlines(const SessionClocks& clocks, SessionState state) {
    std::vector<ClockDeadline> result;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto kind = static_cast<ClockKind>(i);
        const auto& clock = clocks.*rows[i].clock;
        if (clock.deadline && !clock.spent && applies(kind, clock.on_expiry, state))
            result.push_back(deadline_of(kind, clock, clocks.warn_before));
    }
    std::stable_sort(result.begin(), result.end(), [](const ClockDeadline& a, const ClockDeadline& b) {
        return a.at != b.at ? a.at < b.at : a.action > b.action;
    });
    return result;
}

std::optional<ClockDeadline> expired(const SessionClocks& clocks, SessionState state, WallTime now) {
    for (const auto& deadline : deadlines(clocks, state))
        if (deadline.firm && deadline.at <= now) return deadline;
    return std::nullopt;
}

std::optional<WallTime> next_wake(const SessionClocks& clocks, SessionState state, WallTime warned_until) {
    std::optional<WallTime> next;
    for (const auto& deadline : deadlines(clocks, state)) {
        if (!deadline.firm) continue;
        const auto when = deadline.warn_at > warned_until ? deadline.warn_at : deadline.at;
        if (!next || when < *next) next = when;
    }
    return next;
}

std::vector<ClockDeadline> warnings(const SessionClocks& clocks, SessionState state, WallTime after, WallTime until) {
    std::vector<ClockDeadline> result;
    for (const auto& deadline : deadlines(clocks, state))
        if (deadline.firm && deadline.warn_at > after && deadline.warn_at <= until) result.push_back(deadline);
    return result;
}

}  // namespace infrastructure_sdk
