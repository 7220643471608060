#pragma once
// The session engine: a thin shell around pure decisions (session_fsm), a Store and a VmProvider.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/isolation/isolation.hpp>
#include <infrastructure_sdk/policy/policy_engine.hpp>
#include <infrastructure_sdk/session/explain.hpp>
#include <infrastructure_sdk/session/idleness.hpp>
#include <infrastructure_sdk/session/limits.hpp>
#include <infrastructure_sdk/session/pool.hpp>
#include <infrastructure_sdk/session/session.hpp>
#include <infrastructure_sdk/session/snapshot.hpp>
#include <infrastructure_sdk/secret.hpp>
#include <infrastructure_sdk/store/store.hpp>
#include <infrastructure_sdk/vm/template.hpp>
#include <infrastructure_sdk/vm/vm_provider.hpp>

namespace infrastructure_sdk {

/// A ttl of 8 hours that terminates, extended to 30 days at most; the other clocks are off.
SessionClocks standard_clocks();

struct SessionEngineOptions {
    std::string image_directory;
    /// The clocks of a session whose request does not say otherwise.
    SessionClocks clocks = standard_clocks();
    /// How idleness is judged; `idle_timeout` is each session's own.
    IdleSettings idleness;
    /// Budgets of transient states, as for KVM; scaled by the provider's `timeout_scale`.
    Duration suspend_timeout = std::chrono::seconds(60);
    Duration resume_timeout = std::chrono::seconds(60);
    Duration terminate_timeout = std::chrono::seconds(30);
    Duration snapshot_timeout = std::chrono::minutes(10);
    std::map<std::string, Template> templates = builtin_templates();
    /// What users, templates and the host may hold; see limits.hpp. Checked and written with the session itself.
    /// How many GPUs of each type the provider has is a limit of its own.
    std::vector<Limit> limits;
    /// How many sessions may boot at once; the others wait, `pending`, in the order of their creation. 0 = as many as
    /// the provider's capability `concurrent_boots` says. Claims of warm units and resumes do not count.
    std::size_t concurrent_boots = 0;
    std::string currency = "USD";  ///< of all prices and money limits
    /// Warm pools; see pool.hpp. Their templates must be Linux with an agent.
    std::vector<Pool> pools;
    /// How many VMs of pools and sessions may boot at once before pools wait. 0 = 1 without KVM, else 2.
    std::size_t pool_boots = 0;
    /// How long a unit may take from its claim until it is the session's, as for KVM; then a VM is started instead.
    Duration claim_timeout = std::chrono::seconds(5);
    /// Asked when a template demands isolation, before the session becomes active. Any verdict but `isolated` refuses
    /// it.
    std::function<Task<IsolationReport>(Session, Call)> isolation_gate;
    /// Looks at these running sessions, all layers: a report for each, in their order. Empty = sessions are not looked
    /// at again after their start.
    std::function<Task<std::vector<IsolationReport>>(std::vector<Session>, Call)> isolation_reports;
    /// Given each report that an event names, before the event is written. Empty = they are not kept.
    std::function<Task<void>(IsolationReport, Call)> keep_isolation_report;
    /// How often; `suspect_isolation` has it done sooner.
    Duration isolation_interval = std::chrono::seconds(30);
    /// Asked at every decision point; it must be open. Null = nobody is asked.
    std::shared_ptr<PolicyEngine> policies;
    /// Gives an image by its name. Empty = read from `image_directory`.
    std::function<ImageFiles(const std::string& name)> load_image;
    /// The wall clock may be set: times on it are looked at again at least this often.
    Duration wall_clock_check = std::chrono::seconds(30);
    /// A simulation knows until when a VM is used, rate for rate, as it was since the look before: looks up to then
    /// that would see the same once more are left out, and the verdicts are those of all looks. A moment that is past =
    /// none is left out; so does an empty function.
    std::function<MonotonicTime(const VmId& vm)> use_steady_until;
};

/// What opens a session's console once.
struct ConsoleTicket {
    Secret token;
    WallTime expires_at;
};

/// Every method must be awaited on the Environment's executor (any number at once). A call that is cancelled or runs
/// out of time leaves the session as it is recorded: background work goes on and `wait` may be called again. Errors
/// common to all: Error(not_found) for an unknown session, Error(store), Error(cancelled), Error(timeout).
class SessionEngine {
public:
    SessionEngine(Environment environment, std::shared_ptr<Store> store, std::shared_ptr<VmProvider> provider,
                  SessionEngineOptions options);
    ~SessionEngine();

    /// Reads the store, asks the provider what exists, adopts running VMs and carries on with what was begun.
    Task<void> recover(Call call);

