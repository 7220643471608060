// The clocks of all sessions: one loop that sleeps until the next warning or deadline.
#include <algorithm>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/json.hpp>

#include "session/clock_rules.hpp"
#include "session/session_engine_impl.hpp"

namespace infrastructure_sdk {

using nlohmann::json;

SessionClocks standard_clocks() {
    SessionClocks clocks;
    clocks.ttl.limit = std::chrono::hours(8);
    clocks.maximum_ttl = std::chrono::hours(24 * 30);
    return clocks;
}

Task<void> SessionEngine::Impl::expire() {
    auto self = shared_from_this();
    auto stop = tasks.stop_source().get_token();
    while (!stop.stop_requested()) {
        auto retry = Deadline();
        auto due = expiries.due(now());
        for (const auto& id : due) {
            auto target = find(id);
            if (!target) continue;
            try {
                co_await look_at_clocks(target);
            } catch (const Error& error) {
                env.logger->log(LogLevel::error, "session", "what a clock asks for could not be done",
                                {{"session", id}, {"detail", error.message()}});
                retry = Deadline::after(*env.clock, std::chrono::seconds(10));
            }
        }
        // What failed is due still; it is tried again, but not at once.
        co_await wait_for_clock(retry.is_never() ? expiries.next() : std::nullopt, retry);
    }
}

/// Until `next`, until `latest`, or until another session is the next one.
Task<void> SessionEngine::Impl::wait_for_clock(std::optional<WallTime> next, Deadline latest) {
    if (next)
        latest = latest.earlier(Deadline::after(
            *env.clock, std::clamp<Duration>(*next - now(), Duration::zero(), options.wall_clock_check)));
    Call pause{latest, tasks.stop_source().get_token(), std::string()};
    co_await clock_changed.wait(*env.clock, pause);
}

/// Carries out what has run out, else warns of what will.
Task<void> SessionEngine::Impl::look_at_clocks(LivePtr target) {
    auto due = expired(target->session.clocks, target->session.state, now());
    if (due) {
        co_await act(target, *due, nullptr, nullptr);
        co_return;
    }
    Edit warn = [&](Session& session, Batch& batch) {
        const auto at = now();
        auto coming = warnings(session.clocks, session.state, session.warned_until, at);
        session.warned_until = at;
        for (const auto& deadline : coming)
            batch.events.push_back({0, at, "session.clock.warning", session.id, session.execution_id, "",
                                    json{{"clock", name_of(deadline.clock)},
                                         {"action", name_of(deadline.action)},
                                         {"at", to_rfc3339(deadline.at)}}
                                        .dump()});
        return !coming.empty();
    };
    co_await update(target, warn);
}

/// `also` goes into the transaction that begins the action; false calls it off. `still` is asked before an effect that
/// has no such transaction.
Task<void> SessionEngine::Impl::act(LivePtr target, ClockDeadline due, Edit also, Still still) {
    const auto clock = due.clock;
    Edit edit = also;
    if (due.action == OnExpiry::disconnect)
        edit = [&also, clock](Session& session, Batch& batch) {
            note_disconnected(session.clocks, clock);
            return !also || also(session, batch);
        };
    co_await carry_out(target, due.action, reason_of(clock), edit, still);
}

Task<void> SessionEngine::Impl::carry_out(LivePtr target, OnExpiry action, TerminationReason reason, Edit also,
                                          Still still) {
    const auto id = target->session.id;
    Call call;
    if (action == OnExpiry::terminate) {
        Edit state_reason = [&](Session& session, Batch& batch) {
            session.termination_reason = reason;
            return !also || also(session, batch);
        };
        co_await begin(id, SessionInput::terminate, std::string(name_of(reason)), call, state_reason);
    } else if (action == OnExpiry::suspend) {
        co_await begin(id, SessionInput::suspend, std::string(name_of(reason)), call, also);
    } else {
        if (still && !still(target->session)) co_return;
        auto within = call.within(budget(options.terminate_timeout));
        co_await provider->disconnect_clients(target->session.vm_id, within);
        Edit told = [&](Session& session, Batch& batch) {
            if (also && !also(session, batch)) return false;
            batch.events.push_back({0, now(), "session.clients.disconnected", session.id, session.execution_id, "",
                                    json{{"reason", name_of(reason)}}.dump()});
            return true;
        };
        co_await update(target, told);
    }
}

}  // namespace infrastructure_sdk
