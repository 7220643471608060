// The isolation of running sessions, looked at again: when, and what follows from a change.
#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "session/session_engine_impl.hpp"

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

/// A session that begins or comes back belongs to its user first.
constexpr Duration settling = std::chrono::seconds(5);
/// What happens together is looked at together.
constexpr Duration debounce = std::chrono::milliseconds(200);
/// However much happens to a session, looks at it asked for by suspicion take at most this part of the time; one whose
/// VM is slow to answer costs time and no work.
constexpr int longest_share = 20;
constexpr Duration shortest_rest = std::chrono::seconds(1), longest_rest = std::chrono::seconds(10);

/// All sessions on one grid, so that one look serves them all.
MonotonicTime next_on_grid(MonotonicTime now, Duration interval) {
    const auto since = now.time_since_epoch();
    return MonotonicTime(since - since % interval + interval);
}

std::string describe(const Drift& drift) {
    json changes = json::array();
    for (const auto& change : drift.changes)
        changes.push_back({{"check", change.check_id},
                           {"severity", name_of(change.severity)},
                           {"from", name_of(change.from)},
                           {"to", name_of(change.to)},
                           {"reason", change.reason}});
    json data{{"report", drift.report_id},
              {"epoch", drift.instance_epoch},
              {"verdict", {{"from", name_of(drift.from)}, {"to", name_of(drift.to)}}},
              {"changes", std::move(changes)}};
    return data.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string describe(const IsolationReport& report) {
    return json{{"report", report.id},
                {"epoch", report.instance_epoch},
                {"verdict", name_of(report.score.verdict)},
                {"lower", report.score.lower},
                {"upper", report.score.upper}}
        .dump();
}

}  // namespace

void SessionEngine::Impl::plan_isolation_look(const Session& session) {
    if (!options.isolation_reports) return;
    const bool runs = session.state == SessionState::active;
    if (runs == isolation_looks.has(session.id)) return;
    if (isolation_looks.set(session.id, runs ? std::optional(env.clock->monotonic_now() + settling) : std::nullopt))
        isolation_changed.notify_all();
}

Task<void> SessionEngine::Impl::watch_isolation() {
    auto self = shared_from_this();
    auto stop = tasks.stop_source().get_token();
    while (!stop.stop_requested()) {
        const auto began = env.clock->monotonic_now();
        auto due = isolation_looks.due(began);
        if (due.empty()) {
            auto next = isolation_looks.next();
            Call pause{next ? Deadline(*next) : Deadline(), stop, std::string()};
            co_await isolation_changed.wait(*env.clock, pause);
            continue;
        }
        std::vector<LivePtr> suspected;
        for (const auto& id : due) {
            isolation_looks.set(id, next_on_grid(began, options.isolation_interval));
            auto target = find(id);
            if (target && std::exchange(target->isolation_suspected, false)) suspected.push_back(std::move(target));
        }
        try {
            co_await look_at_isolation(std::move(due));
        } catch (const Error& error) {
            env.logger->log(LogLevel::warning, "session", "isolation could not be looked at again",
                            {{"detail", error.message()}});
        }
        const auto ended = env.clock->monotonic_now();
        isolation_rested = ended + shortest_rest;
        for (const auto& target : suspected)
            target->isolation_rested = ended + std::clamp((ended - began) * longest_share, shortest_rest, longest_rest);
    }
}

Task<void> SessionEngine::Impl::look_at_isolation(std::vector<std::string> ids) {
    std::vector<LivePtr> targets;
    std::vector<Session> seen;
    for (const auto& id : ids) {
        auto target = find(id);
        if (!target || target->session.state != SessionState::active) continue;
        targets.push_back(target);
        seen.push_back(target->session);
    }
    if (seen.empty()) co_return;
    constexpr Duration patience = std::chrono::seconds(60);
    Call call{budget(patience), tasks.stop_source().get_token(), std::string()};
    auto reports = co_await options.isolation_reports(seen, call);
    for (std::size_t i = 0; i < reports.size(); ++i) {
        try {
            co_await note_isolation(targets[i], seen[i], std::move(reports[i]));
        } catch (const Error& error) {
            log(LogLevel::error, "what a session's isolation asks for could not be done", seen[i],
                {{"detail", error.message()}});
        }
    }
}

