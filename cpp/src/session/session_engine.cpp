// The verbs that callers ask for.
#include "session/session_engine_impl.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/did_you_mean.hpp"
#include "session/clock_rules.hpp"
#include "session/session_plan.hpp"
#include "session/snapshot_rules.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/vm/image.hpp>

namespace infrastructure_sdk {

using nlohmann::json;

namespace {

json created_data(const Session& session) {
    json data{{"user_id", session.user_id}, {"template", session.template_name}};
    if (!session.tenant.empty()) data["tenant"] = session.tenant;
    if (!session.snapshot.empty()) data["snapshot"] = session.snapshot;
    return data;
}

/// A new session goes on to `provisioning` in the transaction that records it.
void enter_provisioning(Session& session) {
    session.state = SessionState::provisioning;
    session.last_change = StateChange{session.created_at, SessionState::pending, session.state, "request"};
    set_condition(session, {"Ready", "False", name_of(session.state), "", session.created_at});
}

json started_data(const Session& session) {
    return {{"from", name_of(SessionState::pending)},
            {"to", name_of(session.state)},
            {"cause", session.last_change->reason}};
}

/// The intent, the session and its events.
void record_creation(const Session& session, std::string document, std::string intent,
                     const std::string& correlation_id, Batch& batch) {
    batch.puts.push_back({intent_kind, session.id, std::move(intent), 0});
    batch.puts.push_back({session_kind, session.id, std::move(document), 0});
    auto tell = [&](const char* type, const json& data) {
        batch.events.push_back(
            {0, session.created_at, type, session.id, session.execution_id, correlation_id, data.dump()});
    };
    tell("session.lifecycle.created", created_data(session));
    if (session.state == SessionState::provisioning) tell("session.lifecycle.started", started_data(session));
}

}  // namespace

SessionEngine::SessionEngine(Environment environment, std::shared_ptr<Store> store,
                             std::shared_ptr<VmProvider> provider, SessionEngineOptions options)
    : impl_(std::make_shared<Impl>(std::move(environment), std::move(store), std::move(provider), std::move(options))) {
    impl_->provider->on_event([weak = std::weak_ptr(impl_)](VmEvent event) {
        if (auto impl = weak.lock()) impl->observe(std::move(event));
    });
}

SessionEngine::~SessionEngine() = default;

namespace {

/// A clock whose action the provider cannot carry out is refused at once; it never fails late.
void need_capabilities(const SessionClocks& clocks, const Capabilities& capabilities) {
    const auto& modes = capabilities.suspend_modes;
    const bool suspends = std::find(modes.begin(), modes.end(), "memory") != modes.end();
    for (auto kind : {ClockKind::ttl, ClockKind::idle_timeout, ClockKind::disconnect_timeout}) {
        const auto& clock = clock_of(clocks, kind);
        const char* missing = clock.on_expiry == OnExpiry::suspend && !suspends                     ? "suspend_modes"
                              : clock.on_expiry == OnExpiry::disconnect && !capabilities.disconnect ? "disconnect"
                                                                                                    : nullptr;
        if (clock.limit && missing)
            throw Error(Errc::unsupported,
                        std::string("on_expiry: ") + name_of(kind) + ": '" + name_of(clock.on_expiry) +
                            "' is not possible with provider " + capabilities.provider + "; choose another action",
                        {{"field", std::string("on_expiry.") + name_of(kind)}, {"capability", missing}});
    }
}

/// Whether the host can give it is the provider's to say.
void need_network(NetworkMode mode, const Capabilities& capabilities) {
    if (capabilities.networks.contains(name_of(mode))) return;
    throw Error(
        Errc::unsupported,
        std::string("network.mode: '") + name_of(mode) + "' is not possible with provider " + capabilities.provider,
        {{"field", "network.mode"}, {"value", name_of(mode)}, {"capability", "network"}});
}

}  // namespace

/// A request that cannot become a VM is refused before anything is recorded.
Session SessionEngine::Impl::plan(SessionRequest request, std::string* fingerprint) const {
    const auto& templates = options.templates;
    if (!request.snapshot.empty()) {
        need_snapshot_capability(provider->capabilities());
        const auto& snapshot = need_snapshot(request.snapshot)->snapshot;
        auto known = templates.find(snapshot.template_name);
        request = begin_from(request, snapshot, known == templates.end() ? Template() : known->second);
    }
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
    auto session = plan_session(request, source->second, ids, options.clocks, now());
    need_capabilities(session.clocks, provider->capabilities());
    plan_gpus(session, request.resources, source->second, provider->capabilities());
    if (session.encryption != Encryption::off && !provider->capabilities().encryption)
        throw Error(Errc::unsupported,
                    "encryption: '" + std::string(name_of(session.encryption)) + "' is not possible: provider " +
                        provider->capabilities().provider + " encrypts nothing",
                    {{"field", "encryption"}, {"value", name_of(session.encryption)}, {"capability", "encryption"}});
    session.provider = provider->capabilities().provider;
    session.accelerator = provider->capabilities().accelerator;
    auto spec = plan_vm(session, source->second, image_of(session, source->second));
    need_network(spec.network, provider->capabilities());
    if (!pools.units.empty()) *fingerprint = fingerprint_of(spec);
    // A warm unit has what it needs.
    if (pools.units.empty() || !unit_for(session, *fingerprint)) provider->check_spec(spec);
    return session;
}

ImageFiles SessionEngine::Impl::read_image(const std::string& name) const {
    return options.load_image ? options.load_image(name) : images.load(options.image_directory, name);
}

/// The template's image; a snapshot's disk stands in for its own.
ImageFiles SessionEngine::Impl::image_of(const Session& session, const Template& source) const {
    auto image = read_image(source.image);
    // Once the VM is made a temporary snapshot may be gone.
    if (auto entry = find_snapshot(session.snapshot)) image.disk_size_bytes = entry->snapshot.virtual_size_bytes;
    return image;
}

Task<Session> SessionEngine::plan(SessionRequest request) {
    auto impl = impl_;
    std::string fingerprint;
    Call call;
    auto session = co_await impl->plan_asking(std::move(request), &fingerprint, true, nullptr, call);
    auto denial = co_await impl->ask_to_admit(session, true, nullptr, call);
    auto unit = impl->unit_for(session, fingerprint);
    if (!denial) denial = impl->reservations.check(session, unit ? &unit->unit : nullptr, impl->now());
    if (denial) throw denial->to_error();
    co_return session;
}

Task<std::optional<Denial>> SessionEngine::can_create(SessionRequest request) {
    auto impl = impl_;
    std::string fingerprint;
    Call call;
    auto session = co_await impl->plan_asking(std::move(request), &fingerprint, true, nullptr, call);
    if (auto denial = co_await impl->ask_to_admit(session, true, nullptr, call)) co_return denial;
    auto unit = impl->unit_for(session, fingerprint);
    co_return impl->reservations.check(session, unit ? &unit->unit : nullptr, impl->now());
}

Task<std::vector<UsageLine>> SessionEngine::usage() {
    auto impl = impl_;
    co_return impl->reservations.usage(impl->now());
}

namespace {

/// What policies left for a session is forgotten, unless it comes to be.
class PolicyMemory {
public:
    PolicyMemory(PolicyEngine* policies, std::string session) : policies_(policies), session_(std::move(session)) {}
    PolicyMemory(const PolicyMemory&) = delete;
    ~PolicyMemory() {
        if (policies_) policies_->note_forgotten(session_);
    }
    void keep() { policies_ = nullptr; }

private:
    PolicyEngine* policies_;
    std::string session_;
};

}  // namespace

Task<Session> SessionEngine::create(SessionRequest request, Call call) {
    auto impl = impl_;
    if (impl->closing) throw Error(Errc::cancelled, "the session engine is closed");
    std::string fingerprint;
    Batch batch;  // what policies said goes with the session
    auto session = co_await impl->plan_asking(std::move(request), &fingerprint, false, &batch, call);
    PolicyMemory memory(impl->options.policies.get(), session.id);
    if (auto denial = co_await impl->ask_to_admit(session, false, &batch, call)) {
        batch.puts.clear();
        if (!batch.events.empty()) co_await impl->commit(std::move(batch));
        throw denial->to_error();
    }
    // Policies may have taken their time.
    if (impl->closing) throw Error(Errc::cancelled, "the session engine is closed");
    for (auto& event : batch.events) event.subject = session.id;
    if (auto unit = impl->unit_for(session, fingerprint)) {
        if (auto taken = co_await impl->claim(session, unit, batch, call)) {
            memory.keep();
            impl->begin_life(*taken, call, unit->unit.files_suffice);
            co_return *taken;
        }
    }

    auto held = impl->reservations.change(session, batch, false, impl->now());
    // With a place to boot it is one transaction less.
    bool boots_now = impl->boots.try_begin(session.id);
    CommitResult result;
    try {
        if (boots_now) enter_provisioning(session);
        record_creation(session, impl->document_of(session), impl->intent_of(session, "create", session.created_at),
                        call.correlation_id, batch);
        result = co_await impl->commit(std::move(batch));
    } catch (...) {
        impl->leave_place(session.id);
        throw;
    }
    held->committed();
    memory.keep();
    session.version = result.versions.back();
    impl->note_cold_start(session.template_name);
    impl->begin_life(session, call);
    co_return session;
}

void SessionEngine::Impl::begin_life(Session session, const Call& call, bool files_suffice) {
    auto target = std::make_shared<LiveSession>(std::move(session), env.executor);
    target->correlation_id = call.correlation_id;
    target->files_suffice = files_suffice;
    live[target->session.id] = target;
    index(target->session);
    spawn_driver(target);
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
        // A session that will be started again by itself is not lost yet.
        bool comes_back = session.restart.next_at && target_state == SessionState::active;
        if (session.state == SessionState::failed && !comes_back) {
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

Task<Session> SessionEngine::Impl::begin(std::string id, SessionInput verb, std::string cause, Call call, Edit also) {
    if (closing) throw Error(Errc::cancelled, "the session engine is closed");
    auto target = co_await need(id);
    if (is_already(target->session.state, verb)) co_return target->session;
    const char* desired = verb == SessionInput::suspend     ? "suspended"
                          : verb == SessionInput::terminate ? "terminated"
                                                            : "active";
    Edit set_desired = [&](Session& session, Batch& batch) {
        session.desired = desired;
        ++session.generation;
        return !also || also(session, batch);
    };
    Outcome asked{verb, "", "", "", cause};
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
    co_return co_await impl->begin(std::move(id), SessionInput::suspend, std::string("request"), call, nullptr);
}

Task<Session> SessionEngine::resume(std::string id, Call call) {
    auto impl = impl_;
    auto execution = make_uuid(*impl->env.random);
    Impl::Edit renew = [execution](Session& session, Batch&) {
        session.execution_id = execution;
        return true;
    };
    co_return co_await impl->begin(std::move(id), SessionInput::resume, std::string("request"), call, renew);
}

Task<Session> SessionEngine::terminate(std::string id, TerminationReason reason, Call call) {
    auto impl = impl_;
    Impl::Edit state_reason = [reason](Session& session, Batch&) {
        session.termination_reason = reason;
        return true;
    };
    co_return co_await impl->begin(std::move(id), SessionInput::terminate, std::string(name_of(reason)), call,
                                   state_reason);
}

Task<Session> SessionEngine::touch(std::string id, Call call) {
    auto impl = impl_;
    (void)call;
    auto target = co_await impl->need(std::move(id));
    ++target->use.touches;
    Impl::Edit edit = [&](Session& session, Batch&) {
        if (session.state == SessionState::terminated) return false;
        session.last_activity_at = impl->now();
        if (session.state == SessionState::active) note_activity(session.clocks, impl->now());
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
    std::unique_ptr<ReservationLedger::Change> held;
    Impl::Edit edit = [&](Session& session, Batch& batch) {
        if (session.state == SessionState::terminated || session.state == SessionState::terminating) return false;
        infrastructure_sdk::extend(session.clocks, by, impl->now());
        held = impl->reservations.change(session, batch, target->may_be_alive, impl->now());
        batch.events.push_back(
            {0, impl->now(), "session.lifecycle.updated", session.id, session.execution_id, call.correlation_id,
             json{{"expires_at",
                   session.clocks.ttl.deadline ? json(to_rfc3339(*session.clocks.ttl.deadline)) : json(nullptr)}}
                 .dump()});
        return true;
    };
    if (!co_await impl->update(target, edit))
        throw Error(Errc::invalid_transition, "session " + target->session.id + " is ending and cannot be extended",
                    {{"session", target->session.id}, {"state", name_of(target->session.state)}});
    held->committed();
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

Task<VmStatus> SessionEngine::inspect_vm(std::string id, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    co_return co_await impl->provider->inspect(target->session.vm_id, call);
}

Task<void> SessionEngine::close() {
    auto impl = impl_;
    impl->closing = true;
    impl->tasks.stop_source().request_stop();
    impl->clock_changed.notify_all();
    impl->looks_changed.notify_all();
    impl->isolation_changed.notify_all();
    impl->events_written.notify_all();
    impl->pools.notify();
    co_await impl->tasks.join();
}

}  // namespace infrastructure_sdk
