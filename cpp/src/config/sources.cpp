#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include <sys/stat.h>

#include "config/config_access.hpp"
#include "config/fields.hpp"
#include "core/did_you_mean.hpp"

namespace infrastructure_sdk {
namespace fs = std::filesystem;
namespace {

constexpr const char* prefix = "INFRA_SDK_";
constexpr const char* test_prefix = "INFRA_SDK_TEST_";

std::string read_file(const std::string& path) {
    std::error_code error;
    auto size = fs::is_regular_file(path, error) ? fs::file_size(path, error) : 0;
    std::ifstream file(path, std::ios::binary);
    if (error || !fs::is_regular_file(path, error) || !file) {
        bool there = fs::exists(path, error);
        throw ConfigError({{{}, {}, {}, path, {}, there ? "this is not a readable file" : "there is no such file"}});
    }
    if (size > document_size_limit) throw ConfigError({{{}, {}, {}, path, {}, "it is larger than 1 MiB"}});
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> environment_names() {
    std::vector<std::string> names;
    for (const auto& field : config_fields()) names.push_back(environment_name(field));
    return names;
}

/// A text from outside as the field's type would have been written in a file.
Node node_from_text(const ConfigField& field, const std::string& text, std::string& problem) {
    Node node;
    node.kind = Node::Kind::text;
    node.text = text;
    if (text.empty()) return node;
    switch (field.type) {
        case ConfigType::boolean:
        case ConfigType::integer:
        case ConfigType::number: return plain_scalar(text, 0);
        case ConfigType::list: {
            auto document = parse_json(text);
            if (!document.problems.empty()) problem = "it is not a JSON array";
            return document.root;
        }
        default: return node;
    }
}

struct Assignment {
    std::string name;
    std::string value;
    std::string origin;
};

Config config_from_assignments(const std::vector<Assignment>& assignments, ProblemList& problems) {
    Config config;
    auto names = environment_names();
    for (const auto& assignment : assignments) {
        auto index = std::find(names.begin(), names.end(), assignment.name) - names.begin();
        if (index == static_cast<std::ptrdiff_t>(names.size())) {
            problems.add({assignment.name, Secret::redacted(), "see `infra-sdk config reference`", assignment.origin,
                          did_you_mean(assignment.name, names), "there is no such option"});
            continue;
        }
        const auto& field = config_fields()[static_cast<std::size_t>(index)];
        std::string problem;
        auto node = node_from_text(field, assignment.value, problem);
        auto checked = problem.empty() ? check_value(field, node) : CheckedValue{{}, problem};
        if (checked.problem.empty()) ConfigAccess::set(config, field.path, checked.text, assignment.origin);
        else
            problems.add({field.path, shown_value(field, node), allowed_values(field), assignment.origin,
                          did_you_mean(assignment.value, choices_of(field)), checked.problem});
    }
    require_good(config, problems);
    return config;
}

bool is_ours(const std::string& name) { return name.starts_with(prefix) && !name.starts_with(test_prefix); }

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::string trimmed(const std::string& text) {
    auto first = std::find_if_not(text.begin(), text.end(), is_space);
    auto last = std::find_if_not(text.rbegin(), std::make_reverse_iterator(first), is_space).base();
    return {first, last};
}

bool is_name(const std::string& name) {
    auto good = [](unsigned char c) { return std::isalnum(c) || c == '_'; };
    return !name.empty() && !std::isdigit(static_cast<unsigned char>(name.front())) &&
           std::all_of(name.begin(), name.end(), good);
}

/// What follows a closing quote: nothing or a comment.
bool is_tail(const std::string& text) { return text.empty() || text.front() == '#'; }

/// `text` starts with the quote. False when it is not closed, or something follows.
bool unquote(const std::string& text, std::string& value) {
    char quote = text.front();
    std::size_t i = 1;
    for (; i < text.size() && text[i] != quote; ++i) {
        if (quote == '"' && text[i] == '\\' && i + 1 < text.size()) {
            char c = text[++i];
            value += c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
        } else {
            value += text[i];
        }
    }
    return i < text.size() && is_tail(trimmed(text.substr(i + 1)));
}

/// A '#' begins a comment only after a space: "a#b" is a value.
std::string unquoted(const std::string& text) {
    if (is_tail(text)) return {};
    for (std::size_t i = 1; i < text.size(); ++i)
        if (text[i] == '#' && is_space(text[i - 1])) return trimmed(text.substr(0, i));
    return text;
}

}  // namespace

std::vector<DotenvEntry> parse_dotenv(const std::string& text, ProblemList& problems) {
    std::vector<DotenvEntry> entries;
    std::set<std::string> seen;
    int number = 0;
    for (std::size_t at = 0; at < text.size();) {
        auto end = std::min(text.find('\n', at), text.size());
        auto line = trimmed(text.substr(at, end - at));
        at = end + 1;
        ++number;
        auto bad = [&](const std::string& name, const char* why) {
            problems.add({name,
                          Secret::redacted(),
                          "NAME=value, NAME='value' or NAME=\"value\"",
                          problems.origin(number),
                          {},
                          why});
        };
        if (is_tail(line)) continue;
        if (line.starts_with("export ") || line.starts_with("export\t")) line = trimmed(line.substr(7));
        auto equals = line.find('=');
        if (equals == std::string::npos) {
            bad({}, "the line has no '='");
            continue;
        }
        DotenvEntry entry{trimmed(line.substr(0, equals)), {}, number};
        auto value = trimmed(line.substr(equals + 1));
        if (!is_name(entry.name)) {
            bad({}, "what is left of '=' is not a name");
            continue;
        }
        if (value.starts_with('"') || value.starts_with('\'')) {
            if (!unquote(value, entry.value)) {
                bad(entry.name, "the quote is not closed at the end of the line");
                continue;
            }
        } else {
            entry.value = unquoted(value);
        }
        if (is_ours(entry.name) && !seen.insert(entry.name).second) {
            bad(entry.name, "the name is there twice");
            continue;
        }
        entries.push_back(std::move(entry));
    }
    return entries;
}

Config Config::from_file(const std::string& path) {
    auto ending = fs::path(path).extension().string();
    std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return std::tolower(c); });
    Document (*parse)(const std::string&) = ending == ".yaml" || ending == ".yml" ? parse_yaml
                                            : ending == ".toml"                   ? parse_toml
                                            : ending == ".json"                   ? parse_json
                                                                                  : nullptr;
    if (!parse)
        throw ConfigError({{{}, ending, ".yaml, .yml, .toml, .json", path, {}, "the file's ending is not known"}});
    return config_from_document(parse(read_file(path)), path);
}

