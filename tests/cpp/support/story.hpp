#pragma once
// A random story: what users do, what the host does wrong, and when the owner dies. The seed decides all of it.

#include "core/seeded_random.hpp"
#include "support/simulated_world.hpp"

namespace infrastructure_sdk::test {

inline std::vector<Limit> at_most(std::int64_t sessions) {
    return {{LimitScope::user, "*", LimitResource::sessions, sessions}};
}

/// Users who create, suspend, resume and end sessions at random, on a host with faults, whose owner dies at random.
struct Story {
    Story(std::uint64_t seed, SimulatorFaults faults, std::size_t deaths, std::vector<Pool> pools = {})
        : random(seed), world(seed, with(faults), at_most(2), std::move(pools)), deaths_left(deaths) {}

    static SimulatorOptions with(SimulatorFaults faults) {
        SimulatorOptions options;
        options.faults = faults;
        return options;
    }

    void survive() {
        while (!world.owner_lives()) {
            ++deaths;
            world.open();
        }
        if (deaths_left > 0 && !armed) {
            world.points().arm(1 + random.below(12));
            armed = true;
            --deaths_left;
        }
    }

    void act() {
        survive();
        auto& engine = world.engine();
        auto user = "user-" + std::to_string(random.below(3));
        Session made;
        bool lived = true;
        if (known.empty() || random.below(3) == 0) {
            lived = world.run(engine.create(world.request(user), world.call()), &made);
            if (lived && world.last_code == Errc{}) known.push_back(made.id);
        } else {
            const auto& id = known[random.below(known.size())];
            switch (random.below(8)) {
                case 0: lived = world.run(engine.suspend(id, world.call())); break;
                case 1: lived = world.run(engine.resume(id, world.call())); break;
                case 2: lived = world.run(engine.terminate(id, TerminationReason::request, world.call())); break;
                case 3: lived = world.run(engine.recover_session(id, world.call())); break;
                case 4: {
                    Snapshot taken;
                    lived = world.run(engine.snapshot(id, "a name", world.call()), &taken);
                    if (lived && world.last_code == Errc{}) snapshots.push_back(taken.id);
                    break;
                }
                case 5: lived = fork(random.below(2) == 0 || snapshots.empty() ? id : snapshots.back()); break;
                case 6: lived = snapshots.empty() || world.run(remove_last_snapshot(&engine, snapshots.back())); break;
                default: break;
            }
        }
        if (lived) world.run_for(std::chrono::milliseconds(random.below(4000)));
        if (!world.owner_lives()) armed = false;
    }

    bool fork(const std::string& source) {
        ForkRequest request;
        request.source = source;
        request.count = 2;
        std::vector<ForkEntry> entries;
        bool lived = world.run(world.engine().fork(request, world.call()), &entries);
        for (const auto& entry : entries)
            if (entry.session) known.push_back(entry.session->id);
        return lived;
    }

    static Task<bool> remove_last_snapshot(SessionEngine* engine, std::string id) {
        Call no_limit;
        co_await engine->delete_snapshot(id, no_limit);
        co_return true;
    }

    std::vector<std::string> end() {
        world.points().arm(0);
        world.host().set_faults({});
        while (!world.owner_lives()) world.open();
        world.run_for(std::chrono::hours(2));
        return world.faults(known);
    }

    SeededRandom random;
    SimulatedWorld world;
    std::size_t deaths_left;
    std::size_t deaths = 0;
    bool armed = false;
    std::vector<std::string> known;
    std::vector<std::string> snapshots;
};

}  // namespace infrastructure_sdk::test
