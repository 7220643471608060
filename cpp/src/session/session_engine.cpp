#include <infrastructure_sdk/session/session_engine.hpp>

#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "core/async_tools.hpp"
#include "core/did_you_mean.hpp"
#include "session/deadline_index.hpp"
#include "session/reservation_ledger.hpp"
#include "session/session_fsm.hpp"
#include "session/session_plan.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/vm/image.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
constexpr const char* session_kind = "session";
constexpr const char* intent_kind = "intent";

/// How a piece of work on a VM ended.
struct Outcome {
    SessionInput input;
    std::string reason;  // a stable word
    std::string message;
    std::string channel;
};

Outcome failure(SessionInput input, const Error& error) {
    auto reason = error.context().find("reason");
    auto channel = error.context().find("channel");
    Outcome outcome{input, name_of(error.errc()), error.message(), {}};
    if (channel != error.context().end()) {
        outcome.reason = "ChannelNotReady";
        outcome.channel = channel->second;
    }
    if (reason != error.context().end()) outcome.reason = reason->second;
    if (!error.remote_message().empty()) outcome.message += " (" + error.remote_message().substr(0, 2000) + ")";
    return outcome;
}

}  // namespace

/// One session that is not terminated. Touched on the executor only.
struct LiveSession {
    explicit LiveSession(Session value, Executor executor) : session(std::move(value)), changed(executor) {}
    Session session;
    Signal changed;
    bool writing = false;        // one commit at a time keeps versions in order
    bool driven = false;         // a worker is on it
    std::string correlation_id;  // of the verb that the worker carries out
    bool may_be_alive = false;   // failed, and its VM's death was not observed
    std::stop_source work;       // stops the worker's present step
};
using LivePtr = std::shared_ptr<LiveSession>;

struct SessionEngine::Impl : std::enable_shared_from_this<SessionEngine::Impl> {
    Impl(Environment e, std::shared_ptr<Store> s, std::shared_ptr<VmProvider> p, SessionEngineOptions o)
        : env(std::move(e)),
          store(std::move(s)),
          provider(std::move(p)),
          options(std::move(o)),
          tasks(env.executor),
          clock_changed(env.executor),
          reservations(options.limits),
          events_written(env.executor) {}

    Environment env;
    std::shared_ptr<Store> store;
    std::shared_ptr<VmProvider> provider;
    SessionEngineOptions options;
    TaskGroup tasks;
    Signal clock_changed;
    std::map<std::string, LivePtr> live;
    ReservationLedger reservations;
    DeadlineIndex expiries;
    Signal events_written;
    std::uint64_t written = 0;  // commits with events, so that none falls between a look and a wait
    bool closing = false;

    using Edit = std::function<bool(Session&, Batch&)>;

    WallTime now() const { return env.clock->wall_now(); }
    Deadline budget(Duration kvm_time) const {
        auto scaled = std::chrono::duration_cast<Duration>(kvm_time * provider->capabilities().timeout_scale);
        return Deadline::after(*env.clock, scaled);
    }
    void log(LogLevel level, std::string message, const Session& session, std::vector<LogField> more = {},
             const std::string& correlation_id = {}) const {
        more.insert(more.begin(), LogField("session", session.id));
        env.logger->log(level, "session", std::move(message), std::move(more), correlation_id);
    }

    LivePtr find(const std::string& id) const {
        auto it = live.find(id);
        return it == live.end() ? nullptr : it->second;
    }
    Session plan(const SessionRequest& request) const;
    void index(const Session& session);
    Task<LivePtr> need(std::string id);
    Task<CommitResult> commit(Batch batch);
    Task<bool> update(LivePtr target, Edit edit);
    Task<bool> transition(LivePtr target, SessionInput input, Outcome outcome, std::string correlation_id,
                          std::function<void(Session&)> also);
    Task<Session> begin(std::string id, SessionInput verb, std::string desired, Call call,
                        std::function<void(Session&)> also);
    void spawn_driver(LivePtr target);
    Task<void> drive(LivePtr target);
    Task<Outcome> step(LivePtr target, Session session, Call call);
    Task<Outcome> provision(LivePtr target, Session session, Call call);
    Task<VmStatus> look(VmId vm, Call call);
    Task<Outcome> end_vm(Session session, Call call);
    Task<void> expire();
    Task<void> adopt(LivePtr target, Call call);
    Task<void> reap_orphans(Call call);
    Task<void> note_lost(LivePtr target, VmEvent event);
    void observe(VmEvent event);
};

