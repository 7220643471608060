#pragma once
// What the SQLite store reads and writes, without any queue or executor. Each object is used by one thread at a time.

#include <infrastructure_sdk/store/store.hpp>

#include "store/sqlite.hpp"
#include "store/sqlite_store.hpp"

namespace infrastructure_sdk {

class JournalWriter {
public:
    /// Creates, migrates and opens the file: WAL, synchronous=FULL.
    JournalWriter(const std::string& path, const SqliteStoreOptions& options);

    void begin() { database_.execute("BEGIN IMMEDIATE"); }
    /// Inside a transaction: all of the batch, or nothing of it and the transaction goes on.
    /// @throws Error(conflict); Error(store), after which the transaction can only be rolled back
    CommitResult apply(const Batch& batch);
    /// Returns when the transaction is on disk.
    void commit() { database_.execute("COMMIT"); }
    void rollback() noexcept { database_.rollback(); }

private:
    CommitResult write(const Batch& batch);

    Sqlite database_;
    Statement version_;
    Statement insert_;
    Statement put_;
    Statement erase_;
    Statement event_;
    Statement savepoint_;
    Statement release_;
};

class JournalReader {
public:
    /// The file exists already.
    explicit JournalReader(const std::string& path);
    std::optional<Record> get(const std::string& kind, const std::string& id);
    std::vector<Record> list(const std::string& kind, const std::string& after, std::size_t limit);
    std::vector<Event> events(const EventQuery& query);

private:
    Sqlite database_;
    Statement get_;
    Statement list_;
    Statement events_;
    Statement events_of_subject_;
};

}  // namespace infrastructure_sdk
