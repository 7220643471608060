#include "support/simulated_world.hpp"

#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "providers/simulator/host.hpp"
#include "session/pool_json.hpp"
#include "session/reservation_ledger.hpp"
#include "session/session_fsm.hpp"
#include "session/snapshot_rules.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk::test {

TinyImages::TinyImages() {
    std::filesystem::create_directory(directory_ / "tiny");
    std::ofstream(directory_ / "tiny/kernel") << "kernel";
    nlohmann::json kernel{{"path", "kernel"}, {"sha256", std::string(64, 'a')}, {"size_bytes", 6}};
    nlohmann::json manifest{{"schema", 1},
                            {"name", "tiny"},
                            {"version", "1"},
                            {"os", "linux"},
                            {"architecture", "x86_64"},
                            {"kernel_arguments", "quiet"},
                            {"channels", {"agent"}},
                            {"files", {{"kernel", kernel}}}};
    std::ofstream(directory_ / "tiny/manifest.json") << manifest.dump();
}

TinyImages& SimulatedWorld::images() {
    static TinyImages images;
    return images;
}

SimulatedWorld::SimulatedWorld(std::uint64_t seed, SimulatorOptions options, std::vector<Limit> limits,
                               std::vector<Pool> pools)
    : seed_(seed),
      limits_(std::move(limits)),
      pools_(std::move(pools)),
      host_([&] {
          options.seed = seed;
          return options;
      }()),
      wall_(VirtualRuntimeOptions().start) {
    VirtualRuntime scratch;
    disk_ = make_memory_store(scratch.environment());
    open();
}

SimulatedWorld::~SimulatedWorld() { kill_owner(); }

bool SimulatedWorld::open() {
    kill_owner();
    VirtualRuntimeOptions options;
    options.seed = seed_ * 1000 + ++owners_;
    options.start = wall_;
    runtime_ = std::make_unique<VirtualRuntime>(options);
    // The host was up all the time: what it knows by its monotonic clock is still to come, or past.
    runtime_->run_until(std::max(uptime_, runtime_->environment().clock->monotonic_now()));
    runtime_->set_wall_time(wall_);
    auto die = [this] { runtime_->halt(); };
    points_ = std::make_shared<CrashPoints>(die);
    provider_ = with_crash_points(make_simulator_provider(runtime_->environment(), host_), points_);
    SessionEngineOptions engine;
    engine.image_directory = images().path();
    engine.templates = templates();
    engine.limits = limits_;
    engine.pools = pools_;
    if (adjust) adjust(engine);
    engine_ =
        std::make_unique<SessionEngine>(runtime_->environment(), with_crash_points(disk_, points_), provider_, engine);
    auto work = [](SessionEngine* target, Call call) -> Task<bool> {
        co_await target->recover(call);
        co_return true;
    };
    return run(work(engine_.get(), call()));
}

void SimulatedWorld::kill_owner() {
    if (!runtime_) return;
    wall_ = runtime_->environment().clock->wall_now();
    uptime_ = runtime_->environment().clock->monotonic_now();
    runtime_->halt();
    points_->arm(0);
    engine_.reset();
    provider_.reset();
    runtime_.reset();
}

std::map<std::string, Template> SimulatedWorld::templates() {
    Template tiny;
    tiny.name = tiny.image = "tiny";
    tiny.memory = Quantity::from_milli((std::int64_t{128} << 20) * 1000);
    tiny.disk_size = Quantity::from_milli((std::int64_t{64} << 20) * 1000);
    auto sturdy = tiny;
    sturdy.name = "sturdy";
    sturdy.restart = {RestartPolicy::on_failure, 3, std::chrono::seconds(10), std::chrono::minutes(10)};
    auto paid = tiny;
    paid.name = "paid";
    paid.price_per_hour_micros = 500'000;
    paid.gpu_price_per_hour_micros = 1'000'000;
    auto odd = paid;
    odd.name = "odd";
    odd.price_per_hour_micros = 333'333;
    return {{"tiny", tiny}, {"sturdy", sturdy}, {"paid", paid}, {"odd", odd}};
}

SessionRequest SimulatedWorld::request(const std::string& user) {
    SessionRequest request;
    request.user_id = user;
    request.template_name = "tiny";
    return request;
}

std::vector<Session> SimulatedWorld::sessions() {
    std::vector<Session> found;
    VirtualRuntime reader;
    for (const auto& record : reader.run(disk_->list("session", "", 1'000'000)))
        found.push_back(session_from_json(nlohmann::json::parse(record.json)));
    return found;
}

