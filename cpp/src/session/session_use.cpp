// Whether sessions are in use: who is looked at when, what follows from it, and how it is explained.
#include <algorithm>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/json.hpp>

#include "session/activity_json.hpp"
#include "session/clock_rules.hpp"
#include "session/session_engine_impl.hpp"
#include "session/session_plan.hpp"

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

constexpr std::size_t looks_at_once = 16;

constexpr std::size_t fewest_samples = 2;  // a rate needs two

/// More of few sessions, less of many: all together they stay within some megabytes.
std::size_t samples_kept(std::size_t sessions) {
    constexpr std::size_t all_together = 50'000;
    return std::clamp<std::size_t>(all_together / std::max<std::size_t>(sessions, 1), fewest_samples, 64);
}

std::uint32_t active_holds(const Session& session, WallTime now) {
    return static_cast<std::uint32_t>(std::count_if(session.holds.begin(), session.holds.end(),
                                                    [now](const Hold& held) { return held.until > now; }));
}

enum class IdleNews { none, armed, disarmed };

/// What there is to tell between two looks. Due is armed and confirmed: its action is the news.
IdleNews news_of(IdleState before, IdleState now) {
    auto warned = [](IdleState state) { return state == IdleState::armed || state == IdleState::due; };
    if (warned(before) == warned(now)) return IdleNews::none;
    return warned(now) ? IdleNews::armed : IdleNews::disarmed;
}

/// What the provider saw and what our own books say.
ActivitySample make_sample(const VmActivity& seen, const LiveSession& live, WallTime now, MonotonicTime monotonic) {
    ActivitySample sample;
    sample.at = now;
    sample.monotonic_at = monotonic;
    sample.execution_id = live.session.execution_id;
    sample.guest_cpu_ns = seen.guest_cpu_ns;
    sample.network_rx_bytes = seen.network_rx_bytes;
    sample.network_tx_bytes = seen.network_tx_bytes;
    sample.disk_read_bytes = seen.disk_read_bytes;
    sample.disk_write_bytes = seen.disk_write_bytes;
    sample.input_events = seen.input_events;
    sample.vnc_clients = seen.vnc_clients;
    sample.forwarded_connections = seen.forwarded_connections;
    sample.logged_in_users = seen.logged_in_users;
    sample.agent_answered = seen.agent_answered;
    for (const auto& [name, why] : seen.reasons) sample.reasons[parse_activity_signal(name)] = why;
    sample.execs_started = live.use.execs_started;
    sample.touches = live.use.touches;
    sample.exec_in_flight = live.use.execs_in_flight;
    sample.holds = active_holds(live.session, now);
    return sample;
}

constexpr const char* agent_condition = "AgentAnswers";

/// That the agent is silent was told, and not yet that it is back.
bool is_known_silent(const Session& session) {
    return std::any_of(session.conditions.begin(), session.conditions.end(), [](const Condition& condition) {
        return condition.type == agent_condition && condition.status == "False";
    });
}

bool is_watched(const Session& session) {
    return session.state == SessionState::active &&
           (session.clocks.idle_timeout.limit || session.clocks.disconnect_timeout.limit);
}

}  // namespace

IdleSettings SessionEngine::Impl::idle_settings(const Session& session) const {
    auto settings = options.idleness;
    settings.idle_timeout = session.clocks.idle_timeout.limit;
    return settings;
}

void SessionEngine::Impl::plan_look(const LivePtr& target, MonotonicTime when) {
    if (is_watched(target->session) && looks.set(target->session.id, when)) looks_changed.notify_all();
}

