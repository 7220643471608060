#include "providers/simulator/host.hpp"

namespace infrastructure_sdk {

VerbPlan SimulatedHost::State::plan(Duration usual) {
    const auto& faults = options.faults;
    VerbPlan plan;
    // Every fault is drawn, whether it takes part or not: changing one rate leaves the others' cases alone.
    bool slow = random.chance(faults.slow);
    plan.takes = slow ? usual * 10 : usual;
    plan.hangs = random.chance(faults.hang);
    plan.fails = random.chance(faults.fail);
    plan.lies = random.chance(faults.lie);
    plan.loses_reply = random.chance(faults.lose_reply);
    auto life = std::chrono::milliseconds(random.below(60'000));
    if (random.chance(faults.vanish)) plan.dies_after = life;
    return plan;
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

SimulatedHost::SimulatedHost(SimulatorOptions options) : state_(std::make_shared<State>(std::move(options))) {}
SimulatedHost::~SimulatedHost() = default;

std::vector<SimulatedHost::VmView> SimulatedHost::vms() const {
    std::vector<VmView> views;
    for (const auto& [id, vm] : state_->vms)
        views.push_back({id, vm.state, vm.spec.owner_session, vm.execution_id, vm.processes});
    return views;
}

void SimulatedHost::kill(const VmId& id) {
    state_->lose(id, "ProcessKilled", "the VM's process ended without being asked");
}
void SimulatedHost::set_faults(SimulatorFaults faults) { state_->options.faults = faults; }
const std::vector<std::string>& SimulatedHost::history() const { return state_->history; }

}  // namespace infrastructure_sdk
