#include "store/schema.hpp"

#include <array>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

// Entry N takes a file from version N to N + 1. Released entries are never changed, new ones are appended.
// AUTOINCREMENT keeps the sequence of an event from being given again after the last events were deleted.
constexpr std::array migrations{R"(
    CREATE TABLE records(
        kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, json TEXT NOT NULL, PRIMARY KEY(kind, id)
    ) WITHOUT ROWID;
    CREATE TABLE events(
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, type TEXT NOT NULL, subject TEXT NOT NULL,
        execution_id TEXT NOT NULL, correlation_id TEXT NOT NULL, data TEXT NOT NULL
    );
    CREATE INDEX events_of_subject ON events(subject, sequence);
)"};

int stored_version(Sqlite& database) {
    Statement read(database, "PRAGMA user_version");
    auto version = read.step() ? static_cast<int>(read.integer(0)) : 0;
    if (version < 0 || version > schema_version())
        throw Error(Errc::store,
                    std::string("the state database ") + sqlite3_db_filename(database.handle(), "main") +
                        " has schema version " + std::to_string(version) + ", this release knows up to " +
                        std::to_string(schema_version()) + ": use the release that wrote it or a newer one",
                    {{"version", std::to_string(version)}, {"known", std::to_string(schema_version())}});
    return version;
}

}  // namespace

int schema_version() { return static_cast<int>(migrations.size()); }

void migrate(Sqlite& database) {
    if (stored_version(database) == schema_version()) return;
    try {
        database.execute("BEGIN IMMEDIATE");
        for (int next = stored_version(database); next < schema_version(); ++next)
            database.execute(migrations[static_cast<std::size_t>(next)]);
        database.execute(("PRAGMA user_version = " + std::to_string(schema_version())).c_str());
        database.execute("COMMIT");
    } catch (...) {
        database.rollback();
        throw;
    }
}

}  // namespace infrastructure_sdk