    /// Completes when the session is recorded: `provisioning` with a unit of a warm pool if one fits or a VM may boot
    /// at once, else `pending` until earlier sessions have booted (`concurrent_boots`). The rest happens in the
    /// background; for a unit that turns out bad a VM is started. @throws Error(validation), Error(quota_exceeded),
    /// Error(capacity), Error(budget_exceeded) naming the limit, what is in use and by whom;
    /// Error(admission_denied) naming the policy that denied it.
    Task<Session> create(SessionRequest request, Call call);
    /// What `create` would record, after the same checks; records and starts nothing. @throws as `create`
    Task<Session> plan(SessionRequest request);
    /// Whether admission would let it in now, and if not why. Takes nothing. @throws as `create` for what is not a
    /// limit.
    Task<std::optional<Denial>> can_create(SessionRequest request);
    /// How far each limit is used.
    Task<std::vector<UsageLine>> usage();

    /// Every pool of the options, in their order.
    Task<std::vector<PoolStatus>> pools();
    /// @throws Error(not_found)
    Task<PoolStatus> pool(std::string name);
    /// Completes when it is recorded that nothing is kept ready any more, also by later owners, until `refill_pool`.
    /// Units that are there are discarded in the background; sessions are started cold. @throws Error(not_found)
    Task<PoolStatus> drain_pool(std::string name, Call call);
    /// Ends a drain, forgets a failed boot's pause, and keeps at least `units` ready, also by later owners, until the
    /// next refill or drain (none = what the schedule wants). @throws Error(not_found), Error(validation) above `max`.
    Task<PoolStatus> refill_pool(std::string name, std::optional<std::size_t> units, Call call);
    /// Completes when the pool is settled: as many units ready as wanted, none booting or discarding.
    /// @throws Error(timeout) with the pool's problem, if it has one.
    Task<PoolStatus> wait_pool(std::string name, Call call);
    Task<Session> get(std::string id);
    Task<SessionPage> list(SessionFilter filter);
    /// Completes when the session is in `target`. A terminal or failed state ends the wait at once:
    /// Error(not_ready, channel) if a channel did not answer, Error(session_creation), Error(invalid_transition).
    Task<Session> wait(std::string id, SessionState target, Call call);
    /// These complete when the transition is recorded; await `wait` for the outcome. Asked again while under way they
    /// are idempotent. @throws Error(invalid_transition), Error(unsupported); `resume` also Error(quota_exceeded),
    /// Error(capacity) and Error(budget_exceeded) when what it gave back is not free.
    Task<Session> suspend(std::string id, Call call);
    Task<Session> resume(std::string id, Call call);
    /// Legal from every state that is not terminated (there it does nothing).
    Task<Session> terminate(std::string id, TerminationReason reason, Call call);
    /// Starts a `failed` session's VM again from its disk, with a new execution id; what was in memory only is gone.
    /// Legal from `failed`; does nothing where it is under way or done. The cause stays in the events. Attempts of the
    /// restart rule count from zero again. @throws Error(quota_exceeded), Error(capacity) when what it held is not
    /// free.
    Task<Session> recover_session(std::string id, Call call);
    /// Copies the disk of a session that is active, suspended or failed; an active one goes on. Completes when the copy
    /// is on disk; a call that is stopped or out of time leaves none. The copy outlives the session and counts for its
    /// user's disk until it is deleted. With SnapshotMode::memory the session must be active, its guest Linux with an
    /// agent; it stands still while its memory is written, and the copy is of disk and memory at that instant.
    /// @param name for people, 1 to 128 printable characters.
    /// @throws Error(unsupported, capability=snapshot or memory_snapshot)
    Task<Snapshot> snapshot(std::string session_id, std::string name, Call call,
                            SnapshotMode mode = SnapshotMode::disk);
    /// @throws Error(not_found)
    Task<Snapshot> get_snapshot(std::string id);
    Task<std::vector<Snapshot>> list_snapshots(SnapshotFilter filter);
    /// Completes when its files are gone. Sessions that began from it keep their disks.
    /// @throws Error(conflict) while it is being made, or while a session that begins from it has no disk yet.
    Task<void> delete_snapshot(std::string id, Call call);
    /// New sessions from one snapshot, or from a session as it is now. Those of a snapshot with memory go on from its
    /// instant as other guests, and are its user's alone. One entry each: what is denied or fails has its error there,
    /// and the others go on. @throws Error(validation), and as `snapshot` when the session cannot be copied.
    Task<std::vector<ForkEntry>> fork(ForkRequest request, Call call);
    /// Says that the session is in use: moves `last_activity_at` and the idle clock.
    Task<Session> touch(std::string id, Call call);
    /// Moves the ttl's deadline; one that has passed counts from now. @throws Error(validation) above the maximum,
    /// Error(budget_exceeded) when a limit on the month's money does not allow it; then nothing is moved.
    Task<Session> extend(std::string id, Duration by, Call call);
    /// Keeps the session from being idle for so long; it does not move the ttl. One per name, 1 to 64 characters: asked
    /// again it is replaced. @throws Error(validation), Error(invalid_transition) when it is ending
    Task<Session> hold(std::string id, std::string name, Duration length, std::string note, Call call);
    /// The sessions that are active now, by id. Costs by their number, whatever has ended.
    std::vector<Session> active() const;
    /// Something happened that may have changed the isolation of one VM, or of all: its session is looked at again
    /// within about a second, and no more than that however often it is said. Does not wait. What changed becomes an
    /// event, `session.isolation.drifted` or `session.isolation.restored`, and a suspension where the template demands
    /// it; the first look after a start, a claim or a resume is `session.isolation.checked`.
    void suspect_isolation(std::optional<VmId> vm);
    /// Lets go of a hold. Unknown names are fine.
    Task<Session> release(std::string id, std::string name, Call call);
    /// Completes when the guest's agent answered. Moves no clock. @throws Error(not_ready), Error(invalid_transition)
    Task<void> ping(std::string id, Call call);
    /// Why it is alive or not, what would end it and when, and what other idle timeouts would have done. Of an active
    /// session the use is looked at anew, which takes about a second when it is the first look.
    Task<Explanation> explain(std::string id, std::vector<Duration> other_timeouts, Call call);
    Task<std::vector<Event>> events(EventQuery query);
    /// As `events`, but waits until there is one. Going on from the last sequence misses nothing and repeats nothing,
    /// also over a restart. @throws Error(timeout), Error(cancelled) when the engine closes meanwhile.
    Task<std::vector<Event>> next_events(EventQuery query, Call call);

