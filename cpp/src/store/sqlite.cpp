#include "store/sqlite.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

const char* advice(int code) {
    switch (code & 0xff) {
        case SQLITE_FULL: return "the disk is full: free some space and try again";
        case SQLITE_READONLY:
            return "it cannot be written: check the owner and mode of the state directory, and its mount";
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return "the file is damaged: keep a copy, then restore a backup or move it and its -wal away";
        case SQLITE_IOERR: return "the disk reported an error: check the kernel log and the file system";
        case SQLITE_CANTOPEN: return "check that the state directory exists and can be written";
        case SQLITE_BUSY:
        case SQLITE_LOCKED: return "another process holds it: end that process and try again";
        case SQLITE_TOOBIG: return "a record is too large: store less in it";
        default: return "see the SQLite code";
    }
}

[[noreturn]] void fail(sqlite3* database, int code) {
    const char* path = database ? sqlite3_db_filename(database, "main") : nullptr;
    int extended = database ? sqlite3_extended_errcode(database) : code;
    std::string reason = database ? sqlite3_errmsg(database) : sqlite3_errstr(code);
    throw Error(Errc::store,
                std::string("the state database ") + (path ? path : "") + " failed: " + reason + "; " + advice(code),
                {{"path", path ? path : ""}, {"sqlite_code", std::to_string(extended)}});
}

[[noreturn]] void refuse_file(const std::string& path, const std::string& why) {
    throw Error(Errc::store,
                "the state database " + path + " " + why + "; choose another place with store.state_directory",
                {{"path", path}, {"field", "store.state_directory"}});
}

}  // namespace

void prepare_database_file(const std::string& path) {
    int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0) {
        int failed = ::fchmod(fd, 0600) != 0 ? errno : 0;
        ::close(fd);
        if (failed) refuse_file(path, std::string("cannot be made private: ") + std::strerror(failed));
        return;
    }
    if (errno != EEXIST) refuse_file(path, std::string("cannot be made: ") + std::strerror(errno));
    // An existing file is not opened here: closing a second descriptor would drop the locks of an open connection
    // (https://www.sqlite.org/howtocorrupt.html, 2.2).
    struct stat status{};
    if (::lstat(path.c_str(), &status) != 0)
        refuse_file(path, std::string("cannot be looked at: ") + std::strerror(errno));
    if (!S_ISREG(status.st_mode)) refuse_file(path, "is not a regular file");
    if ((status.st_mode & 0077) != 0 && ::chmod(path.c_str(), 0600) != 0)
        refuse_file(path, std::string("cannot be made private: ") + std::strerror(errno));
}

Sqlite::Sqlite(const std::string& path) : handle_(nullptr, sqlite3_close_v2) {
    sqlite3* raw = nullptr;
    int code = sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
    handle_.reset(raw);
    if (code != SQLITE_OK) fail(raw, code);
    sqlite3_busy_timeout(raw, 5000);
}

void Sqlite::execute(const char* sql) {
    int code = sqlite3_exec(handle(), sql, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) fail(handle(), code);
}

void Sqlite::rollback() noexcept {
    // After a full disk or an I/O error SQLite may already have rolled back by itself.
    if (sqlite3_get_autocommit(handle()) == 0) sqlite3_exec(handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

Statement::Statement(Sqlite& database, const char* sql)
    : database_(database.handle()), statement_(nullptr, sqlite3_finalize) {
    sqlite3_stmt* raw = nullptr;
    int code = sqlite3_prepare_v3(database_, sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
    if (code != SQLITE_OK) fail(database_, code);
    statement_.reset(raw);
}

Statement& Statement::bind(int index, std::string_view text) {
    // A null pointer would bind NULL.
    const char* bytes = text.data() ? text.data() : "";
    int code = sqlite3_bind_text64(statement_.get(), index, bytes, text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
    if (code != SQLITE_OK) fail(database_, code);
    return *this;
}

Statement& Statement::bind(int index, std::int64_t value) {
    int code = sqlite3_bind_int64(statement_.get(), index, value);
    if (code != SQLITE_OK) fail(database_, code);
    return *this;
}

bool Statement::step() {
    int code = sqlite3_step(statement_.get());
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    fail(database_, code);
}

void Statement::reset() noexcept { sqlite3_reset(statement_.get()); }

std::string Statement::text(int column) const {
    auto bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
    return bytes ? std::string(bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column)))
                 : std::string();
}

std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }

}  // namespace infrastructure_sdk