Task<void> SessionEngine::Impl::watch_use() {
    auto self = shared_from_this();
    auto stop = tasks.stop_source().get_token();
    while (!stop.stop_requested()) {
        const auto at = env.clock->monotonic_now();
        while (looks_under_way < looks_at_once) {
            const auto id = looks.first_due(at);
            if (!id) break;
            auto target = find(*id);
            // Somebody who asks for an explanation looks just now.
            const bool later = target && target->use.looking;
            looks.set(*id, later ? std::optional(at + options.idleness.sample_interval) : std::nullopt);
            if (target && !later) {
                ++looks_under_way;
                target->use.looking = true;
                tasks.spawn(env.logger, "look at session " + *id, look_at_use(target));
            }
        }
        // One that is done wakes the loop for those which are due already.
        auto next = looks_under_way < looks_at_once ? looks.next() : std::nullopt;
        Call pause{next ? Deadline(*next) : Deadline(), stop, std::string()};
        co_await looks_changed.wait(*env.clock, pause);
    }
}

Task<void> SessionEngine::Impl::look_at_use(LivePtr target) {
    auto self = shared_from_this();
    std::optional<IdleVerdict> verdict;
    try {
        verdict = co_await sample_use(target, true);
    } catch (const Error& error) {
        log(LogLevel::warning, "what an idle session's clock asks for could not be done", target->session,
            {{"detail", error.message()}});
    }
    target->use.looking = false;
    target->changed.notify_all();  // who wants an explanation waits for this
    const bool others_wait = looks_under_way-- == looks_at_once;
    if (!closing && is_watched(target->session))
        plan_look(target, verdict ? look_after(*target, *verdict)
                                  : env.clock->monotonic_now() + options.idleness.sample_interval);
    if (others_wait) looks_changed.notify_all();
}

/// When its last use was seen, or would have been seen by looks that were left out; none = its use is not known.
std::optional<MonotonicTime> SessionEngine::Impl::quiet_since(const LiveSession& target) const {
    const auto& memory = target.use.detector.memory();
    const auto& samples = target.use.samples;
    if (samples.empty() || samples.back().execution_id != target.session.execution_id) return std::nullopt;
    if (memory.state == IdleState::unknown) return std::nullopt;
    if (!options.use_steady_until || memory.state != IdleState::busy) return memory.quiet_since;
    // A question comes ahead of the look of the same instant.
    const auto interval = options.idleness.sample_interval;
    const auto since = std::max(Duration(env.clock->monotonic_now() - memory.seen_at - Duration(1)), Duration::zero());
    return memory.seen_at + since / interval * interval;
}

MonotonicTime SessionEngine::Impl::look_after(LiveSession& target, const IdleVerdict& verdict) const {
    if (!options.use_steady_until) return verdict.wake_at;
    // A policy that wants to be left alone is not asked before.
    const auto rest = env.clock->monotonic_now() + (rests_of(target).idle.until - now());
    return next_telling_look(verdict, target.use.detector.memory(), idle_settings(target.session),
                             options.use_steady_until(target.session.vm_id), rest);
}

/// One look and what follows from it; who only asks does not act. nullopt = the session went on to something else
/// meanwhile.
Task<std::optional<IdleVerdict>> SessionEngine::Impl::sample_use(LivePtr target, bool acts) {
    const auto execution = target->session.execution_id;
    VmActivity seen;
    constexpr Duration patience = std::chrono::seconds(5);
    Call call{budget(patience), tasks.stop_source().get_token(), std::string()};
    try {
        seen = co_await provider->activity(target->session.vm_id, call);
    } catch (const Error& error) {
        if (call.stop.stop_requested()) throw;
        seen = {};
        for (auto signal : {"guest_cpu", "network", "disk", "input", "connection", "users", "heartbeat"})
            seen.reasons[signal] = error.message();
    }
    if (closing || target->session.state != SessionState::active || target->session.execution_id != execution)
        co_return std::nullopt;
    // What was seen is what is decided on; use meanwhile calls it off.
    const auto sample = make_sample(seen, *target, now(), env.clock->monotonic_now());
    const auto before = target->use.detector.memory().state;
    const auto verdict = take_in(target, sample);
    auto& session = target->session;
    note_activity(session.clocks, verdict.quiet_since);
    if (!session.last_activity_at || *session.last_activity_at < verdict.quiet_since)
        session.last_activity_at = verdict.quiet_since;
    const bool is_due = acts && verdict.state == IdleState::due && !session.clocks.idle_timeout.spent;
    if (!is_due) rests_of(*target).idle = {};
    // Also of a session that a policy keeps: the clock of those who left runs on.
    co_await note_clients_of(target, sample);
    const auto answers = target->use.heartbeat.hear(sample.agent_answered);
    if (answers && *answers == is_known_silent(target->session)) co_await note_heartbeat(target, *answers);
    if (is_due) {
        const bool is_same = session.state == SessionState::active && session.execution_id == execution;
        bool is_kept = false;
        if (!closing && is_same) is_kept = co_await end_idleness(target, sample, verdict);
        // It may have become due without a warning ahead of it.
        if (!closing && is_kept) co_await tell_idleness(target, verdict, before);
        co_return verdict;
    }
    co_await tell_idleness(target, verdict, before);
    co_return verdict;
}

