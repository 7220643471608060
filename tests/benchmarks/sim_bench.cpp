// Simulated session-hours a CPU-second: the engine, store and simulator on a virtual clock.
//
//     sim_bench [--sessions N] [--json]
//
// "standing" sessions live for 30 days and nothing happens to them. "weeks" are sessions of five working days that are
// suspended every evening and resumed every morning. "days" are sessions of a working day with a lunch break.
// "fleet" is a made-up month of a tenth as many people whose use is watched, under the engine's own rules and under
// built-in policies; its sessions live for a working week.

#include <cstdio>

#include "core/async_tools.hpp"
#include "rows.hpp"
#include "support/simulated_world.hpp"
#include <infrastructure_sdk/simulation/simulation.hpp>

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;

struct Habit {
    int breaks;      ///< how often it is suspended and resumed
    Duration work;   ///< before and after each break
    Duration pause;  ///< the break
    Duration ttl;
};

/// One user with one session, who is a little later than the one before.
Task<void> live(test::SimulatedWorld* world, Habit habit, std::size_t number) {
    auto clock = world->runtime().environment().clock;
    auto& engine = world->engine();
    Call call;
    auto request = world->request("user-" + std::to_string(number));
    request.ttl = habit.ttl;
    auto start = Deadline::after(*clock, std::chrono::milliseconds(number * 37));
    co_await clock->sleep_until(start.when(), {});
    auto session = co_await engine.create(request, call);
    for (int i = 0; i < habit.breaks; ++i) {
        auto work = Deadline::after(*clock, habit.work);
        co_await clock->sleep_until(work.when(), {});
        co_await engine.suspend(session.id, call);
        auto pause = Deadline::after(*clock, habit.pause);
        co_await clock->sleep_until(pause.when(), {});
        co_await engine.resume(session.id, call);
    }
}

void measure(const Rows& rows, const std::string& name, std::size_t sessions, Habit habit) {
    std::vector<double> rates;
    for (std::uint64_t round = 1; round <= 3; ++round) {
        test::SimulatedWorld world(round);
        auto start = cpu_seconds();
        TaskGroup group(world.runtime().environment().executor);
        for (std::size_t i = 0; i < sessions; ++i) group.spawn(nullptr, "user", live(&world, habit, i));
        world.run_for(habit.ttl + std::chrono::milliseconds(sessions * 37) + 1min);
        auto spent = cpu_seconds() - start;
        double hours = 0;
        for (const auto& session : world.sessions())
            if (session.state == SessionState::terminated)
                hours +=
                    std::chrono::duration<double, std::ratio<3600>>(session.updated_at - session.created_at).count();
        if (!world.host().vms().empty()) std::fprintf(stderr, "%s: not all sessions ended\n", name.c_str());
        rates.push_back(hours / spent);
    }
    rows.add("sim." + name, median(rates), "hours/CPU-s");
}

/// Hours in which sessions existed, as above.
void measure_fleet(const Rows& rows, const std::string& name, std::size_t users, const SimulatedPolicy& policy) {
    std::vector<double> rates;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        FleetModel model;
        model.users = std::max<std::size_t>(users, 1);
        const auto workload = synthesize(model, seed);
        SimulationOptions options;
        options.seed = seed;
        const auto start = cpu_seconds();
        const auto result = simulate(workload, policy, options);
        const auto hours = std::chrono::duration<double, std::ratio<3600>>(result.existed).count();
        rates.push_back(hours / (cpu_seconds() - start));
    }
    rows.add("sim.fleet." + name, median(rates), "hours/CPU-s");
}

}  // namespace
}  // namespace infrastructure_sdk

int main(int argc, char** argv) {
    using namespace infrastructure_sdk;
    auto [sessions, as_json] = read_arguments(argc, argv, 2000);
    Rows rows(as_json);
    measure(rows, "standing", sessions, {0, 0s, 0s, 24h * 30});
    measure(rows, "weeks", sessions, {4, 8h, 16h, 24h * 4 + 8h});
    measure(rows, "days", sessions, {1, 4h, 1h, 9h});
    SimulatedPolicy patient;
    measure_fleet(rows, "own_rules", sessions / 10, patient);
    auto strict = patient;
    strict.clocks.idle_timeout.limit = 10min;
    measure_fleet(rows, "strict", sessions / 10, strict);
    auto office = patient;
    office.policies.sources.emplace_back().source = "builtin:business-hours";
    measure_fleet(rows, "business_hours", sessions / 10, office);
}
