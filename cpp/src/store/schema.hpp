#pragma once
// The tables of the state database and how older files become newer ones.

#include "store/sqlite.hpp"

namespace infrastructure_sdk {

/// The version that this build writes, kept in PRAGMA user_version.
int schema_version();

/// Creates or migrates the tables in one transaction; a file of this version is not written.
/// @throws Error(store) when the file is of a newer version (it is left as it is), context: `version`, `known`
void migrate(Sqlite& database);

}  // namespace infrastructure_sdk