/// The idle clock acts, or what a policy decides instead. @return whether a policy keeps the session
Task<bool> SessionEngine::Impl::end_idleness(LivePtr target, const ActivitySample& sample, const IdleVerdict& verdict) {
    auto action = target->session.clocks.idle_timeout.on_expiry;
    const auto execution = target->session.execution_id;
    PolicyVerdict policy;
    if (asks(DecisionPoint::idle)) {
        if (rests_of(*target).idle.holds(now())) co_return true;
        policy = co_await ask_about_idleness(target, sample, verdict);
        if (closing || target->session.state != SessionState::active || target->session.execution_id != execution)
            co_return false;
    }
    if (!policy.is_standard()) {
        const auto decided = std::get<SessionDecision>(policy.decision).action;
        if (decided == SessionAction::keep) {
            rests_of(*target).idle = {now(), now() + policy.ask_again_after};
            co_await write_news(target, std::move(policy));
            co_return true;
        }
        action = on_expiry(decided);
    }
    const auto& session = target->session;
    std::string decided_on;
    if (store->keeps_documents())
        decided_on = json(ExplainInputs{sample.at, session.state, session.clocks, idle_settings(session),
                                        target->use.kept(), target->use.before, std::nullopt})
                         .dump(-1, ' ', false, json::error_handler_t::replace);
    // Another edit may have been under way: use since the look calls it off.
    auto is_unused = [&](const Session& seen) {
        const auto& use = target->use;
        return use.touches == sample.touches && use.execs_started == sample.execs_started && use.execs_in_flight == 0 &&
               active_holds(seen, now()) == 0;
    };
    Edit record = [&](Session& copy, Batch& batch) {
        if (!is_unused(copy)) return false;
        if (action != OnExpiry::disconnect) batch.puts.push_back({decision_kind, copy.id, decided_on, std::nullopt});
        if (options.policies) options.policies->record(policy, batch);
        return true;
    };
    ClockDeadline due{ClockKind::idle_timeout, action, sample.at, sample.at, false};
    co_await act(target, due, record, is_unused);
    co_return false;
}

/// Remembers a sample; the detector's memory ahead of the first one kept makes the verdict reproducible.
IdleVerdict SessionEngine::Impl::take_in(LivePtr target, ActivitySample sample) {
    auto& use = target->use;
    const auto settings = idle_settings(target->session);
    if (!use.samples.empty() && use.samples.back().execution_id != sample.execution_id) {
        use.samples.clear();
        use.before = {};
        use.heartbeat = {};
    }
    const auto verdict = use.detector.observe(sample, settings);
    // What no decision is recorded with is of no use later.
    const auto most = store->keeps_documents() ? samples_kept(live.size()) : fewest_samples;
    while (use.samples.size() >= most) {
        IdleDetector forgetting(use.before);
        forgetting.observe(use.samples.front(), settings);
        use.before = forgetting.memory();
        use.samples.pop_front();
    }
    use.samples.push_back(std::move(sample));
    return verdict;
}

