// Snapshots: recorded before they are made and before they are removed; sessions that begin from them.
#include "session/session_engine_impl.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "session/snapshot_rules.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {

using nlohmann::json;

namespace {

json told(const Error& error) { return {{"reason", name_of(error.errc())}, {"message", error.message()}}; }

/// A snapshot that must not be swept away while its forks are recorded.
class Held {
public:
    Held(SnapshotPtr entry, bool from_its_beginning) : entry_(std::move(entry)) {
        if (!from_its_beginning) ++entry_->held;
    }
    ~Held() { --entry_->held; }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

private:
    SnapshotPtr entry_;
};

}  // namespace

SnapshotPtr SessionEngine::Impl::find_snapshot(const std::string& id) const {
    auto it = snapshots.find(id);
    return it == snapshots.end() ? nullptr : it->second;
}

SnapshotPtr SessionEngine::Impl::need_snapshot(const std::string& id) const {
    if (auto found = find_snapshot(id)) return found;
    throw Error(Errc::not_found, "there is no snapshot '" + id + "'; `infra-sdk snapshot list` shows them",
                {{"field", "snapshot"}, {"value", id}});
}

Event SessionEngine::Impl::snapshot_event(const char* type, const Snapshot& snapshot, const Call& call,
                                          const json& data) const {
    return {0,
            now(),
            type,
            snapshot.id,
            "",
            call.correlation_id,
            data.dump(-1, ' ', false, json::error_handler_t::replace)};
}

/// Until the worker on it has ended; its failure is the caller's, and a caller who gives up stops it.
Task<void> SessionEngine::Impl::await_worker(SnapshotPtr entry, Call call) {
    std::stop_callback forward(call.stop, [source = entry->work]() mutable { source.request_stop(); });
    Call until_it_ends;
    while (entry->busy) co_await entry->changed.wait(*env.clock, until_it_ends);
    if (entry->failure) std::rethrow_exception(entry->failure);
}

/// Records the intent, copies, records the outcome.
Task<SnapshotPtr> SessionEngine::Impl::take_snapshot(std::string session_id, std::string name, SnapshotMode mode,
                                                     bool temporary, Call call) {
    if (closing) throw Error(Errc::cancelled, "the session engine is closed");
    need_snapshot_capability(provider->capabilities(), mode);
    check_snapshot_name(name);
    auto target = co_await need(std::move(session_id));
    need_copyable(target->session, mode);
    if (auto source = options.templates.find(target->session.template_name);
        mode == SnapshotMode::memory && source != options.templates.end())
        need_renamable(source->second);
    auto digits = make_uuid(*env.random);
    digits.erase(std::remove(digits.begin(), digits.end(), '-'), digits.end());
    std::string id = "snap-";
    id.append(digits, 0, 16);
    auto planned = plan_snapshot(target->session, id, name, mode, temporary, now());
    if (auto source = options.templates.find(planned.template_name); source != options.templates.end())
        leave_network_to(source->second, planned);
    auto entry = std::make_shared<LiveSnapshot>(std::move(planned), env.executor);
    const auto& snapshot = entry->snapshot;
    Batch batch;
    auto held = reservations.take(reservation_of(snapshot), batch);
    batch.puts.push_back({snapshot_kind, snapshot.id, json(snapshot).dump(), 0});
    json data{{"session", snapshot.session_id}, {"name", snapshot.name}, {"mode", name_of(snapshot.mode)}};
    batch.events.push_back(snapshot_event("snapshot.lifecycle.creating", snapshot, call, data));
    auto result = co_await commit(std::move(batch));
    held->committed();
    entry->snapshot.version = result.versions.back();
    snapshots[snapshot.id] = entry;
    // Nobody sweeps it away before its fork goes on.
    if (temporary) ++entry->held;
    entry->busy = true;
    auto within = call.within(budget(options.snapshot_timeout));
    tasks.spawn(env.logger, "make snapshot " + snapshot.id, copy_disk(entry, within));
    co_await await_worker(entry, call);
    co_return entry;
}

Task<void> SessionEngine::Impl::copy_disk(SnapshotPtr entry, Call call) {
    auto self = shared_from_this();
    std::stop_callback forward(tasks.stop_source().get_token(),
                               [source = entry->work]() mutable { source.request_stop(); });
    Call work{call.deadline, entry->work.get_token(), call.correlation_id};
    entry->failure = nullptr;
    json cause;
    try {
        auto id = entry->snapshot.id;
        co_await provider->snapshot(entry->snapshot.vm_id, id, entry->snapshot.mode, work);
        // What was seen counts, not what was said.
        auto seen = co_await provider->inspect_snapshot(id, work);
        if (!seen)
            throw Error(Errc::provider, "the provider said that snapshot " + id + " is there, but it is not",
                        {{"reason", "NotThere"}});
        auto done = completed(entry->snapshot, *seen);
        Batch batch;
        batch.puts.push_back({snapshot_kind, done.id, json(done).dump(), done.version});
        json data{{"snapshot", done.id}, {"name", done.name}, {"consistent", done.consistent}};
        batch.events.push_back({0, now(), "session.lifecycle.snapshotted", done.session_id, "", call.correlation_id,
                                data.dump(-1, ' ', false, json::error_handler_t::replace)});
        batch.events.push_back(snapshot_event("snapshot.lifecycle.created", done, call, data));
        auto result = co_await commit(std::move(batch));
        done.version = result.versions.back();
        entry->snapshot = done;
    } catch (const Error& error) {
        entry->failure = std::current_exception();
        cause = told(error);
    }
    if (entry->failure) co_await drop_snapshot(entry, std::string("snapshot.lifecycle.failed"), cause, call);
    entry->busy = false;
    entry->changed.notify_all();
}