SessionEngine::SessionEngine(Environment environment, std::shared_ptr<Store> store,
                             std::shared_ptr<VmProvider> provider, SessionEngineOptions options)
    : impl_(std::make_shared<Impl>(std::move(environment), std::move(store), std::move(provider), std::move(options))) {
    impl_->provider->on_event([weak = std::weak_ptr(impl_)](VmEvent event) {
        if (auto impl = weak.lock()) impl->observe(std::move(event));
    });
}

SessionEngine::~SessionEngine() = default;

/// Keeps the expiry of a session where the clock looks.
void SessionEngine::Impl::index(const Session& session) {
    bool ends = session.state == SessionState::terminating || session.state == SessionState::terminated;
    auto when = ends ? std::nullopt : session.expires_at;
    // An end that failed is tried again, but not at once.
    constexpr Duration pause = std::chrono::seconds(30);
    if (when && session.state == SessionState::failed) when = std::max(*when, session.updated_at + pause);
    if (expiries.set(session.id, when)) clock_changed.notify_all();
}

// ---- records -------------------------------------------------------------------------------------------------------

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
        batch.puts.push_back({session_kind, copy.id, json(copy).dump(), copy.version});
        auto result = co_await commit(std::move(batch));
        copy.version = result.versions.back();
        target->session = std::move(copy);
        index(target->session);
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
                                           std::string correlation_id, std::function<void(Session&)> also) {
    SessionState before{};
    std::unique_ptr<ReservationLedger::Change> held;
    Edit edit = [&](Session& session, Batch& batch) {
        auto next = next_state(session.state, input);
        if (!next) return false;
        before = session.state;
        session.state = *next;
        session.observed_at = now();
        if (also) also(session);
        if (*next == SessionState::failed) {
            session.failure_reason = outcome.reason;
            session.failure_message = outcome.message;
            session.failure_channel = outcome.channel;
        }
        if (!is_transient(*next)) session.observed_generation = session.generation;
        if (*next == SessionState::suspended) session.suspend_mode = "memory";
        else if (*next != SessionState::terminating && *next != SessionState::failed) session.suspend_mode.reset();
        if (*next == SessionState::active && before == SessionState::suspending) session.desired = "active";
        auto word = outcome.reason.empty() ? std::string(name_of(*next)) : outcome.reason;
        set_condition(session,
                      {"Ready", *next == SessionState::active ? "True" : "False", word, outcome.message, now()});
        if (is_transient(*next))
            batch.puts.push_back({intent_kind, session.id,
                                  json{{"verb", name_of(input)},
                                       {"state", name_of(*next)},
                                       {"vm_id", session.vm_id.value},
                                       {"execution_id", session.execution_id},
                                       {"since", to_rfc3339(now())}}
                                      .dump(),
                                  std::nullopt});
        else batch.erases.push_back({intent_kind, session.id});
        json data{{"from", name_of(before)}, {"to", name_of(*next)}};
        if (!outcome.reason.empty()) data["reason"] = outcome.reason;
        if (!outcome.message.empty()) data["message"] = outcome.message;
        if (session.termination_reason) data["termination_reason"] = name_of(*session.termination_reason);
        batch.events.push_back({0, now(), event_type(before, *next), session.id, session.execution_id, correlation_id,
                                data.dump(-1, ' ', false, json::error_handler_t::replace)});
        target->may_be_alive =
            *next == SessionState::failed && (target->may_be_alive || input == SessionInput::terminate_failed);
        held = reservations.change(session, batch, target->may_be_alive);
        return true;
    };
    bool done = co_await update(target, edit);
    if (held) held->committed();
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

// ---- verbs ---------------------------------------------------------------------------------------------------------

/// A request that cannot become a VM is refused before anything is recorded.
Session SessionEngine::Impl::plan(const SessionRequest& request) const {
    const auto& templates = options.templates;
    auto source = templates.find(request.template_name);
    if (source == templates.end()) {
        std::string known;
        std::vector<std::string> names;
        for (const auto& entry : templates) {
            known += (known.empty() ? "" : ", ") + entry.first;
            names.push_back(entry.first);
        }
        auto guess = did_you_mean(request.template_name, names);
        throw Error(
            Errc::not_found,
            "there is no template '" + request.template_name + "'; known: " + known +
                (guess.empty() ? std::string() : "; did you mean '" + guess + "'?"),
            {{"field", "template"}, {"value", request.template_name}, {"allowed", known}, {"did_you_mean", guess}});
    }
    SessionIds ids{"s-" + make_uuid(*env.random).substr(0, 18), make_uuid(*env.random), make_uuid(*env.random)};
    ids.session.erase(std::remove(ids.session.begin() + 2, ids.session.end(), '-'), ids.session.end());
    auto session = plan_session(request, source->second, ids, {options.default_ttl, options.maximum_ttl}, now());
    session.provider = provider->capabilities().provider;
    session.accelerator = provider->capabilities().accelerator;
    plan_vm(session, source->second, load_image(options.image_directory, source->second.image));
    return session;
}

Task<Session> SessionEngine::plan(SessionRequest request) {
    auto impl = impl_;
    auto session = impl->plan(request);
    if (auto denial = impl->reservations.check(session)) throw denial->to_error();
    co_return session;
}

Task<std::optional<Denial>> SessionEngine::can_create(SessionRequest request) {
    auto impl = impl_;
    co_return impl->reservations.check(impl->plan(request));
}

Task<std::vector<UsageLine>> SessionEngine::usage() {
    auto impl = impl_;
    co_return impl->reservations.usage();
}

Task<Session> SessionEngine::create(SessionRequest request, Call call) {
    auto impl = impl_;
    if (impl->closing) throw Error(Errc::cancelled, "the session engine is closed");
    auto session = impl->plan(request);

    Batch batch;
    auto held = impl->reservations.change(session, batch, false);
    batch.puts.push_back({intent_kind, session.id,
                          json{{"verb", "create"},
                               {"state", "pending"},
                               {"vm_id", session.vm_id.value},
                               {"execution_id", session.execution_id},
                               {"since", to_rfc3339(session.created_at)}}
                              .dump(),
                          std::nullopt});
    batch.puts.push_back({session_kind, session.id, json(session).dump(), 0});
    batch.events.push_back({0, session.created_at, "session.lifecycle.created", session.id, session.execution_id,
                            call.correlation_id,
                            json{{"user_id", session.user_id}, {"template", session.template_name}}.dump()});
    auto result = co_await impl->commit(std::move(batch));
    held->committed();
    session.version = result.versions.back();
    auto target = std::make_shared<LiveSession>(session, impl->env.executor);
    target->correlation_id = call.correlation_id;
    impl->live[session.id] = target;
    impl->index(session);
    impl->spawn_driver(target);
    co_return session;
}

Task<Session> SessionEngine::get(std::string id) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    auto session = target->session;
    session.observed_at = impl->now();
    co_return session;
}

