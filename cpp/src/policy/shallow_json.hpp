#pragma once
// JSON from somebody who is not trusted: what is nested deeply would end us, because copying and writing it recurse.

#include <string>

#include <nlohmann/json.hpp>

namespace infrastructure_sdk::policy {

constexpr int most_json_depth = 32;

/// Objects and lists inside each other, counted in the text. Exact for valid JSON.
inline bool is_nested_too_deeply(const std::string& text) {
    int depth = 0;
    bool in_string = false;
    for (std::size_t at = 0; at < text.size(); ++at) {
        const char c = text[at];
        if (in_string && c == '\\') ++at;
        else if (c == '"') in_string = !in_string;
        else if (in_string) continue;
        else if (c == '[' || c == '{') {
            if (++depth > most_json_depth) return true;
        } else if (c == ']' || c == '}') --depth;
    }
    return false;
}

/// A discarded value for what is no JSON or nested deeper than `most_json_depth`.
inline nlohmann::json parse_shallow_json(const std::string& text) {
    if (is_nested_too_deeply(text)) return nlohmann::json(nlohmann::json::value_t::discarded);
    return nlohmann::json::parse(text, nullptr, false);
}

}  // namespace infrastructure_sdk::policy
