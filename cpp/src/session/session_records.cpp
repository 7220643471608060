// What is written of a session, and shown once it is on disk.
#include "session/session_engine_impl.hpp"

#include <nlohmann/json.hpp>

#include "session/clock_rules.hpp"
#include "session/session_plan.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {

using nlohmann::json;

/// Keeps a session's clocks and looks where their loops find them.
void SessionEngine::Impl::index(const Session& session) {
    auto when = next_wake(session.clocks, session.state, session.warned_until);
    // What failed is tried again, but not at once.
    constexpr Duration pause = std::chrono::seconds(30);
    const auto& last = session.last_change;
    bool failed =
        session.state == SessionState::failed || (last && last->to == session.state && last->from == last->to);
    if (when && failed && last) when = std::max(*when, last->at + pause);
    bool sooner = expiries.set(session.id, when);
    auto again = session.state == SessionState::failed ? session.restart.next_at : std::nullopt;
    if (restarts.set(session.id, again) || sooner) clock_changed.notify_all();
    keep_place(session);
    if (session.state == SessionState::active) running.insert_or_assign(session.id, find(session.id));
    else running.erase(session.id);
    if (session.state != SessionState::active && looks.set(session.id, std::nullopt)) looks_changed.notify_all();
    plan_isolation_look(session);
}

Task<LivePtr> SessionEngine::Impl::need(std::string id) {
    if (auto found = find(id)) co_return found;
    auto record = co_await store->get(session_kind, id);
    if (!record)
        throw Error(Errc::not_found, "there is no session '" + id + "'; `infra-sdk session list --all` shows them",
                    {{"field", "session"}, {"value", id}});
    auto session = session_from_json(json::parse(record->json));
    session.version = record->version;
    co_return std::make_shared<LiveSession>(std::move(session), env.executor);
}

/// What a change of state means for the clocks, and between which states at rest it is.
void note_change(Session& session, SessionState before, const Outcome& outcome, WallTime now) {
    if (session.state == SessionState::active) note_active(session.clocks, now);
    if (session.state == SessionState::suspended) note_suspended(session.clocks, now);
    auto& last = session.last_change;
    if (!last || !is_transient(before)) last = StateChange{now, before, session.state, "request"};
    last->at = now;
    last->to = session.state;
    // Who asked is told when it begins; what fails tells why.
    const auto& why = outcome.reason.empty() ? outcome.cause : outcome.reason;
    if (!why.empty()) last->reason = why;
}

std::string SessionEngine::Impl::document_of(const Session& session) const {
    return store->keeps_documents() ? json(session).dump() : std::string();
}

std::string SessionEngine::Impl::intent_of(const Session& session, const char* verb, WallTime since) const {
    if (!store->keeps_documents()) return {};
    return json{{"verb", verb},
                {"state", name_of(session.state)},
                {"vm_id", session.vm_id.value},
                {"execution_id", session.execution_id},
                {"since", to_rfc3339(since)}}
        .dump();
}

/// To disk, then to those who watch.
Task<CommitResult> SessionEngine::Impl::commit(Batch batch) {
    bool news = !batch.events.empty();
    auto result = co_await store->commit(std::move(batch));
    if (news) {
        ++written;
        events_written.notify_all();
    }
    co_return result;
}

/// Applies `edit` to a copy, commits it, then shows it. Edits of one session never overlap. False = `edit` declined.
Task<bool> SessionEngine::Impl::update(LivePtr target, Edit edit) {
    Call no_limit;
    while (target->writing) co_await target->changed.wait(*env.clock, no_limit);
    Session copy = target->session;
    Batch batch;
    if (!edit(copy, batch)) co_return false;
    target->writing = true;
    std::exception_ptr error;
    try {
        copy.updated_at = now();
        copy.expires_at = copy.clocks.ttl.deadline;
        batch.puts.push_back({session_kind, copy.id, document_of(copy), copy.version});
        auto result = co_await commit(std::move(batch));
        copy.version = result.versions.back();
        target->session = std::move(copy);
        index(target->session);
        if (target->session.state == SessionState::active && !looks.has(target->session.id) && !target->use.looking)
            plan_look(target, env.clock->monotonic_now());
        if (target->session.state == SessionState::terminated) live.erase(target->session.id);
    } catch (...) {
        error = std::current_exception();
    }
    target->writing = false;
    target->changed.notify_all();
    if (error) std::rethrow_exception(error);
    co_return true;
}

