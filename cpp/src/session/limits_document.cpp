#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <tuple>

#include "config/value.hpp"
#include "session/amounts.hpp"

namespace infrastructure_sdk {
namespace {

using enum ConfigType;

constexpr ConfigField fields[] = {
    {"scope", choice, "", "", "", "user|tenant|host|template", "", "Whose use is counted."},
    {"subject", text, "", "", "", "", "", "A user id, tenant or template; \"*\": every one on its own."},
    {"sessions", integer, "", "0", "", "", "", "How many sessions."},
    {"cpu", quantity, "", "", "", "", "", "How many CPUs."},
    {"memory", quantity, "", "", "", "", "bytes", "How much memory."},
    {"disk", quantity, "", "", "", "", "bytes", "How much disk."},
    {"gpu", integer, "", "0", "", "", "", "How many GPUs."},
    {"money_per_hour", text, "", "", "", "", "currency", "What the running sessions may cost an hour."},
    {"money_per_month", text, "", "", "", "", "currency",
     "What sessions may cost in a calendar month (UTC), ended ones and what is reserved too."},
};
constexpr const char* list_needed = "a list of limits";

std::optional<LimitResource> resource_named(const std::string& name) {
    auto found = std::find_if(limit_resources.begin(), limit_resources.end(),
                              [&](LimitResource resource) { return name == name_of(resource); });
    return found == limit_resources.end() ? std::nullopt : std::optional(*found);
}

LimitScope scope_named(const std::string& name) {
    return *std::find_if(limit_scopes.begin(), limit_scopes.end(),
                         [&](LimitScope scope) { return name == name_of(scope); });
}

bool is_field(const std::string& name) {
    return std::any_of(std::begin(fields), std::end(fields),
                       [&](const ConfigField& field) { return field.path == name; });
}

bool is_empty(const Node& node) {
    return node.kind == Node::Kind::null || (node.kind == Node::Kind::text && node.text.empty());
}

bool has(const Node& map, const std::string& name) {
    return std::any_of(map.children.begin(), map.children.end(), [&](const Node& node) { return node.key == name; });
}

std::string shown(const ReadValue& value) {
    Node node;
    node.kind = Node::Kind::text;
    node.text = value.text;
    return shown_value(*value.field, node);
}

/// Reads the items of the list and collects what is wrong with them.
class LimitsReader {
public:
    explicit LimitsReader(ProblemList& problems) : problems_(problems) {}

    void read(const Node& item, std::size_t position) {
        path_ = "limits[" + std::to_string(position) + "]";
        item_ = &item;
        if (item.kind != Node::Kind::map)
            return problem("", {}, "a mapping of fields", "it is " + std::string(describe(item.kind)));
        auto values = read_values(item, path_ + ".", fields, problems_);
        auto account = read_account(values);
        // Elsewhere an empty value means the default; a limit that somebody forgot to fill in must not mean "no limit".
        for (const auto& node : item.children) {
            bool needed = is_field(node.key) && !(node.key == "subject" && account.scope == LimitScope::host);
            if (needed && is_empty(node)) problem(node.key, {}, {}, "it has no value", node.line);
        }
        bool limits_something = std::any_of(item.children.begin(), item.children.end(),
                                            [](const Node& node) { return resource_named(node.key).has_value(); });
        if (!limits_something) problem("", {}, {}, "it limits nothing");
        for (const auto& value : values)
            if (auto resource = resource_named(leaf_name(*value.field))) add(account, *resource, value);
    }

    std::vector<Limit> take() { return std::move(limits_); }

private:
    struct AccountName {
        std::optional<LimitScope> scope;
        std::string subject;
    };

    AccountName read_account(const std::vector<ReadValue>& values) {
        AccountName account;
        for (const auto& value : values) {
            if (value.text.empty()) continue;
            if (leaf_name(*value.field) == "scope") account.scope = scope_named(value.text);
            if (leaf_name(*value.field) == "subject") account.subject = value.text;
        }
        if (!has(*item_, "scope")) problem("scope", {}, allowed_values(fields[0]), "it is missing");
        if (!account.scope) return account;
        if (account.scope == LimitScope::host) {
            if (!account.subject.empty()) problem("subject", {}, {}, "the host has no subject");
            account.subject.clear();
        } else if (!has(*item_, "subject")) {
            problem("subject", {}, std::string("a ") + name_of(*account.scope) + " or \"*\"", "it is missing");
        }
        return account;
    }

    void add(const AccountName& account, LimitResource resource, const ReadValue& value) {
        if (value.text.empty()) return;
        auto name = leaf_name(*value.field);
        Limit limit{account.scope.value_or(LimitScope::user), account.subject, resource, 0};
        try {
            limit.value = parse_amount(resource, value.text, name);
        } catch (const Error& error) {
            return problems_.add({path_ + "." + name,
                                  shown(value),
                                  error.context().at("allowed"),
                                  value.origin,
                                  {},
                                  "it is not such an amount"});
        }
        bool known = account.scope && (account.scope == LimitScope::host || !account.subject.empty());
        if (!known) return;
        auto [earlier, is_new] = origins_.emplace(std::tuple(limit.scope, limit.subject, resource), value.origin);
        if (is_new) return limits_.push_back(std::move(limit));
        problems_.add({path_ + "." + name,
                       shown(value),
                       {},
                       value.origin,
                       {},
                       "the same is limited at " + earlier->second + " already"});
    }

    void problem(const std::string& name, const std::string& value, const std::string& allowed,
                 const std::string& message, int line = 0) {
        problems_.add({name.empty() ? path_ : path_ + "." + name,
                       value,
                       allowed,
                       problems_.origin(line > 0 ? line : item_->line),
                       {},
                       message});
    }

    ProblemList& problems_;
    const Node* item_ = nullptr;
    std::string path_;
    std::vector<Limit> limits_;
    std::map<std::tuple<LimitScope, std::string, LimitResource>, std::string> origins_;
};

/// Null, and a problem, when there is none.
const Node* find_list(const Node& root, ProblemList& problems) {
    if (root.kind != Node::Kind::map) {
        // A document that could not be read at all has told why.
        if (problems.empty())
            problems.add({{},
                          {},
                          "a mapping with the key limits",
                          problems.origin(root.line),
                          {},
                          "the document is " + std::string(describe(root.kind))});
        return nullptr;
    }
    const Node* list = nullptr;
    for (const auto* member : known_members(root, "", {"limits"}, problems)) list = member;
    if (!list) {
        problems.add({"limits", {}, list_needed, problems.origin(0), {}, "it is missing"});
        return nullptr;
    }
    if (list->kind == Node::Kind::list) return list;
    problems.add(
        {"limits", {}, list_needed, problems.origin(list->line), {}, "it is " + std::string(describe(list->kind))});
    return nullptr;
}

}  // namespace

std::vector<Limit> parse_limits(const std::string& yaml, const std::string& source) {
    auto document = parse_yaml(yaml);
    ProblemList problems(source);
    problems.add(document);
    LimitsReader reader(problems);
    if (const auto* list = find_list(document.root, problems)) {
        std::size_t position = 0;
        for (const auto& item : list->children) reader.read(item, position++);
    }
    if (auto all = problems.take(); !all.empty()) refuse_document("limits " + source, all);
    return reader.take();
}

}  // namespace infrastructure_sdk
