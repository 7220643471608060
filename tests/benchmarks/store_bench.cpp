// Durable commits a second of SqliteStore, against bare SQLite group commit by hand, in turn in one run.
//
// A commit is a new record of 1,000 bytes and one event. By hand: see sqlite_by_hand.hpp. Files are in TMPDIR, which
// has to be a real disk: on a tmpfs nothing is durable.

#include <chrono>
#include <cstdio>
#include <cstring>
#include <future>
#include <string>
#include <vector>

#include "rows.hpp"
#include "sqlite_by_hand.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/detail/run.hpp>

namespace infrastructure_sdk {
namespace {

using Instant = std::chrono::steady_clock::time_point;
constexpr int rounds = 7;
constexpr auto window = std::chrono::milliseconds(400);
const std::string document(1000, 'x');
const std::string event_type = "session.lifecycle.ready";
const std::string event_data = R"({"from":"provisioning","to":"active"})";
const std::string execution = "6f1c0a52-3f0b-4c8e-9a54-0d3c1f7b2e90";

Instant now() { return std::chrono::steady_clock::now(); }
double seconds_since(Instant start) { return std::chrono::duration<double>(now() - start).count(); }

/// Spread over the key space, as the ids of sessions are.
std::string make_id(std::uint64_t number) {
    char text[24];
    std::snprintf(text, sizeof text, "s-%016llx", static_cast<unsigned long long>(number * 0x9e3779b97f4a7c15u));
    return text;
}

// ---- the store -----------------------------------------------------------------------------------------------------

/// Runs on the executor, so the counter is touched by one thread at a time.
Task<void> commit_until(std::shared_ptr<Store> store, std::shared_ptr<std::uint64_t> count, Instant end) {
    while (now() < end) {
        auto id = make_id((*count)++);
        Batch batch;
        batch.puts.push_back({"session", id, document, 0});
        batch.events.push_back({0, WallTime(), event_type, id, execution, {}, event_data});
        co_await store->commit(std::move(batch));
    }
}

double rate_of_store(const std::string& path, int committers) {
    Runtime runtime(make_null_sink());
    auto store = make_sqlite_store(runtime.environment(), path);
    auto count = std::make_shared<std::uint64_t>(0);
    auto start = now();
    std::vector<std::future<void>> running;
    for (int i = 0; i < committers; ++i)
        running.push_back(boost::asio::co_spawn(runtime.environment().executor,
                                                commit_until(store, count, start + window), boost::asio::use_future));
    for (auto& committer : running) committer.get();
    auto rate = static_cast<double>(*count) / seconds_since(start);
    store->close();
    return rate;
}

// ---- by hand -------------------------------------------------------------------------------------------------------

double rate_by_hand(const std::string& path, int committers) {
    auto write = [](by_hand::Writer& writer, const std::string& id) {
        writer.record("session", id, document);
        writer.event(event_type, id, execution, event_data);
    };
    return by_hand::commit_rate(path, committers, window, make_id, write);
}

void measure(int committers, const Rows& rows) {
    std::vector<double> store;
    std::vector<double> bare;
    for (int round = 0; round < rounds; ++round) {
        test::TemporaryDirectory directory;
        store.push_back(rate_of_store(directory / "store.db", committers));
        bare.push_back(rate_by_hand(directory / "by_hand.db", committers));
    }
    auto name = "commits, " + std::to_string(committers) + (committers == 1 ? " committer" : " committers");
    auto reference = median(bare);
    rows.add(name, median(store), "1/s", reference);
}

}  // namespace
}  // namespace infrastructure_sdk

int main(int argc, char** argv) {
    bool as_json = argc == 2 && std::strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !as_json) {
        std::fprintf(stderr, "usage: %s [--json]\n", argv[0]);
        return 2;
    }
    infrastructure_sdk::Rows rows(as_json);
    for (int committers : {1, 8, 64}) infrastructure_sdk::measure(committers, rows);
}
