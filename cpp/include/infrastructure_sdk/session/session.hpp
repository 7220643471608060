#pragma once
// The words of the session engine.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/quantity.hpp>
#include <infrastructure_sdk/session/cost.hpp>
#include <infrastructure_sdk/session/session_clocks.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk {

enum class SessionState {
    pending,       ///< admitted, waiting for capacity
    provisioning,  ///< VM being made and booted
    active,        ///< every advertised channel answers
    suspending,
    suspended,
    resuming,
    terminating,
    terminated,
    failed,  ///< cause and disk are kept
};
const char* name_of(SessionState state) noexcept;
/// @throws Error(validation)
SessionState parse_session_state(const std::string& name);

enum class TerminationReason {
    request,
    ttl,
    idle,
    disconnect,
    retention,
    quota,
    budget,
    policy,
    preempted,
    isolation_failed,
    provider_lost,
    orphaned,
    admin,
    startup_failed,
};
const char* name_of(TerminationReason reason) noexcept;

struct ResourceSpec {
    std::optional<Quantity> cpu;
    std::optional<Quantity> memory;
    std::optional<Quantity> disk_size;
    std::optional<Quantity> disk_iops;          ///< a second, 1..10M; none = the template's, as for the next two
    std::optional<Quantity> disk_bandwidth;     ///< bytes a second, 64Ki..1Ti
    std::optional<Quantity> network_bandwidth;  ///< bytes a second, 1Ki..1Ti
    std::optional<std::int64_t> gpu_count;      ///< 0..64; none = 0, or 1 when a type is named
    std::string gpu_type;                       ///< one of the provider's; may be empty when it has one type only
    std::optional<NetworkMode> network;         ///< none = the template's, with its bridge
    std::string bridge;                         ///< for NetworkMode::bridge alone
};

struct SessionRequest {
    std::string user_id;  ///< 1..128 printable characters
    std::string tenant;   ///< the group that it counts for, 1..128 printable characters; empty = none
    std::string template_name = "linux-tiny";
    /// Begin as this snapshot, with its template and resources; empty = from the template's image.
    std::string snapshot;
    std::string session_type = "desktop";
    ResourceSpec resources;                ///< what is absent comes from the template
    std::optional<Encryption> encryption;  ///< none = the template's; less than the template's is refused
    /// None = the configuration's default; zero = the clock is off, for all but the ttl.
    std::optional<Duration> ttl;
    std::optional<Duration> idle_timeout;
    std::optional<Duration> disconnect_timeout;
    std::optional<Duration> retention;
    std::map<ClockKind, OnExpiry> on_expiry;  ///< what is absent comes from the configuration
    std::map<std::string, std::string> tags;
};

struct Condition {
    std::string type;    ///< "Ready", "IsolationChecked"
    std::string status;  ///< "True", "False", "Unknown"
    std::string reason;  ///< stable CamelCase
    std::string message;
    WallTime since;
};

/// Somebody asked to keep a session; it counts as in use until then.
struct Hold {
    std::string name;  ///< one per name; asked again it is replaced
    WallTime until;
    std::string note;
    friend bool operator==(const Hold&, const Hold&) = default;
};

/// The last change between states at rest, and who wanted it.
struct StateChange {
    WallTime at;
    SessionState from = SessionState::pending;
    SessionState to = SessionState::pending;
    std::string reason;  ///< "request", the reason of a clock ("idle", "ttl", ...), or why it failed
};

/// How a session is started again by itself, as its template's restart rule says.
struct RestartStatus {
    unsigned attempts = 0;            ///< since it was last stable or recovered by hand
    std::optional<WallTime> next_at;  ///< while it is failed and will be tried again

    friend bool operator==(const RestartStatus&, const RestartStatus&) = default;
};

/// A session, as of `observed_at`.
struct Session {
    std::string id;
    std::string user_id;
    std::string tenant;  ///< empty = none
    std::string template_name;
    std::string session_type;
    SessionState state = SessionState::pending;
    std::string desired = "active";  ///< "active", "suspended", "terminated"
    std::uint64_t generation = 1;
    std::uint64_t observed_generation = 0;
    std::optional<std::string> suspend_mode;  ///< "memory" or "disk" while suspended
    VmId vm_id;
    std::string execution_id;  ///< changes at every start or resume
    Quantity cpu;
    Quantity memory;
    Quantity disk_size;
    std::optional<VmLimits> limits;  ///< of disk and network; none = the template's
    std::int64_t gpu_count = 0;
    std::string gpu_type;                ///< empty without GPUs
    std::optional<NetworkMode> network;  ///< none = the template's, with its bridge
    std::string bridge;                  ///< empty but for NetworkMode::bridge
    Charge charge;
    std::string snapshot;  ///< what its disk began from; empty = the template's image
    Encryption encryption = Encryption::off;
    std::string provider;
    std::string accelerator;
    std::string mac_address;
    VmLaunch launch;        ///< of its VM's last start; empty from = not started yet
    std::string pool;       ///< the warm pool whose unit it took; "" = its VM was started for it
    std::string pool_unit;  ///< that unit's id
    WallTime created_at;
    WallTime updated_at;
    WallTime observed_at;
    std::optional<WallTime> expires_at;  ///< the deadline of `clocks.ttl`
    SessionClocks clocks;
    WallTime warned_until;  ///< warnings of clocks up to here were given
    std::vector<Hold> holds;
    std::optional<StateChange> last_change;
    std::optional<WallTime> last_activity_at;
    std::optional<TerminationReason> termination_reason;
    std::string failure_reason;  ///< stable word when failed
    std::string failure_message;
    std::string failure_channel;  ///< the channel that did not answer, if that was the cause
    RestartStatus restart;
    std::map<std::string, std::string> tags;
    std::vector<Condition> conditions;
    std::uint64_t version = 0;  ///< of the stored record
};

struct SessionFilter {
    std::optional<std::string> user_id;
    std::optional<std::string> tenant;
    std::vector<SessionState> states;  ///< empty = all but terminated
    std::map<std::string, std::string> tags;
    std::string after;        ///< page token: the last id of the page before
    std::size_t limit = 100;  ///< 1..1000
};

struct SessionPage {
    std::vector<Session> sessions;
    std::string next;  ///< empty on the last page
};

}  // namespace infrastructure_sdk