/// Removes files and record; what cannot be removed now stays recorded, and is tried again later or by the next owner.
Task<void> SessionEngine::Impl::drop_snapshot(SnapshotPtr entry, std::string event, json data, Call call) {
    auto id = entry->snapshot.id;
    Call cleaning{budget(options.terminate_timeout), {}, call.correlation_id};
    std::exception_ptr failure;
    try {
        co_await provider->delete_snapshot(id, cleaning);
        if (co_await provider->inspect_snapshot(id, cleaning))
            throw Error(Errc::provider, "the provider said that snapshot " + id + " is gone, but it is there",
                        {{"reason", "StillThere"}});
        Batch batch;
        batch.erases.push_back({snapshot_kind, id});
        reservations.give_back(id, batch);
        batch.events.push_back(snapshot_event(event.c_str(), entry->snapshot, call, data));
        co_await commit(std::move(batch));
        reservations.release(id);
        snapshots.erase(id);
    } catch (const Error& error) {
        env.logger->log(LogLevel::warning, "session", "a snapshot could not be removed",
                        {{"snapshot", id}, {"detail", error.message()}}, call.correlation_id);
        failure = std::current_exception();
    }
    if (!failure) co_return;
    if (!entry->failure) entry->failure = failure;
    if (!std::exchange(entry->retried, true))
        tasks.spawn(env.logger, "remove snapshot " + id, drop_later(entry, std::move(event), std::move(data), call));
}

/// Tries again without hurry, for as long as the snapshot is there.
Task<void> SessionEngine::Impl::drop_later(SnapshotPtr entry, std::string event, json data, Call call) {
    auto self = shared_from_this();
    auto stop = tasks.stop_source().get_token();
    while (!stop.stop_requested() && find_snapshot(entry->snapshot.id) == entry) {
        auto next = Deadline::after(*env.clock, std::chrono::seconds(30));
        co_await env.clock->sleep_until(next.when(), stop);
        if (stop.stop_requested() || entry->busy) continue;
        entry->busy = true;
        co_await drop_snapshot(entry, event, data, call);
        entry->busy = false;
        entry->changed.notify_all();
    }
}

Task<void> SessionEngine::Impl::remove_snapshot(SnapshotPtr entry, Call call) {
    auto self = shared_from_this();
    entry->failure = nullptr;
    try {
        auto leaving = entry->snapshot;
        leaving.state = SnapshotState::deleting;
        Batch batch;
        batch.puts.push_back({snapshot_kind, leaving.id, json(leaving).dump(), leaving.version});
        batch.events.push_back(snapshot_event("snapshot.lifecycle.deleting", leaving, call, json::object()));
        auto result = co_await commit(std::move(batch));
        leaving.version = result.versions.back();
        entry->snapshot = leaving;
    } catch (const Error&) {
        entry->failure = std::current_exception();
    }
    json nothing = json::object();
    if (!entry->failure) co_await drop_snapshot(entry, std::string("snapshot.lifecycle.deleted"), nothing, call);
    entry->busy = false;
    entry->changed.notify_all();
}

/// Temporary ones that no session may need any more.
void SessionEngine::Impl::sweep_snapshots() {
    if (closing) return;
    for (const auto& [id, entry] : snapshots) {
        const auto& snapshot = entry->snapshot;
        if (!snapshot.temporary || snapshot.state != SnapshotState::ready || entry->busy || entry->held > 0) continue;
        bool needed = std::any_of(live.begin(), live.end(),
                                  [&](const auto& other) { return may_need(other.second->session, snapshot); });
        if (needed) continue;
        entry->busy = true;
        Call no_limit;
        tasks.spawn(env.logger, "remove snapshot " + id, remove_snapshot(entry, no_limit));
    }
}