Task<SessionPage> SessionEngine::list(SessionFilter filter) {
    auto impl = impl_;
    if (filter.limit < 1 || filter.limit > 1000)
        throw Error(Errc::validation, "limit: " + std::to_string(filter.limit) + " is not allowed; 1 to 1000",
                    {{"field", "limit"}, {"value", std::to_string(filter.limit)}, {"allowed", "1..1000"}});
    SessionPage page;
    std::string after = filter.after;
    constexpr std::size_t chunk = 1000;
    for (;;) {
        auto records = co_await impl->store->list(session_kind, after, chunk);
        for (const auto& record : records) {
            after = record.id;
            auto session = session_from_json(json::parse(record.json));
            session.version = record.version;
            session.observed_at = impl->now();
            if (!matches(filter, session)) continue;
            if (page.sessions.size() == filter.limit) {
                page.next = page.sessions.back().id;
                co_return page;
            }
            page.sessions.push_back(std::move(session));
        }
        if (records.size() < chunk) co_return page;
    }
}

Task<Session> SessionEngine::wait(std::string id, SessionState target_state, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(id);
    for (;;) {
        const Session& session = target->session;
        if (session.state == target_state) co_return session;
        if (session.state == SessionState::failed) {
            ErrorContext context{{"session", id}, {"reason", session.failure_reason}};
            if (!session.failure_channel.empty()) {
                context["channel"] = session.failure_channel;
                throw Error(Errc::not_ready,
                            "session " + id + " failed: channel '" + session.failure_channel +
                                "' did not answer: " + session.failure_message,
                            context);
            }
            auto code = session.failure_reason == "ProcessKilled" ? Errc::provider : Errc::session_creation;
            throw Error(code, "session " + id + " failed (" + session.failure_reason + "): " + session.failure_message,
                        context);
        }
        bool resting = session.state == SessionState::terminated || session.state == SessionState::suspended ||
                       (session.state == SessionState::active && target_state != SessionState::terminated &&
                        target_state != SessionState::failed);
        if (resting) {
            std::string why;
            for (const auto& condition : session.conditions)
                if (condition.type == "Ready" && !condition.message.empty()) why = ": " + condition.message;
            throw Error(Errc::invalid_transition,
                        "session " + id + " is " + name_of(session.state) + " and will not become " +
                            name_of(target_state) + " by itself" + why,
                        {{"session", id}, {"state", name_of(session.state)}});
        }
        check(
            call, *impl->env.clock,
            ("waiting for session " + id + " to become " + name_of(target_state) + ", it is " + name_of(session.state))
                .c_str());
        co_await target->changed.wait(*impl->env.clock, call);
    }
}

