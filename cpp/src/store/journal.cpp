#include "store/journal.hpp"

#include <limits>

#include "store/precondition.hpp"
#include "store/schema.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

Sqlite open_for_writing(const std::string& path, const SqliteStoreOptions& options) {
    // SQLite gives -wal and -shm the mode of the database.
    prepare_database_file(path);
    Sqlite database(path);
    sqlite3_busy_timeout(database.handle(), static_cast<int>(options.busy_timeout.count()));
    migrate(database);
    {
        Statement wal(database, "PRAGMA journal_mode=WAL");
        auto mode = wal.step() ? wal.text(0) : std::string();
        if (mode != "wal")
            throw Error(Errc::store,
                        "the state database " + path + " cannot use a write-ahead log (it stays in mode '" + mode +
                            "'): put store.state_directory on a local file system",
                        {{"path", path}, {"field", "store.state_directory"}});
    }
    // A checkpoint stalls the commits behind it; 4000 pages (16 MiB) make it four times rarer than the default.
    // With the default cache of 2 MiB the inner pages of some thousand sessions are read again for every group.
    database.execute("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000; PRAGMA cache_size=-16384");
    if (options.max_pages > 0) database.execute(("PRAGMA max_page_count=" + std::to_string(options.max_pages)).c_str());
    return database;
}

Sqlite open_for_reading(const std::string& path) {
    Sqlite database(path);
    database.execute("PRAGMA query_only=ON");
    return database;
}

std::int64_t to_integer(std::uint64_t value) {
    constexpr auto top = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    return static_cast<std::int64_t>(value < top ? value : top);
}

std::uint64_t to_unsigned(std::int64_t value) { return static_cast<std::uint64_t>(value); }

}  // namespace

JournalWriter::JournalWriter(const std::string& path, const SqliteStoreOptions& options)
    : database_(open_for_writing(path, options)),
      version_(database_, "SELECT version FROM records WHERE kind=?1 AND id=?2"),
      insert_(database_,
              "INSERT INTO records(kind,id,version,json) VALUES(?1,?2,1,?3) ON CONFLICT(kind,id) DO NOTHING"),
      put_(database_,
           "INSERT INTO records(kind,id,version,json) VALUES(?1,?2,?3,?4) "
           "ON CONFLICT(kind,id) DO UPDATE SET version=excluded.version, json=excluded.json"),
      erase_(database_, "DELETE FROM records WHERE kind=?1 AND id=?2"),
      event_(database_,
             "INSERT INTO events(time,type,subject,execution_id,correlation_id,data) VALUES(?1,?2,?3,?4,?5,?6)"),
      savepoint_(database_, "SAVEPOINT batch"),
      release_(database_, "RELEASE batch") {}

CommitResult JournalWriter::apply(const Batch& batch) {
    Use(savepoint_)->step();
    try {
        auto result = write(batch);
        Use(release_)->step();
        return result;
    } catch (const Error& error) {
        if (error.errc() == Errc::conflict) {
            database_.execute("ROLLBACK TO batch");
            Use(release_)->step();
        }
        throw;
    }
}

CommitResult JournalWriter::write(const Batch& batch) {
    CommitResult result;
    for (const auto& put : batch.puts) {
        std::uint64_t stored = 0;
        if (put.expected_version == 0) {
            // A new record is not looked for first: that it was there is seen by the insert.
            Use write(insert_);
            write->bind(1, put.kind).bind(2, put.id).bind(3, put.json);
            write->step();
            if (sqlite3_changes(database_.handle()) == 1) {
                result.versions.push_back(1);
                continue;
            }
        }
        {
            Use read(version_);
            read->bind(1, put.kind).bind(2, put.id);
            if (read->step()) stored = to_unsigned(read->integer(0));
        }
        auto version = next_version(put, stored);
        Use write(put_);
        write->bind(1, put.kind).bind(2, put.id).bind(3, to_integer(version)).bind(4, put.json);
        write->step();
        result.versions.push_back(version);
    }
    for (const auto& erase : batch.erases) {
        Use write(erase_);
        write->bind(1, erase.kind).bind(2, erase.id);
        write->step();
    }
    for (const auto& event : batch.events) {
        Use write(event_);
        write->bind(1, to_rfc3339(event.time)).bind(2, event.type).bind(3, event.subject).bind(4, event.execution_id);
        write->bind(5, event.correlation_id).bind(6, event.data);
        write->step();
        result.event_sequences.push_back(to_unsigned(sqlite3_last_insert_rowid(database_.handle())));
    }
    return result;
}

JournalReader::JournalReader(const std::string& path)
    : database_(open_for_reading(path)),
      get_(database_, "SELECT version, json FROM records WHERE kind=?1 AND id=?2"),
      list_(database_, "SELECT id, version, json FROM records WHERE kind=?1 AND id>?2 ORDER BY id LIMIT ?3"),
      events_(database_,
              "SELECT sequence,time,type,subject,execution_id,correlation_id,data FROM events "
              "WHERE sequence>?1 ORDER BY sequence LIMIT ?2"),
      events_of_subject_(database_,
                         "SELECT sequence,time,type,subject,execution_id,correlation_id,data FROM events "
                         "WHERE sequence>?1 AND subject=?3 ORDER BY sequence LIMIT ?2") {}

std::optional<Record> JournalReader::get(const std::string& kind, const std::string& id) {
    Use read(get_);
    read->bind(1, kind).bind(2, id);
    if (!read->step()) return std::nullopt;
    return Record{kind, id, to_unsigned(read->integer(0)), read->text(1)};
}

std::vector<Record> JournalReader::list(const std::string& kind, const std::string& after, std::size_t limit) {
    Use read(list_);
    read->bind(1, kind).bind(2, after).bind(3, to_integer(limit));
    std::vector<Record> records;
    while (read->step()) records.push_back({kind, read->text(0), to_unsigned(read->integer(1)), read->text(2)});
    return records;
}

std::vector<Event> JournalReader::events(const EventQuery& query) {
    Use read(query.subject ? events_of_subject_ : events_);
    read->bind(1, to_integer(query.after)).bind(2, to_integer(query.limit));
    if (query.subject) read->bind(3, *query.subject);
    std::vector<Event> events;
    while (read->step())
        events.push_back({to_unsigned(read->integer(0)), parse_rfc3339(read->text(1)), read->text(2), read->text(3),
                          read->text(4), read->text(5), read->text(6)});
    return events;
}

}  // namespace infrastructure_sdk