    /// @throws Error(invalid_transition) unless active.
    Task<ExecResult> exec(std::string id, ExecRequest request, Call call);
    Task<std::string> read_file(std::string id, std::string path, std::size_t limit_bytes, Call call);
    Task<void> write_file(std::string id, std::string path, std::string bytes, Call call);
    Task<std::string> screenshot(std::string id, Call call);
    /// Of the screen as it is now; guests change it.
    Task<DisplaySize> display_size(std::string id, Call call);
    /// Types a text on the guest's keyboard; see `typing`. Completes when the guest took every key.
    /// @throws Error(validation), Error(not_ready, channel=display), Error(unsupported, capability=input)
    Task<void> type_text(std::string id, std::string text, std::string layout, Call call);
    /// Presses keys together, one chord after another; see `chord`. @throws as `type_text`
    Task<void> press_keys(std::string id, std::vector<std::string> chords, Call call);
    /// Moves and clicks the pointer; see `pointing`. A guest without a driver for the tablet does not notice.
    /// @throws as `type_text`
    Task<void> point(std::string id, MouseAction action, Call call);
    /// Starts a command that is followed while it runs: `exec_follow` gives what it printed, `exec_close` ends it and
    /// must be called. @returns a name for it, known until then. @throws as `exec`
    Task<std::string> exec_start(std::string id, ExecRequest request, Call call);
    /// @throws Error(not_found) for a command that was closed or is another session's.
    Task<ExecProgress> exec_follow(std::string id, std::string process, Call call);
    Task<void> exec_signal(std::string id, std::string process, std::string signal, Call call);
    Task<void> exec_close(std::string id, std::string process, Call call);
    /// See GuestAgent.
    Task<std::string> read_file_part(std::string id, std::string path, std::uint64_t offset, std::size_t limit_bytes,
                                     Call call);
    Task<void> write_file_part(std::string id, std::string path, std::uint64_t offset, std::string bytes, Call call);
    Task<std::vector<GuestFileEntry>> list_files(std::string id, std::string path, Call call);

    /// A token that opens this session's console once. Only its SHA-256 is kept, in memory; it is void when it was
    /// used, when its time is over, when the session ran anew, and with this engine. @param valid_for up to an hour
    /// @throws Error(validation), Error(invalid_transition), Error(unsupported, capability=console)
    Task<ConsoleTicket> console_ticket(std::string id, Duration valid_for, bool share, Call call);
    /// Redeems a token. @throws Error(authentication), the same for a wrong, used, expired or other session's token;
    /// Error(conflict) when somebody is connected and the ticket was not for sharing; the token is used all the same.
    Task<GuestStreamPtr> open_console(std::string id, Secret token, Call call);
    /// Cuts off every client of the session's screen and ports; new ones may come. @throws Error(unsupported)
    Task<void> disconnect_clients(std::string id, Call call);
    /// A stream to a TCP port of the guest; see VmProvider. @throws Error(invalid_transition), Error(unsupported)
    Task<GuestStreamPtr> open_port(std::string id, std::uint16_t port, Call call);
    Task<VmStatus> inspect_vm(std::string id, Call call);
    /// Every VM of this installation, with the session that has it now.
    Task<std::vector<VmStatus>> list_vms(Call call);

    /// Stops background work without touching a VM. Completes when no child coroutine is left.
    Task<void> close();

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace infrastructure_sdk
