// Background work on VMs: one driver per session that is not at rest.
#include "session/session_engine_impl.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "session/boot_patience.hpp"
#include "session/session_plan.hpp"
#include "session/snapshot_rules.hpp"

namespace infrastructure_sdk {
namespace {

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

/// A resume for which a key, a CPU, memory or the network is missing: nothing happened, and with it it goes well.
std::optional<Outcome> refusal_in(const std::exception_ptr& failed) try {
    std::rethrow_exception(failed);
} catch (const Error& error) {
    auto outcome = failure(SessionInput::resume_refused, error);
    bool is_one = outcome.reason == "KeyMissing" || outcome.reason == "WrongKey" || error.errc() == Errc::capacity ||
                  error.errc() == Errc::unsupported;
    return is_one ? std::optional(outcome) : std::nullopt;
}

/// What the host takes away, as policies know it; empty = nothing.
std::string interruption_by(const VmEvent& event) {
    if (event.reason == "DiskFull") return "disk_full";
    return event.reason == "HostMemoryPressure" ? "memory_pressure" : "";
}

}  // namespace

/// Keeps the boot queue in step with a session's recorded state.
void SessionEngine::Impl::keep_place(const Session& session) {
    if (session.state == SessionState::pending) return;
    if (session.state == SessionState::provisioning && session.pool.empty()) boots.begin(session.id);
    else leave_place(session.id);
}

void SessionEngine::Impl::leave_place(const std::string& session_id) {
    if (!boots.leave(session_id)) return;
    while (auto id = boots.next()) {
        if (auto target = find(*id)) spawn_driver(target);
        else boots.leave(*id);
    }
}

void SessionEngine::Impl::spawn_driver(LivePtr target) {
    if (target->driven || closing) return;
    const auto& session = target->session;
    if (session.state == SessionState::pending && !boots.has_place(session.id) && !boots.try_begin(session.id)) {
        boots.wait(session.id, session.created_at);
        return;
    }
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
        const auto state = target->session.state;
        const auto execution = target->session.execution_id;
        Call call{Deadline(), target->work.get_token(), target->correlation_id};
        Outcome outcome{};
        bool stopped = false;
        try {
            outcome = co_await step(target, target->session, call);
        } catch (const Error& error) {
            stopped = error.errc() == Errc::cancelled;
            if (!stopped) {
                auto input = state == SessionState::provisioning ? SessionInput::startup_failed
                             : state == SessionState::resuming   ? SessionInput::resume_failed
                             : state == SessionState::suspending ? SessionInput::suspend_failed
                                                                 : SessionInput::terminate_failed;
                outcome = failure(input, error);
            }
        }
        // Another verb was recorded meanwhile: this step's end is not the session's news any more.
        if (stopped || target->session.state != state || target->session.execution_id != execution) continue;
        co_await transition(target, outcome.input, outcome, target->correlation_id, nullptr);
    }
    target->driven = false;
    if (!target->session.snapshot.empty()) sweep_snapshots();
}

Task<Outcome> SessionEngine::Impl::step(LivePtr target, Session session, Call call) {
    switch (session.state) {
        case SessionState::provisioning: co_return co_await provision(target, std::move(session), call);
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
        case SessionState::resuming: co_return co_await resume_vm(target, std::move(session), call);
        default: co_return co_await end_vm(std::move(session), call);
    }
}

Task<Outcome> SessionEngine::Impl::resume_vm(LivePtr target, Session session, Call call) {
    auto within = call.within(budget(options.resume_timeout));
    std::exception_ptr error;
    try {
        co_await provider->resume(session.vm_id, session.execution_id, within);
    } catch (const Error& caught) {
        if (caught.errc() == Errc::cancelled) throw;
        error = std::current_exception();
    }
    if (error) {
        // What was seen counts, not what was said.
        auto status = co_await look(session.vm_id, call);
        target->may_be_alive = status.state == VmState::unknown;
        auto refusal = status.state == VmState::suspended ? refusal_in(error) : std::nullopt;
        if (refusal) co_return *refusal;
        if (status.state != VmState::running) std::rethrow_exception(error);
    }
    error = nullptr;
    try {
        co_await provider->wait_ready(session.vm_id, within);
    } catch (const Error& caught) {
        if (caught.errc() == Errc::cancelled) throw;
        error = std::current_exception();
    }
    if (!error) co_return Outcome{SessionInput::channels_ready, "", "", ""};
    co_await power_off_useless(target, session, call);
    std::rethrow_exception(error);
}