Task<Session> SessionEngine::Impl::begin(std::string id, SessionInput verb, std::string desired, Call call,
                                         std::function<void(Session&)> also) {
    if (closing) throw Error(Errc::cancelled, "the session engine is closed");
    auto target = co_await need(id);
    if (is_already(target->session.state, verb)) co_return target->session;
    auto set_desired = [&](Session& session) {
        session.desired = desired;
        ++session.generation;
        if (also) also(session);
    };
    Outcome asked{verb, "", "", ""};
    bool done = co_await transition(target, verb, asked, call.correlation_id, set_desired);
    if (!done) {
        if (is_already(target->session.state, verb)) co_return target->session;
        throw Error(Errc::invalid_transition,
                    std::string("cannot ") + name_of(verb) + " session " + id + " while it is " +
                        name_of(target->session.state),
                    {{"session", id}, {"state", name_of(target->session.state)}, {"verb", name_of(verb)}});
    }
    target->correlation_id = call.correlation_id;
    target->work.request_stop();
    spawn_driver(target);
    co_return target->session;
}

Task<Session> SessionEngine::suspend(std::string id, Call call) {
    auto impl = impl_;
    const auto& modes = impl->provider->capabilities().suspend_modes;
    if (std::find(modes.begin(), modes.end(), "memory") == modes.end())
        throw Error(Errc::unsupported,
                    "provider " + impl->provider->capabilities().provider + " cannot suspend to memory",
                    {{"capability", "suspend_modes"}});
    co_return co_await impl->begin(std::move(id), SessionInput::suspend, std::string("suspended"), call, nullptr);
}

