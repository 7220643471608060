// Durable commits a second of SqliteStore, against bare SQLite group commit by hand, in turn in one run.
//
// A commit is a new record of 1,000 bytes and one event. By hand: the same file, PRAGMAs and rows, the statements that
// store them and nothing else (no versions, no savepoints); one thread writes what waits in one transaction, another
// one plays every committer. Files are in TMPDIR, which has to be a real disk: on a tmpfs nothing is durable.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <future>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <sqlite3.h>

#include <infrastructure_sdk/detail/run.hpp>
#include <infrastructure_sdk/store/store.hpp>

#include <nlohmann/json.hpp>

#include "support/temporary_directory.hpp"

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

void need(bool good, sqlite3* database) {
    if (!good) throw std::runtime_error(sqlite3_errmsg(database));
}

/// A connection with the two statements, set up as the store sets up its own.
class Rows {
public:
    explicit Rows(const std::string& path) {
        need(sqlite3_open_v2(path.c_str(), &database_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr) ==
                 SQLITE_OK,
             database_);
        execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000");
        record_ = prepare("INSERT INTO records(kind,id,version,json) VALUES('session',?1,1,?2)");
        event_ = prepare(
            "INSERT INTO events(time,type,subject,execution_id,correlation_id,data) "
            "VALUES('1970-01-01T00:00:00.000000000Z',?1,?2,?3,'',?4)");
    }
    Rows(const Rows&) = delete;
    Rows& operator=(const Rows&) = delete;
    ~Rows() {
        sqlite3_finalize(record_);
        sqlite3_finalize(event_);
        sqlite3_close(database_);
    }

    void write(const std::vector<std::string>& ids) {
        execute("BEGIN IMMEDIATE");
        for (const auto& id : ids) {
            step(record_, {&id, &document});
            step(event_, {&event_type, &id, &execution, &event_data});
        }
        execute("COMMIT");
    }

private:
    void execute(const char* sql) {
        need(sqlite3_exec(database_, sql, nullptr, nullptr, nullptr) == SQLITE_OK, database_);
    }
    sqlite3_stmt* prepare(const char* sql) {
        sqlite3_stmt* statement = nullptr;
        need(sqlite3_prepare_v3(database_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr) == SQLITE_OK,
             database_);
        return statement;
    }
    void step(sqlite3_stmt* statement, std::initializer_list<const std::string*> texts) {
        int index = 0;
        for (auto text : texts)
            sqlite3_bind_text(statement, ++index, text->data(), static_cast<int>(text->size()), SQLITE_STATIC);
        need(sqlite3_step(statement) == SQLITE_DONE, database_);
        sqlite3_reset(statement);
    }

    sqlite3* database_ = nullptr;
    sqlite3_stmt* record_ = nullptr;
    sqlite3_stmt* event_ = nullptr;
};

/// What the committers' thread and the writer's share.
struct Exchange {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::string> queue;
    bool closed = false;
};

void write_groups(Rows& rows, Exchange& exchange) {
    std::unique_lock lock(exchange.mutex);
    for (;;) {
        exchange.changed.wait(lock, [&] { return exchange.closed || !exchange.queue.empty(); });
        if (exchange.closed) return;
        lock.unlock();
        // The queue stays full until the group is on disk: its committers wait, and nobody else adds to it.
        rows.write(exchange.queue);
        lock.lock();
        exchange.queue.clear();
        exchange.changed.notify_all();
    }
}

double rate_by_hand(const std::string& path, int committers) {
    {
        Runtime runtime(make_null_sink());
        make_sqlite_store(runtime.environment(), path)->close();  // its schema
    }
    Rows rows(path);
    Exchange exchange;
    std::uint64_t count = 0;
    auto start = now();
    std::thread writer([&rows, &exchange] { write_groups(rows, exchange); });
    std::unique_lock lock(exchange.mutex);
    while (now() < start + window) {
        for (int i = 0; i < committers; ++i) exchange.queue.push_back(make_id(count++));
        exchange.changed.notify_all();
        exchange.changed.wait(lock, [&exchange] { return exchange.queue.empty(); });
    }
    auto rate = static_cast<double>(count) / seconds_since(start);
    exchange.closed = true;
    exchange.changed.notify_all();
    lock.unlock();
    writer.join();
    return rate;
}

// ---- output --------------------------------------------------------------------------------------------------------

double median(std::vector<double> values) {
    auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

void show(const std::string& name, double value, double reference, bool as_json) {
    const char* unit = "1/s";
    if (as_json) {
        nlohmann::ordered_json line{
            {"name", name}, {"value", value}, {"unit", unit}, {"reference", reference}, {"ratio", value / reference}};
        std::printf("%s\n", line.dump().c_str());
    } else {
        std::printf("%-32s%12.0f%12.0f %-6s%7.2f\n", name.c_str(), value, reference, unit, value / reference);
    }
    std::fflush(stdout);
}

void measure(int committers, bool as_json) {
    std::vector<double> store;
    std::vector<double> by_hand;
    for (int round = 0; round < rounds; ++round) {
        test::TemporaryDirectory directory;
        store.push_back(rate_of_store(directory / "store.db", committers));
        by_hand.push_back(rate_by_hand(directory / "by_hand.db", committers));
    }
    auto name = "commits, " + std::to_string(committers) + (committers == 1 ? " committer" : " committers");
    show(name, median(store), median(by_hand), as_json);
}

}  // namespace
}  // namespace infrastructure_sdk

int main(int argc, char** argv) {
    bool as_json = argc == 2 && std::strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !as_json) {
        std::fprintf(stderr, "usage: %s [--json]\n", argv[0]);
        return 2;
    }
    if (!as_json) std::printf("%-32s%12s%12s %-6s%7s\n", "", "value", "reference", "unit", "ratio");
    for (int committers : {1, 8, 64}) infrastructure_sdk::measure(committers, as_json);
}
