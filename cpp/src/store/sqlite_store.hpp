#pragma once

#include <chrono>

#include <infrastructure_sdk/store/store.hpp>

namespace infrastructure_sdk {

struct SqliteStoreOptions {
    /// The most pages (4 KiB) that the file may have, as if the disk were full beyond them; 0 = no limit.
    std::uint32_t max_pages = 0;
    /// How long a write waits for another process, e.g. somebody with the sqlite3 shell.
    std::chrono::milliseconds busy_timeout = std::chrono::seconds(5);
};

std::shared_ptr<Store> make_sqlite_store(const Environment& environment, const std::string& path,
                                         SqliteStoreOptions options);

}  // namespace infrastructure_sdk
