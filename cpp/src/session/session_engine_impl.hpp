#pragma once
// The inside of the session engine, shared by the files that carry it: session_engine.cpp (verbs), session_records.cpp
// (what is written and shown), session_driver.cpp (work on VMs), session_recovery.cpp (after a crash),
// session_expiry.cpp (clocks), session_use.cpp (idleness and its explanation), session_snapshots.cpp (snapshots and
// forks), session_restart.cpp (recovery by hand and by rule), session_pools.cpp and session_claims.cpp (warm pools),
// session_access.cpp (what a user does with a session), session_isolation.cpp (isolation is looked at again),
// session_policies.cpp (policies are asked, and what they decide is carried out).

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include <infrastructure_sdk/isolation/drift.hpp>
#include <infrastructure_sdk/session/explain.hpp>
#include <infrastructure_sdk/session/idleness.hpp>
#include <infrastructure_sdk/session/session_engine.hpp>

#include "core/async_tools.hpp"
#include "session/boot_queue.hpp"
#include "session/console_tokens.hpp"
#include "session/deadline_index.hpp"
#include "session/heartbeat.hpp"
#include "session/pool_book.hpp"
#include "session/policy_requests.hpp"
#include "session/pool_plan.hpp"
#include "session/reservation_ledger.hpp"
#include "session/session_fsm.hpp"
#include "vm/image_cache.hpp"

namespace infrastructure_sdk {

inline constexpr const char* session_kind = "session";
inline constexpr const char* intent_kind = "intent";
inline constexpr const char* decision_kind = "decision";  // what an idle session was ended on
inline constexpr const char* snapshot_kind = "snapshot";

/// How a piece of work on a VM ended.
struct Outcome {
    SessionInput input;
    std::string reason;  // a stable word
    std::string message;
    std::string channel;
    std::string cause = {};  // who wants it, where it begins: "request" or a clock's reason
    VmLaunch launch = {};    // of the VM that now runs, if it was started
};

/// What is known of a session's use. Lost with the process: a new owner begins to look anew.
struct SessionUse {
    IdleDetector detector;
    IdleMemory before;                   // the detector's, ahead of the first sample kept
    std::deque<ActivitySample> samples;  // the latest, oldest first
    std::uint64_t execs_started = 0;
    std::uint64_t touches = 0;
    std::uint32_t execs_in_flight = 0;
    bool looking = false;
    Heartbeat heartbeat;