/// One row of the state machine: the new state, its intent or its end, and the event, in one transaction.
Task<bool> SessionEngine::Impl::transition(LivePtr target, SessionInput input, Outcome outcome,
                                           std::string correlation_id, Edit also) {
    SessionState before{};
    std::unique_ptr<ReservationLedger::Change> held;
    Edit edit = [&](Session& session, Batch& batch) {
        auto next = next_state(session.state, input);
        if (!next) return false;
        if (also && !also(session, batch)) return false;
        before = session.state;
        session.state = *next;
        session.observed_at = now();
        if (*next == SessionState::failed) {
            session.failure_reason = outcome.reason;
            session.failure_message = outcome.message;
            session.failure_channel = outcome.channel;
        }
        auto more = aftermath(session, before, input);
        if (!is_transient(*next)) session.observed_generation = session.generation;
        note_change(session, before, outcome, now());
        if (*next == SessionState::suspended) session.suspend_mode = "memory";
        else if (*next != SessionState::terminating && *next != SessionState::failed) session.suspend_mode.reset();
        if (*next == SessionState::active && before == SessionState::suspending) session.desired = "active";
        if (*next == SessionState::suspended && before == SessionState::resuming) session.desired = "suspended";
        // What was said of the process before does not hold for this one.
        if (*next == SessionState::active && before != SessionState::suspending)
            std::erase_if(session.conditions, [](const Condition& condition) {
                return condition.type == "Healthy" || condition.type == "AgentAnswers";
            });
        auto word = outcome.reason.empty() ? std::string(name_of(*next)) : outcome.reason;
        set_condition(session,
                      {"Ready", *next == SessionState::active ? "True" : "False", word, outcome.message, now()});
        // The intent to create was written with the session.
        if (is_transient(*next) && input != SessionInput::provision)
            batch.puts.push_back({intent_kind, session.id, intent_of(session, name_of(input), now()), std::nullopt});
        if (!is_transient(*next)) batch.erases.push_back({intent_kind, session.id});
        if (*next == SessionState::terminated && options.policies) options.policies->forget(session.id, batch);
        json data{{"from", name_of(before)}, {"to", name_of(*next)}};
        if (!outcome.reason.empty()) data["reason"] = outcome.reason;
        if (!outcome.message.empty()) data["message"] = outcome.message;
        data["cause"] = session.last_change->reason;
        data.update(more);
        if (before == SessionState::provisioning && *next == SessionState::active)
            data["launch_type"] = session.pool.empty() ? "cold" : "warm";
        if (!outcome.launch.from.empty()) {
            session.launch = outcome.launch;
            data["launched_from"] = session.launch.from;
            if (!session.launch.reason.empty()) data["launch_reason"] = session.launch.reason;
        }
        if (session.termination_reason) data["termination_reason"] = name_of(*session.termination_reason);
        batch.events.push_back({0, now(), event_type(before, *next), session.id, session.execution_id, correlation_id,
                                data.dump(-1, ' ', false, json::error_handler_t::replace)});
        target->may_be_alive =
            *next == SessionState::failed && (target->may_be_alive || input == SessionInput::terminate_failed);
        held = reservations.change(session, batch, target->may_be_alive, now());
        if (input == SessionInput::resume && options.policies) options.policies->note_resumed(session.id, batch);
        return true;
    };
    bool done = co_await update(target, edit);
    if (held) held->committed();
    const bool is_over = done && target->session.state == SessionState::terminated;
    if (is_over && options.policies) options.policies->note_forgotten(target->session.id);
    if (done) look_at_pools(target->session.state);
    if (done)
        log(target->session.state == SessionState::failed ? LogLevel::error : LogLevel::info, "session changed state",
            target->session,
            {{"from", name_of(before)},
             {"to", name_of(target->session.state)},
             {"reason", outcome.reason},
             {"detail", outcome.message}},
            correlation_id);
    co_return done;
}

}  // namespace infrastructure_sdk
