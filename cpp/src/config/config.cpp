#include "config/config_access.hpp"

#include <algorithm>
#include <charconv>

#include <nlohmann/json.hpp>

#include "config/fields.hpp"
#include "core/did_you_mean.hpp"
#include <infrastructure_sdk/duration.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

std::vector<std::string> paths() {
    std::vector<std::string> result;
    for (const auto& field : config_fields()) result.push_back(field.path);
    return result;
}

[[noreturn]] void no_such_field(const std::string& path) {
    auto guess = did_you_mean(path, paths());
    throw Error(Errc::validation,
                "there is no configuration field '" + path + "'" +
                    (guess.empty() ? std::string() : "; did you mean '" + guess + "'?"),
                {{"field", path}, {"did_you_mean", guess}});
}

bool is_textual(ConfigType type) { return type == ConfigType::text || type == ConfigType::path; }

const ConfigField& require_field(const std::string& path) {
    const auto* field = find_field(path);
    if (!field) no_such_field(path);
    return *field;
}

void require_type(const std::string& path, bool good, const char* wanted) {
    if (!good)
        throw Error(Errc::validation, "the configuration field '" + path + "' is not " + wanted, {{"field", path}});
}

/// As a source would give it: "60s" becomes "1m", so that printing and reading back changes nothing.
std::string canonical_default(const ConfigField& field) {
    Node node;
    node.kind = Node::Kind::text;
    node.text = field.default_text;
    bool has_other_forms = field.type == ConfigType::duration || field.type == ConfigType::quantity;
    return has_other_forms ? check_value(field, node).text : node.text;
}

struct OrderRule {
    const char* smaller;
    const char* larger;
};
// Durations that must not exceed one another; an unset one is free.
constexpr OrderRule order_rules[] = {
    {"session.default_ttl", "session.maximum_ttl"},
    {"session.idle_timeout", "session.maximum_ttl"},
    {"session.disconnect_timeout", "session.maximum_ttl"},
};

std::string error_text(const std::vector<ConfigProblem>& problems) {
    auto count = problems.size();
    return (count == 1 ? "1 problem" : std::to_string(count) + " problems") + std::string(" in the configuration:") +
           list_problems(problems);
}

ErrorContext error_context(const std::vector<ConfigProblem>& problems) {
    if (problems.empty()) return {};
    const auto& first = problems.front();
    return {{"field", first.path},
            {"value", first.value},
            {"allowed", first.allowed},
            {"origin", first.origin},
            {"did_you_mean", first.did_you_mean}};
}

}  // namespace

ConfigError::ConfigError(std::vector<ConfigProblem> problems)
    : Error(Errc::configuration, error_text(problems), error_context(problems)), problems_(std::move(problems)) {}

void ConfigAccess::set(Config& config, const std::string& path, std::string text, std::string origin) {
    config.values_[path] = {std::move(text), std::move(origin), true};
}

Config::Config() {
    for (const auto& field : config_fields()) values_[field.path] = {canonical_default(field), "default", false};
}

void require_good(const Config& config, ProblemList& problems) {
    for (const auto& rule : order_rules) {
        auto smaller = config.duration(rule.smaller), larger = config.duration(rule.larger);
        if (smaller <= larger || larger == Duration::zero()) continue;
        auto limit = std::string(rule.larger) + " (" + to_string(larger) + ", " + config.origin(rule.larger) + ")";
        problems.add({rule.smaller,
                      to_string(smaller),
                      "at most " + limit,
                      config.origin(rule.smaller),
                      {},
                      "it is more than " + std::string(rule.larger) + "; set both"});
    }
    if (auto all = problems.take(); !all.empty()) throw ConfigError(std::move(all));
}

