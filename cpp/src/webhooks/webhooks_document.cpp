#include <infrastructure_sdk/webhooks/webhook.hpp>

#include <set>

#include <nlohmann/json.hpp>

#include "config/config_access.hpp"
#include "config/value.hpp"
#include "webhooks/delivery_rules.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/http/url.hpp>

namespace infrastructure_sdk {
namespace {

using enum ConfigType;

constexpr ConfigField fields[] = {
    {"name", text, "", "", "", "", "", "What it is called.", "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"},
    {"url", text, "", "", "", "", "", "Where events are sent: http or https."},
    {"secret", secret, "", "", "", "", "", "Signs what is sent: whsec_ and base64 of 24 to 64 random bytes."},
    {"previous_secret", secret, "", "", "", "", "", "Signs it too, while a secret is replaced."},
    {"events", list, "[\"*\"]", "", "", "", "", "Which events, e.g. session.lifecycle.*."},
    {"max_attempts", integer, "10", "1", "100", "", "", "How often a delivery is tried."},
    {"timeout", duration, "15s", "100ms", "5m", "", "", "How long one attempt may take."},
    {"ca_file", path, "", "", "", "", "", "Certificates (PEM) that are trusted instead of the system's."},
};
constexpr const char* list_needed = "a list of webhooks";
constexpr const char* secret_needed =
    "whsec_ and base64 of 24 to 64 random bytes, e.g. made by: echo whsec_$(openssl rand -base64 32)";

/// Reads the items of the list and collects what is wrong with them.
class WebhooksReader {
public:
    explicit WebhooksReader(ProblemList& problems) : problems_(problems) {}

    void read(const Node& item, std::size_t position) {
        path_ = "webhooks[" + std::to_string(position) + "]";
        item_ = &item;
        if (item.kind != Node::Kind::map)
            return problem("", {}, "a mapping of fields", "it is " + std::string(describe(item.kind)));
        Webhook webhook;
        for (const auto& value : read_values(item, path_ + ".", fields, problems_)) {
            if (value.text.empty()) continue;
            origin_ = value.origin;
            take(webhook, leaf_name(*value.field), value.text);
        }
        origin_.clear();
        for (const char* needed : {"name", "url", "secret"})
            if (!has_value(item, needed)) problem(needed, {}, {}, "it is missing");
        if (!webhook.name.empty() && !names_.insert(webhook.name).second)
            problem("name", webhook.name, {}, "another webhook has this name");
        webhooks_.push_back(std::move(webhook));
    }

    std::vector<Webhook> take_all() { return std::move(webhooks_); }

private:
    void take(Webhook& webhook, const std::string& name, const std::string& text) {
        if (name == "name") webhook.name = text;
        else if (name == "url") webhook.url = checked_url(text);
        else if (name == "secret") webhook.secret = checked_secret(name, text);
        else if (name == "previous_secret") webhook.previous_secret = checked_secret(name, text);
        else if (name == "events") webhook.events = checked_events(text);
        else if (name == "max_attempts") webhook.max_attempts = std::stoi(text);
        else if (name == "timeout") webhook.timeout = parse_duration(text, "timeout");
        else if (name == "ca_file") webhook.ca_file = text;
    }

    std::string checked_url(const std::string& text) {
        try {
            parse_http_url(text);
        } catch (const Error& error) {
            auto value = error.context().at("value"), shown = "url: '" + value + "': ";
            auto why = error.message().substr(shown.size());
            problem("url", value, {}, why);
        }
        return text;
    }

    Secret checked_secret(const std::string& name, const std::string& reference) {
        try {
            auto value = read_secret(reference, name);
            if (!webhook_key(value)) problem(name, Secret::redacted(), secret_needed, "it is not such a secret");
            return value;
        } catch (const Error& error) {
            problem(name, Secret::redacted(), {}, error.message().substr(name.size() + 2));
        }
        return {};
    }

    std::vector<std::string> checked_events(const std::string& text) {
        auto patterns = nlohmann::json::parse(text).get<std::vector<std::string>>();
        for (const auto& pattern : patterns)
            if (!is_event_pattern(pattern))
                problem("events", pattern, "an event type, a beginning such as session.lifecycle.*, or *",
                        "it is no pattern of events");
        if (patterns.empty()) problem("events", "[]", {}, "it asks for no event");
        return patterns;
    }

    static bool has_value(const Node& map, const std::string& name) {
        for (const auto& node : map.children)
            if (node.key == name && node.kind != Node::Kind::null &&
                !(node.kind == Node::Kind::text && node.text.empty()))
                return true;
        return false;
    }

    void problem(const std::string& name, const std::string& value, const std::string& allowed,
                 const std::string& message) {
        problems_.add({name.empty() ? path_ : path_ + "." + name,
                       value,
                       allowed,
                       origin_.empty() ? problems_.origin(item_->line) : origin_,
                       {},
                       message});
    }

    ProblemList& problems_;
    const Node* item_ = nullptr;
    std::string path_, origin_;
    std::vector<Webhook> webhooks_;
    std::set<std::string> names_;
};

/// Null, and a problem, when there is none.
const Node* find_list(const Node& root, ProblemList& problems) {
    if (root.kind != Node::Kind::map) {
        // A document that could not be read at all has told why.
        if (problems.empty())
            problems.add({{},
                          {},
                          "a mapping with the key webhooks",
                          problems.origin(root.line),
                          {},
                          "the document is " + std::string(describe(root.kind))});
        return nullptr;
    }
    const Node* found = nullptr;
    for (const auto* member : known_members(root, "", {"webhooks"}, problems)) found = member;
    if (!found) {
        problems.add({"webhooks", {}, list_needed, problems.origin(0), {}, "it is missing"});
        return nullptr;
    }
    if (found->kind == Node::Kind::list) return found;
    problems.add(
        {"webhooks", {}, list_needed, problems.origin(found->line), {}, "it is " + std::string(describe(found->kind))});
    return nullptr;
}

}  // namespace

std::vector<Webhook> parse_webhooks(const std::string& yaml, const std::string& source) {
    auto document = parse_yaml(yaml);
    ProblemList problems(source);
    problems.add(document);
    WebhooksReader reader(problems);
    if (const auto* list = find_list(document.root, problems)) {
        std::size_t position = 0;
        for (const auto& item : list->children) reader.read(item, position++);
    }
    if (auto all = problems.take(); !all.empty()) refuse_document("webhooks " + source, all);
    return reader.take_all();
}

}  // namespace infrastructure_sdk
