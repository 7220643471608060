#include <algorithm>

#include "core/async_tools.hpp"
#include "core/sha256.hpp"
#include "providers/simulator/guest.hpp"
#include "providers/simulator/host.hpp"

namespace infrastructure_sdk {
namespace {

using HostPtr = std::shared_ptr<SimulatedHost::State>;
using Effect = std::function<void()>;

[[noreturn]] void refuse_state(const VmId& id, const char* verb, const SimulatedVm& vm) {
    throw Error(Errc::invalid_transition,
                std::string("cannot ") + verb + " VM " + id.value + " while it is " + name_of(vm.state),
                {{"vm", id.value}, {"state", name_of(vm.state)}});
}

class SimulatorProvider final : public VmProvider, public std::enable_shared_from_this<SimulatorProvider> {
public:
    SimulatorProvider(Environment environment, HostPtr host)
        : environment_(environment),
          host_(std::move(host)),
          changed_(environment.executor),
          tasks_(environment.executor) {
        capabilities_.provider = "simulator";
        capabilities_.accelerator = "none";
        capabilities_.accelerator_reason = "nothing runs: a simulation";
        capabilities_.suspend_modes = host_->options.suspend_modes;
        capabilities_.pause = capabilities_.screenshot = capabilities_.guest_exec = capabilities_.disconnect = true;
        capabilities_.input = true;
        // It stores nothing that could be read.
        capabilities_.encryption = true;
        capabilities_.snapshot = capabilities_.memory_snapshot = host_->options.snapshots;
        capabilities_.concurrent_boots = host_->options.concurrent_boots;
        capabilities_.gpus = host_->options.gpus;
        auto heard = [this](const VmId& id) { observe(id); };
        listener_ = host_->listeners.insert(host_->listeners.end(), heard);
    }
    ~SimulatorProvider() override { host_->listeners.erase(listener_); }

    const Capabilities& capabilities() const override { return capabilities_; }

    std::vector<VmPlace> places(const VmSpec& spec) const override { return host_->places_for(spec); }

    Task<void> create(VmSpec spec, Call call) override {
        auto self = shared_from_this();
        auto id = spec.id;
        if (!spec.snapshot.empty() && !host_->vms.contains(id) && !host_->snapshots.contains(spec.snapshot))
            throw Error(Errc::not_found, "there is no snapshot " + spec.snapshot,
                        {{"reason", "SnapshotMissing"}, {"value", spec.snapshot}});
        Effect effect = [this, spec] {
            if (host_->vms.contains(spec.id)) return;
            auto& vm = host_->vms[spec.id];
            vm.spec = spec;
            if (auto from = host_->snapshots.find(spec.snapshot); from != host_->snapshots.end())
                vm.disk_files = from->second.disk_files, vm.origin = from->second.memory_files;
        };
        co_await act_for(spec.owner_user, "create", id, host_->options.create_time, effect, call);
    }

    Task<void> start(VmId id, std::string execution_id, Call call) override {
        auto self = shared_from_this();
        if (need(id).state == VmState::suspended) refuse_state(id, "start", need(id));
        Effect effect = [this, id, execution_id] {
            auto& vm = need(id);
            vm.execution_id = execution_id;
            if (vm.alive()) return;
            host_->take_place(vm);
            host_->take_gpus(vm);
            ++vm.processes;
            vm.state = VmState::running;
            vm.reason.clear();
            const bool goes_on = vm.origin.has_value();
            vm.launched_from = goes_on ? "snapshot" : "";
            vm.ready_at = environment_.clock->monotonic_now() + (goes_on ? Duration::zero() : host_->options.boot_time);
            if (goes_on) vm.memory_files = *std::exchange(vm.origin, std::nullopt);
        };
        co_await act("start", id, host_->options.start_time, effect, call);
    }

    Task<void> wait_ready(VmId id, Call call) override {
        auto self = shared_from_this();
        for (;;) {
            auto& vm = need(id);
            if (!vm.alive())
                throw Error(Errc::vm_provisioning, "the VM ended before it was ready",
                            {{"vm", id.value}, {"reason", vm.reason.empty() ? "ProcessKilled" : vm.reason}});
            if (vm.ready_at <= environment_.clock->monotonic_now()) co_return;
            if (call.stop.stop_requested()) throw Error(Errc::cancelled, "cancelled: waiting for a guest");
            if (call.deadline.expired(*environment_.clock)) {
                auto channel = vm.spec.channels.empty() ? std::string("agent") : vm.spec.channels.front();
                throw Error(Errc::not_ready, "channel '" + channel + "' did not answer in time",
                            {{"channel", channel}});
            }
            auto next = call.within(Deadline(vm.ready_at));
            co_await changed_.wait(*environment_.clock, next);
        }
    }

