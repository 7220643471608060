// What sessions cost that nobody uses: memory of the engine, and processor time of looking at them.
//
//     idle_bench [--sessions N] [--json]
//
// The sessions are active, idle for less than their timeout, and looked at once a minute, on the simulator and a
// virtual clock. Memory is what a new owner allocates when it adopts them and has looked at each for ten minutes: the
// engine's records, clocks, indexes and samples, without the store and the simulated machines. Processor time is that
// of one simulated hour, as a share of one core. "unwatched" have no idle_timeout: only the clock of their ttl runs.

#include <malloc.h>

#include <cstdio>

#include "core/async_tools.hpp"
#include "rows.hpp"
#include "support/simulated_world.hpp"

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;

double allocated() {
    const auto info = ::mallinfo2();
    return static_cast<double>(info.uordblks + info.hblkhd);
}

Task<bool> make_some(test::SimulatedWorld* world, std::size_t count, std::size_t first, std::optional<Duration> idle) {
    Call call;
    for (std::size_t i = first; i < first + count; ++i) {
        auto request = world->request("user-" + std::to_string(i % 1000));
        request.ttl = 24h * 7;
        request.idle_timeout = idle;
        co_await world->engine().create(request, call);
    }
    co_return true;
}

void measure(const Rows& rows, const std::string& name, std::size_t sessions, std::optional<Duration> idle) {
    test::SimulatedWorld world(1);
    world.run(make_some(&world, sessions, 0, idle));
    world.run_for(1min);
    world.kill_owner();
    const auto before = allocated();
    if (!world.open()) std::fprintf(stderr, "%s: the new owner died\n", name.c_str());
    world.run_for(10min);
    rows.add("idle." + name + ".memory", (allocated() - before) / static_cast<double>(sessions), "bytes/session", 2048);
    const auto start = cpu_seconds();
    world.run_for(1h);
    rows.add("idle." + name + ".cpu", (cpu_seconds() - start) / 3600 * 100, "% of a core", 1);
    std::size_t active = 0;
    for (const auto& session : world.sessions()) active += session.state == SessionState::active;
    if (active != sessions) std::fprintf(stderr, "%s: %zu of %zu are active\n", name.c_str(), active, sessions);
}

}  // namespace
}  // namespace infrastructure_sdk

int main(int argc, char** argv) {
    using namespace infrastructure_sdk;
    auto [sessions, as_json] = read_arguments(argc, argv, 100'000);
    Rows rows(as_json);
    measure(rows, "unwatched", sessions, std::nullopt);
    measure(rows, "watched", sessions, std::chrono::hours(24));
}
