// A session takes a unit of a warm pool, or gives it back and is started cold.
#include "session/session_engine_impl.hpp"

#include <nlohmann/json.hpp>

#include "session/pool_plan.hpp"
#include "session/pool_records.hpp"
#include "session/session_plan.hpp"
#include "vm/guest_identity.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {

using nlohmann::json;

/// The oldest unit that is the same as what the session needs; null = none.
UnitPtr SessionEngine::Impl::unit_for(const Session& session, const std::string& fingerprint) const {
    UnitPtr best;
    for (const auto& [id, live] : pools.units) {
        const auto& unit = live->unit;
        if (live->claimed || live->writing || unit.state != UnitState::ready) continue;
        if (unit.template_name != session.template_name || unit.fingerprint != fingerprint) continue;
        auto pool = pools.pools.find(unit.pool);
        if (pool == pools.pools.end() || pool->second.drained || !is_fresh(pool->second.pool, unit, now())) continue;
        if (!best || unit.ready_at < best->unit.ready_at) best = live;
    }
    return best;
}

/// The session's record, the end of the unit's, and both reservations, in one transaction. nullopt = the unit's record
/// is not what it was: the session has to be started cold.
Task<std::optional<Session>> SessionEngine::Impl::claim(Session session, UnitPtr live, Batch news, Call call) {
    const PoolUnit unit = live->unit;
    session.state = SessionState::provisioning;
    session.pool = unit.pool;
    session.pool_unit = unit.id;
    session.vm_id = unit.vm_id;
    session.execution_id = unit.execution_id;
    session.mac_address = unit.mac_address;
    set_condition(session, {"Ready", "False", "provisioning", "taking over a warm unit", now()});
    auto batch = std::move(news);
    auto held = reservations.claim(unit, session, batch, now());
    live->claimed = true;
    batch.puts.push_back({intent_kind, session.id,
                          json{{"verb", "claim"},
                               {"state", name_of(session.state)},
                               {"vm_id", session.vm_id.value},
                               {"execution_id", session.execution_id},
                               {"since", to_rfc3339(session.created_at)}}
                              .dump(),
                          std::nullopt});
    // The precondition on the unit: nobody else had it, nobody else gets it.
    batch.puts.push_back({pool_unit_kind, unit.id, json(unit).dump(), unit.version});
    batch.erases.push_back({pool_unit_kind, unit.id});
    batch.puts.push_back({session_kind, session.id, document_of(session), 0});
    json asked{{"user_id", session.user_id}, {"template", session.template_name}};
    if (!session.tenant.empty()) asked["tenant"] = session.tenant;
    json taken{{"session", session.id}, {"user_id", session.user_id}};
    batch.events.push_back(
        {0, now(), "session.lifecycle.created", session.id, session.execution_id, call.correlation_id, asked.dump()});
    batch.events.push_back({0, now(), "session.lifecycle.started", session.id, session.execution_id,
                            call.correlation_id, json{{"launch_type", "warm"}, {"unit", unit.id}}.dump()});
    batch.events.push_back(unit_event("pool.unit.claimed", unit, now(), taken));
    CommitResult result;
    std::exception_ptr error;
    bool conflict = false;
    try {
        result = co_await commit(std::move(batch));
    } catch (const Error& caught) {
        conflict = caught.errc() == Errc::conflict;
        if (!conflict) error = std::current_exception();
    }
    if (conflict) {
        // It stays out of reach; the next owner sees what its record says.
        env.logger->log(LogLevel::error, "session", "a warm unit is not what its record says", {{"unit", unit.id}});
        co_return std::nullopt;
    }
    if (error) {
        live->claimed = false;
        std::rethrow_exception(error);
    }
    held->committed();
    pools.units.erase(unit.id);
    if (auto pool = pools.pools.find(unit.pool); pool != pools.pools.end()) ++pool->second.warm_starts;
    pools.notify();
    session.version = result.versions.back();
    co_return session;
}