    Task<void> pause(VmId id, Call call) override { co_await set_running(id, "pause", VmState::paused, call); }
    Task<void> unpause(VmId id, Call call) override { co_await set_running(id, "unpause", VmState::running, call); }

    Task<void> suspend(VmId id, Call call) override {
        auto self = shared_from_this();
        if (capabilities_.suspend_modes.empty())
            throw Error(Errc::unsupported, "this provider cannot suspend", {{"capability", "suspend_modes"}});
        if (need(id).state == VmState::suspended) co_return;
        if (!need(id).alive()) refuse_state(id, "suspend", need(id));
        Effect effect = [this, id] {
            auto& vm = need(id);
            if (!vm.alive()) return;
            vm.count_use(environment_.clock->monotonic_now());
            vm.processes = 0;
            vm.state = VmState::suspended;
            vm.ready_at = MonotonicTime::max();
        };
        co_await act("suspend", id, host_->options.suspend_time, effect, call);
    }

    Task<void> resume(VmId id, std::string execution_id, Call call) override {
        auto self = shared_from_this();
        if (!need(id).alive() && need(id).state != VmState::suspended) refuse_state(id, "resume", need(id));
        Effect effect = [this, id, execution_id] {
            auto& vm = need(id);
            vm.execution_id = execution_id;
            if (vm.alive() || vm.state != VmState::suspended) return;
            host_->take_place(vm);
            host_->take_gpus(vm);
            vm.count_use(environment_.clock->monotonic_now());
            ++vm.processes;
            vm.state = VmState::running;
            vm.ready_at = environment_.clock->monotonic_now();
        };
        co_await act("resume", id, host_->options.resume_time, effect, call);
    }

    Task<void> shutdown(VmId id, Call call) override { co_await stop(id, "shutdown", "GuestShutdown", call); }
    Task<void> power_off(VmId id, Call call) override {
        if (host_->vms.contains(id)) co_await stop(id, "power_off", "PoweredOff", call);
    }

    Task<void> snapshot(VmId id, std::string snapshot_id, SnapshotMode mode, Call call) override {
        auto self = shared_from_this();
        if (!capabilities_.snapshot)
            throw Error(Errc::unsupported, "this provider cannot take snapshots", {{"capability", "snapshot"}});
        if (host_->snapshots.contains(snapshot_id)) co_return;
        const bool whole = mode == SnapshotMode::memory;
        if (auto& vm = need(id); whole && vm.state != VmState::running) refuse_state(id, "copy the memory of", vm);
        Effect effect = [this, id, snapshot_id, whole] {
            auto it = host_->vms.find(id);
            if (it == host_->vms.end()) return;
            const auto& vm = it->second;
            bool asks_guest = vm.state == VmState::running && vm.ready_at <= environment_.clock->monotonic_now();
            if (whole && vm.state == VmState::running)
                host_->snapshots[snapshot_id] = {"memory", vm.disk_files, vm.memory_files};
            else if (!whole)
                host_->snapshots[snapshot_id] = {asks_guest ? "frozen" : "crash", vm.disk_files, std::nullopt};
        };
        co_await act("snapshot", id, host_->options.snapshot_time, effect, call);
        if (!host_->vms.contains(id))
            throw Error(Errc::not_found, "VM " + id.value + " was ended meanwhile", {{"vm", id.value}});
    }

    Task<std::optional<VmSnapshot>> inspect_snapshot(std::string snapshot_id, Call call) override {
        check(call, *environment_.clock, "looking at a snapshot");
        auto it = host_->snapshots.find(snapshot_id);
        if (it == host_->snapshots.end()) co_return std::nullopt;
        VmSnapshot found;
        found.id = snapshot_id;
        found.consistent = it->second.consistent;
        std::string content;
        for (const auto& [path, bytes] : it->second.disk_files) content += path + '\0' + bytes + '\0';
        found.size_bytes = content.size();
        found.virtual_size_bytes = content.size();
        found.sha256 = sha256_hex(content);
        if (const auto& memory = it->second.memory_files) {
            found.mode = SnapshotMode::memory;
            for (const auto& [path, bytes] : *memory) found.memory_size_bytes += path.size() + bytes.size();
        }
        co_return found;
    }