std::vector<PoolUnit> SimulatedWorld::units() {
    std::vector<PoolUnit> found;
    VirtualRuntime reader;
    for (const auto& record : reader.run(disk_->list("pool_unit", "", 1'000'000)))
        found.push_back(pool_unit_from_json(nlohmann::json::parse(record.json)));
    return found;
}

std::vector<std::string> SimulatedWorld::faults(const std::vector<std::string>& acknowledged) {
    std::vector<std::string> wrong;
    std::map<std::string, Session> by_vm, by_id;
    Amounts expected;
    for (const auto& session : sessions()) {
        by_id[session.id] = session;
        if (session.state != SessionState::terminated) by_vm[session.vm_id.value] = session;
        if (is_transient(session.state)) wrong.push_back("stuck: " + session.id + " is " + name_of(session.state));
    }
    for (const auto& id : acknowledged)
        if (!by_id.contains(id)) wrong.push_back("lost: " + id);
    std::map<std::string, PoolUnit> warm;
    for (const auto& unit : units()) {
        warm[unit.vm_id.value] = unit;
        if (by_vm.contains(unit.vm_id.value)) wrong.push_back("double owner: " + unit.vm_id.value);
        if (unit.state != UnitState::ready) wrong.push_back("stuck: " + unit.id + " is " + name_of(unit.state));
    }
    std::map<std::string, std::size_t> alive;
    auto free_gpus = host_.state()->options.gpus;
    for (const auto& vm : host_.vms()) {
        if (vm.gpu_count > 0 && (free_gpus[vm.gpu_type] -= vm.gpu_count) < 0)
            wrong.push_back("more GPUs than there are: " + vm.gpu_type);
        auto owner = by_vm.find(vm.id.value);
        bool is_warm = warm.contains(vm.id.value);
        if (owner == by_vm.end() && !is_warm) wrong.push_back("orphan: " + vm.id.value);
        if (is_warm && vm.state != VmState::paused) wrong.push_back("awake: unit " + warm[vm.id.value].id);
        if (vm.processes > 1) wrong.push_back("double VM: " + vm.id.value);
        alive[vm.id.value] = vm.processes;
    }
    for (const auto& [vm, session] : by_vm) {
        if (session.state == SessionState::active && alive[vm] != 1)
            wrong.push_back("active without a VM: " + session.id);
        if (session.state == SessionState::suspended && alive[vm] != 0)
            wrong.push_back("suspended and alive: " + session.id);
    }
    VirtualRuntime reader;
    auto there = host_.snapshots();
    std::size_t recorded = 0;
    for (const auto& record : reader.run(disk_->list("snapshot", "", 1'000'000))) {
        auto snapshot = snapshot_from_json(nlohmann::json::parse(record.json));
        ++recorded;
        if (snapshot.state != SnapshotState::ready) wrong.push_back("half a snapshot: " + snapshot.id);
        bool needed = std::any_of(by_id.begin(), by_id.end(),
                                  [&](const auto& entry) { return may_need(entry.second, snapshot); });
        if (snapshot.temporary && !needed) wrong.push_back("a temporary snapshot is left: " + snapshot.id);
        if (std::find(there.begin(), there.end(), snapshot.id) == there.end())
            wrong.push_back("a snapshot without its disk: " + snapshot.id);
    }
    if (there.size() != recorded) wrong.push_back("snapshots without a record");
    std::map<std::string, Reservation> rows;
    for (const auto& record : reader.run(disk_->list(ReservationLedger::kind, "", 1'000'000)))
        rows[record.id] = reservation_from_json(nlohmann::json::parse(record.json));
    for (const auto& [id, session] : by_id) {
        bool held = rows.contains(id);
        if (held == (session.state == SessionState::terminated))
            wrong.push_back("reservation of " + id + " which is " + name_of(session.state));
        auto amounts = held ? rows[id].amounts : Amounts{};
        // The month's money moves with time; MoneyStory compares it.
        amounts.money_per_month_micros = 0;
        if (held && session.state != SessionState::failed && amounts != reservation_of(session).amounts)
            wrong.push_back("wrong amounts of " + id);
    }
    for (const auto& [vm, unit] : warm) {
        if (alive[vm] != 1) wrong.push_back("ready without a VM: " + unit.id);
        if (!rows.contains(unit.id) || rows[unit.id] != reservation_of(unit))
            wrong.push_back("wrong reservation of unit " + unit.id);
    }
    std::size_t intents = reader.run(disk_->list("intent", "", 1'000'000)).size();
    if (intents != 0) wrong.push_back("intents of nobody: " + std::to_string(intents));
    if (rows.size() != by_vm.size() + recorded + warm.size()) wrong.push_back("reservations of nobody");
    return wrong;
}

}  // namespace infrastructure_sdk::test
