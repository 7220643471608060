#pragma once
// A provider without machines: the same contract on any clock, deterministic, with faults on demand.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/vm/vm_provider.hpp>

namespace infrastructure_sdk {

/// What goes wrong, each in parts of a million verbs. All 0 = a perfect host.
struct SimulatorFaults {
    std::uint32_t slow = 0;        ///< takes ten times as long
    std::uint32_t fail = 0;        ///< no effect; Error(provider)
    std::uint32_t hang = 0;        ///< no effect, no answer until the deadline
    std::uint32_t vanish = 0;      ///< the VM's process dies within the next minute
    std::uint32_t lie = 0;         ///< says that it worked; no effect
    std::uint32_t lose_reply = 0;  ///< the effect takes place; Error(provider)
    std::uint32_t blind = 0;       ///< `inspect` could not look: `unknown`
};

struct SimulatorOptions {
    std::uint64_t seed = 1;
    SimulatorFaults faults;
    Duration create_time = std::chrono::milliseconds(20);
    Duration start_time = std::chrono::milliseconds(100);
    Duration boot_time = std::chrono::seconds(2);  ///< from started to every channel answering
    Duration suspend_time = std::chrono::milliseconds(300);
    Duration resume_time = std::chrono::milliseconds(300);
    Duration stop_time = std::chrono::milliseconds(10);
    Duration snapshot_time = std::chrono::milliseconds(200);
    std::vector<std::string> suspend_modes{"memory"};  ///< empty = like a provider that cannot suspend
    bool snapshots = true;                             ///< false = like a provider that cannot take them
    std::size_t concurrent_boots = 0;                  ///< see Capabilities
    std::map<std::string, std::int64_t> gpus;          ///< how many of each type the host has
    /// The machines of the room, in order of preference, each with what it has when it is empty. A running VM takes its
    /// processors and memory there; one that was suspended may go on elsewhere. Empty = one machine without bounds.
    std::vector<VmPlace> places;
    /// Slow verbs are drawn from the VM's user, the verb and its count, so what happens to one user's VMs does not
    /// shift another's; false = in the order of all verbs.
    bool slow_by_user = false;
    bool keep_history = false;  ///< keep every verb in `history`
};

/// What goes on in a guest. Rates hold from now on, numbers are as of now. A new VM does nothing.
struct SimulatedUse {
    double cpu_cores = 0;
    double network_bytes_per_second = 0;
    double disk_bytes_per_second = 0;
    double input_events_per_second = 0;
    std::uint32_t vnc_clients = 0;
    std::uint32_t logged_in_users = 0;
    bool agent_answers = true;
};

/// The machine room: outlives providers and their owners, as real VMs outlive a killed process. Not thread-safe.
class SimulatedHost {
public:
    explicit SimulatedHost(SimulatorOptions options = {});
    ~SimulatedHost();

    struct VmView {
        VmId id;
        VmState state = VmState::unknown;
        std::string owner_session;
        std::string execution_id;
        std::size_t processes = 0;  ///< living ones; more than 1 is a double VM
        std::string gpu_type;
        std::int64_t gpu_count = 0;  ///< that a living process holds; 0 without one
        std::string place;           ///< where its process lives; empty without one, or without places
    };
    /// Everything that exists, by id.
    std::vector<VmView> vms() const;
    /// Ids of all snapshots.
    std::vector<std::string> snapshots() const;
    /// The VM's process dies, as by kill -9. Providers learn of it when they look or by their event.
    void kill(const VmId& id);
    /// The machines have too little memory, or enough again: providers tell of each VM that runs ("HostMemoryPressure",
    /// "HostHasMemory").
    void press_memory(bool pressed);
    void set_faults(SimulatorFaults faults);
    /// From `now` of the clock of the providers on. Unknown ids are fine.
    void set_use(const VmId& id, SimulatedUse use, MonotonicTime now);
    /// "verb vm-id outcome" a line, when `keep_history`.
    const std::vector<std::string>& history() const;

    struct State;
    std::shared_ptr<State> state() const { return state_; }

private:
    std::shared_ptr<State> state_;
};

std::shared_ptr<VmProvider> make_simulator_provider(Environment environment, const SimulatedHost& host);

}  // namespace infrastructure_sdk