Task<Session> SessionEngine::resume(std::string id, Call call) {
    auto impl = impl_;
    auto execution = make_uuid(*impl->env.random);
    std::function<void(Session&)> renew = [execution](Session& session) { session.execution_id = execution; };
    co_return co_await impl->begin(std::move(id), SessionInput::resume, std::string("active"), call, renew);
}

Task<Session> SessionEngine::terminate(std::string id, TerminationReason reason, Call call) {
    auto impl = impl_;
    std::function<void(Session&)> state_reason = [reason](Session& session) { session.termination_reason = reason; };
    co_return co_await impl->begin(std::move(id), SessionInput::terminate, std::string("terminated"), call,
                                   state_reason);
}

Task<Session> SessionEngine::touch(std::string id, Call call) {
    auto impl = impl_;
    (void)call;
    auto target = co_await impl->need(std::move(id));
    Impl::Edit edit = [&](Session& session, Batch&) {
        if (session.state == SessionState::terminated) return false;
        session.last_activity_at = impl->now();
        return true;
    };
    if (!co_await impl->update(target, edit))
        throw Error(Errc::invalid_transition, "session " + target->session.id + " is terminated",
                    {{"session", target->session.id}, {"state", "terminated"}});
    co_return target->session;
}

Task<Session> SessionEngine::extend(std::string id, Duration by, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    if (by <= Duration::zero())
        throw Error(Errc::validation, "extend: a duration above zero is needed",
                    {{"field", "by"}, {"value", to_string(by)}});
    Impl::Edit edit = [&](Session& session, Batch& batch) {
        if (session.state == SessionState::terminated || session.state == SessionState::terminating) return false;
        auto base = session.expires_at.value_or(impl->now());
        auto longest = session.created_at + impl->options.maximum_ttl;
        if (by > impl->options.maximum_ttl || base + by > longest)
            throw Error(Errc::validation,
                        "extend: '" + to_string(by) + "' goes beyond session.maximum_ttl (" +
                            to_string(impl->options.maximum_ttl) + " from creation, until " + to_rfc3339(longest) + ")",
                        {{"field", "by"}, {"value", to_string(by)}, {"allowed", "until " + to_rfc3339(longest)}});
        session.expires_at = base + by;
        batch.events.push_back({0, impl->now(), "session.lifecycle.updated", session.id, session.execution_id,
                                call.correlation_id, json{{"expires_at", to_rfc3339(*session.expires_at)}}.dump()});
        return true;
    };
    if (!co_await impl->update(target, edit))
        throw Error(Errc::invalid_transition, "session " + target->session.id + " is ending and cannot be extended",
                    {{"session", target->session.id}, {"state", name_of(target->session.state)}});
    co_return target->session;
}

Task<std::vector<Event>> SessionEngine::next_events(EventQuery query, Call call) {
    auto impl = impl_;
    for (;;) {
        auto before = impl->written;
        auto found = co_await impl->store->events(query);
        if (!found.empty()) co_return found;
        if (impl->closing) throw Error(Errc::cancelled, "the session engine is closed");
        check(call, *impl->env.clock, "waiting for events");
        if (impl->written == before) co_await impl->events_written.wait(*impl->env.clock, call);
    }
}

Task<std::vector<Event>> SessionEngine::events(EventQuery query) { return impl_->store->events(std::move(query)); }

namespace {

void need_active(const Session& session, const char* verb) {
    if (session.state != SessionState::active)
        throw Error(
            Errc::invalid_transition,
            std::string("cannot ") + verb + " in session " + session.id + " while it is " + name_of(session.state),
            {{"session", session.id}, {"state", name_of(session.state)}, {"verb", verb}});
}

}  // namespace

Task<ExecResult> SessionEngine::exec(std::string id, ExecRequest request, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "exec");
    co_return co_await impl->provider->agent(target->session.vm_id)->exec(std::move(request), call);
}

