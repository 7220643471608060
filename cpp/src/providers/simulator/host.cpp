#include "providers/simulator/host.hpp"

#include <algorithm>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {

namespace {

/// FNV-1a: the same on every machine.
std::uint64_t draw_hash(const std::string& text) {
    std::uint64_t hash = 0xcbf29ce484222325ull;
    for (unsigned char c : text) hash = (hash ^ c) * 0x100000001b3ull;
    return hash;
}

}  // namespace

VerbPlan SimulatedHost::State::plan(const std::string& verb, const std::string& user, Duration usual) {
    const auto& faults = options.faults;
    VerbPlan plan;
    // Every fault is drawn, whether it takes part or not: changing one rate leaves the others' cases alone.
    bool slow = random.chance(faults.slow);
    if (options.slow_by_user) {
        const auto key = verb + " " + user;
        const auto count = ++verbs_of_users[key];
        SeededRandom own(SeededRandom(options.seed).next() ^ draw_hash(key + " " + std::to_string(count)));
        slow = own.chance(faults.slow);
    }
    plan.takes = slow ? usual * 10 : usual;
    plan.hangs = random.chance(faults.hang);
    plan.fails = random.chance(faults.fail);
    plan.lies = random.chance(faults.lie);
    plan.loses_reply = random.chance(faults.lose_reply);
    auto life = std::chrono::milliseconds(random.below(60'000));
    if (random.chance(faults.vanish)) plan.dies_after = life;
    return plan;
}

std::vector<VmId> SimulatedHost::State::ids() const {
    std::vector<VmId> result;
    for (const auto& entry : vms) result.push_back(entry.first);
    std::sort(result.begin(), result.end());
    return result;
}

void SimulatedHost::State::note(const char* verb, const VmId& id, const char* outcome) {
    if (options.keep_history) history.push_back(std::string(verb) + " " + id.value + " " + outcome);
}

void SimulatedHost::State::lose(const VmId& id, std::string reason, std::string message) {
    auto it = vms.find(id);
    if (it == vms.end() || !it->second.alive()) return;
    auto& vm = it->second;
    vm.processes = 0;
    vm.memory_files.clear();
    vm.ready_at = MonotonicTime::max();
    vm.state = VmState::failed;
    vm.reason = std::move(reason);
    vm.message = std::move(message);
    note("died", id, "by itself");
    for (const auto& listener : listeners) listener(id);
}

void SimulatedHost::State::take_gpus(const SimulatedVm& wanted) {
    const auto& spec = wanted.spec;
    if (spec.gpu_count == 0) return;
    auto free = options.gpus[spec.gpu_type];
    for (const auto& [id, vm] : vms)
        if (vm.alive() && vm.spec.gpu_type == spec.gpu_type) free -= vm.spec.gpu_count;
    if (free < spec.gpu_count)
        throw Error(Errc::provider, "the host has no free GPU of type '" + spec.gpu_type + "'",
                    {{"reason", "NoFreeGpu"}, {"value", spec.gpu_type}});
}

std::vector<VmPlace> SimulatedHost::State::places_for(const VmSpec& spec) const {
    auto left = options.places;
    for (const auto& [id, vm] : vms) {
        if (!vm.alive()) continue;
        auto place = std::find_if(left.begin(), left.end(), [&](const auto& one) { return one.name == vm.place; });
        if (place == left.end()) continue;
        place->free_cpu_cores -= vm.spec.cpu_count;
        place->free_memory_bytes -= static_cast<std::int64_t>(vm.spec.memory_bytes);
    }
    std::erase_if(left, [&](const auto& place) {
        return place.free_cpu_cores < spec.cpu_count ||
               place.free_memory_bytes < static_cast<std::int64_t>(spec.memory_bytes);
    });
    return left;
}

void SimulatedHost::State::take_place(SimulatedVm& wanted) {
    if (options.places.empty()) return;
    const auto fitting = places_for(wanted.spec);
    if (fitting.empty())
        throw Error(Errc::capacity,
                    "no machine has room for " + std::to_string(wanted.spec.cpu_count) + " CPUs and " +
                        std::to_string(wanted.spec.memory_bytes >> 20) + "Mi",
                    {{"field", "resources"}, {"reason", "NoPlace"}});
    auto chosen = std::find_if(fitting.begin(), fitting.end(),
                               [&](const auto& place) { return place.name == wanted.spec.place; });
    wanted.place = chosen == fitting.end() ? fitting.front().name : chosen->name;
}

void SimulatedVm::count_use(MonotonicTime now) {
    if (alive() && state == VmState::running && now > used_until) {
        const double seconds = std::chrono::duration<double>(now - used_until).count();
        used.cpu_cores += use.cpu_cores * seconds;
        used.network_bytes_per_second += use.network_bytes_per_second * seconds;
        used.disk_bytes_per_second += use.disk_bytes_per_second * seconds;
        used.input_events_per_second += use.input_events_per_second * seconds;
    }
    used_until = std::max(used_until, now);
}

SimulatedHost::SimulatedHost(SimulatorOptions options) : state_(std::make_shared<State>(std::move(options))) {}
SimulatedHost::~SimulatedHost() = default;

std::vector<SimulatedHost::VmView> SimulatedHost::vms() const {
    std::vector<VmView> views;
    for (const auto& id : state_->ids()) {
        const auto& vm = state_->vms.at(id);
        views.push_back({id, vm.state, vm.spec.owner_session, vm.execution_id, vm.processes, vm.spec.gpu_type,
                         vm.alive() ? vm.spec.gpu_count : 0, vm.alive() ? vm.place : ""});
    }
    return views;
}

std::vector<std::string> SimulatedHost::snapshots() const {
    std::vector<std::string> ids;
    for (const auto& entry : state_->snapshots) ids.push_back(entry.first);
    return ids;
}

void SimulatedHost::kill(const VmId& id) {
    state_->lose(id, "ProcessKilled", "the VM's process ended without being asked");
}
void SimulatedHost::press_memory(bool pressed) {
    for (const auto& id : state_->ids()) {
        auto& vm = state_->vms.at(id);
        if (vm.state != VmState::running) continue;
        vm.reason = pressed ? "HostMemoryPressure" : "HostHasMemory";
        vm.message = pressed ? "the host has too little memory" : "the host has memory again";
        for (const auto& listener : state_->listeners) listener(id);
    }
}
void SimulatedHost::set_faults(SimulatorFaults faults) { state_->options.faults = faults; }
void SimulatedHost::set_use(const VmId& id, SimulatedUse use, MonotonicTime now) {
    auto it = state_->vms.find(id);
    if (it == state_->vms.end()) return;
    it->second.count_use(now);
    it->second.use = use;
}
const std::vector<std::string>& SimulatedHost::history() const { return state_->history; }

}  // namespace infrastructure_sdk
