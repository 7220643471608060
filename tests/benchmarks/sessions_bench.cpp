// Durable session creates a second with 64 callers: the engine on the simulator over SQLite, against bare SQLite group
// commit of the same rows, in turn in one run.
//
// Each create is on disk before its caller goes on; the sessions really start meanwhile, which takes commits of its
// own. Files are in TMPDIR, which has to be a real disk: on a tmpfs nothing is durable.

#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <future>

#include "rows.hpp"
#include "sqlite_by_hand.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/detail/run.hpp>
#include <infrastructure_sdk/providers/simulator.hpp>
#include <infrastructure_sdk/session/session_engine.hpp>

namespace infrastructure_sdk {
namespace {

using Instant = std::chrono::steady_clock::time_point;
constexpr int rounds = 7;
constexpr int callers = 64;
constexpr auto window = std::chrono::milliseconds(500);

Instant now() { return std::chrono::steady_clock::now(); }

std::string make_id(std::uint64_t number) {
    char text[24];
    std::snprintf(text, sizeof text, "s-%016llx", static_cast<unsigned long long>(number * 0x9e3779b97f4a7c15u));
    return text;
}

void make_image(const std::string& folder) {
    std::filesystem::create_directories(folder + "/tiny");
    std::ofstream(folder + "/tiny/kernel") << "kernel";
    nlohmann::json kernel{{"path", "kernel"}, {"sha256", std::string(64, 'a')}, {"size_bytes", 6}};
    nlohmann::json manifest{
        {"schema", 1}, {"name", "tiny"}, {"version", "1"}, {"os", "linux"}, {"files", {{"kernel", kernel}}}};
    std::ofstream(folder + "/tiny/manifest.json") << manifest.dump();
}

struct Rate {
    double per_second = 0;
    double cpu_us = 0;  ///< of the whole process, for each
};

struct Counted {
    std::uint64_t creates = 0;
    std::vector<double> latencies_ms;
};

Task<void> create_until(SessionEngine* engine, std::shared_ptr<Counted> counted, Instant end, int caller) {
    SessionRequest request;
    request.user_id = "user-" + std::to_string(caller);
    request.template_name = "tiny";
    Call call;
    while (now() < end) {
        auto start = now();
        co_await engine->create(request, call);
        ++counted->creates;
        counted->latencies_ms.push_back(std::chrono::duration<double, std::milli>(now() - start).count());
    }
}

Task<bool> whole(Task<void> task) {
    co_await std::move(task);
    co_return true;
}

/// The rows that one create has written.
struct Sample {
    std::vector<Record> records;
    std::vector<Event> events;
};

Rate rate_of_engine(const std::string& folder, Sample& sample, double& p99_ms) {
    Runtime runtime(make_null_sink());
    const auto& environment = runtime.environment();
    make_image(folder);
    auto store = make_sqlite_store(environment, folder + "/state.db");
    SimulatedHost host;
    auto provider = make_simulator_provider(environment, host);
    SessionEngineOptions options;
    options.image_directory = folder;
    Template tiny;
    tiny.name = tiny.image = "tiny";
    tiny.memory = Quantity::from_milli((std::int64_t{128} << 20) * 1000);
    options.templates = {{"tiny", tiny}};
    options.limits = {{LimitScope::user, "*", LimitResource::sessions, 1'000'000},
                      {LimitScope::host, "", LimitResource::memory, std::int64_t{1} << 50}};
    auto engine = std::make_unique<SessionEngine>(environment, store, provider, options);
    auto counted = std::make_shared<Counted>();
    auto cpu = cpu_seconds();
    auto start = now();
    std::vector<std::future<void>> running;
    for (int i = 0; i < callers; ++i)
        running.push_back(boost::asio::co_spawn(
            environment.executor, create_until(engine.get(), counted, start + window, i), boost::asio::use_future));
    for (auto& caller : running) caller.get();
    auto seconds = std::chrono::duration<double>(now() - start).count();
    cpu = cpu_seconds() - cpu;
    run(runtime, whole(engine->close()));
    run(runtime, whole(provider->close()));
    for (const char* kind : {"intent", "session", "reservation"})
        sample.records.push_back(run(runtime, store->list(kind, "", 1)).at(0));
    // Created and started: the first two of any session that did not have to wait.
    EventQuery first;
    first.subject = sample.records.at(1).id;
    first.limit = 2;
    sample.events = run(runtime, store->events(first));
    engine.reset();
    store->close();
    auto& latencies = counted->latencies_ms;
    auto place = latencies.begin() + static_cast<std::ptrdiff_t>(latencies.size() * 99 / 100);
    std::nth_element(latencies.begin(), place, latencies.end());
    p99_ms = *place;
    auto creates = static_cast<double>(counted->creates);
    return {creates / seconds, cpu / creates * 1e6};
}

Rate rate_by_hand(const std::string& path, const Sample& sample) {
    auto write = [&sample](by_hand::Writer& writer, const std::string& id) {
        for (const auto& record : sample.records) writer.record(record.kind, id, record.json);
        for (const auto& event : sample.events) writer.event(event.type, id, event.execution_id, event.data);
    };
    auto cpu = cpu_seconds();
    auto rate = by_hand::commit_rate(path, callers, window, make_id, write);
    auto creates = rate * std::chrono::duration<double>(window).count();
    return {rate, (cpu_seconds() - cpu) / creates * 1e6};
}

}  // namespace
}  // namespace infrastructure_sdk

int main(int argc, char** argv) {
    using namespace infrastructure_sdk;
    bool as_json = argc == 2 && std::strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !as_json) {
        std::fprintf(stderr, "usage: %s [--json]\n", argv[0]);
        return 2;
    }
    std::vector<double> engine, bare, latency, engine_cpu, bare_cpu;
    for (int round = 0; round < rounds; ++round) {
        test::TemporaryDirectory directory;
        Sample sample;
        double p99_ms = 0;
        auto ours = rate_of_engine(directory.path(), sample, p99_ms);
        auto theirs = rate_by_hand(directory / "by_hand.db", sample);
        engine.push_back(ours.per_second);
        engine_cpu.push_back(ours.cpu_us);
        bare.push_back(theirs.per_second);
        bare_cpu.push_back(theirs.cpu_us);
        latency.push_back(p99_ms);
    }
    Rows rows(as_json);
    rows.add("sessions.creates, 64 callers", median(engine), "1/s", median(bare));
    rows.add("sessions.create cpu", median(engine_cpu), "us", median(bare_cpu));
    rows.add("sessions.create p99, 64 callers", median(latency), "ms");
}
