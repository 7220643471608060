// Warm pools: keeps units ready, and removes what is old or bad.
#include "session/session_engine_impl.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/sha256.hpp"
#include "session/pool_json.hpp"
#include "session/pool_records.hpp"
#include "session/pool_plan.hpp"
#include "session/session_plan.hpp"
#include "vm/guest_identity.hpp"
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/vm/image.hpp>

namespace infrastructure_sdk {

using nlohmann::json;

namespace {

/// A unit as a session would be, for what is decided about a VM.
Session as_session(const PoolUnit& unit) {
    Session session;
    session.id = unit.id;
    session.vm_id = unit.vm_id;
    session.cpu = unit.cpu;
    session.memory = unit.memory;
    session.disk_size = unit.disk_size;
    session.mac_address = unit.mac_address;
    return session;
}

}  // namespace

std::string fingerprint_of(const VmSpec& spec) {
    json parts{spec.machine,
               spec.cpu_count,
               spec.memory_bytes,
               spec.disk_size_bytes,
               spec.display,
               name_of(spec.network),
               spec.channels,
               spec.image.name,
               spec.image.version,
               spec.image.kernel,
               spec.image.initrd,
               spec.image.kernel_arguments,
               spec.image.disk,
               spec.image.disk_size_bytes,
               spec.snapshot,
               name_of(spec.firmware),
               spec.tpm,
               spec.enlightenments,
               name_of(spec.clock),
               name_of(spec.encryption)};
    if (!spec.bridge.empty()) parts.push_back(json{"bridge", spec.bridge});
    if (spec.gpu_count > 0) parts.push_back(json{spec.gpu_type, spec.gpu_count});
    if (spec.limits.cpu_milli != std::int64_t{1000} * spec.cpu_count)
        parts.push_back(json{"cpu", spec.limits.cpu_milli});
    if (spec.limits.disk_iops + spec.limits.disk_bytes_per_second + spec.limits.network_bytes_per_second > 0)
        parts.push_back(
            json{spec.limits.disk_iops, spec.limits.disk_bytes_per_second, spec.limits.network_bytes_per_second});
    if (spec.watchdog) parts.push_back("watchdog");
    if (spec.pin_cpus) parts.push_back("pinned");
    return sha256_hex(parts.dump(-1, ' ', false, json::error_handler_t::replace)).substr(0, 16);
}

// ---- units ---------------------------------------------------------------------------------------------------------

/// Applies `edit` to a copy, commits it, then shows it. False = `edit` declined, or a session has the unit.
Task<bool> SessionEngine::Impl::write_unit(UnitPtr live, std::function<bool(PoolUnit&, Batch&)> edit) {
    Call no_limit;
    while (live->writing) co_await pools.changed.wait(*env.clock, no_limit);
    if (live->claimed) co_return false;
    PoolUnit copy = live->unit;
    Batch batch;
    if (!edit(copy, batch)) co_return false;
    live->writing = true;
    std::exception_ptr error;
    try {
        batch.puts.push_back({pool_unit_kind, copy.id, json(copy).dump(), copy.version});
        auto result = co_await commit(std::move(batch));
        copy.version = result.versions.back();
        live->unit = std::move(copy);
    } catch (...) {
        error = std::current_exception();
    }
    live->writing = false;
    pools.notify();
    if (error) std::rethrow_exception(error);
    co_return true;
}

void SessionEngine::Impl::spawn_unit(UnitPtr live) {
    if (live->driven || closing) return;
    live->driven = true;
    tasks.spawn(env.logger, "drive unit " + live->unit.id, drive_unit(live));
}

/// Works on a unit until it is ready or gone.
Task<void> SessionEngine::Impl::drive_unit(UnitPtr live) {
    auto self = shared_from_this();
    auto parent = tasks.stop_source().get_token();
    while (!parent.stop_requested() && !live->claimed && live->unit.state != UnitState::ready &&
           pools.units.contains(live->unit.id)) {
        live->work = std::stop_source();
        std::stop_callback forward(parent, [source = live->work]() mutable { source.request_stop(); });
        Call call{Deadline(), live->work.get_token(), std::string()};
        bool boots = live->unit.state == UnitState::booting;
        std::string failure;
        try {
            if (boots) co_await boot_unit(live, call);
            else co_await end_unit(live, call);
        } catch (const Error& error) {
            if (error.errc() != Errc::cancelled) {
                failure = error.message();
                if (!error.remote_message().empty()) failure += " (" + error.remote_message().substr(0, 500) + ")";
            }
        }
        auto pool = pools.pools.find(live->unit.pool);
        if (pool != pools.pools.end() && boots && live->unit.state == UnitState::ready) {
            pool->second.failures = 0;
            pool->second.not_before.reset();
            pool->second.problem.clear();
            pool->second.full = false;
        }
        if (failure.empty()) continue;
        env.logger->log(LogLevel::warning, "session", boots ? "a warm unit did not boot" : "a warm unit stays",
                        {{"unit", live->unit.id}, {"detail", failure}});
        if (boots) {
            note_boot_failure(live->unit.pool, failure);
            co_await discard_unit(live, "failed", failure);
        } else {
            auto pause = Deadline::after(*env.clock, std::chrono::seconds(10));
            co_await env.clock->sleep_until(pause.when(), call.stop);
        }
    }
    live->driven = false;
    pools.notify();
}

void SessionEngine::Impl::note_boot_failure(const std::string& name, const std::string& why) {
    auto pool = pools.pools.find(name);
    if (pool == pools.pools.end()) return;
    ++pool->second.failures;
    pool->second.not_before = now() + boot_backoff(pool->second.failures);
    pool->second.problem = why;
}

VmSpec SessionEngine::Impl::spec_of(const PoolUnit& unit) const {
    auto source = options.templates.find(unit.template_name);
    if (source == options.templates.end())
        throw Error(Errc::not_found, "template '" + unit.template_name + "' is not there any more",
                    {{"reason", "TemplateMissing"}});
    auto session = as_session(unit);
    session.encryption = source->second.encryption;
    return plan_vm(session, source->second, read_image(source->second.image));
}

/// What a claim will ask is asked once before: then the guest has it at hand, and under emulation it is translated.
Task<void> SessionEngine::Impl::rehearse(PoolUnit unit, Call call) {
    auto agent = provider->agent(unit.vm_id);
    co_await agent->set_time(now(), call);
    auto files = identity_files(make_guest_identity(*env.random, unit.id));
    co_await agent->write_files(std::move(files), call);
    ExecRequest nothing;
    nothing.arguments = {"true"};
    co_await agent->exec(std::move(nothing), call);
}

/// Made, booted, told who it is, paused: all of it may be asked again by the next owner.
Task<void> SessionEngine::Impl::boot_unit(UnitPtr live, Call call) {
    const PoolUnit unit = live->unit;
    auto spec = spec_of(unit);
    if (fingerprint_of(spec) != unit.fingerprint)
        throw Error(Errc::conflict, "its template or image changed while it booted", {{"reason", "Stale"}});
    auto within = call.within(budget(spec.boot_timeout));
    co_await provider->create(spec, within);
    co_await provider->start(unit.vm_id, unit.execution_id, within);
    // A boot that was cut off after its pause is done again.
    co_await provider->unpause(unit.vm_id, within);
    co_await wait_booted(unit.vm_id, spec.boot_timeout, call);
    within = call.within(budget(spec.boot_timeout));
    bool by_files = co_await personalize(unit.vm_id, unit.id, within);
    if (by_files) co_await rehearse(unit, within);
    co_await provider->pause(unit.vm_id, within);
    auto status = co_await look(unit.vm_id, within);
    if (status.state != VmState::paused)
        throw Error(Errc::provider, std::string("the VM should be paused and is ") + name_of(status.state),
                    {{"reason", "NotPaused"}});
    std::function<bool(PoolUnit&, Batch&)> edit = [this, by_files](PoolUnit& changed, Batch& batch) {
        if (changed.state != UnitState::booting) return false;
        changed.files_suffice = by_files;
        changed.state = UnitState::ready;
        changed.ready_at = now();
        batch.erases.push_back({intent_kind, changed.id});
        batch.events.push_back(unit_event("pool.unit.ready", changed, now()));
        return true;
    };
    co_await write_unit(live, edit);
}

/// Recorded first; the unit's worker does it.
Task<void> SessionEngine::Impl::discard_unit(UnitPtr live, std::string reason, std::string message) {
    auto self = shared_from_this();
    std::function<bool(PoolUnit&, Batch&)> edit = [this, reason, message](PoolUnit& changed, Batch& batch) {
        if (changed.state == UnitState::discarding) return false;
        changed.state = UnitState::discarding;
        changed.reason = reason;
        batch.puts.push_back(unit_intent(changed, now()));
        json told{{"reason", reason}};
        if (!message.empty()) told["message"] = message;
        batch.events.push_back(unit_event("pool.unit.discarding", changed, now(), told));
        return true;
    };
    if (!co_await write_unit(live, edit)) co_return;
    live->work.request_stop();
    spawn_unit(live);
}

Task<void> SessionEngine::Impl::end_unit(UnitPtr live, Call call) {
    const PoolUnit unit = live->unit;
    co_await end_vm(as_session(unit), call);
    Batch batch;
    auto held = reservations.change(unit, batch, true);
    batch.erases.push_back({intent_kind, unit.id});
    batch.erases.push_back({pool_unit_kind, unit.id});
    json told{{"reason", unit.reason}};
    batch.events.push_back(unit_event("pool.unit.discarded", unit, now(), told));
    co_await commit(std::move(batch));
    held->committed();
    pools.units.erase(unit.id);
    pools.notify();
}

void SessionEngine::Impl::unit_lost(const VmEvent& event) {
    for (const auto& [id, live] : pools.units)
        if (live->unit.vm_id == event.id && live->unit.state == UnitState::ready && !live->claimed) {
            tasks.spawn(env.logger, "discard a lost unit",
                        discard_unit(live, "lost", event.message.empty() ? event.reason : event.message));
            return;
        }
}

// ---- keeping -------------------------------------------------------------------------------------------------------

/// Sessions that boot come first: on a small host two boots at once take longer than one after the other.
std::size_t SessionEngine::Impl::free_boots() const {
    auto allowed = options.pool_boots ? options.pool_boots : provider->capabilities().timeout_scale > 1 ? 1u : 2u;
    std::size_t busy = boots.size();
    for (const auto& [id, unit] : pools.units)
        if (unit->unit.state == UnitState::booting) ++busy;
    return allowed > busy ? allowed - busy : 0;
}

PoolPlan SessionEngine::Impl::plan_of(const LivePool& pool) const {
    PoolSituation situation;
    for (const auto& [id, live] : pools.units)
        if (live->unit.pool == pool.pool.name && !live->claimed) situation.units.push_back(live->unit);
    situation.now = now();
    situation.drained = pool.drained;
    situation.asked = pool.asked;
    situation.not_before = pool.not_before;
    // All sessions are counted only when a boot is wanted.
    situation.free_boots = pool.pool.max;
    auto plan = plan_pool(pool.pool, situation);
    bool starts = std::any_of(plan.actions.begin(), plan.actions.end(),
                              [](const PoolAction& action) { return action.kind == PoolAction::Kind::start; });
    if (!starts) return plan;
    situation.free_boots = free_boots();
    return plan_pool(pool.pool, situation);
}

/// Ready units of a template or image that has changed since.
std::vector<UnitPtr> SessionEngine::Impl::stale_units(const std::string& pool) const {
    std::vector<UnitPtr> stale;
    std::string current;
    for (const auto& [id, live] : pools.units) {
        if (live->unit.pool != pool || live->unit.state != UnitState::ready || live->claimed) continue;
        try {
            if (current.empty()) {
                const auto& source = options.templates.at(pools.pools.at(pool).pool.template_name);
                auto like_new = live->unit;
                like_new.template_name = source.name;
                like_new.cpu = source.cpu;
                like_new.memory = source.memory;
                like_new.disk_size = source.disk_size;
                current = fingerprint_of(spec_of(like_new));
            }
        } catch (const Error&) {
            // The image is not there now. A boot will tell.
            return {};
        }
        if (live->unit.template_name != pools.pools.at(pool).pool.template_name || live->unit.fingerprint != current)
            stale.push_back(live);
    }
    return stale;
}

Task<void> SessionEngine::Impl::start_unit(std::string name) {
    auto& pool = pools.pools.at(name);
    const auto& source = options.templates.at(pool.pool.template_name);
    PoolUnit unit;
    unit.id = "u-" + make_uuid(*env.random).substr(0, 18);
    unit.id.erase(std::remove(unit.id.begin() + 2, unit.id.end(), '-'), unit.id.end());
    unit.pool = name;
    unit.template_name = source.name;
    unit.vm_id.value = make_uuid(*env.random);
    unit.execution_id = make_uuid(*env.random);
    unit.cpu = source.cpu;
    unit.memory = source.memory;
    unit.disk_size = source.disk_size;
    unit.price_per_hour_micros = source.price_per_hour_micros;
    unit.mac_address = mac_address_of(unit.id);
    unit.created_at = now();
    Batch batch;
    std::unique_ptr<ReservationLedger::Change> held;
    try {
        unit.fingerprint = fingerprint_of(spec_of(unit));
        held = reservations.change(unit, batch, false);
    } catch (const Error& error) {
        // A full host or a missing image: later, without a record of it.
        note_boot_failure(name, error.message());
        pool.full = error.errc() == Errc::capacity;
    }
    if (!held) co_return;
    batch.puts.push_back(unit_intent(unit, now()));
    batch.events.push_back(unit_event("pool.unit.booting", unit, now()));
    batch.puts.push_back({pool_unit_kind, unit.id, json(unit).dump(), 0});
    auto result = co_await commit(std::move(batch));
    held->committed();
    unit.version = result.versions.back();
    auto live = std::make_shared<LiveUnit>(unit);
    pools.units[unit.id] = live;
    spawn_unit(live);
}

/// Asks the plan and does what it says. When to look again.
Task<std::optional<WallTime>> SessionEngine::Impl::keep_pool(std::string name) {
    // Images are files: they are not read at every change of a session.
    constexpr Duration often_enough = std::chrono::seconds(30);
    auto& looked_at = pools.pools.at(name).image_looked_at;
    auto moment = env.clock->monotonic_now();
    bool look = looked_at == MonotonicTime::min() || moment - looked_at >= often_enough;
    if (look) looked_at = moment;
    std::vector<UnitPtr> stale;
    if (look) stale = stale_units(name);
    for (const auto& unit : stale) co_await discard_unit(unit, "stale", std::string());
    auto plan = plan_of(pools.pools.at(name));
    for (const auto& action : plan.actions) {
        if (action.kind == PoolAction::Kind::start) {
            co_await start_unit(name);
            continue;
        }
        auto found = pools.units.find(action.unit);
        if (found != pools.units.end()) co_await discard_unit(found->second, action.reason, std::string());
    }
    co_return plan.next;
}

/// Until the engine closes: looks whenever something changes or is due.
Task<void> SessionEngine::Impl::keep_pools() {
    auto self = shared_from_this();
    auto stop = tasks.stop_source().get_token();
    while (!stop.stop_requested()) {
        // The wall clock may jump: it is looked at this often at least.
        constexpr Duration longest = std::chrono::seconds(30);
        Duration pause = longest;
        auto seen = pools.changes;
        bool failed = false;
        std::vector<std::string> names;
        for (const auto& entry : pools.pools) names.push_back(entry.first);
        for (const auto& name : names) {
            try {
                auto next = co_await keep_pool(name);
                if (next) pause = std::clamp<Duration>(*next - now(), Duration::zero(), pause);
            } catch (const Error& error) {
                env.logger->log(LogLevel::error, "session", "a warm pool could not be kept",
                                {{"pool", name}, {"detail", error.message()}});
                failed = true;
            }
        }
        Call until{Deadline::after(*env.clock, failed ? std::chrono::seconds(10) : pause), stop, std::string()};
        if (failed || pools.changes == seen) co_await pools.changed.wait(*env.clock, until);
    }
}

/// Reads what pools and units there were; units whose pool is gone are discarded.
Task<void> SessionEngine::Impl::recover_pools(Call call) {
    check_pools(options.pools, options.templates);
    if (!options.pools.empty() && !provider->capabilities().pause)
        throw Error(Errc::unsupported,
                    "provider " + provider->capabilities().provider + " cannot pause, so it has no warm pools",
                    {{"capability", "pause"}});
    for (const auto& pool : options.pools) {
        auto& live = pools.pools[pool.name];
        live.pool = pool;
        auto record = co_await store->get(pool_kind, pool.name);
        if (!record) continue;
        auto document = json::parse(record->json);
        live.drained = document.value("drained", false);
        live.asked = document.value("asked", std::size_t{0});
    }
    std::string after;
    for (;;) {
        auto records = co_await store->list(pool_unit_kind, after, 1000);
        for (const auto& record : records) {
            after = record.id;
            auto unit = pool_unit_from_json(json::parse(record.json));
            unit.version = record.version;
            reservations.restore(unit);
            pools.units[unit.id] = std::make_shared<LiveUnit>(unit);
        }
        if (records.size() < 1000) break;
    }
    auto copy = pools.units;
    for (const auto& [id, unit] : copy) {
        auto status = co_await provider->inspect(unit->unit.vm_id, call);
        auto step = plan_unit_recovery(unit->unit.state, status.state);
        bool wanted = pools.pools.contains(unit->unit.pool);
        if (unit->unit.state != UnitState::discarding && (step == UnitRecovery::discard || !wanted))
            co_await discard_unit(unit, wanted ? "lost" : "drained", status.message);
        else if (step != UnitRecovery::keep) spawn_unit(unit);
    }
}

/// A pool that waits because the host was full need not wait any longer.
void SessionEngine::Impl::look_at_pools(SessionState state) {
    if (pools.pools.empty()) return;
    bool gives_back =
        state == SessionState::suspended || state == SessionState::terminated || state == SessionState::failed;
    for (auto& [name, pool] : pools.pools)
        if (gives_back && pool.full) {
            pool.full = false;
            pool.not_before.reset();
        }
    pools.notify();
}

bool SessionEngine::Impl::is_unit(const VmId& vm) const {
    return std::any_of(pools.units.begin(), pools.units.end(),
                       [&](const auto& entry) { return entry.second->unit.vm_id == vm; });
}

// ---- what callers ask ----------------------------------------------------------------------------------------------

LivePool& SessionEngine::Impl::need_pool(const std::string& name) {
    auto found = pools.pools.find(name);
    if (found != pools.pools.end()) return found->second;
    std::string known;
    for (const auto& entry : pools.pools) known += (known.empty() ? "" : ", ") + entry.first;
    throw Error(
        Errc::not_found,
        "there is no pool '" + name + "'; " + (known.empty() ? "session.pools_file names none" : "known: " + known),
        {{"field", "pool"}, {"value", name}, {"allowed", known}});
}

PoolStatus SessionEngine::Impl::status_of(const LivePool& pool) const {
    PoolStatus status;
    status.pool = pool.pool;
    status.drained = pool.drained;
    status.wanted = plan_of(pool).wanted;
    status.warm_starts = pool.warm_starts;
    status.cold_starts = pool.cold_starts;
    status.problem = pool.problem;
    if (pool.not_before && *pool.not_before > now()) status.retry_at = pool.not_before;
    for (const auto& [id, unit] : pools.units) {
        if (unit->unit.pool != pool.pool.name || unit->claimed) continue;
        auto state = unit->unit.state;
        ++(state == UnitState::booting ? status.booting : state == UnitState::ready ? status.ready : status.discarding);
        status.units.push_back(unit->unit);
    }
    for (const auto& [id, target] : live)
        if (target->session.pool == pool.pool.name) ++status.claimed;
    return status;
}

/// What was asked of a pool outlives its owner.
Task<PoolStatus> SessionEngine::Impl::steer_pool(std::string name, bool drained, std::size_t asked, Call call) {
    need_pool(name);
    Batch batch;
    batch.puts.push_back({pool_kind, name, json{{"drained", drained}, {"asked", asked}}.dump(), std::nullopt});
    batch.events.push_back({0, now(), drained ? "pool.drained" : "pool.refilled", name, "", call.correlation_id,
                            json{{"asked", asked}}.dump()});
    co_await commit(std::move(batch));
    auto& pool = need_pool(name);
    pool.drained = drained;
    pool.asked = asked;
    pool.failures = 0;
    pool.not_before.reset();
    pool.problem.clear();
    pools.notify();
    co_return status_of(pool);
}

Task<std::vector<PoolStatus>> SessionEngine::pools() {
    auto impl = impl_;
    std::vector<PoolStatus> all;
    for (const auto& pool : impl->options.pools) all.push_back(impl->status_of(impl->need_pool(pool.name)));
    co_return all;
}

Task<PoolStatus> SessionEngine::pool(std::string name) {
    auto impl = impl_;
    co_return impl->status_of(impl->need_pool(name));
}

Task<PoolStatus> SessionEngine::drain_pool(std::string name, Call call) {
    auto impl = impl_;
    co_return co_await impl->steer_pool(std::move(name), true, 0, call);
}

Task<PoolStatus> SessionEngine::refill_pool(std::string name, std::optional<std::size_t> units, Call call) {
    auto impl = impl_;
    auto most = impl->need_pool(name).pool.max;
    if (units.value_or(0) > most)
        throw Error(Errc::validation,
                    "units: '" + std::to_string(*units) + "' is not allowed; at most " + std::to_string(most) +
                        ", the pool's max",
                    {{"field", "units"}, {"value", std::to_string(*units)}, {"allowed", "0.." + std::to_string(most)}});
    co_return co_await impl->steer_pool(std::move(name), false, units.value_or(0), call);
}

Task<PoolStatus> SessionEngine::wait_pool(std::string name, Call call) {
    auto impl = impl_;
    for (;;) {
        auto status = impl->status_of(impl->need_pool(name));
        if (status.ready == status.wanted && status.booting == 0 && status.discarding == 0) co_return status;
        if (impl->closing) throw Error(Errc::cancelled, "the session engine is closed");
        auto doing = "waiting for pool " + name + ", which has " + std::to_string(status.ready) + " of " +
                     std::to_string(status.wanted) + " units ready";
        if (!status.problem.empty()) doing += ": " + status.problem;
        check(call, *impl->env.clock, doing.c_str());
        co_await impl->pools.changed.wait(*impl->env.clock, call);
    }
}

Task<std::vector<VmStatus>> SessionEngine::list_vms(Call call) {
    auto impl = impl_;
    auto found = co_await impl->provider->list_owned(call);
    // A claimed VM knows only the unit that it was made for.
    for (const auto& [id, target] : impl->live)
        for (auto& status : found)
            if (status.id == target->session.vm_id) status.owner_session = id;
    co_return found;
}

}  // namespace infrastructure_sdk
