#pragma once
// The thinnest cover over the C API: a connection and statements that throw Error(store).

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <sqlite3.h>

namespace infrastructure_sdk {

/// One connection. Used by one thread at a time.
class Sqlite {
public:
    /// Opens an existing file. @throws Error(store)
    explicit Sqlite(const std::string& path);
    void execute(const char* sql);
    /// Does nothing when no transaction is open. Never throws.
    void rollback() noexcept;
    sqlite3* handle() const { return handle_.get(); }

private:
    std::unique_ptr<sqlite3, int (*)(sqlite3*)> handle_;
};

/// Makes `path` an empty private file (0600, whatever the umask) if it does not exist; takes access by others away from
/// one that does. @throws Error(store) when it is not a regular file or cannot be made
void prepare_database_file(const std::string& path);

class Statement {
public:
    Statement(Sqlite& database, const char* sql);
    Statement& bind(int index, std::string_view text);
    Statement& bind(int index, std::int64_t value);
    /// True while there is a row.
    bool step();
    /// Ready to be bound again.
    void reset() noexcept;
    std::string text(int column) const;
    std::int64_t integer(int column) const;

private:
    sqlite3* database_;
    std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> statement_;
};

/// Borrows a prepared statement and leaves it reset, so that it holds no lock and no snapshot.
class Use {
public:
    explicit Use(Statement& statement) : statement_(statement) {}
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() { statement_.reset(); }
    Statement* operator->() const { return &statement_; }

private:
    Statement& statement_;
};

}  // namespace infrastructure_sdk
