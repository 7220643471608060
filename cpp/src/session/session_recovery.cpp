// The first look of a new owner: adopt, finish or reap.
#include "session/session_engine_impl.hpp"

#include <set>

#include <nlohmann/json.hpp>

#include "session/session_plan.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {

using nlohmann::json;
namespace {

bool may_live(VmState state) {
    return state != VmState::stopped && state != VmState::suspended && state != VmState::failed &&
           state != VmState::deleted;
}

}  // namespace

Task<void> SessionEngine::recover(Call call) {
    auto impl = impl_;
    const auto moment = impl->now();
    std::string after;
    for (;;) {
        auto records = co_await impl->store->list(session_kind, after, 1000);
        for (const auto& record : records) {
            after = record.id;
            auto session = session_from_json(json::parse(record.json));
            session.version = record.version;
            impl->reservations.restore(session, false, moment);
            if (session.state == SessionState::terminated) continue;
            auto target = std::make_shared<LiveSession>(session, impl->env.executor);
            impl->live[session.id] = target;
            impl->index(session);
            // Not all at once: over one interval, each at its own moment.
            const auto interval = impl->options.idleness.sample_interval;
            impl->plan_look(target, impl->env.clock->monotonic_now() + interval / 64 * (impl->live.size() % 64));
        }
        if (records.size() < 1000) break;
    }
    co_await impl->recover_snapshots(call);
    auto copy = impl->live;
    for (const auto& entry : copy) co_await impl->adopt(entry.second, call);
    co_await impl->recover_pools(call);
    co_await impl->reap_orphans(call);
    impl->tasks.spawn(impl->env.logger, "expiry", impl->expire());
    impl->tasks.spawn(impl->env.logger, "use", impl->watch_use());
    if (impl->options.isolation_reports) impl->tasks.spawn(impl->env.logger, "isolation", impl->watch_isolation());
    impl->tasks.spawn(impl->env.logger, "restart", impl->restart());
    if (const auto& policies = impl->options.policies) {
        const auto& when = policies->options();
        impl->tasks.spawn(impl->env.logger, "schedule", impl->sweep(DecisionPoint::schedule, when.schedule_interval));
        impl->tasks.spawn(impl->env.logger, "budget", impl->sweep(DecisionPoint::budget, when.budget_interval));
    }
    impl->sweep_snapshots();
    if (!impl->options.pools.empty()) impl->tasks.spawn(impl->env.logger, "pools", impl->keep_pools());
}

Task<void> SessionEngine::Impl::adopt(LivePtr target, Call call) {
    auto status = co_await provider->inspect(target->session.vm_id, call);
    if (target->session.state == SessionState::failed && may_live(status.state)) {
        // As before the crash: what may be alive keeps what it holds.
        target->may_be_alive = true;
        reservations.restore(target->session, true, now());
    }
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
    std::set<VmId> wanted;
    for (const auto& entry : live) wanted.insert(entry.second->session.vm_id);
    for (const auto& status : owned) {
        if (wanted.contains(status.id) || is_unit(status.id) || status.state == VmState::unknown) continue;
        env.logger->log(LogLevel::warning, "session", "a VM without a session is removed", {{"vm", status.id.value}});
        co_await provider->destroy(status.id, call.within(budget(options.terminate_timeout)));
        Batch batch;
        batch.events.push_back({0, now(), "vm.orphan_reaped", status.id.value, status.execution_id, call.correlation_id,
                                json{{"owner_session", status.owner_session}}.dump()});
        co_await commit(std::move(batch));
    }
}

}  // namespace infrastructure_sdk