    std::vector<ActivitySample> kept() const { return {samples.begin(), samples.end()}; }
};

/// From a question to the moment up to which it need not be put again, by the wall clock. A clock that was set back to
/// before it ends it.
struct Rest {
    WallTime from{}, until{};
    bool holds(WallTime now) const { return from <= now && now < until; }
};

/// For how long policies said that they need not be asked. Lost with the process.
struct PolicyRests {
    std::uint64_t revision = 0;  // of those who said it
    Rest idle, schedule, budget;
};

/// One session that is not terminated. Touched on the executor only.
struct LiveSession {
    explicit LiveSession(Session value, Executor executor) : session(std::move(value)), changed(executor) {}
    Session session;
    Signal changed;
    bool writing = false;         // one commit at a time keeps versions in order
    bool driven = false;          // a worker is on it
    std::string correlation_id;   // of the verb that the worker carries out
    bool may_be_alive = false;    // failed, and its VM's death was not observed
    bool files_suffice = false;   // of its claimed unit; after a crash the longer way is taken
    std::vector<VmEvent> health;  // told by the provider and not written yet, oldest first
    std::stop_source work;        // stops the worker's present step
    SessionUse use;
    DriftDetector isolation;
    std::string isolation_checked;     // the execution whose first look is recorded
    MonotonicTime isolation_rested{};  // ahead of it suspicion of this session waits
    bool isolation_suspected = false;  // the look that is planned was asked for by suspicion
    PolicyRests rests;
};
using LivePtr = std::shared_ptr<LiveSession>;

/// While it lives the session is in use, however silent the command is.
class ExecInFlight {
public:
    explicit ExecInFlight(LivePtr target) : target_(std::move(target)) {
        ++target_->use.execs_started;
        ++target_->use.execs_in_flight;
    }
    ExecInFlight(const ExecInFlight&) = delete;
    ExecInFlight& operator=(const ExecInFlight&) = delete;
    ~ExecInFlight() { --target_->use.execs_in_flight; }

private:
    LivePtr target_;
};

/// A command that is followed.
struct RunningExec {
    RunningExec(LivePtr session, std::shared_ptr<GuestProcess> started)
        : target(std::move(session)), process(std::move(started)), in_flight(target) {}
    LivePtr target;
    std::shared_ptr<GuestProcess> process;
    ExecInFlight in_flight;
};

/// One snapshot that is recorded. Touched on the executor only.
struct LiveSnapshot {
    explicit LiveSnapshot(Snapshot value, Executor executor) : snapshot(std::move(value)), changed(executor) {}
    Snapshot snapshot;
    Signal changed;
    bool busy = false;           // a worker is on it
    bool retried = false;        // its removal failed and is tried again
    unsigned held = 0;           // forks that are being recorded
    std::exception_ptr failure;  // of the last worker
    std::stop_source work;       // stops the worker
};
using SnapshotPtr = std::shared_ptr<LiveSnapshot>;

struct SessionEngine::Impl : std::enable_shared_from_this<SessionEngine::Impl> {
    Impl(Environment e, std::shared_ptr<Store> s, std::shared_ptr<VmProvider> p, SessionEngineOptions o)
        : env(std::move(e)),
          store(std::move(s)),
          provider(std::move(p)),
          options(std::move(o)),
          tasks(env.executor),
          clock_changed(env.executor),
          looks_changed(env.executor),
          isolation_changed(env.executor),
          boots(options.concurrent_boots ? options.concurrent_boots : provider->capabilities().concurrent_boots),
          reservations(options.limits, options.currency, provider->capabilities().gpus, store->keeps_documents()),
          events_written(env.executor),
          pools(env.executor) {}

    Environment env;
    std::shared_ptr<Store> store;
    std::shared_ptr<VmProvider> provider;
    SessionEngineOptions options;
    TaskGroup tasks;
    Signal clock_changed;      // another session's clock is the next to run out
    Signal looks_changed;      // another session is the next to be looked at
    Signal isolation_changed;  // the same, for what isolates it
    std::map<std::string, LivePtr> live;
    std::map<std::string, LivePtr> running;  // those that are active
    BootQueue boots;  // cold starts: every session that is pending or provisioning without a unit
    ReservationLedger reservations;
    mutable ImageCache images;
    DeadlineIndex<WallTime> expiries;
    DeadlineIndex<MonotonicTime> looks;
    std::size_t looks_under_way = 0;
    DeadlineIndex<MonotonicTime> isolation_looks;
    MonotonicTime isolation_rested{};  // ahead of it all suspicion waits
    DeadlineIndex<WallTime> restarts;
    std::map<std::string, SnapshotPtr> snapshots;
    Signal events_written;
    std::uint64_t written = 0;  // commits with events, so that none falls between a look and a wait
    PoolBook pools;
    std::map<std::string, std::shared_ptr<RunningExec>> execs;  // by the name that `exec_start` gave
    ConsoleTokens console_tokens;
    bool closing = false;

