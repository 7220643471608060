#pragma once
// The state of a simulated machine room, and the decisions about faults. No I/O, no clock: times come in.

#include <functional>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/seeded_random.hpp"
#include <infrastructure_sdk/providers/simulator.hpp>

namespace infrastructure_sdk {

struct SimulatedVm {
    VmSpec spec;
    VmState state = VmState::stopped;  ///< stopped, running, paused, suspended, failed
    std::string execution_id;
    std::string reason;
    std::string message;
    std::size_t processes = 0;
    MonotonicTime ready_at = MonotonicTime::max();
    std::map<std::string, std::string> memory_files;  ///< lost with the process
    std::map<std::string, std::string> disk_files;    ///< below /data
    /// What its first start goes on with: the memory of the snapshot that it began from.
    std::optional<std::map<std::string, std::string>> origin;
    std::string launched_from;
    std::string place;  ///< where its process lives
    SimulatedUse use;
    SimulatedUse used;  ///< sums, up to `used_until`, as numbers of seconds, bytes and events
    MonotonicTime used_until{};
    bool alive() const { return processes > 0; }
    /// Counts what `use` did since `used_until`.
    void count_use(MonotonicTime now);
};

struct VmIdHash {
    std::size_t operator()(const VmId& id) const { return std::hash<std::string>()(id.value); }
};

struct SimulatedSnapshot {
    std::string consistent;
    std::map<std::string, std::string> disk_files;
    std::optional<std::map<std::string, std::string>> memory_files;  ///< nullopt = it is of the disk alone
};

/// How one verb will go.
struct VerbPlan {
    Duration takes{};
    bool hangs = false;
    bool fails = false;
    bool lies = false;
    bool loses_reply = false;
    std::optional<Duration> dies_after;
};

struct SimulatedHost::State {
    explicit State(SimulatorOptions o) : options(std::move(o)), random(options.seed) {}

    SimulatorOptions options;
    SeededRandom random;
    std::unordered_map<VmId, SimulatedVm, VmIdHash> vms;
    std::map<std::string, SimulatedSnapshot> snapshots;
    std::list<std::function<void(const VmId&)>> listeners;  ///< told of a process that died by itself
    std::vector<std::string> history;
    std::map<std::string, std::uint64_t> verbs_of_users;  ///< "verb user" to how often

    /// @param user whose VM it is, for `slow_by_user`
    VerbPlan plan(const std::string& verb, const std::string& user, Duration usual);
    /// Of all VMs, sorted.
    std::vector<VmId> ids() const;
    bool blind() { return random.chance(options.faults.blind); }
    void note(const char* verb, const VmId& id, const char* outcome);
    /// Those that it fits in now, its own choice first.
    std::vector<VmPlace> places_for(const VmSpec& spec) const;
    /// Called before a process begins: where it was put, or else where it fits.
    /// @throws Error(capacity, reason=NoPlace)
    void take_place(SimulatedVm& wanted);
    /// Called before a process begins. @throws Error(provider, reason=NoFreeGpu)
    void take_gpus(const SimulatedVm& wanted);
    /// The process dies unasked; listeners hear of it.
    void lose(const VmId& id, std::string reason, std::string message);
};

}  // namespace infrastructure_sdk
