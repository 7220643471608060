#pragma once
// How sources put values into a Config.

#include <string>
#include <vector>

#include "config/value.hpp"
#include <infrastructure_sdk/config/config.hpp>

namespace infrastructure_sdk {

struct ConfigAccess {
    static void set(Config& config, const std::string& path, std::string text, std::string origin);
};

/// @param source as in `ProblemList`. @throws ConfigError
Config config_from_document(const Document& document, const std::string& source);
/// Adds the cross-section rules, then throws if there is any problem.
void require_good(const Config& config, ProblemList& problems);
/// Reads what "env:NAME" or "file:/path" refers to. @throws Error(configuration)
Secret read_secret(const std::string& reference, const std::string& path);

/// One line of a dotenv file.
struct DotenvEntry {
    std::string name;
    std::string value;
    int line = 0;
};
std::vector<DotenvEntry> parse_dotenv(const std::string& text, ProblemList& problems);

}  // namespace infrastructure_sdk