Task<std::string> SessionEngine::read_file(std::string id, std::string path, std::size_t limit_bytes, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "read a file");
    co_return co_await impl->provider->agent(target->session.vm_id)->read_file(std::move(path), limit_bytes, call);
}

Task<void> SessionEngine::write_file(std::string id, std::string path, std::string bytes, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "write a file");
    co_await impl->provider->agent(target->session.vm_id)->write_file(std::move(path), std::move(bytes), call);
}

Task<std::string> SessionEngine::screenshot(std::string id, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "take a screenshot");
    if (!impl->provider->capabilities().screenshot)
        throw Error(Errc::unsupported, "the provider cannot take screenshots", {{"capability", "screenshot"}});
    co_return co_await impl->provider->display(target->session.vm_id)->screenshot(call);
}

Task<VmStatus> SessionEngine::inspect_vm(std::string id, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    co_return co_await impl->provider->inspect(target->session.vm_id, call);
}

// ---- background work -----------------------------------------------------------------------------------------------

void SessionEngine::Impl::spawn_driver(LivePtr target) {
    if (target->driven || closing) return;
    target->driven = true;
    tasks.spawn(env.logger, "drive session " + target->session.id, drive(target));
}

/// Works on a session until it rests. What is asked meanwhile changes the state and stops the present step.
Task<void> SessionEngine::Impl::drive(LivePtr target) {
    auto self = shared_from_this();
    auto parent = tasks.stop_source().get_token();
    while (is_transient(target->session.state) && !parent.stop_requested()) {
        if (target->session.state == SessionState::pending) {
            Outcome capacity{SessionInput::provision, "", "", ""};
            co_await transition(target, capacity.input, capacity, target->correlation_id, nullptr);
            continue;
        }
        target->work = std::stop_source();
        std::stop_callback forward(parent, [source = target->work]() mutable { source.request_stop(); });
        Session session = target->session;
        Call call{Deadline(), target->work.get_token(), target->correlation_id};
        Outcome outcome{};
        bool stopped = false;
        try {
            outcome = co_await step(target, session, call);
        } catch (const Error& error) {
            stopped = error.errc() == Errc::cancelled;
            if (!stopped) {
                auto input = session.state == SessionState::provisioning ? SessionInput::startup_failed
                             : session.state == SessionState::resuming   ? SessionInput::resume_failed
                             : session.state == SessionState::suspending ? SessionInput::suspend_failed
                                                                         : SessionInput::terminate_failed;
                outcome = failure(input, error);
            }
        }
        // Another verb was recorded meanwhile: this step's end is not the session's news any more.
        if (stopped || target->session.state != session.state || target->session.execution_id != session.execution_id)
            continue;
        co_await transition(target, outcome.input, outcome, target->correlation_id, nullptr);
    }
    target->driven = false;
}

Task<Outcome> SessionEngine::Impl::step(LivePtr target, Session session, Call call) {
    switch (session.state) {
        case SessionState::provisioning: co_return co_await provision(target, session, call);
        case SessionState::suspending: {
            auto within = call.within(budget(options.suspend_timeout));
            Outcome outcome{SessionInput::memory_saved, "", "", ""};
            try {
                co_await provider->suspend(session.vm_id, within);
            } catch (const Error& error) {
                if (error.errc() == Errc::cancelled) throw;
                outcome = failure(SessionInput::suspend_failed, error);
            }
            // What was seen counts, not what was said. Back to active only if the VM runs.
            auto status = co_await look(session.vm_id, call);
            if (status.state == VmState::suspended) co_return Outcome{SessionInput::memory_saved, "", "", ""};
            bool runs = status.state == VmState::running || status.state == VmState::paused;
            if (outcome.reason.empty())
                outcome = {SessionInput::suspend_failed, "NotSuspended",
                           std::string("the VM is ") + name_of(status.state), ""};
            if (!runs) outcome.input = SessionInput::vm_lost;
            co_return outcome;
        }
        case SessionState::resuming: {
            auto within = call.within(budget(options.resume_timeout));
            co_await provider->resume(session.vm_id, session.execution_id, within);
            co_await provider->wait_ready(session.vm_id, within);
            co_return Outcome{SessionInput::channels_ready, "", "", ""};
        }
        default: co_return co_await end_vm(session, call);
    }
}

