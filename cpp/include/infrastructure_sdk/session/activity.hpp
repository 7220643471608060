#pragma once
// What is seen of a session's use: one sample of counters, and what two of them say.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

/// Activity keeps a session from being idle. Presence does not: an open connection without input is a forgotten tab.
enum class ActivitySignal {
    connection,  ///< presence: display clients and forwarded connections; holds the disconnect clock
    input,       ///< activity: keys and pointer of display clients
    guest_cpu,   ///< activity
    network,     ///< activity
    disk,        ///< activity
    users,       ///< presence: users logged in to the guest
    heartbeat,   ///< presence: the guest's agent answers
    exec,        ///< activity: a command that we run in the guest, however silent
    hold,        ///< activity: somebody asked to keep the session
    touch,       ///< activity: somebody said that it is in use
};
constexpr std::size_t activity_signal_count = 10;
/// Stable lower-case name, e.g. "guest_cpu".
const char* name_of(ActivitySignal signal) noexcept;
/// @throws Error(validation)
ActivitySignal parse_activity_signal(const std::string& name);
/// True for signals that tell who is there, not what is done.
bool is_presence(ActivitySignal signal) noexcept;

/// What one signal says about the time between two looks.
struct SignalReading {
    enum class State {
        active,  ///< activity above its threshold; of a presence signal: somebody is there
        quiet,
        unknown,  ///< could not look: neither of the two
    };
    ActivitySignal signal = ActivitySignal::connection;
    State state = State::unknown;
    std::string detail;  ///< for people: "2 VNC clients", "3 % of one core", "the agent did not answer"
    WallTime at;
    friend bool operator==(const SignalReading&, const SignalReading&) = default;
};
const char* name_of(SignalReading::State state) noexcept;

/// One look at a session. A field without a value means "could not look"; `reasons` says why.
/// Cumulative counters start anywhere and grow within one execution; one that went back is taken for restarted.
struct ActivitySample {
    WallTime at;
    MonotonicTime monotonic_at;  ///< of the same moment; intervals are measured on it
    std::string execution_id;    ///< samples of different executions are never compared

    std::optional<std::uint64_t> guest_cpu_ns;      ///< cumulative, all vCPUs together
    std::optional<std::uint64_t> network_rx_bytes;  ///< cumulative
    std::optional<std::uint64_t> network_tx_bytes;  ///< cumulative
    std::optional<std::uint64_t> disk_read_bytes;   ///< cumulative
    std::optional<std::uint64_t> disk_write_bytes;  ///< cumulative
    std::optional<std::uint64_t> input_events;      ///< cumulative: key and pointer messages of all clients
    std::optional<std::uint64_t> execs_started;     ///< cumulative; catches a command that ends between two looks
    std::optional<std::uint64_t> touches;           ///< cumulative: calls of touch()

    std::optional<std::uint32_t> vnc_clients;
    std::optional<std::uint32_t> forwarded_connections;  ///< SSH, RDP and other forwarded ports
    std::optional<std::uint32_t> logged_in_users;
    std::optional<bool> agent_answered;
    std::optional<std::uint32_t> exec_in_flight;
    std::optional<std::uint32_t> holds;  ///< that have not run out

    std::map<ActivitySignal, std::string> reasons;  ///< why a signal's field is absent
    friend bool operator==(const ActivitySample&, const ActivitySample&) = default;
};

}  // namespace infrastructure_sdk
