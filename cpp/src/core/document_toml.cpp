#include <nlohmann/json.hpp>
#include <toml++/toml.h>

#include "core/tree_builder.hpp"

namespace infrastructure_sdk {
namespace {

int line_of(const toml::source_region& source) { return static_cast<int>(source.begin.line); }

Node scalar(Node::Kind kind, std::string text, int line) {
    Node node;
    node.kind = kind;
    node.text = std::move(text);
    node.line = line;
    return node;
}

bool build(TreeBuilder& builder, const toml::node& value) {
    int line = line_of(value.source());
    if (auto* table = value.as_table()) {
        if (!builder.open(Node::Kind::map, line)) return false;
        for (const auto& [key, child] : *table) {
            builder.key(std::string(key.str()), line_of(key.source()));
            if (!build(builder, child)) return false;
        }
        builder.close();
    } else if (auto* array = value.as_array()) {
        if (!builder.open(Node::Kind::list, line)) return false;
        for (const auto& child : *array)
            if (!build(builder, child)) return false;
        builder.close();
    } else if (auto* text = value.as_string()) {
        builder.add(scalar(Node::Kind::text, text->get(), line));
    } else if (auto* boolean = value.as_boolean()) {
        builder.add(scalar(Node::Kind::boolean, boolean->get() ? "true" : "false", line));
    } else if (auto* integer = value.as_integer()) {
        builder.add(scalar(Node::Kind::integer, std::to_string(integer->get()), line));
    } else if (auto* number = value.as_floating_point()) {
        builder.add(scalar(Node::Kind::number, nlohmann::json(number->get()).dump(), line));
    } else {
        builder.add(scalar(Node::Kind::other, {}, line));
    }
    return true;
}

// toml++ quotes what it stumbled over. Names of keys help; anything else may be a secret.
std::string without_values(const std::string& description) {
    if (description.find("redefine") != std::string::npos) return description;
    std::string text;
    for (std::size_t at = 0; at < description.size();) {
        auto open = description.find('\'', at);
        auto close = open == std::string::npos ? open : description.find('\'', open + 1);
        text += description.substr(at, open - at);
        if (open == std::string::npos) break;
        // A single character, as in "saw 'x'", gives nothing away.
        bool is_short = close != std::string::npos && close - open <= 2;
        text += is_short ? description.substr(open, close - open + 1) : "'***'";
        at = close == std::string::npos ? description.size() : close + 1;
    }
    return text;
}

}  // namespace

Document parse_toml(const std::string& text) {
    Document refused;
    if (too_large(text, refused)) return refused;
    TreeBuilder builder;
    try {
        toml::table table = toml::parse(std::string_view(text));
        build(builder, table);
    } catch (const toml::parse_error& error) {
        auto description = without_values(std::string(error.description()));
        builder.problem(line_of(error.source()), "this is not TOML: " + description);
    }
    return builder.take();
}

}  // namespace infrastructure_sdk
