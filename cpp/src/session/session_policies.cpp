// Policies are asked about sessions, and what they decide is carried out.
#include "session/session_engine_impl.hpp"

#include <algorithm>

#include <infrastructure_sdk/session/cost.hpp>

namespace infrastructure_sdk {

namespace {

/// Everybody at the same moments, whoever owns the sessions.
WallTime next_sweep(WallTime now, Duration interval) {
    const auto since = now.time_since_epoch();
    return WallTime(since - since % interval + interval);
}

SessionAction action_in(const PolicyVerdict& verdict) {
    return verdict.is_standard() ? SessionAction::standard : std::get<SessionDecision>(verdict.decision).action;
}

}  // namespace

Task<PolicyVerdict> SessionEngine::Impl::ask(PolicyRequest request, PolicyQuestion question, Call call) {
    const auto& can = provider->capabilities();
    question.running = running.size();
    question.can_disconnect = can.disconnect;
    question.can_suspend =
        std::find(can.suspend_modes.begin(), can.suspend_modes.end(), "memory") != can.suspend_modes.end();
    co_return co_await options.policies->decide(std::move(request), question, std::move(call));
}

// ---- creation ------------------------------------------------------------------------------------------------------

/// As `plan`, in the size that policies want. @param news what they said; null for a dry run
Task<Session> SessionEngine::Impl::plan_asking(SessionRequest request, std::string* fingerprint, bool dry_run,
                                               Batch* news, Call call) {
    auto session = plan(request, fingerprint);
    if (!asks(DecisionPoint::size)) co_return session;
    PolicyQuestion question;
    question.dry_run = dry_run;
    question.session = session.id;
    SizeRequest asked{now(), planned_policy_session(session)};
    auto verdict = co_await ask(std::move(asked), question, call);
    if (!verdict.is_standard()) try {
            std::string print_of_larger;
            auto larger = plan(resized(request, std::get<SizeDecision>(verdict.decision)), &print_of_larger);
            *fingerprint = std::move(print_of_larger);
            // What the policy left is kept for the session that it was asked about.
            larger.id = session.id;
            larger.mac_address = session.mac_address;
            session = std::move(larger);
        } catch (const Error& error) {
            // The template, the provider or the host cannot have it so.
            options.policies->overrule(verdict, error.message());
        }
    if (news) options.policies->record(verdict, *news);
    co_return session;
}

PolicyUsage SessionEngine::Impl::policy_usage(const Session& session) const {
    PolicyUsage usage;
    for (const auto& [id, target] : live) {
        const auto& other = target->session;
        // Their GPUs are given back.
        const bool rests = other.state == SessionState::suspended || other.state == SessionState::failed;
        const auto gpus = rests ? 0 : other.gpu_count;
        ++usage.sessions;
        usage.gpus += gpus;
        if (!session.tenant.empty() && other.tenant == session.tenant) ++usage.sessions_of_tenant;
        if (other.user_id != session.user_id) continue;
        ++usage.sessions_of_user;
        usage.gpus_of_user += gpus;
    }
    return usage;
}

Task<std::optional<Denial>> SessionEngine::Impl::ask_to_admit(Session session, bool dry_run, Batch* news, Call call) {
    if (!asks(DecisionPoint::admit)) co_return std::nullopt;
    PolicyQuestion question;
    question.dry_run = dry_run;
    question.session = session.id;
    AdmitRequest asked{now(), planned_policy_session(session), policy_usage(session)};
    auto verdict = co_await ask(std::move(asked), question, call);
    std::optional<Denial> denial;
    if (!verdict.is_standard()) {
        denial.emplace();
        denial->policy = verdict.by->name;
        denial->reason = std::get<AdmitDecision>(verdict.decision).reason;
    }
    if (news) options.policies->record(verdict, *news);
    co_return denial;
}

/// Where its VM goes, of several places that it fits in; empty = the provider chooses.
Task<std::string> SessionEngine::Impl::ask_to_place(LivePtr target, VmSpec spec, Call call) {
    if (!asks(DecisionPoint::place)) co_return std::string();
    auto candidates = provider->places(spec);
    if (candidates.size() < 2) co_return std::string();
    // A VM that is there stays where it is.
    const auto there = co_await provider->inspect(spec.id, call);
    if (there.state != VmState::deleted) co_return std::string();
    PlaceRequest asked{now(), policy_session(target->session), std::move(candidates)};
    PolicyQuestion question;
    auto verdict = co_await ask(std::move(asked), question, call);
    std::string chosen;
    if (!verdict.is_standard()) chosen = std::get<PlaceDecision>(verdict.decision).candidate;
    co_await write_news(target, std::move(verdict));
    co_return chosen;
}

// ---- running sessions ----------------------------------------------------------------------------------------------

/// What others said who may not be asked any more is void.
PolicyRests& SessionEngine::Impl::rests_of(LiveSession& target) const {
    const auto present = options.policies ? options.policies->revision() : 0;
    if (target.rests.revision != present) {
        target.rests = {};
        target.rests.revision = present;
    }
    return target.rests;
}

/// As of now, also where looks at its use were left out.
PolicySession SessionEngine::Impl::told_session(const LiveSession& target) const {
    auto told = policy_session(target.session);
    if (const auto since = quiet_since(target)) {
        const auto used = now() - (env.clock->monotonic_now() - *since);
        if (!told.last_activity_at || *told.last_activity_at < used) told.last_activity_at = used;
    }
    return told;
}

Task<PolicyVerdict> SessionEngine::Impl::ask_about_idleness(LivePtr target, ActivitySample sample,
                                                            IdleVerdict verdict) {
    const auto& session = target->session;
    IdleRequest asked;
    asked.now = now();
    asked.session = policy_session(session);
    asked.quiet_for = asked.now - verdict.quiet_since;
    asked.idle_timeout = session.clocks.idle_timeout.limit.value_or(Duration::zero());
    asked.connections = static_cast<std::int64_t>(sample.vnc_clients.value_or(0)) +
                        static_cast<std::int64_t>(sample.forwarded_connections.value_or(0));
    asked.use_fully_seen = verdict.unseen.empty();
    asked.standard = session_action(session.clocks.idle_timeout.on_expiry);
    PolicyQuestion question;
    Call call{Deadline(), tasks.stop_source().get_token(), std::string()};
    co_return co_await ask(std::move(asked), question, call);
}

/// What was said and changes nothing.
Task<void> SessionEngine::Impl::write_news(LivePtr target, PolicyVerdict verdict) {
    if (!verdict.has_news()) co_return;
    Edit edit = [&](Session& session, Batch& batch) {
        if (session.state == SessionState::terminated) return false;
        options.policies->record(verdict, batch);
        return true;
    };
    co_await update(target, edit);
}

/// @param execution_id of the session when it was asked about: what it has become since is not meant.
Task<void> SessionEngine::Impl::apply(LivePtr target, std::string execution_id, PolicyVerdict verdict,
                                      TerminationReason reason) {
    const auto action = action_in(verdict);
    if (action == SessionAction::standard || action == SessionAction::keep)
        co_return co_await write_news(target, std::move(verdict));
    auto is_meant = [&execution_id](const Session& session) {
        return session.state == SessionState::active && session.execution_id == execution_id;
    };
    if (!is_meant(target->session)) co_return;
    if (action == SessionAction::disconnect) {
        const bool somebody = co_await may_have_clients(target);
        if (!somebody) co_return co_await write_news(target, std::move(verdict));
    }
    Edit record = [&](Session& session, Batch& batch) {
        if (!is_meant(session)) return false;
        options.policies->record(verdict, batch);
        return true;
    };
    co_await carry_out(target, on_expiry(action), reason, record, is_meant);
}

/// What cannot be seen may be.
Task<bool> SessionEngine::Impl::may_have_clients(LivePtr target) {
    constexpr Duration patience = std::chrono::seconds(5);
    Call call{budget(patience), tasks.stop_source().get_token(), std::string()};
    try {
        const auto seen = co_await provider->activity(target->session.vm_id, call);
        co_return !seen.vnc_clients || !seen.forwarded_connections ||
            *seen.vnc_clients + *seen.forwarded_connections > 0;
    } catch (const Error&) {
        if (call.stop.stop_requested()) throw;
    }
    co_return true;
}

/// Asks about every running session, again and again at the same moments.
Task<void> SessionEngine::Impl::sweep(DecisionPoint point, Duration interval) {
    auto self = shared_from_this();
    const auto stop = tasks.stop_source().get_token();
    constexpr std::size_t breath = 64;
    for (;;) {
        // The two clocks drift apart: a wake ahead of the moment would come twice. One that was set back begins anew.
        const auto next = next_sweep(now(), interval);
        for (auto left = next - now(); left > Duration::zero() && left <= interval; left = next - now()) {
            co_await env.clock->sleep_until(env.clock->monotonic_now() + left, stop);
            if (stop.stop_requested()) co_return;
        }
        if (!asks(point)) continue;
        std::shared_ptr<const MonthSpent> spent;
        if (point == DecisionPoint::budget) spent = std::make_shared<const MonthSpent>(month_spent());
        std::size_t done = 0;
        // Meanwhile some end and others begin.
        for (auto one = running.begin(); one != running.end();) {
            const auto target = one->second;
            const auto& rests = rests_of(*target);
            if ((spent ? rests.budget : rests.schedule).holds(now())) {
                ++one;
                continue;
            }
            const auto id = one->first;
            co_await ask_one(target, point, spent);
            if (stop.stop_requested()) co_return;
            // Others are served between many that answer at once.
            if (++done % breath == 0) co_await asio::post(env.executor, asio::use_awaitable);
            one = running.upper_bound(id);
        }
    }
}

/// Whatever happens to one session, the others are asked about.
Task<void> SessionEngine::Impl::ask_one(LivePtr target, DecisionPoint point, std::shared_ptr<const MonthSpent> spent) {
    try {
        if (spent) co_await ask_on_budget(target, spent);
        else co_await ask_on_schedule(target);
    } catch (const std::exception& error) {
        if (tasks.stop_source().stop_requested()) co_return;
        log(LogLevel::error, "what a policy asks for could not be done", target->session,
            {{"point", name_of(point)}, {"detail", error.what()}});
    }
}

Task<void> SessionEngine::Impl::ask_on_schedule(LivePtr target) {
    const auto at = now();
    const auto execution = target->session.execution_id;
    ScheduleRequest asked{at, told_session(*target), std::nullopt};
    if (const auto since = quiet_since(*target)) asked.quiet_for = env.clock->monotonic_now() - *since;
    PolicyQuestion question;
    Call call{Deadline(), tasks.stop_source().get_token(), std::string()};
    auto verdict = co_await ask(std::move(asked), question, call);
    rests_of(*target).schedule = {at, at + verdict.ask_again_after};
    co_await apply(target, execution, std::move(verdict), TerminationReason::policy);
}

Task<void> SessionEngine::Impl::ask_on_budget(LivePtr target, std::shared_ptr<const MonthSpent> spent) {
    const auto at = now();
    const auto execution = target->session.execution_id;
    auto asked = budget_request(target->session, *spent, options.limits, options.currency, at);
    asked.session = told_session(*target);
    PolicyQuestion question;
    Call call{Deadline(), tasks.stop_source().get_token(), std::string()};
    auto verdict = co_await ask(std::move(asked), question, call);
    rests_of(*target).budget = {at, at + verdict.ask_again_after};
    co_await apply(target, execution, std::move(verdict), TerminationReason::budget);
}

MonthSpent SessionEngine::Impl::month_spent() {
    MonthSpent spent;
    const auto at = now();
    auto add = [&spent](const std::string& user, const std::string& tenant, std::int64_t micros) {
        spent.by_user[user] += micros;
        if (!tenant.empty()) spent.by_tenant[tenant] += micros;
    };
    for (const auto& [id, target] : live) {
        const auto& session = target->session;
        if (session.charge.price_per_hour_micros > 0)
            add(session.user_id, session.tenant, cost_in_month(session.charge, month_of(at), at));
    }
    for (const auto& ended : reservations.ended_money(at)) add(ended.user_id, ended.tenant, ended.micros);
    return spent;
}

/// A session whose isolation is good enough for its template may not be so for a policy.
Task<void> SessionEngine::Impl::ask_at_gate(Session session, IsolationReport report, Call call) {
    if (!asks(DecisionPoint::isolation)) co_return;
    auto asked = isolation_request(session, report, now());
    asked.is_start = true;
    PolicyQuestion question;
    question.only_stricter = true;
    auto verdict = co_await ask(std::move(asked), question, call);
    const auto action = action_in(verdict);
    // Of a session that ended meanwhile nothing is remembered.
    if (verdict.has_news() && find(session.id)) {
        Batch batch;
        options.policies->record(verdict, batch);
        co_await commit(std::move(batch));
    }
    if (action == SessionAction::suspend || action == SessionAction::terminate)
        throw Error(Errc::isolation, "policy " + verdict.reason() + ": the session may not start",
                    {{"reason", "IsolationFailed"}, {"policy", verdict.by->name}});
}

Task<void> SessionEngine::Impl::ask_on_interruption(LivePtr target, std::string kind) {
    if (target->session.state != SessionState::active) co_return;
    const auto execution = target->session.execution_id;
    InterruptionRequest asked;
    asked.now = now();
    asked.session = told_session(*target);
    asked.kind = std::move(kind);
    PolicyQuestion question;
    Call call{Deadline(), tasks.stop_source().get_token(), std::string()};
    auto verdict = co_await ask(std::move(asked), question, call);
    co_await apply(target, execution, std::move(verdict), TerminationReason::preempted);
}

}  // namespace infrastructure_sdk