Config config_from_document(const Document& document, const std::string& source) {
    ProblemList problems(source);
    problems.add(document);
    Config config;
    const auto& root = document.root;
    if (root.kind != Node::Kind::map && root.kind != Node::Kind::null && problems.empty())
        problems.add({{},
                      {},
                      "a mapping of sections",
                      problems.origin(root.line),
                      {},
                      "the document is " + std::string(describe(root.kind))});
    std::vector<std::string> sections;
    for (const auto& section : config_sections()) sections.push_back(section.name);
    for (const auto* node : known_members(root, "", sections, problems, paths())) {
        if (node->kind == Node::Kind::null) continue;
        if (node->kind != Node::Kind::map) {
            problems.add({node->key,
                          Secret::redacted(),
                          "a mapping of options",
                          problems.origin(node->line),
                          {},
                          "it is " + std::string(describe(node->kind))});
            continue;
        }
        auto fields = fields_of(node->key);
        for (auto& value : read_values(*node, node->key + ".", fields, problems, paths()))
            ConfigAccess::set(config, value.field->path, std::move(value.text), std::move(value.origin));
    }
    require_good(config, problems);
    return config;
}

Config Config::overlaid_with(const Config& over) const {
    Config result = *this;
    for (const auto& [path, value] : over.values_)
        if (value.set) result.values_[path] = value;
    ProblemList problems("configuration");
    require_good(result, problems);
    return result;
}

const Config::Value& Config::at(const std::string& path) const {
    auto value = values_.find(path);
    if (value == values_.end()) no_such_field(path);
    return value->second;
}

bool Config::boolean(const std::string& path) const {
    const auto& value = at(path);
    require_type(path, require_field(path).type == ConfigType::boolean, "a boolean");
    return value.text == "true";
}

std::int64_t Config::integer(const std::string& path) const {
    const auto& text = at(path).text;
    require_type(path, require_field(path).type == ConfigType::integer, "an integer");
    std::int64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

double Config::number(const std::string& path) const {
    const auto& text = at(path).text;
    auto type = require_field(path).type;
    require_type(path, type == ConfigType::number || type == ConfigType::integer, "a number");
    double value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

std::string Config::text(const std::string& path) const {
    const auto& value = at(path);
    auto type = require_field(path).type;
    require_type(path, is_textual(type) || type == ConfigType::choice, "a text");
    return value.text;
}

Duration Config::duration(const std::string& path) const {
    const auto& text = at(path).text;
    require_type(path, require_field(path).type == ConfigType::duration, "a duration");
    return text.empty() ? Duration::zero() : parse_duration(text, path);
}

Quantity Config::quantity(const std::string& path) const {
    const auto& text = at(path).text;
    require_type(path, require_field(path).type == ConfigType::quantity, "a quantity");
    return text.empty() ? Quantity() : Quantity::parse(text, path);
}

Secret Config::secret(const std::string& path) const {
    const auto& text = at(path).text;
    require_type(path, require_field(path).type == ConfigType::secret, "a secret");
    return text.empty() ? Secret() : read_secret(text, path);
}

std::vector<std::string> Config::list(const std::string& path) const {
    const auto& text = at(path).text;
    require_type(path, require_field(path).type == ConfigType::list, "a list");
    return text.empty() ? std::vector<std::string>() : json::parse(text).get<std::vector<std::string>>();
}

bool Config::is_set(const std::string& path) const {
    const auto& value = at(path);
    return value.set && (!value.text.empty() || is_textual(require_field(path).type));
}

std::string Config::origin(const std::string& path) const { return at(path).origin; }

std::string Config::to_json() const {
    nlohmann::ordered_json document;
    for (const auto& field : config_fields()) {
        const auto& text = at(field.path).text;
        auto& target = document[section_of(field)][leaf_name(field)];
        switch (field.type) {
            case ConfigType::boolean:
            case ConfigType::integer:
            case ConfigType::number:
            case ConfigType::list:
                target = text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json::parse(text);
                break;
            case ConfigType::secret: target = text.empty() ? "" : Secret::redacted(); break;
            default: target = text;
        }
    }
    return document.dump(2);
}

}  // namespace infrastructure_sdk