Task<void> SessionEngine::Impl::note_clients_of(LivePtr target, const ActivitySample& sample) {
    if (!sample.vnc_clients || !sample.forwarded_connections) co_return;
    const bool connected = *sample.vnc_clients + *sample.forwarded_connections > 0;
    const auto at = sample.at;
    if (connected == target->session.clocks.connected) co_return;
    Edit edit = [&](Session& session, Batch& batch) {
        if (session.state != SessionState::active) return false;
        note_clients(session.clocks, connected, at);
        batch.events.push_back({0, at, connected ? "session.clients.connected" : "session.clients.left", session.id,
                                session.execution_id, "", "{}"});
        return true;
    };
    co_await update(target, edit);
}

/// An agent that is silent, or answers what is no answer, and one that is back. Healthy ones are not told of.
Task<void> SessionEngine::Impl::note_heartbeat(LivePtr target, bool answers) {
    Edit edit = [&](Session& session, Batch& batch) {
        if (session.state != SessionState::active || answers != is_known_silent(session)) return false;
        const std::string reason = answers ? "AgentAnswers" : "AgentSilent";
        const std::string message = answers ? "the guest's agent answers again"
                                            : "the guest's agent gives no answer; commands and files do not reach it";
        set_condition(session, {agent_condition, answers ? "True" : "False", reason, message, now()});
        json data{{"vm_state", name_of(VmState::running)}, {"reason", reason}, {"message", message}};
        batch.events.push_back({0, now(), answers ? "session.health.recovered" : "session.health.degraded", session.id,
                                session.execution_id, "", data.dump()});
        return true;
    };
    co_await update(target, edit);
}

/// The warning ahead of the idle clock's action, and that it is over.
Task<void> SessionEngine::Impl::tell_idleness(LivePtr target, const IdleVerdict& verdict, IdleState before) {
    const auto news = news_of(before, verdict.state);
    if (news == IdleNews::none) co_return;
    const bool armed = news == IdleNews::armed;
    Edit edit = [&](Session& session, Batch& batch) {
        if (session.state != SessionState::active) return false;
        json data{{"quiet_since", to_rfc3339(verdict.quiet_since)}, {"verdict", name_of(verdict.state)}};
        if (armed) {
            data["action"] = name_of(session.clocks.idle_timeout.on_expiry);
            data["next_look"] = to_rfc3339(verdict.next_look);
        }
        batch.events.push_back({0, now(), armed ? "session.idle.armed" : "session.idle.disarmed", session.id,
                                session.execution_id, "", data.dump()});
        return true;
    };
    co_await update(target, edit);
}

// ---- verbs ---------------------------------------------------------------------------------------------------------

Task<Session> SessionEngine::hold(std::string id, std::string name, Duration length, std::string note, Call call) {
    auto impl = impl_;
    auto reject = [](const char* field, const std::string& value, const std::string& allowed) {
        throw Error(Errc::validation, std::string(field) + ": '" + value + "' is not allowed; " + allowed,
                    {{"field", field}, {"value", value}, {"allowed", allowed}});
    };
    auto printable = [](const std::string& text) {
        return std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    };
    if (name.empty() || name.size() > 64 || !printable(name))
        reject("name", name.substr(0, 100), "1 to 64 characters without control characters");
    if (note.size() > 500 || !printable(note))
        reject("note", note.substr(0, 100), "at most 500 characters without control characters");
    constexpr Duration longest = std::chrono::hours(24 * 7);
    if (length <= Duration::zero() || length > longest)
        reject("length", to_string(length), "above zero, at most " + to_string(longest));
    auto target = co_await impl->need(std::move(id));
    Impl::Edit edit = [&](Session& session, Batch& batch) {
        if (session.state == SessionState::terminated || session.state == SessionState::terminating) return false;
        const auto at = impl->now();
        std::erase_if(session.holds, [&](const Hold& held) { return held.name == name || held.until <= at; });
        constexpr std::size_t most = 32;
        if (session.holds.size() >= most) reject("name", name, "at most 32 holds on one session; release one");
        session.holds.push_back({name, at + length, note});
        batch.events.push_back({0, at, "session.hold.placed", session.id, session.execution_id, call.correlation_id,
                                json{{"name", name}, {"until", to_rfc3339(at + length)}, {"note", note}}.dump(
                                    -1, ' ', false, json::error_handler_t::replace)});
        return true;
    };
    if (!co_await impl->update(target, edit))
        throw Error(Errc::invalid_transition, "session " + target->session.id + " is ending and cannot be held",
                    {{"session", target->session.id}, {"state", name_of(target->session.state)}});
    co_return target->session;
}