    Task<std::vector<std::string>> list_snapshots(Call call) override {
        check(call, *environment_.clock, "looking at all snapshots");
        std::vector<std::string> ids;
        for (const auto& entry : host_->snapshots) ids.push_back(entry.first);
        co_return ids;
    }

    Task<void> delete_snapshot(std::string snapshot_id, Call call) override {
        auto self = shared_from_this();
        if (!host_->snapshots.contains(snapshot_id)) co_return;
        Effect effect = [this, snapshot_id] { host_->snapshots.erase(snapshot_id); };
        VmId subject{snapshot_id};
        co_await act("delete_snapshot", subject, host_->options.stop_time, effect, call);
    }

    Task<void> destroy(VmId id, Call call) override {
        auto self = shared_from_this();
        if (!host_->vms.contains(id)) co_return;
        Effect effect = [this, id] {
            host_->vms.erase(id);
            changed_.notify_all();
        };
        co_await act("destroy", id, host_->options.stop_time, effect, call);
    }

    Task<VmStatus> inspect(VmId id, Call call) override {
        check(call, *environment_.clock, "looking at a VM");
        co_return status_of(id);
    }

    Task<VmActivity> activity(VmId id, Call call) override {
        check(call, *environment_.clock, "looking at a VM's use");
        auto& vm = need(id);
        if (!vm.alive() || host_->blind())
            throw Error(Errc::not_ready, "the VM cannot be looked at", {{"channel", "agent"}});
        vm.count_use(environment_.clock->monotonic_now());
        auto number = [](double value) { return static_cast<std::uint64_t>(value); };
        VmActivity seen;
        seen.guest_cpu_ns = number(vm.used.cpu_cores * 1e9);
        seen.disk_read_bytes = 0;
        seen.disk_write_bytes = number(vm.used.disk_bytes_per_second);
        seen.input_events = number(vm.used.input_events_per_second);
        seen.vnc_clients = vm.use.vnc_clients;
        seen.forwarded_connections = 0;
        seen.agent_answered = vm.use.agent_answers;
        if (vm.use.agent_answers) {
            seen.network_rx_bytes = 0;
            seen.network_tx_bytes = number(vm.used.network_bytes_per_second);
            seen.logged_in_users = vm.use.logged_in_users;
        } else {
            seen.reasons["network"] = seen.reasons["users"] = "the agent did not answer";
        }
        co_return seen;
    }
    Task<void> disconnect_clients(VmId id, Call call) override {
        auto self = shared_from_this();
        Effect effect = [this, id] { need(id).use.vnc_clients = 0; };
        co_await act("disconnect_clients", id, std::chrono::milliseconds(1), effect, call);
    }

    Task<std::vector<VmStatus>> list_owned(Call call) override {
        check(call, *environment_.clock, "looking at all VMs");
        std::vector<VmStatus> found;
        for (const auto& id : host_->ids()) found.push_back(status_of(id));
        co_return found;
    }

    std::shared_ptr<GuestAgent> agent(VmId id) override {
        return make_simulated_agent(environment_, host_, std::move(id));
    }
    std::shared_ptr<Display> display(VmId id) override { return make_simulated_display(host_, std::move(id)); }
    std::shared_ptr<EvidenceSource> evidence(VmId) override { return make_simulated_evidence(environment_); }
    void on_event(std::function<void(VmEvent)> handler) override { handler_ = std::move(handler); }

    Task<void> close() override {
        auto self = shared_from_this();
        handler_ = nullptr;
        tasks_.stop_source().request_stop();
        co_await tasks_.join();
    }

private:
    SimulatedVm& need(const VmId& id) {
        auto it = host_->vms.find(id);
        if (it == host_->vms.end())
            throw Error(Errc::not_found, "there is no VM " + id.value, {{"field", "vm"}, {"value", id.value}});
        return it->second;
    }

    Task<void> act(const char* verb, VmId id, Duration usual, Effect effect, Call call) {
        auto known = host_->vms.find(id);
        auto user = known == host_->vms.end() ? std::string() : known->second.spec.owner_user;
        return act_for(std::move(user), verb, std::move(id), usual, std::move(effect), std::move(call));
    }

