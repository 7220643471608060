#include <filesystem>

#include <nlohmann/json.hpp>

#include "config/value.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/policy/policy_engine.hpp>
#include <infrastructure_sdk/quantity.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using enum ConfigType;

constexpr ConfigField fields[] = {
    {"source", text, "", "", "", "", "", "builtin:NAME, a Python file, or entry:NAME.", ".+"},
    {"name", text, "", "", "", "", "", "Of a built-in rule, instead of its own.",
     "[a-z0-9]([-_.a-z0-9]{0,61}[a-z0-9])?"},
    {"mode", choice, "enforce", "", "", "enforce|shadow|canary", "", "Whether its answers are carried out."},
    {"canary_tenants", list, "[]", "", "", "", "", "For whom, with mode canary."},
    {"untrusted", boolean, "false", "", "", "", "", "Whether it runs in a process of its own."},
    {"time_budget", duration, "", "1ms", "60s", "", "", "How long one answer may take."},
    {"memory_budget", quantity, "", "1Mi", "16Gi", "", "bytes", "How much memory it may use."},
};
constexpr const char* list_needed = "a list of policies";

json to_json_value(const Node& node) {
    switch (node.kind) {
        case Node::Kind::null: return nullptr;
        case Node::Kind::boolean: return node.text == "true";
        case Node::Kind::integer:
        case Node::Kind::number: {
            auto value = json::parse(node.text, nullptr, false);
            return value.is_discarded() ? json(node.text) : value;
        }
        case Node::Kind::list: {
            auto list = json::array();
            for (const auto& child : node.children) list.push_back(to_json_value(child));
            return list;
        }
        case Node::Kind::map: {
            auto map = json::object();
            for (const auto& child : node.children) map[child.key] = to_json_value(child);
            return map;
        }
        default: return node.text;
    }
}

/// Reads the items of the list and collects what is wrong with them.
class PoliciesReader {
public:
    PoliciesReader(ProblemList& problems, std::filesystem::path folder)
        : problems_(problems), folder_(std::move(folder)) {}

    void read(const Node& item, std::size_t position) {
        path_ = "policies[" + std::to_string(position) + "]";
        if (item.kind != Node::Kind::map) return problem("", "a mapping of fields", "it is no mapping", item.line);
        // Settings are the rule's own; they are read apart.
        Node plain = item;
        std::erase_if(plain.children, [](const Node& node) { return node.key == "settings"; });
        PolicySource source;
        for (const auto& value : read_values(plain, path_ + ".", fields, problems_))
            if (!value.text.empty()) take(source, leaf_name(*value.field), value.text);
        for (const auto& child : item.children)
            if (child.key == "settings") take_settings(source, child);
        if (source.source.empty()) problem(".source", "builtin:NAME or a Python file", "it is missing", item.line);
        const bool canary = source.mode == PolicyMode::canary;
        if (canary == source.canary_tenants.empty())
            problem(".canary_tenants", canary ? "at least one tenant" : "nothing without mode: canary",
                    canary ? "it is missing" : "there is no canary", item.line);
        sources_.push_back(std::move(source));
    }

    std::vector<PolicySource> take_all() { return std::move(sources_); }

private:
    void take(PolicySource& source, const std::string& name, const std::string& text) {
        if (name == "source") source.source = located(text);
        else if (name == "name") source.name = text;
        else if (name == "mode") source.mode = parse_policy_mode(text);
        else if (name == "canary_tenants") source.canary_tenants = json::parse(text).get<std::vector<std::string>>();
        else if (name == "untrusted") source.untrusted = text == "true";
        else if (name == "time_budget") source.time_budget = parse_duration(text, name);
        else if (name == "memory_budget") source.memory_budget_bytes = Quantity::parse(text, name).value();
    }

    void take_settings(PolicySource& source, const Node& settings) {
        if (settings.kind == Node::Kind::map) source.settings = to_json_value(settings).dump();
        else if (settings.kind != Node::Kind::null)
            problem(".settings", "a mapping of settings", "it is no mapping", settings.line);
    }

    /// A file's path is relative to the document.
    std::string located(const std::string& text) const {
        return text.ends_with(".py") ? (folder_ / text).lexically_normal().string() : text;
    }

    void problem(const std::string& field, const std::string& allowed, const std::string& message, int line) {
        problems_.add({path_ + field, {}, allowed, problems_.origin(line), {}, message});
    }

    ProblemList& problems_;
    std::filesystem::path folder_;
    std::string path_;
    std::vector<PolicySource> sources_;
};

}  // namespace

std::vector<PolicySource> parse_policies(const std::string& yaml, const std::string& source) {
    auto document = parse_yaml(yaml);
    ProblemList problems(source);
    problems.add(document);
    PoliciesReader reader(problems, std::filesystem::path(source).parent_path());
    const Node* list = nullptr;
    if (document.root.kind == Node::Kind::map)
        for (const auto* member : known_members(document.root, "", {"policies"}, problems)) list = member;
    if (list && list->kind == Node::Kind::list) {
        std::size_t position = 0;
        for (const auto& item : list->children) reader.read(item, position++);
    } else if (problems.empty()) {
        problems.add({"policies", {}, list_needed, source, {}, list ? "it is no list" : "it is missing"});
    }
    if (auto all = problems.take(); !all.empty()) refuse_document("policies " + source, all);
    return reader.take_all();
}

}  // namespace infrastructure_sdk