/// Looks again while the provider could not, for as long as a termination may take.
Task<VmStatus> SessionEngine::Impl::look(VmId vm, Call call) {
    auto until = budget(options.terminate_timeout);
    for (;;) {
        auto status = co_await provider->inspect(vm, call);
        if (status.state != VmState::unknown || until.expired(*env.clock)) co_return status;
        auto pause = Deadline::after(*env.clock, std::chrono::seconds(1));
        co_await env.clock->sleep_until(pause.when(), call.stop);
        check(call, *env.clock, "looking at a VM");
    }
}

Task<Outcome> SessionEngine::Impl::provision(LivePtr target, Session session, Call call) {
    auto source = options.templates.find(session.template_name);
    if (source == options.templates.end())
        throw Error(Errc::not_found, "template '" + session.template_name + "' is not there any more",
                    {{"reason", "TemplateMissing"}});
    auto spec = plan_vm(session, source->second, load_image(options.image_directory, source->second.image));
    auto channels_deadline = budget(source->second.boot_timeout);
    auto within = call.within(channels_deadline);
    std::exception_ptr error;
    try {
        co_await provider->create(spec, within);
        co_await provider->start(session.vm_id, session.execution_id, within);
        co_await provider->wait_ready(session.vm_id, within);
        if (source->second.isolation == IsolationGate::isolated && options.isolation_gate) {
            bool isolated = co_await options.isolation_gate(session, within);
            if (!isolated)
                throw Error(Errc::isolation,
                            "the isolation report does not allow this session to start; template '" +
                                session.template_name + "' demands isolation",
                            {{"reason", "IsolationFailed"}});
        }
        co_return Outcome{SessionInput::channels_ready, "", "", ""};
    } catch (const Error& caught) {
        if (caught.errc() == Errc::cancelled) throw;
        error = std::current_exception();
    }
    // The process is of no use any more; disk and records stay for a look until terminate.
    try {
        co_await provider->power_off(session.vm_id, call.within(budget(options.terminate_timeout)));
    } catch (const Error& second) {
        target->may_be_alive = true;
        log(LogLevel::warning, "a VM that failed to start could not be powered off", target->session,
            {{"detail", second.message()}});
    }
    std::rethrow_exception(error);
}

Task<Outcome> SessionEngine::Impl::end_vm(Session session, Call call) {
    auto within = call.within(budget(options.terminate_timeout));
    co_await provider->destroy(session.vm_id, within);
    // "Done" is not enough: the end is what was seen.
    auto status = co_await look(session.vm_id, within);
    if (status.state != VmState::deleted)
        throw Error(Errc::provider,
                    std::string("the provider said that the VM is gone, but it is ") + name_of(status.state),
                    {{"reason", "StillThere"}});
    co_return Outcome{SessionInput::vm_gone, "", "", ""};
}