/// The first look of a new owner: what was begun and not finished goes, and so does what nobody recorded.
Task<void> SessionEngine::Impl::recover_snapshots(Call call) {
    std::string after;
    for (;;) {
        auto records = co_await store->list(snapshot_kind, after, 1000);
        for (const auto& record : records) {
            after = record.id;
            auto snapshot = snapshot_from_json(json::parse(record.json));
            snapshot.version = record.version;
            reservations.restore(reservation_of(snapshot));
            snapshots[snapshot.id] = std::make_shared<LiveSnapshot>(snapshot, env.executor);
        }
        if (records.size() < 1000) break;
    }
    if (!provider->capabilities().snapshot) co_return;
    auto known = snapshots;
    for (const auto& [id, entry] : known) {
        if (entry->snapshot.state == SnapshotState::ready) continue;
        bool was_made = entry->snapshot.state == SnapshotState::creating;
        json cause = json::object();
        if (was_made) cause = {{"reason", "Interrupted"}, {"message", "its maker ended before it was complete"}};
        std::string event = was_made ? "snapshot.lifecycle.failed" : "snapshot.lifecycle.deleted";
        co_await drop_snapshot(entry, event, cause, call);
    }
    auto there = co_await provider->list_snapshots(call);
    for (const auto& id : there) {
        if (snapshots.contains(id)) continue;
        env.logger->log(LogLevel::warning, "session", "a snapshot without a record is removed", {{"snapshot", id}});
        std::string problem;
        try {
            co_await provider->delete_snapshot(id, call.within(budget(options.terminate_timeout)));
        } catch (const Error& error) {
            problem = error.message();
        }
        if (!problem.empty())
            env.logger->log(LogLevel::warning, "session", "a snapshot could not be removed",
                            {{"snapshot", id}, {"detail", problem}});
    }
}

// ---- the verbs -----------------------------------------------------------------------------------------------------

Task<Snapshot> SessionEngine::snapshot(std::string session_id, std::string name, Call call, SnapshotMode mode) {
    auto impl = impl_;
    auto entry = co_await impl->take_snapshot(std::move(session_id), std::move(name), mode, false, call);
    co_return entry->snapshot;
}

Task<Snapshot> SessionEngine::get_snapshot(std::string id) {
    auto impl = impl_;
    co_return impl->need_snapshot(id)->snapshot;
}

Task<std::vector<Snapshot>> SessionEngine::list_snapshots(SnapshotFilter filter) {
    auto impl = impl_;
    std::vector<Snapshot> found;
    for (const auto& entry : impl->snapshots)
        if (matches(filter, entry.second->snapshot)) found.push_back(entry.second->snapshot);
    co_return found;
}

Task<void> SessionEngine::delete_snapshot(std::string id, Call call) {
    auto impl = impl_;
    if (impl->closing) throw Error(Errc::cancelled, "the session engine is closed");
    auto entry = impl->need_snapshot(id);
    const auto& snapshot = entry->snapshot;
    if (entry->busy && snapshot.state == SnapshotState::creating)
        throw Error(Errc::conflict, "snapshot " + id + " is being made", {{"snapshot", id}, {"state", "creating"}});
    std::string waiting;
    for (const auto& other : impl->live)
        if (waits_for(other.second->session, snapshot)) waiting += (waiting.empty() ? "" : ", ") + other.first;
    if (!waiting.empty() || entry->held > 0)
        throw Error(Errc::conflict,
                    "snapshot " + id + " is needed by sessions that have no disk yet" +
                        (waiting.empty() ? std::string() : ": " + waiting),
                    {{"snapshot", id}, {"sessions", waiting}});
    if (!entry->busy) {
        entry->busy = true;
        impl->tasks.spawn(impl->env.logger, "remove snapshot " + id, impl->remove_snapshot(entry, call));
    }
    // It is not stopped halfway: who gives up only does not wait.
    while (entry->busy) {
        check(call, *impl->env.clock, "removing a snapshot");
        co_await entry->changed.wait(*impl->env.clock, call);
    }
    if (entry->failure) std::rethrow_exception(entry->failure);
}

Task<std::vector<ForkEntry>> SessionEngine::fork(ForkRequest request, Call call) {
    auto impl = impl_;
    check_fork(request);
    need_snapshot_capability(impl->provider->capabilities());
    SnapshotPtr source;
    if (is_snapshot_id(request.source)) source = impl->need_snapshot(request.source);
    else {
        auto forked = co_await impl->need(request.source);
        need_user_of_memory(request, forked->session);
        source = co_await impl->take_snapshot(request.source, "fork of " + request.source, request.mode, true, call);
    }
    std::vector<ForkEntry> entries;
    {
        Held held(source, source->snapshot.temporary && !is_snapshot_id(request.source));
        auto wanted = request_of(request, source->snapshot);
        // A source that is not ready refuses the whole, not each.
        begin_from(wanted, source->snapshot);
        for (int i = 0; i < request.count; ++i) {
            ForkEntry entry;
            try {
                entry.session = co_await create(wanted, call);
            } catch (const Error& error) {
                if (error.errc() == Errc::cancelled) throw;
                entry.error = error;
            }
            entries.push_back(std::move(entry));
        }
    }
    impl->sweep_snapshots();
    co_return entries;
}

}  // namespace infrastructure_sdk