Config Config::from_json(const std::string& json, const std::string& origin) {
    auto document = parse_json(json);
    // The lines of a text that nobody wrote into a file would only mislead.
    auto forget = [](Node& node, auto& self) -> void {
        node.line = 0;
        for (auto& child : node.children) self(child, self);
    };
    forget(document.root, forget);
    if (document.root.kind == Node::Kind::null && document.problems.empty())
        document.problems.push_back({0, "an object is needed"});
    return config_from_document(document, origin);
}

Config Config::from_environment(const std::map<std::string, std::string>& environment) {
    std::vector<Assignment> assignments;
    for (const auto& [name, value] : environment)
        if (is_ours(name)) assignments.push_back({name, value, "environment " + name});
    ProblemList problems("environment");
    return config_from_assignments(assignments, problems);
}

Config Config::from_dotenv(const std::string& path) {
    ProblemList problems(path);
    std::vector<Assignment> assignments;
    for (auto& entry : parse_dotenv(read_file(path), problems))
        if (is_ours(entry.name)) assignments.push_back({entry.name, entry.value, problems.origin(entry.line)});
    return config_from_assignments(assignments, problems);
}

Secret read_secret(const std::string& reference, const std::string& path) {
    auto colon = reference.find(':');
    auto where = reference.substr(colon + 1);
    auto refuse = [&](const std::string& why) {
        throw Error(Errc::configuration, path + ": " + why, {{"field", path}, {"value", reference}});
    };
    if (reference.starts_with("env:")) {
        const char* value = std::getenv(where.c_str());
        if (!value || !*value) refuse("the environment variable '" + where + "' is not set");
        return Secret(value);
    }
    struct stat status{};
    if (::stat(where.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) refuse("'" + where + "' is not a file");
    if ((status.st_mode & 0077) != 0) refuse("'" + where + "' is open to others; run: chmod 600 " + where);
    std::ifstream file(where, std::ios::binary);
    std::string value((std::istreambuf_iterator<char>(file)), {});
    if (!file || value.empty()) refuse("'" + where + "' is empty or cannot be read");
    while (value.ends_with('\n') || value.ends_with('\r')) value.pop_back();
    return Secret(std::move(value));
}

}  // namespace infrastructure_sdk