/// The news, and the suspension in the same transaction where the template demands one.
Task<void> SessionEngine::Impl::note_isolation(LivePtr target, Session seen, IsolationReport report) {
    auto is_same = [&seen](const Session& session) {
        return session.state == SessionState::active && session.execution_id == seen.execution_id;
    };
    if (closing || !is_same(target->session)) co_return;
    const bool first = target->isolation_checked != seen.execution_id;
    // Not the session's before it is on disk: news that could not be written is told by the next look.
    auto detector = target->isolation;
    const auto drift = detector.observe(report);
    const auto checked = describe(report);
    auto source = options.templates.find(seen.template_name);
    const bool suspends =
        detector.is_failing() && source != options.templates.end() && source->second.on_drift == DriftAction::suspend;
    PolicyVerdict policy;
    if ((first || drift || suspends) && asks(DecisionPoint::isolation)) {
        auto request = isolation_request(target->session, report, now());
        request.standard = suspends ? SessionAction::suspend : SessionAction::keep;
        PolicyQuestion question;
        question.only_stricter = true;
        Call asking{Deadline(), tasks.stop_source().get_token(), std::string()};
        policy = co_await ask(std::move(request), question, asking);
    }
    Edit record = [&](Session& session, Batch& batch) {
        if (!is_same(session)) return false;
        if (options.policies) options.policies->record(policy, batch);
        auto tell = [&](const char* type, std::string data) {
            batch.events.push_back({0, now(), type, session.id, session.execution_id, "", std::move(data)});
        };
        if (first) tell("session.isolation.checked", checked);
        if (drift)
            tell(drift->is_restored() ? "session.isolation.restored" : "session.isolation.drifted", describe(*drift));
        return true;
    };
    const bool keeps = (first || drift) && options.keep_isolation_report;
    Call no_limit;
    if (keeps) co_await options.keep_isolation_report(std::move(report), no_limit);
    const auto action =
        policy.is_standard() ? SessionAction::standard : std::get<SessionDecision>(policy.decision).action;
    if (action != SessionAction::standard && action != SessionAction::keep) {
        co_await carry_out(target, on_expiry(action), TerminationReason::isolation_failed, record, is_same);
    } else if (suspends) {
        std::string cause = name_of(TerminationReason::isolation_failed);
        co_await begin(seen.id, SessionInput::suspend, cause, no_limit, record);
    } else if (first || drift || policy.has_news()) {
        co_await update(target, record);
    }
    target->isolation = std::move(detector);
    target->isolation_checked = seen.execution_id;
}

std::vector<Session> SessionEngine::active() const {
    std::vector<Session> sessions;
    for (const auto& [id, target] : impl_->live)
        if (target->session.state == SessionState::active) sessions.push_back(target->session);
    return sessions;
}

void SessionEngine::suspect_isolation(std::optional<VmId> vm) {
    auto& impl = *impl_;
    if (!impl.options.isolation_reports) return;
    const auto now = impl.env.clock->monotonic_now();
    const auto soonest = std::max(now + debounce, impl.isolation_rested);
    bool sooner = false;
    for (const auto& [id, target] : impl.live) {
        // One that settles is looked at soon enough, and its own beginning makes much noise.
        if (target->isolation_checked != target->session.execution_id || (vm && target->session.vm_id != *vm)) continue;
        // Who rests after much noise keeps nobody else waiting.
        const auto soon = std::max(soonest, target->isolation_rested);
        auto planned = impl.isolation_looks.at(id);
        if (!planned || *planned <= soon) continue;
        target->isolation_suspected = true;
        sooner = impl.isolation_looks.set(id, soon) || sooner;
    }
    if (sooner) impl.isolation_changed.notify_all();
}

}  // namespace infrastructure_sdk
