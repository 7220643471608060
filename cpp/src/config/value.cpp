#include "config/value.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <regex>
#include <set>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/duration.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

constexpr std::size_t text_limit = 4096;

struct Rejected {
    std::string why;
};

bool contains(const std::vector<std::string>& words, const std::string& word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

bool is_control(unsigned char c) { return c < 0x20 || c == 0x7f; }

void require_printable(const std::string& text) {
    if (text.size() > text_limit) throw Rejected{"it is longer than 4096 characters"};
    if (std::any_of(text.begin(), text.end(), is_control)) throw Rejected{"it has control characters"};
    try {
        (void)json(text).dump();
    } catch (const json::type_error&) {
        throw Rejected{"it is not valid UTF-8"};
    }
}

std::int64_t to_integer(std::string_view text) {
    if (text.starts_with('+')) text.remove_prefix(1);
    std::int64_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) throw Rejected{"it is out of range"};
    return value;
}

double to_number(std::string_view text) {
    if (text.starts_with('+')) text.remove_prefix(1);
    double value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
        throw Rejected{"it is not a finite number"};
    return value;
}

template <class T, class Parse>
void require_bounds(const ConfigField& field, const T& value, Parse parse) {
    if (*field.minimum && value < parse(field.minimum)) throw Rejected{"it is less than " + std::string(field.minimum)};
    if (*field.maximum && parse(field.maximum) < value) throw Rejected{"it is more than " + std::string(field.maximum)};
}

[[noreturn]] void wrong_kind(const Node& node) { throw Rejected{"it is " + std::string(describe(node.kind))}; }

const std::string& text_of(const Node& node) {
    bool bare = node.kind == Node::Kind::boolean || node.kind == Node::Kind::integer || node.kind == Node::Kind::number;
    if (bare) throw Rejected{"it is " + std::string(describe(node.kind)) + "; put it in quotes"};
    if (node.kind != Node::Kind::text) wrong_kind(node);
    return node.text;
}

// The parsers' messages name the field and quote the value; here both are said elsewhere.
template <class Parse>
auto parsed(const std::string& text, Parse parse) {
    try {
        return parse(text);
    } catch (const Error& error) {
        std::string why = error.message();
        auto open = why.find(" is not allowed (");
        auto close = why.rfind(");");
        if (open == std::string::npos || close == std::string::npos) throw Rejected{"its form is wrong"};
        open += std::string_view(" is not allowed (").size();
        throw Rejected{why.substr(open, close - open)};
    }
}

std::string check_text(const ConfigField& field, const std::string& text) {
    require_printable(text);
    bool unset = text.empty() && !*field.default_text;
    if (*field.pattern && !unset && !std::regex_match(text, std::regex(field.pattern)))
        throw Rejected{"its form is wrong"};
    return text;
}

std::string check_path(const std::string& text) {
    require_printable(text);
    if (text.starts_with('~')) throw Rejected{"'~' is not expanded; write the whole path"};
    return text;
}

std::string check_secret(const std::string& text) {
    require_printable(text);
    static const std::regex reference("env:[A-Za-z_][A-Za-z0-9_]*|file:/.+");
    if (!std::regex_match(text, reference)) throw Rejected{"a secret is given by reference, not by value"};
    return text;
}

std::string check_choice(const ConfigField& field, const std::string& text) {
    if (!contains(choices_of(field), text)) throw Rejected{"it is not one of the choices"};
    return text;
}

std::string check_list(const ConfigField& field, const Node& node) {
    if (node.kind != Node::Kind::list) wrong_kind(node);
    json items = json::array();
    std::set<std::string> seen;
    for (const auto& child : node.children) {
        const auto& item = text_of(child);
        require_printable(item);
        if (*field.choices) check_choice(field, item);
        if (!seen.insert(item).second) throw Rejected{"it has an item twice"};
        items.push_back(item);
    }
    return items.dump();
}

std::string canonical(const ConfigField& field, const Node& node) {
    auto as_duration = [](const std::string& text) { return parse_duration(text); };
    auto as_quantity = [](const std::string& text) { return Quantity::parse(text); };
    switch (field.type) {
        case ConfigType::boolean:
            if (node.kind != Node::Kind::boolean) wrong_kind(node);
            return node.text;
        case ConfigType::integer: {
            if (node.kind != Node::Kind::integer) wrong_kind(node);
            auto value = to_integer(node.text);
            require_bounds(field, value, to_integer);
            return std::to_string(value);
        }
        case ConfigType::number: {
            if (node.kind != Node::Kind::integer && node.kind != Node::Kind::number) wrong_kind(node);
            auto value = to_number(node.text);
            require_bounds(field, value, to_number);
            return json(value).dump();
        }
        case ConfigType::text: return check_text(field, text_of(node));
        case ConfigType::path: return check_path(text_of(node));
        case ConfigType::secret: return check_secret(text_of(node));
        case ConfigType::choice: return check_choice(field, text_of(node));
        case ConfigType::list: return check_list(field, node);
        case ConfigType::duration: {
            if (node.kind == Node::Kind::integer) throw Rejected{"it has no unit"};
            auto value = parsed(text_of(node), as_duration);
            require_bounds(field, value, as_duration);
            return to_string(value);
        }
        case ConfigType::quantity: {
            bool bare = node.kind == Node::Kind::integer || node.kind == Node::Kind::number;
            auto value = parsed(bare ? node.text : text_of(node), as_quantity);
            require_bounds(field, value, as_quantity);
            return value.to_string();
        }
    }
    throw Rejected{"its type is unknown"};
}

