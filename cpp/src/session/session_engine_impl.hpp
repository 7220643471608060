#pragma once
// The inside of the session engine, shared by the files that carry it: session_engine.cpp (verbs), session_records.cpp
// (what is written and shown), session_driver.cpp (work on VMs), session_recovery.cpp (after a crash),
// session_expiry.cpp (clocks).

#include <map>
#include <memory>
#include <string>

#include <infrastructure_sdk/session/session_engine.hpp>

#include "core/async_tools.hpp"
#include "session/deadline_index.hpp"
#include "session/reservation_ledger.hpp"
#include "session/session_fsm.hpp"

namespace infrastructure_sdk {

inline constexpr const char* session_kind = "session";
inline constexpr const char* intent_kind = "intent";

/// How a piece of work on a VM ended.
struct Outcome {
    SessionInput input;
    std::string reason;  // a stable word
    std::string message;
    std::string channel;
};

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

}  // namespace infrastructure_sdk
