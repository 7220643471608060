#include "simulation/tally.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

bool is_use(const std::optional<UseKind>& use) { return use && *use != UseKind::open; }

/// Somebody or something is still to use it, now or later.
bool is_used_after(const PlannedSession& planned, WallTime now) {
    return std::any_of(planned.uses.begin(), planned.uses.end(), [&](const UseSegment& segment) {
        return is_use(segment.kind) && planned.start + segment.at + segment.length > now;
    });
}

std::string cause_of(const Event& event) {
    auto data = json::parse(event.data, nullptr, false);
    if (!data.is_object()) return {};
    return data.value("cause", std::string());
}

}  // namespace

void spread_over_hours(std::vector<SimulatedHour>& hours, WallTime start, WallTime from, WallTime to,
                       Duration SimulatedHour::* into) {
    constexpr Duration hour = std::chrono::hours(1);
    from = std::max(from, start);
    while (from < to) {
        const auto index = static_cast<std::size_t>((from - start) / hour);
        if (index >= hours.size()) return;
        const auto until = std::min(to, start + (static_cast<std::int64_t>(index) + 1) * hour);
        hours[index].*into += until - from;
        from = until;
    }
}

WaitingTimes percentiles(std::vector<Duration>& waits) {
    std::sort(waits.begin(), waits.end());
    WaitingTimes result;
    result.count = waits.size();
    if (waits.empty()) return result;
    auto at = [&](std::size_t percent) { return waits[(waits.size() * percent + 99) / 100 - 1]; };
    result.p50 = at(50);
    result.p95 = at(95);
    result.p99 = at(99);
    result.longest = waits.back();
    for (auto wait : waits) result.total += wait;
    return result;
}

Tally::Tally(const Workload& workload, Duration came_back_within)
    : start_(workload.start), came_back_within_(came_back_within) {
    constexpr Duration hour = std::chrono::hours(1);
    hours_.resize(static_cast<std::size_t>((workload.length + hour - Duration(1)) / hour));
}

void Tally::follow(LivedSession& lived, const Session& session) {
    if (!lived.session_id.empty()) {
        // One that is still being ended is let go of here.
        stop_meter(lived, session.created_at);
        note_existed(lived, session.created_at);
        by_session_.erase(lived.session_id);
        by_vm_.erase(lived.vm_id.value);
    }
    lived.session_id = session.id;
    lived.vm_id = session.vm_id;
    lived.state = session.state;
    lived.price_per_hour_micros = session.charge.price_per_hour_micros;
    lived.left_alone_at.reset();
    lived.ended.clear();
    ++lived.outcome.sessions;
    ++(session.pool.empty() ? lived.outcome.cold_starts : lived.outcome.warm_starts);
    account(lived, session.created_at);
    lived.exists_since = session.created_at;
    start_meter(lived, session.created_at);
    by_session_[session.id] = &lived;
    by_vm_[session.vm_id.value] = &lived;
}

const LivedSession* Tally::of_vm(const VmId& vm) const {
    auto it = by_vm_.find(vm.value);
    return it == by_vm_.end() ? nullptr : it->second;
}

/// Use that was wanted since the last time was had, or missed.
void Tally::account(LivedSession& lived, WallTime now) {
    if (is_use(lived.use) && now > lived.accounted_to) {
        const bool had = lived.state == SessionState::active;
        (had ? lived.outcome.used : lived.outcome.missed) += now - lived.accounted_to;
        if (had) spread_over_hours(hours_, start_, lived.accounted_to, now, &SimulatedHour::used);
    }
    lived.accounted_to = now;
}

void Tally::start_meter(LivedSession& lived, WallTime now) {
    if (!lived.metered_since) lived.metered_since = now;
}

void Tally::stop_meter(LivedSession& lived, WallTime now) {
    if (!lived.metered_since) return;
    const auto length = now - *lived.metered_since;
    lived.outcome.ran += length;
    lived.outcome.cost_micros += cost_of(lived.price_per_hour_micros, length);
    spread_over_hours(hours_, start_, *lived.metered_since, now, &SimulatedHour::ran);
    lived.metered_since.reset();
}

void Tally::note_existed(LivedSession& lived, WallTime now) {
    if (lived.exists_since) existed += now - *lived.exists_since;
    lived.exists_since.reset();
}

void Tally::enter(LivedSession& lived, SessionState state, WallTime now) {
    account(lived, now);
    lived.state = state;
    lived.changed.notify_all();
}

void Tally::want(LivedSession& lived, std::optional<UseKind> use, WallTime now) {
    account(lived, now);
    lived.use = use;
    if (!is_use(use) || !lived.left_alone_at) return;
    if (now - *lived.left_alone_at <= came_back_within_) ++lived.outcome.wanted_again;
    lived.left_alone_at.reset();
}

void Tally::note_wait(LivedSession& lived, WaitKind kind, Duration length) {
    lived.outcome.waited += length;
    if (kind == WaitKind::resume) ++lived.outcome.resumes;
    waits[static_cast<std::size_t>(kind)].push_back(length);
}

void Tally::judge_suspension(LivedSession& lived, const Event& event) {
    if (cause_of(event) == "request") return;
    ++lived.outcome.suspensions;
    if (is_use(lived.use)) ++lived.outcome.suspended_in_use;
    else lived.left_alone_at = event.time;
}

void Tally::note_end(LivedSession& lived, const Event& event) {
    lived.ended = lived.user_ends ? "user" : cause_of(event);
    if (lived.user_ends) return;
    if (is_used_after(*lived.planned, event.time)) ++lived.outcome.lost;
    // Gone is worse than suspended: who comes back soon finds nothing.
    if (!is_use(lived.use)) lived.left_alone_at = event.time;
}

void Tally::take(const Event& event) {
    constexpr std::string_view prefix = "session.lifecycle.";
    if (!event.type.starts_with(prefix)) return;
    auto known = by_session_.find(event.subject);
    if (known == by_session_.end()) return;
    auto& lived = *known->second;
    const auto what = std::string_view(event.type).substr(prefix.size());
    const auto now = event.time;
    if (what == "ready" || what == "resumed" || what == "suspend_failed") {
        enter(lived, SessionState::active, now);
    } else if (what == "suspending") {
        judge_suspension(lived, event);
        enter(lived, SessionState::suspending, now);
    } else if (what == "suspended" || what == "resume_refused") {
        stop_meter(lived, now);
        enter(lived, SessionState::suspended, now);
    } else if (what == "resuming") {
        start_meter(lived, now);
        enter(lived, SessionState::resuming, now);
    } else if (what == "started" || what == "recovering") {
        start_meter(lived, now);
        enter(lived, SessionState::provisioning, now);
    } else if (what == "failed") {
        ++lived.outcome.failed;
        stop_meter(lived, now);
        enter(lived, SessionState::failed, now);
    } else if (what == "terminating") {
        note_end(lived, event);
        enter(lived, SessionState::terminating, now);
    } else if (what == "terminated") {
        stop_meter(lived, now);
        note_existed(lived, now);
        enter(lived, SessionState::terminated, now);
    }
}

void Tally::close(LivedSession& lived, WallTime horizon) {
    account(lived, horizon);
    stop_meter(lived, horizon);
    note_existed(lived, horizon);
}

}  // namespace infrastructure_sdk