    /// Changes the copy that becomes the session, and what is written with it; false = let it be.
    using Edit = std::function<bool(Session&, Batch&)>;
    /// Whether a session is still what was decided on; null = it need not be.
    using Still = std::function<bool(const Session&)>;

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
    /// `fingerprint` is set when there are warm units to compare it with.
    Session plan(SessionRequest request, std::string* fingerprint) const;
    ImageFiles read_image(const std::string& name) const;
    ImageFiles image_of(const Session& session, const Template& source) const;
    void begin_life(Session session, const Call& call, bool files_suffice = false);
    void index(const Session& session);
    Task<LivePtr> need(std::string id);
    /// What the store is given of a session; nothing when it would not give it back.
    std::string document_of(const Session& session) const;
    /// The same, of what is under way: "create" or the verb that the session carries out since `since`.
    std::string intent_of(const Session& session, const char* verb, WallTime since) const;
    Task<CommitResult> commit(Batch batch);
    Task<bool> update(LivePtr target, Edit edit);
    Task<bool> transition(LivePtr target, SessionInput input, Outcome outcome, std::string correlation_id, Edit also);
    /// `cause` tells who wants it: "request", or the reason of a clock.
    Task<Session> begin(std::string id, SessionInput verb, std::string cause, Call call, Edit also);
    void spawn_driver(LivePtr target);
    void keep_place(const Session& session);
    void leave_place(const std::string& session_id);
    Task<void> drive(LivePtr target);
    Task<Outcome> step(LivePtr target, Session session, Call call);
    Task<Outcome> provision(LivePtr target, Session session, Call call);
    Task<Outcome> resume_vm(LivePtr target, Session session, Call call);
    Task<void> wait_booted(VmId vm, Duration boot_timeout, Call call);
    Task<std::optional<std::uint64_t>> bytes_moved(VmId vm, Call call);
    Task<void> power_off_useless(LivePtr target, Session session, Call call);
    Task<VmStatus> look(VmId vm, Call call);
    Task<Outcome> end_vm(Session session, Call call);
    Task<void> expire();
    Task<void> wait_for_clock(std::optional<WallTime> next, Deadline latest);
    Task<void> look_at_clocks(LivePtr target);
    Task<void> act(LivePtr target, ClockDeadline due, Edit also, Still still);
    Task<void> carry_out(LivePtr target, OnExpiry action, TerminationReason reason, Edit also, Still still);
    IdleSettings idle_settings(const Session& session) const;
    void plan_look(const LivePtr& target, MonotonicTime when);
    Task<void> watch_use();
    Task<void> look_at_use(LivePtr target);
    MonotonicTime look_after(LiveSession& target, const IdleVerdict& verdict) const;
    std::optional<MonotonicTime> quiet_since(const LiveSession& target) const;
    Task<std::optional<IdleVerdict>> sample_use(LivePtr target, bool acts);
    IdleVerdict take_in(LivePtr target, ActivitySample sample);
    Task<bool> end_idleness(LivePtr target, const ActivitySample& sample, const IdleVerdict& verdict);
    Task<void> note_heartbeat(LivePtr target, bool answers);
    Task<void> note_clients_of(LivePtr target, const ActivitySample& sample);
    Task<void> tell_idleness(LivePtr target, const IdleVerdict& verdict, IdleState before);
    Task<ExplainInputs> explain_inputs(LivePtr target);
    Task<void> adopt(LivePtr target, Call call);
    Task<void> reap_orphans(Call call);
    Task<void> note_lost(LivePtr target, VmEvent event);
    Task<void> note_health(LivePtr target);
    Task<void> write_health(LivePtr target, VmEvent event);
    void observe(VmEvent event);
    std::shared_ptr<RunningExec> need_exec(const std::string& session, const std::string& process) const;
    // session_isolation.cpp
    void plan_isolation_look(const Session& session);
    Task<void> watch_isolation();
    Task<void> look_at_isolation(std::vector<std::string> ids);
    Task<void> note_isolation(LivePtr target, Session seen, IsolationReport report);
    // session_policies.cpp
    bool asks(DecisionPoint point) const { return options.policies && options.policies->asks(point); }
    PolicyRests& rests_of(LiveSession& target) const;
    PolicySession told_session(const LiveSession& target) const;
    Task<PolicyVerdict> ask(PolicyRequest request, PolicyQuestion question, Call call);
    Task<Session> plan_asking(SessionRequest request, std::string* fingerprint, bool dry_run, Batch* news, Call call);
    Task<std::optional<Denial>> ask_to_admit(Session session, bool dry_run, Batch* news, Call call);
    Task<std::string> ask_to_place(LivePtr target, VmSpec spec, Call call);
    PolicyUsage policy_usage(const Session& session) const;
    Task<PolicyVerdict> ask_about_idleness(LivePtr target, ActivitySample sample, IdleVerdict verdict);
    Task<void> write_news(LivePtr target, PolicyVerdict verdict);
    Task<void> apply(LivePtr target, std::string execution_id, PolicyVerdict verdict, TerminationReason reason);
    Task<void> sweep(DecisionPoint point, Duration interval);
    Task<void> ask_one(LivePtr target, DecisionPoint point, std::shared_ptr<const MonthSpent> spent);
    Task<bool> may_have_clients(LivePtr target);
    Task<void> ask_on_schedule(LivePtr target);
    Task<void> ask_on_budget(LivePtr target, std::shared_ptr<const MonthSpent> spent);
    MonthSpent month_spent();
    Task<void> ask_at_gate(Session session, IsolationReport report, Call call);
    Task<void> ask_on_interruption(LivePtr target, std::string kind);
    // session_restart.cpp
    nlohmann::json aftermath(Session& session, SessionState before, SessionInput input);
    Task<void> clear_for_recovery(Session session, Call call);
    Task<void> restart();
    Task<void> start_again(LivePtr target);
    // session_snapshots.cpp
    SnapshotPtr find_snapshot(const std::string& id) const;
    SnapshotPtr need_snapshot(const std::string& id) const;
    Event snapshot_event(const char* type, const Snapshot& snapshot, const Call& call,
                         const nlohmann::json& data) const;
    Task<SnapshotPtr> take_snapshot(std::string session_id, std::string name, SnapshotMode mode, bool temporary,
                                    Call call);
    Task<void> copy_disk(SnapshotPtr entry, Call call);
    Task<void> remove_snapshot(SnapshotPtr entry, Call call);
    Task<void> drop_snapshot(SnapshotPtr entry, std::string event, nlohmann::json data, Call call);
    Task<void> drop_later(SnapshotPtr entry, std::string event, nlohmann::json data, Call call);
    Task<void> await_worker(SnapshotPtr entry, Call call);
    void sweep_snapshots();
    Task<void> recover_snapshots(Call call);

