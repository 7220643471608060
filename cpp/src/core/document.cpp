#include "core/document.hpp"

#include <algorithm>
#include <initializer_list>

namespace infrastructure_sdk {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool all_digits(std::string_view text) { return !text.empty() && std::all_of(text.begin(), text.end(), is_digit); }

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> words) {
    return std::find(words.begin(), words.end(), text) != words.end();
}

std::string_view without_sign(std::string_view text) {
    if (!text.empty() && (text.front() == '-' || text.front() == '+')) text.remove_prefix(1);
    return text;
}

bool is_number(std::string_view text) {
    text = without_sign(text);
    auto exponent = text.find_first_of("eE");
    if (exponent != std::string_view::npos) {
        if (!all_digits(without_sign(text.substr(exponent + 1)))) return false;
        text = text.substr(0, exponent);
    }
    auto point = text.find('.');
    if (point == std::string_view::npos) return all_digits(text);
    auto whole = text.substr(0, point), fraction = text.substr(point + 1);
    bool digits_only = (whole.empty() || all_digits(whole)) && (fraction.empty() || all_digits(fraction));
    return digits_only && !(whole.empty() && fraction.empty());
}

}  // namespace

Node plain_scalar(std::string text, int line) {
    Node node;
    node.line = line;
    if (is_one_of(text, {"", "~", "null", "Null", "NULL"})) {
        node.kind = Node::Kind::null;
        return node;
    }
    if (is_one_of(text, {"true", "True", "TRUE", "false", "False", "FALSE"})) {
        node.kind = Node::Kind::boolean;
        node.text = text.front() == 't' || text.front() == 'T' ? "true" : "false";
        return node;
    }
    if (all_digits(without_sign(text))) node.kind = Node::Kind::integer;
    else if (is_number(text)) node.kind = Node::Kind::number;
    else node.kind = Node::Kind::text;
    node.text = std::move(text);
    return node;
}

const char* describe(Node::Kind kind) noexcept {
    switch (kind) {
        case Node::Kind::null: return "nothing";
        case Node::Kind::boolean: return "a boolean";
        case Node::Kind::integer: return "an integer";
        case Node::Kind::number: return "a number";
        case Node::Kind::text: return "a text";
        case Node::Kind::list: return "a list";
        case Node::Kind::map: return "a mapping";
        case Node::Kind::other: break;
    }
    return "a value of another kind";
}

}  // namespace infrastructure_sdk