/// Ends sessions whose time is up; sleeps until the next one is due.
Task<void> SessionEngine::Impl::expire() {
    auto self = shared_from_this();
    auto stop = tasks.stop_source().get_token();
    Call expiry;
    while (!stop.stop_requested()) {
        auto retry = Deadline();
        auto due = expiries.due(now());
        for (const auto& id : due) {
            std::function<void(Session&)> reason = [](Session& session) {
                session.termination_reason = TerminationReason::ttl;
            };
            try {
                co_await begin(id, SessionInput::terminate, std::string("terminated"), expiry, reason);
            } catch (const Error& error) {
                env.logger->log(LogLevel::error, "session", "an expired session could not be ended",
                                {{"session", id}, {"detail", error.message()}});
                retry = Deadline::after(*env.clock, std::chrono::seconds(10));
            }
        }
        // The wall clock may jump: the next deadline is looked at again at least this often.
        constexpr Duration longest = std::chrono::seconds(30);
        auto next = expiries.next();
        auto until = retry;
        if (next && retry.is_never())
            until = Deadline::after(*env.clock, std::clamp<Duration>(*next - now(), Duration::zero(), longest));
        Call pause{until, stop, std::string()};
        co_await clock_changed.wait(*env.clock, pause);
    }
}

void SessionEngine::Impl::observe(VmEvent event) {
    for (const auto& entry : live)
        if (entry.second->session.vm_id == event.id) {
            tasks.spawn(env.logger, "note a lost VM", note_lost(entry.second, std::move(event)));
            return;
        }
}

Task<void> SessionEngine::Impl::note_lost(LivePtr target, VmEvent event) {
    auto self = shared_from_this();
    // While a step is under way its own error tells the story.
    if (target->session.state != SessionState::active) co_return;
    Outcome lost{SessionInput::vm_lost, event.reason, event.message, ""};
    co_await transition(target, lost.input, lost, std::string(), nullptr);
}

// ---- recovery ------------------------------------------------------------------------------------------------------

Task<void> SessionEngine::recover(Call call) {
    auto impl = impl_;
    std::string after;
    for (;;) {
        auto records = co_await impl->store->list(session_kind, after, 1000);
        for (const auto& record : records) {
            after = record.id;
            auto session = session_from_json(json::parse(record.json));
            session.version = record.version;
            if (session.state == SessionState::terminated) continue;
            impl->reservations.restore(session, false);
            impl->index(session);
            impl->live[session.id] = std::make_shared<LiveSession>(session, impl->env.executor);
        }
        if (records.size() < 1000) break;
    }
    auto copy = impl->live;
    for (const auto& entry : copy) co_await impl->adopt(entry.second, call);
    co_await impl->reap_orphans(call);
    impl->tasks.spawn(impl->env.logger, "expiry", impl->expire());
}

Task<void> SessionEngine::Impl::adopt(LivePtr target, Call call) {
    auto status = co_await provider->inspect(target->session.vm_id, call);
    auto step = plan_recovery(target->session.state, status.state);
    if (step.action == RecoveryStep::Action::drive) spawn_driver(target);
    if (step.action == RecoveryStep::Action::apply) {
        Outcome lost{step.input, status.reason.empty() ? "VmLost" : status.reason, status.message, ""};
        co_await transition(target, lost.input, lost, call.correlation_id, nullptr);
    }
}

/// A VM of this installation that no session owns is ended, unless it could not be looked at.
Task<void> SessionEngine::Impl::reap_orphans(Call call) {
    auto owned = co_await provider->list_owned(call);
    for (const auto& status : owned) {
        bool wanted = false;
        for (const auto& entry : live) wanted = wanted || entry.second->session.vm_id == status.id;
        if (wanted || status.state == VmState::unknown) continue;
        env.logger->log(LogLevel::warning, "session", "a VM without a session is removed", {{"vm", status.id.value}});
        co_await provider->destroy(status.id, call.within(budget(options.terminate_timeout)));
        Batch batch;
        batch.events.push_back({0, now(), "vm.orphan_reaped", status.id.value, status.execution_id, call.correlation_id,
                                json{{"owner_session", status.owner_session}}.dump()});
        co_await commit(std::move(batch));
    }
}

Task<void> SessionEngine::close() {
    auto impl = impl_;
    impl->closing = true;
    impl->tasks.stop_source().request_stop();
    impl->clock_changed.notify_all();
    impl->events_written.notify_all();
    co_await impl->tasks.join();
}

}  // namespace infrastructure_sdk