Task<Session> SessionEngine::release(std::string id, std::string name, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    Impl::Edit edit = [&](Session& session, Batch& batch) {
        if (session.state == SessionState::terminated) return false;
        if (std::erase_if(session.holds, [&](const Hold& held) { return held.name == name; }) == 0) return false;
        batch.events.push_back({0, impl->now(), "session.hold.released", session.id, session.execution_id,
                                call.correlation_id,
                                json{{"name", name}}.dump(-1, ' ', false, json::error_handler_t::replace)});
        return true;
    };
    co_await impl->update(target, edit);
    co_return target->session;
}

Task<ExplainInputs> SessionEngine::Impl::explain_inputs(LivePtr target) {
    ExplainInputs inputs;
    const auto& session = target->session;
    inputs.settings = idle_settings(session);
    inputs.samples = target->use.kept();
    inputs.before = target->use.before;
    std::vector<SignalReading> readings;
    if (session.state != SessionState::active) {
        inputs.samples.clear();
        inputs.before = {};
        const bool by_idleness = session.last_change && session.last_change->reason == name_of(TerminationReason::idle);
        std::optional<Record> record;
        if (by_idleness) record = co_await store->get(decision_kind, session.id);
        if (record) {
            auto decided = explain_inputs_from_json(json::parse(record->json));
            readings = infrastructure_sdk::explain(decided).readings;
            inputs.samples = std::move(decided.samples);
            inputs.before = decided.before;
            inputs.settings = decided.settings;
        }
    }
    inputs.now = now();
    inputs.state = session.state;
    inputs.clocks = session.clocks;
    if (const auto& last = session.last_change)
        inputs.last_transition = TransitionRecord{last->at, last->from, last->to, last->reason, std::move(readings)};
    co_return inputs;
}

Task<Explanation> SessionEngine::explain(std::string id, std::vector<Duration> other_timeouts, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    auto& use = target->use;
    // A rate needs two looks.
    constexpr Duration apart = std::chrono::seconds(1);
    while (target->session.state == SessionState::active) {
        check(call, *impl->env.clock, "looking at a session's use");
        const auto next = use.detector.memory().seen_at + apart;
        const bool fresh = !use.samples.empty() && impl->env.clock->monotonic_now() < next &&
                           use.samples.back().execution_id == target->session.execution_id;
        if (fresh && use.samples.size() > 1) break;
        if (use.looking) {
            co_await target->changed.wait(*impl->env.clock, call);
        } else if (fresh) {
            co_await impl->env.clock->sleep_until(Deadline(next).earlier(call.deadline).when(), call.stop);
        } else {
            use.looking = true;
            std::exception_ptr failure;
            try {
                co_await impl->sample_use(target, false);
            } catch (const Error&) {
                failure = std::current_exception();
            }
            use.looking = false;
            target->changed.notify_all();
            if (failure) std::rethrow_exception(failure);
        }
    }
    auto inputs = co_await impl->explain_inputs(target);
    co_return infrastructure_sdk::explain(inputs, other_timeouts);
}

}  // namespace infrastructure_sdk