    // Warm pools: session_claims.cpp, session_pools.cpp.
    UnitPtr unit_for(const Session& session, const std::string& fingerprint) const;
    Task<std::optional<Session>> claim(Session session, UnitPtr live, Batch news, Call call);
    void note_cold_start(const std::string& template_name);
    Task<bool> personalize(VmId vm, std::string hostname, Call call);
    Task<void> take_over(Session session, bool files_suffice, Call call);
    Task<VmLaunch> launch_of(VmId vm, Call call);
    Task<void> name_guest(Session session, Call call);
    Task<void> pass_gate(Session session, Template source, Call call);
    Task<bool> warm_start(LivePtr target, Session session, Template source, Call call);
    Task<void> hand_back(LivePtr target, Session session, std::string why);
    Task<bool> write_unit(UnitPtr live, std::function<bool(PoolUnit&, Batch&)> edit);
    void spawn_unit(UnitPtr live);
    Task<void> drive_unit(UnitPtr live);
    void note_boot_failure(const std::string& name, const std::string& why);
    VmSpec spec_of(const PoolUnit& unit) const;
    Task<void> rehearse(PoolUnit unit, Call call);
    Task<void> boot_unit(UnitPtr live, Call call);
    Task<void> discard_unit(UnitPtr live, std::string reason, std::string message);
    Task<void> end_unit(UnitPtr live, Call call);
    void unit_lost(const VmEvent& event);
    std::size_t free_boots() const;
    PoolPlan plan_of(const LivePool& pool) const;
    Task<void> start_unit(std::string name);
    std::vector<UnitPtr> stale_units(const std::string& pool) const;
    Task<std::optional<WallTime>> keep_pool(std::string name);
    Task<void> keep_pools();
    Task<void> recover_pools(Call call);
    void look_at_pools(SessionState state);
    bool is_unit(const VmId& vm) const;
    LivePool& need_pool(const std::string& name);
    PoolStatus status_of(const LivePool& pool) const;
    Task<PoolStatus> steer_pool(std::string name, bool drained, std::size_t asked, Call call);
};

/// Of everything that a VM is made from, but not who it is.
std::string fingerprint_of(const VmSpec& spec);

}  // namespace infrastructure_sdk
