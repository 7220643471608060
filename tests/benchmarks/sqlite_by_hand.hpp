#pragma once
// Bare SQLite group commit: the files, PRAGMAs and rows of our store, the statements that write them and nothing else
// (no versions, no savepoints). One thread writes what waits in one transaction, another one plays every committer.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <sqlite3.h>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/store/store.hpp>

namespace infrastructure_sdk::by_hand {

inline void need(bool good, sqlite3* database) {
    if (!good) throw std::runtime_error(sqlite3_errmsg(database));
}

/// A connection with the two statements, set up as the store sets up its own.
class Writer {
public:
    explicit Writer(const std::string& path) {
        need(sqlite3_open_v2(path.c_str(), &database_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr) ==
                 SQLITE_OK,
             database_);
        execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000");
        record_ = prepare("INSERT INTO records(kind,id,version,json) VALUES(?1,?2,1,?3)");
        event_ = prepare(
            "INSERT INTO events(time,type,subject,execution_id,correlation_id,data) "
            "VALUES('1970-01-01T00:00:00.000000000Z',?1,?2,?3,'',?4)");
    }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;
    ~Writer() {
        sqlite3_finalize(record_);
        sqlite3_finalize(event_);
        sqlite3_close(database_);
    }

    void begin() { execute("BEGIN IMMEDIATE"); }
    void commit() { execute("COMMIT"); }
    void record(const std::string& kind, const std::string& id, const std::string& json) {
        step(record_, {&kind, &id, &json});
    }
    void event(const std::string& type, const std::string& subject, const std::string& execution,
               const std::string& data) {
        step(event_, {&type, &subject, &execution, &data});
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

/// Writes the rows of one commit. The id is new.
using WriteRows = std::function<void(Writer&, const std::string& id)>;

/// What the committers' thread and the writer's share.
struct Exchange {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::string> queue;
    bool closed = false;
};

inline void write_groups(Writer& writer, const WriteRows& write, Exchange& exchange) {
    std::unique_lock lock(exchange.mutex);
    for (;;) {
        exchange.changed.wait(lock, [&] { return exchange.closed || !exchange.queue.empty(); });
        if (exchange.closed) return;
        lock.unlock();
        // The queue stays full until the group is on disk: its committers wait, and nobody else adds to it.
        writer.begin();
        for (const auto& id : exchange.queue) write(writer, id);
        writer.commit();
        lock.lock();
        exchange.queue.clear();
        exchange.changed.notify_all();
    }
}

/// Commits a second.
inline double commit_rate(const std::string& path, int committers, std::chrono::milliseconds window,
                          const std::function<std::string(std::uint64_t)>& make_id, const WriteRows& write) {
    {
        Runtime runtime(make_null_sink());
        make_sqlite_store(runtime.environment(), path)->close();  // its schema
    }
    Writer writer(path);
    Exchange exchange;
    std::uint64_t count = 0;
    auto start = std::chrono::steady_clock::now();
    std::thread thread([&] { write_groups(writer, write, exchange); });
    std::unique_lock lock(exchange.mutex);
    while (std::chrono::steady_clock::now() < start + window) {
        for (int i = 0; i < committers; ++i) exchange.queue.push_back(make_id(count++));
        exchange.changed.notify_all();
        exchange.changed.wait(lock, [&exchange] { return exchange.queue.empty(); });
    }
    auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    exchange.closed = true;
    exchange.changed.notify_all();
    lock.unlock();
    thread.join();
    return static_cast<double>(count) / seconds;
}

}  // namespace infrastructure_sdk::by_hand
