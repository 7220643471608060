// How long a new owner needs to recover many sessions after its predecessor was killed.
//
//     recovery_bench [--sessions N] [--json]
//
// A child makes the sessions over a real SQLite file and ends itself with SIGKILL: the write-ahead log is as a crash
// leaves it. The simulated host is made again from the records. Measured is a new owner from opening the store until
// `recover` returns; the reference is reading the same rows with bare SQLite.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>

#include <sqlite3.h>

#include "core/async_tools.hpp"
#include "rows.hpp"
#include "support/child_process.hpp"
#include "support/simulated_world.hpp"
#include <infrastructure_sdk/detail/run.hpp>
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {

using Instant = std::chrono::steady_clock::time_point;
double seconds_since(Instant start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

SessionEngineOptions engine_options(const std::string& images) {
    SessionEngineOptions options;
    options.image_directory = images;
    options.templates = test::SimulatedWorld::templates();
    return options;
}

Task<bool> whole(Task<void> task) {
    co_await std::move(task);
    co_return true;
}

/// Nine of ten sessions rest in `active`, the others in `suspended`.
Task<void> make_some(SessionEngine* engine, std::size_t count, std::size_t first) {
    Call call;
    for (std::size_t i = first; i < first + count; ++i) {
        SessionRequest request;
        request.user_id = "user-" + std::to_string(i % 500);
        request.template_name = "tiny";
        auto session = co_await engine->create(request, call);
        co_await engine->wait(session.id, SessionState::active, call);
        if (i % 10 != 0) continue;
        co_await engine->suspend(session.id, call);
        co_await engine->wait(session.id, SessionState::suspended, call);
    }
}

/// The first owner; it never returns.
void live_and_die(const std::string& path, const std::string& images, std::size_t count) {
    VirtualRuntimeOptions options;
    options.start = std::chrono::time_point_cast<WallTime::duration>(std::chrono::system_clock::now());
    VirtualRuntime runtime(options);
    const auto& environment = runtime.environment();
    SimulatedHost host;
    SessionEngine engine(environment, make_sqlite_store(environment, path), make_simulator_provider(environment, host),
                         engine_options(images));
    TaskGroup group(environment.executor);
    constexpr std::size_t callers = 100;
    for (std::size_t i = 0; i < callers; ++i)
        group.spawn(environment.logger, "caller", make_some(&engine, count / callers, i * (count / callers)));
    runtime.run(group.join());
    ::kill(::getpid(), SIGKILL);
}

/// The host as the dead owner left it.
void make_host(const std::string& path, const SimulatedHost& host) {
    VirtualRuntime runtime;
    const auto& environment = runtime.environment();
    test::TemporaryDirectory copy;  // the measured owner is the first to open the file itself
    for (const char* end : {"", "-wal"}) std::filesystem::copy_file(path + end, copy / ("state.db" + std::string(end)));
    auto store = make_sqlite_store(environment, copy / "state.db");
    auto provider = make_simulator_provider(environment, host);
    Call call;
    for (const auto& record : runtime.run(store->list("session", "", 10'000'000))) {
        auto session = session_from_json(nlohmann::json::parse(record.json));
        VmSpec spec;
        spec.id = session.vm_id;
        spec.owner_session = session.id;
        runtime.run(provider->create(spec, call));
        runtime.run(provider->start(spec.id, session.execution_id, call));
        if (session.state == SessionState::suspended) runtime.run(provider->suspend(spec.id, call));
    }
    store->close();
}

double read_by_hand(const std::string& path) {
    test::TemporaryDirectory copy;
    for (const char* end : {"", "-wal"}) std::filesystem::copy_file(path + end, copy / ("state.db" + std::string(end)));
    auto start = std::chrono::steady_clock::now();
    sqlite3* database = nullptr;
    sqlite3_open((copy / "state.db").c_str(), &database);
    sqlite3_stmt* statement = nullptr;
    sqlite3_prepare_v2(database, "SELECT id, version, json FROM records WHERE kind='session' ORDER BY id", -1,
                       &statement, nullptr);
    std::size_t bytes = 0;
    while (sqlite3_step(statement) == SQLITE_ROW) bytes += static_cast<std::size_t>(sqlite3_column_bytes(statement, 2));
    sqlite3_finalize(statement);
    auto seconds = seconds_since(start);
    sqlite3_close(database);
    return bytes > 0 ? seconds : 0;
}

double recover(const std::string& path, const std::string& images, const SimulatedHost& host, std::size_t& adopted) {
    Runtime runtime(make_null_sink());
    const auto& environment = runtime.environment();
    auto start = std::chrono::steady_clock::now();
    auto store = make_sqlite_store(environment, path);
    auto provider = make_simulator_provider(environment, host);
    auto engine = std::make_unique<SessionEngine>(environment, store, provider, engine_options(images));
    Call call;
    run(runtime, whole(engine->recover(call)));
    auto seconds = seconds_since(start);
    SessionFilter filter;
    filter.limit = 1000;
    for (bool more = true; more;) {
        auto page = run(runtime, engine->list(filter));
        for (const auto& session : page.sessions)
            adopted += session.state == SessionState::active || session.state == SessionState::suspended;
        filter.after = page.next;
        more = !page.next.empty();
    }
    run(runtime, whole(engine->close()));
    run(runtime, whole(provider->close()));
    engine.reset();
    store->close();
    return seconds;
}

}  // namespace
}  // namespace infrastructure_sdk

int main(int argc, char** argv) {
    using namespace infrastructure_sdk;
    auto [sessions, as_json] = read_arguments(argc, argv, 10'000);
    sessions = std::max<std::size_t>(sessions / 100, 1) * 100;
    std::vector<double> ours, bare;
    for (int round = 0; round < 3; ++round) {
        test::TemporaryDirectory directory;
        test::TinyImages images;
        auto path = directory / "state.db";
        {
            auto body = [&](int) { live_and_die(path, images.path(), sessions); };
            test::ChildProcess owner(body);
            if (owner.wait() != -1) return std::fprintf(stderr, "the first owner was not killed\n"), 1;
        }
        SimulatedHost host;
        make_host(path, host);
        bare.push_back(read_by_hand(path));
        std::size_t adopted = 0;
        ours.push_back(recover(path, images.path(), host, adopted));
        if (adopted != sessions || host.vms().size() != sessions)
            return std::fprintf(stderr, "%zu of %zu sessions were adopted, %zu VMs\n", adopted, sessions,
                                host.vms().size()),
                   1;
    }
    Rows rows(as_json);
    rows.add("recovery of " + std::to_string(sessions) + " sessions", median(ours), "s", median(bare));
}
