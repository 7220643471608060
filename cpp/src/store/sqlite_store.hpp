#pragma once

#include <infrastructure_sdk/store/store.hpp>

namespace infrastructure_sdk {

struct SqliteStoreOptions {
    /// The most pages (4 KiB) that the file may have, as if the disk were full beyond them; 0 = no limit.
    std::uint32_t max_pages = 0;
};

std::shared_ptr<Store> make_sqlite_store(const Environment& environment, const std::string& path, SqliteStoreOptions options);

}  // namespace infrastructure_sdk