std::string grammar(const ConfigField& field) {
    switch (field.type) {
        case ConfigType::boolean: return "true or false";
        case ConfigType::integer: return "an integer";
        case ConfigType::number: return "a number";
        case ConfigType::text: return *field.pattern ? "a text that matches " + std::string(field.pattern) : "a text";
        case ConfigType::path: return "a path";
        case ConfigType::secret: return "env:NAME or file:/path";
        case ConfigType::duration: return "a duration such as 90s or 1h30m";
        case ConfigType::quantity: return "a Kubernetes quantity such as 2, 500m or 4Gi";
        case ConfigType::list: return *field.choices ? "a list of" : "a list of texts";
        case ConfigType::choice: return "one of";
    }
    return {};
}

}  // namespace

CheckedValue check_value(const ConfigField& field, const Node& node) {
    bool textual = field.type == ConfigType::text || field.type == ConfigType::path;
    bool empty = node.kind == Node::Kind::text && node.text.empty();
    if (empty && !textual && !*field.default_text) return {};
    try {
        return {canonical(field, node), {}};
    } catch (const Rejected& rejected) {
        return {{}, rejected.why};
    }
}

std::string allowed_values(const ConfigField& field) {
    std::string text = grammar(field), separator = " ";
    for (const auto& choice : choices_of(field)) {
        text += separator + choice;
        separator = ", ";
    }
    if (*field.minimum) text += ", at least " + std::string(field.minimum);
    if (*field.maximum) text += ", at most " + std::string(field.maximum);
    return text;
}

std::string shown_value(const ConfigField& field, const Node& node) {
    if (field.type == ConfigType::secret) return Secret::redacted();
    switch (node.kind) {
        case Node::Kind::null: return "null";
        case Node::Kind::list: return "[" + std::to_string(node.children.size()) + " items]";
        case Node::Kind::map: return "{" + std::to_string(node.children.size()) + " keys}";
        default: break;
    }
    auto text = node.text.substr(0, 80);
    std::replace_if(text.begin(), text.end(), is_control, '?');
    text = json(text).dump(-1, ' ', true, json::error_handler_t::replace);
    return text.substr(1, text.size() - 2) + (node.text.size() > 80 ? "..." : "");
}

std::vector<std::string> choices_of(const ConfigField& field) {
    std::vector<std::string> result;
    std::string rest = field.choices;
    while (!rest.empty()) {
        auto bar = rest.find('|');
        result.push_back(rest.substr(0, bar));
        rest = bar == std::string::npos ? "" : rest.substr(bar + 1);
    }
    return result;
}

std::string leaf_name(const ConfigField& field) {
    std::string path = field.path;
    return path.substr(path.rfind('.') + 1);
}

std::string value_schema(const ConfigField& field) {
    json schema;
    std::string description = field.doc;
    auto bounds_in_words = [&] {
        if (*field.minimum) description += " At least " + std::string(field.minimum) + ".";
        if (*field.maximum) description += " At most " + std::string(field.maximum) + ".";
    };
    bool unset = !*field.default_text;
    auto or_empty = [&](const std::string& pattern) {
        return unset ? "^(?:|" + pattern + ")$" : "^(?:" + pattern + ")$";
    };
    switch (field.type) {
        case ConfigType::boolean: schema["type"] = {"boolean", "null"}; break;
        case ConfigType::integer:
        case ConfigType::number:
            schema["type"] = {field.type == ConfigType::integer ? "integer" : "number", "null"};
            if (*field.minimum) schema["minimum"] = json::parse(field.minimum);
            if (*field.maximum) schema["maximum"] = json::parse(field.maximum);
            break;
        case ConfigType::text:
            schema["type"] = {"string", "null"};
            if (*field.pattern) schema["pattern"] = or_empty(field.pattern);
            break;
        case ConfigType::path:
            schema["type"] = {"string", "null"};
            schema["pattern"] = "^(?!~)";
            break;
        case ConfigType::secret:
            schema["type"] = {"string", "null"};
            schema["pattern"] = or_empty("env:[A-Za-z_][A-Za-z0-9_]*|file:/.+");
            schema["writeOnly"] = true;
            break;
        case ConfigType::duration:
            schema["type"] = {"string", "null"};
            schema["pattern"] = or_empty("0|(?:(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:ns|us|\u00b5s|ms|s|m|h))+");
            bounds_in_words();
            break;
        case ConfigType::quantity:
            schema["type"] = {"string", "number", "null"};
            schema["minimum"] = 0;
            schema["pattern"] =
                or_empty("\\+?(?:[0-9]+\\.?[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]{1,2}|[mkMGTPE]|[KMGTP]i)?");
            bounds_in_words();
            break;
        case ConfigType::choice: {
            json allowed = choices_of(field);
            if (unset) allowed.push_back("");
            allowed.push_back(nullptr);
            schema["enum"] = allowed;
            break;
        }
        case ConfigType::list: {
            json items{{"type", "string"}};
            if (*field.choices) items["enum"] = choices_of(field);
            schema = {{"type", {"array", "null"}}, {"items", items}, {"uniqueItems", true}};
            break;
        }
    }
    schema["description"] = description;
    if (!unset) {
        bool literal = field.type == ConfigType::boolean || field.type == ConfigType::integer ||
                       field.type == ConfigType::number || field.type == ConfigType::list;
        schema["default"] = literal ? json::parse(field.default_text) : json(field.default_text);
    }
    return schema.dump();
}

}  // namespace infrastructure_sdk