    /// One verb: its time, its faults, its effect.
    Task<void> act_for(std::string user, const char* verb, VmId id, Duration usual, Effect effect, Call call) {
        auto plan = host_->plan(verb, user, usual);
        auto until = plan.hangs ? Deadline() : Deadline::after(*environment_.clock, plan.takes);
        co_await environment_.clock->sleep_until(until.earlier(call.deadline).when(), call.stop);
        if (plan.hangs || call.stop.stop_requested() ||
            (call.deadline.expired(*environment_.clock) && !until.expired(*environment_.clock))) {
            host_->note(verb, id, "no answer");
            if (call.stop.stop_requested()) throw Error(Errc::cancelled, std::string("cancelled: ") + verb);
            throw Error(Errc::timeout, std::string("out of time: ") + verb);
        }
        if (plan.fails) {
            host_->note(verb, id, "failed");
            throw Error(Errc::provider, std::string(verb) + " failed, as simulated", {{"reason", "SimulatedFault"}});
        }
        if (!plan.lies) effect();
        host_->note(verb, id, plan.lies ? "lied" : plan.loses_reply ? "reply lost" : "done");
        if (plan.dies_after) tasks_.spawn(environment_.logger, "a simulated death", die(id, *plan.dies_after));
        if (plan.loses_reply)
            throw Error(Errc::provider, std::string("the reply of ") + verb + " was lost, as simulated",
                        {{"reason", "SimulatedFault"}});
    }

    Task<void> die(VmId id, Duration after) {
        auto self = shared_from_this();
        auto stop = tasks_.stop_source().get_token();
        co_await environment_.clock->sleep_until(environment_.clock->monotonic_now() + after, stop);
        if (!stop.stop_requested()) host_->lose(id, "ProcessKilled", "the VM's process ended without being asked");
    }

    Task<void> set_running(VmId id, const char* verb, VmState state, Call call) {
        auto self = shared_from_this();
        if (need(id).state == state) co_return;
        if (!need(id).alive()) refuse_state(id, verb, need(id));
        Effect effect = [this, id, state] {
            auto& vm = need(id);
            if (!vm.alive()) return;
            vm.count_use(environment_.clock->monotonic_now());
            vm.state = state;
        };
        co_await act(verb, id, std::chrono::milliseconds(1), effect, call);
    }

    Task<void> stop(VmId id, const char* verb, const char* reason, Call call) {
        auto self = shared_from_this();
        if (!need(id).alive() && need(id).state != VmState::suspended) co_return;
        Effect effect = [this, id, reason] {
            auto& vm = need(id);
            vm.processes = 0;
            vm.memory_files.clear();
            vm.ready_at = MonotonicTime::max();
            vm.state = VmState::stopped;
            vm.reason = reason;
            changed_.notify_all();
        };
        co_await act(verb, id, host_->options.stop_time, effect, call);
    }

    void observe(const VmId& id) {
        changed_.notify_all();
        const auto& vm = host_->vms.at(id);
        if (handler_) handler_({id, vm.state, vm.reason, vm.message});
    }

    VmStatus status_of(const VmId& id) {
        VmStatus status;
        status.id = id;
        status.observed_at = environment_.clock->wall_now();
        status.accelerator = "none";
        auto it = host_->vms.find(id);
        if (it == host_->vms.end()) {
            status.state = VmState::deleted;
            return status;
        }
        const auto& vm = it->second;
        status.state = host_->blind() ? VmState::unknown : vm.state;
        status.reason = vm.reason;
        status.message = vm.message;
        status.owner_session = vm.spec.owner_session;
        status.execution_id = vm.execution_id;
        status.launch.from = vm.launched_from;
        return status;
    }

    Environment environment_;
    HostPtr host_;
    Capabilities capabilities_;
    Signal changed_;
    TaskGroup tasks_;
    std::function<void(VmEvent)> handler_;
    std::list<std::function<void(const VmId&)>>::iterator listener_;
};

}  // namespace

std::shared_ptr<VmProvider> make_simulator_provider(Environment environment, const SimulatedHost& host) {
    return std::make_shared<SimulatorProvider>(std::move(environment), host.state());
}

}  // namespace infrastructure_sdk
