#pragma once
// Configuration. One table (config_fields()) is the only definition of names, types, defaults, units, bounds,
// environment names and documentation.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/quantity.hpp>
#include <infrastructure_sdk/secret.hpp>

namespace infrastructure_sdk {

enum class ConfigType { boolean, integer, number, text, path, duration, quantity, choice, secret, list };

struct ConfigField {
    const char* path;  ///< "vm.boot_timeout"
    ConfigType type;
    const char* default_text;  ///< in the field's own grammar; "" = unset
    const char* minimum;       ///< "" = none
    const char* maximum;
    const char* choices;  ///< "a|b|c" for `choice`
    const char* unit;     ///< for people: "seconds", "bytes", ""
    const char* doc;
    const char* pattern = "";  ///< ECMAScript expression that a `text` must match; "" = none
};
const std::vector<ConfigField>& config_fields();
/// "INFRA_SDK_VM__BOOT_TIMEOUT"
std::string environment_name(const ConfigField& field);

struct ConfigProblem {
    std::string path;
    std::string value;  ///< redacted
    std::string allowed;
    std::string origin;  ///< "config.yaml:12", "environment INFRA_SDK_...", "argument"
    std::string did_you_mean;
    std::string message;
};

/// All problems at once. `what()` lists them, one a line.
class ConfigError : public Error {
public:
    explicit ConfigError(std::vector<ConfigProblem> problems);
    const std::vector<ConfigProblem>& problems() const noexcept { return problems_; }

private:
    std::vector<ConfigProblem> problems_;
};

/// Immutable value; every field has a value and an origin. Layers given later win. Each layer is checked by itself, the
/// defaults standing in for what it leaves out, so its cross-section rules must hold before it is overlaid.
/// Null and, outside `text` and `path`, "" mean "unset". All of `from_*` throw ConfigError with every problem.
class Config {
public:
    Config();  ///< defaults

    /// YAML, TOML or JSON by the ending. Unknown keys are errors; keys that start with "x-" are ignored.
    static Config from_file(const std::string& path);
    /// A JSON object: {"vm": {"boot_timeout": "30s"}}.
    static Config from_json(const std::string& json, const std::string& origin = "argument");
    /// INFRA_SDK_SECTION__FIELD; unknown names with that prefix are errors, those of the test suite (INFRA_SDK_TEST_)
    /// apart. A list is a JSON array.
    static Config from_environment(const std::map<std::string, std::string>& environment);
    /// NAME=value, a line each: `export`, comments, 'as it is' and "with \n" are understood, nothing is expanded.
    /// Names without the prefix are ignored; a name twice is an error.
    static Config from_dotenv(const std::string& path);
    /// This configuration with every field that `over` sets explicitly. Cross-section rules are checked again.
    Config overlaid_with(const Config& over) const;

    /// All getters: @throws Error(validation) when there is no such field, or it is of another type.
    bool boolean(const std::string& path) const;
    std::int64_t integer(const std::string& path) const;
    double number(const std::string& path) const;
    std::string text(const std::string& path) const;   ///< text, path and choice
    Duration duration(const std::string& path) const;  ///< zero when unset
    Quantity quantity(const std::string& path) const;  ///< zero when unset
    /// A secret is configured by reference, "env:NAME" or "file:/path" (readable by its owner only); this reads it.
    /// Empty when unset. @throws Error(configuration)
    Secret secret(const std::string& path) const;
    std::vector<std::string> list(const std::string& path) const;

    bool is_set(const std::string& path) const;  ///< to a value, explicitly, not by default
    std::string origin(const std::string& path) const;
    /// {"section": {"field": value}}; durations and quantities as text, secrets as "***".
    std::string to_json() const;

private:
    friend struct ConfigAccess;
    struct Value {
        std::string text;  ///< canonical, in the field's grammar
        std::string origin = "default";
        bool set = false;
    };
    const Value& at(const std::string& path) const;
    std::map<std::string, Value> values_;
};

/// JSON Schema 2020-12 derived from the table.
std::string config_json_schema();
/// A Markdown page derived from the table.
std::string config_reference();

}  // namespace infrastructure_sdk