/// The process is of no use any more; disk and records stay for a look until terminate.
Task<void> SessionEngine::Impl::power_off_useless(LivePtr target, Session session, Call call) {
    auto within = call.within(budget(options.terminate_timeout));
    try {
        co_await provider->power_off(session.vm_id, within);
    } catch (const Error& error) {
        target->may_be_alive = true;
        log(LogLevel::warning, "a VM that failed to start could not be powered off", target->session,
            {{"detail", error.message()}});
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
    // A recovery begins from the disk that the unit has become.
    if (!session.pool.empty() && session.generation == 1) {
        if (co_await warm_start(target, session, source->second, call)) {
            auto launch = co_await launch_of(session.vm_id, call);
            co_return Outcome{SessionInput::channels_ready, "", "", "", "", launch};
        }
        // It has another VM now, for which this step is asked again.
        throw Error(Errc::cancelled, "the session gets another VM");
    }
    auto spec = plan_vm(session, source->second, image_of(session, source->second));
    const auto boot_timeout = source->second.boot_timeout;
    auto within = call.within(budget(boot_timeout));
    std::exception_ptr error;
    try {
        co_await clear_for_recovery(session, within);
        spec.place = co_await ask_to_place(target, spec, within);
        co_await provider->create(spec, within);
        co_await provider->start(session.vm_id, session.execution_id, within);
        co_await wait_booted(session.vm_id, boot_timeout, call);
        within = call.within(budget(boot_timeout));
        auto launch = co_await launch_of(session.vm_id, within);
        // A copy has an identity since its start.
        bool is_copy = launch.from == "template" || launch.from == "snapshot";
        if (takes_identity(source->second) && !is_copy) co_await name_guest(session, within);
        co_await pass_gate(session, source->second, within);
        co_return Outcome{SessionInput::channels_ready, "", "", "", "", launch};
    } catch (const Error& caught) {
        if (caught.errc() == Errc::cancelled) throw;
        error = std::current_exception();
    }
    co_await power_off_useless(target, session, call);
    std::rethrow_exception(error);
}

/// Every channel of a VM that was just started. @throws as `wait_ready` when it takes too long and does not get on.
Task<void> SessionEngine::Impl::wait_booted(VmId vm, Duration boot_timeout, Call call) {
    const auto began = env.clock->monotonic_now();
    BootPatience patience(began, budget(boot_timeout).when() - began);
    for (;;) {
        std::exception_ptr late;
        try {
            auto within = call.within(Deadline(patience.next_look()));
            co_await provider->wait_ready(vm, within);
            co_return;
        } catch (const Error& error) {
            if (error.errc() != Errc::not_ready && error.errc() != Errc::timeout) throw;
            late = std::current_exception();
        }
        co_await env.clock->sleep_until(patience.next_look(), call.stop);
        check(call, *env.clock, "waiting for a guest to boot");
        auto moved = co_await bytes_moved(vm, call);
        if (!patience.goes_on(env.clock->monotonic_now(), moved)) std::rethrow_exception(late);
    }
}

/// By the guest's disks and network cards, as far as can be seen.
Task<std::optional<std::uint64_t>> SessionEngine::Impl::bytes_moved(VmId vm, Call call) {
    constexpr Duration patience = std::chrono::seconds(1);
    auto within = call.within(budget(patience));
    try {
        auto seen = co_await provider->activity(vm, within);
        co_return seen.disk_read_bytes.value_or(0) + seen.disk_write_bytes.value_or(0) +
            seen.network_rx_bytes.value_or(0) + seen.network_tx_bytes.value_or(0);
    } catch (const Error& error) {
        if (error.errc() == Errc::cancelled) throw;
    }
    co_return std::nullopt;
}

Task<VmLaunch> SessionEngine::Impl::launch_of(VmId vm, Call call) {
    auto status = co_await provider->inspect(vm, call);
    co_return status.launch;
}

/// A guest without a shell keeps the name that it booted with.
Task<void> SessionEngine::Impl::name_guest(Session session, Call call) {
    try {
        co_await personalize(session.vm_id, session.id, call);
        co_return;
    } catch (const Error& error) {
        if (error.errc() != Errc::not_found) throw;
    }
    log(LogLevel::warning, "the guest has no shell, so it was given no identity", session);
}

/// Fail closed.
Task<void> SessionEngine::Impl::pass_gate(Session session, Template source, Call call) {
    if (source.isolation != IsolationGate::isolated || !options.isolation_gate) co_return;
    auto report = co_await options.isolation_gate(session, call);
    if (report.score.verdict == Verdict::isolated) co_return co_await ask_at_gate(session, std::move(report), call);
    throw Error(Errc::isolation,
                "the isolation report does not allow this session to start; template '" + session.template_name +
                    "' demands isolation",
                {{"reason", "IsolationFailed"}});
}

/// False = the unit was no good and the session has another VM, to be started cold.
Task<bool> SessionEngine::Impl::warm_start(LivePtr target, Session session, Template source, Call call) {
    auto within = call.within(budget(options.claim_timeout));
    std::string why;
    try {
        co_await take_over(session, target->files_suffice, within);
        co_await pass_gate(session, source, within);
        co_return true;
    } catch (const Error& error) {
        if (error.errc() == Errc::cancelled) throw;
        why = error.message();
        if (!error.remote_message().empty()) why += " (" + error.remote_message().substr(0, 500) + ")";
    }
    co_await hand_back(target, session, why);
    co_return false;
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

void SessionEngine::Impl::observe(VmEvent event) {
    for (const auto& entry : live)
        if (entry.second->session.vm_id == event.id) {
            const bool lives = event.state == VmState::paused || event.state == VmState::running;
            const auto& target = entry.second;
            if (!lives) {
                tasks.spawn(env.logger, "note a lost VM", note_lost(target, std::move(event)));
                return;
            }
            target->health.push_back(std::move(event));
            if (target->health.size() == 1) tasks.spawn(env.logger, "note a VM's health", note_health(target));
            return;
        }
    unit_lost(event);
}

/// The guest was stopped, or goes on; the session is what it was. A disk that is full for the guest may be so for the
/// store: what cannot be written is tried again, in order.
Task<void> SessionEngine::Impl::note_health(LivePtr target) {
    auto self = shared_from_this();
    const auto stop = tasks.stop_source().get_token();
    constexpr Duration pause = std::chrono::seconds(1);
    while (!target->health.empty() && !stop.stop_requested()) {
        bool written = false;
        try {
            co_await write_health(target, target->health.front());
            written = true;
        } catch (const Error& error) {
            if (error.errc() == Errc::cancelled) co_return;
            log(LogLevel::warning, "a VM's health could not be written", target->session,
                {{"detail", error.message()}});
        }
        if (written) target->health.erase(target->health.begin());
        else co_await env.clock->sleep_until(env.clock->monotonic_now() + pause, stop);
    }
}

Task<void> SessionEngine::Impl::write_health(LivePtr target, VmEvent event) {
    const auto threat = interruption_by(event);
    const bool healthy = event.state == VmState::running && threat.empty();
    Edit edit = [&](Session& session, Batch& batch) {
        if (session.state == SessionState::terminated) return false;
        set_condition(session, {"Healthy", healthy ? "True" : "False", event.reason, event.message, now()});
        nlohmann::json data{{"vm_state", name_of(event.state)}, {"reason", event.reason}, {"message", event.message}};
        batch.events.push_back({0, now(), healthy ? "session.health.recovered" : "session.health.degraded", session.id,
                                session.execution_id, "", data.dump()});
        return true;
    };
    co_await update(target, edit);
    if (threat.empty() || !asks(DecisionPoint::interruption)) co_return;
    // It is written: what becomes of the question must not have it written again.
    try {
        co_await ask_on_interruption(target, threat);
    } catch (const std::exception& error) {
        if (tasks.stop_source().stop_requested()) co_return;
        log(LogLevel::error, "what a policy asks for could not be done", target->session,
            {{"point", name_of(DecisionPoint::interruption)}, {"detail", error.what()}});
    }
}

Task<void> SessionEngine::Impl::note_lost(LivePtr target, VmEvent event) {
    auto self = shared_from_this();
    // While a step is under way its own error tells the story.
    if (target->session.state != SessionState::active) co_return;
    Outcome lost{SessionInput::vm_lost, event.reason, event.message, ""};
    co_await transition(target, lost.input, lost, std::string(), nullptr);
}

}  // namespace infrastructure_sdk