void SessionEngine::Impl::note_cold_start(const std::string& template_name) {
    for (auto& [name, pool] : pools.pools)
        if (pool.pool.template_name == template_name) ++pool.cold_starts;
}

/// A guest becomes somebody: nothing that it was known by before is left. True = files suffice the next time.
Task<bool> SessionEngine::Impl::personalize(VmId vm, std::string hostname, Call call) {
    ExecRequest request;
    request.arguments = {"sh", "-s"};
    request.stdin_data = identity_script(make_guest_identity(*env.random, hostname));
    auto agent = provider->agent(vm);
    auto result = co_await agent->exec(std::move(request), call);
    if (result.exit_code == 0) co_return result.stdout_data.find(files_suffice) != std::string::npos;
    Error error(Errc::provider, "the guest did not take its identity", {{"reason", "IdentityFailed"}});
    error.with_remote_message(result.stderr_data.substr(0, 2000));
    throw error;
}

/// From a claimed unit to the session's VM. Asked again after a crash it does the same again.
Task<void> SessionEngine::Impl::take_over(Session session, bool by_files, Call call) {
    co_await provider->assign(session.vm_id, session.user_id, call);
    co_await provider->unpause(session.vm_id, call);
    auto agent = provider->agent(session.vm_id);
    co_await agent->set_time(now(), call);
    if (by_files) {
        auto files = identity_files(make_guest_identity(*env.random, session.id));
        co_await agent->write_files(std::move(files), call);
    } else {
        co_await personalize(session.vm_id, session.id, call);
    }
}

/// The unit was no good: its VM is the pool's again, to be removed, and the session gets another VM, started cold. The
/// user sees a longer start and nothing else.
Task<void> SessionEngine::Impl::hand_back(LivePtr target, Session session, std::string why) {
    PoolUnit unit;
    unit.id = session.pool_unit;
    unit.pool = session.pool;
    unit.template_name = session.template_name;
    unit.state = UnitState::discarding;
    unit.vm_id = session.vm_id;
    unit.execution_id = session.execution_id;
    unit.cpu = session.cpu;
    unit.memory = session.memory;
    unit.disk_size = session.disk_size;
    unit.mac_address = session.mac_address;
    unit.created_at = session.created_at;
    unit.reason = "claim_failed";
    unit.version = 1;
    auto vm = make_uuid(*env.random), execution = make_uuid(*env.random);
    Edit edit = [&](Session& now_session, Batch& batch) {
        if (now_session.state != SessionState::provisioning || now_session.execution_id != session.execution_id)
            return false;
        now_session.vm_id.value = vm;
        now_session.execution_id = execution;
        now_session.mac_address = mac_address_of(now_session.id);
        now_session.pool.clear();
        now_session.pool_unit.clear();
        batch.puts.push_back({intent_kind, session.id,
                              json{{"verb", "provision"},
                                   {"state", name_of(now_session.state)},
                                   {"vm_id", vm},
                                   {"execution_id", execution},
                                   {"since", to_rfc3339(now())}}
                                  .dump(),
                              std::nullopt});
        batch.puts.push_back(unit_intent(unit, now()));
        // Whatever the limits are: its memory is there until its death was observed.
        batch.puts.push_back({ReservationLedger::kind, unit.id, json(reservation_of(unit)).dump(), std::nullopt});
        batch.puts.push_back({pool_unit_kind, unit.id, json(unit).dump(), 0});
        json told{{"reason", unit.reason}, {"message", why}, {"session", session.id}};
        batch.events.push_back(unit_event("pool.unit.discarding", unit, now(), told));
        return true;
    };
    if (!co_await update(target, edit)) co_return;
    reservations.restore(unit);
    note_cold_start(session.template_name);
    log(LogLevel::warning, "a warm unit was no good: the session is started cold", target->session,
        {{"unit", unit.id}, {"detail", why}});
    auto live = std::make_shared<LiveUnit>(unit);
    pools.units[unit.id] = live;
    spawn_unit(live);
}

}  // namespace infrastructure_sdk
