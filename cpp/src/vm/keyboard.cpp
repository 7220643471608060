#include <algorithm>
#include <array>
#include <map>
#include <span>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/vm/input.hpp>

#include "core/did_you_mean.hpp"

namespace infrastructure_sdk {
namespace {

using Kind = InputEvent::Kind;
constexpr std::size_t most_characters = 4096;
constexpr std::size_t most_keys = 8;

/// One key and what it gives plain, with shift, and with the right alt key; 0 = nothing that is typed here.
struct KeyRow {
    const char* key;
    char32_t plain;
    char32_t shifted;
    char32_t third = 0;
};

// Both are those of xkeyboard-config (symbols/us, symbols/de), without dead keys.
constexpr std::array<KeyRow, 48> us_rows{{{"grave_accent", U'`', U'~'},
                                          {"1", U'1', U'!'},
                                          {"2", U'2', U'@'},
                                          {"3", U'3', U'#'},
                                          {"4", U'4', U'$'},
                                          {"5", U'5', U'%'},
                                          {"6", U'6', U'^'},
                                          {"7", U'7', U'&'},
                                          {"8", U'8', U'*'},
                                          {"9", U'9', U'('},
                                          {"0", U'0', U')'},
                                          {"minus", U'-', U'_'},
                                          {"equal", U'=', U'+'},
                                          {"bracket_left", U'[', U'{'},
                                          {"bracket_right", U']', U'}'},
                                          {"backslash", U'\\', U'|'},
                                          {"semicolon", U';', U':'},
                                          {"apostrophe", U'\'', U'"'},
                                          {"comma", U',', U'<'},
                                          {"dot", U'.', U'>'},
                                          {"slash", U'/', U'?'},
                                          {"spc", U' ', 0},
                                          {"a", U'a', U'A'},
                                          {"b", U'b', U'B'},
                                          {"c", U'c', U'C'},
                                          {"d", U'd', U'D'},
                                          {"e", U'e', U'E'},
                                          {"f", U'f', U'F'},
                                          {"g", U'g', U'G'},
                                          {"h", U'h', U'H'},
                                          {"i", U'i', U'I'},
                                          {"j", U'j', U'J'},
                                          {"k", U'k', U'K'},
                                          {"l", U'l', U'L'},
                                          {"m", U'm', U'M'},
                                          {"n", U'n', U'N'},
                                          {"o", U'o', U'O'},
                                          {"p", U'p', U'P'},
                                          {"q", U'q', U'Q'},
                                          {"r", U'r', U'R'},
                                          {"s", U's', U'S'},
                                          {"t", U't', U'T'},
                                          {"u", U'u', U'U'},
                                          {"v", U'v', U'V'},
                                          {"w", U'w', U'W'},
                                          {"x", U'x', U'X'},
                                          {"y", U'y', U'Y'},
                                          {"z", U'z', U'Z'}}};

constexpr std::array<KeyRow, 48> de_rows{{{"grave_accent", 0, U'°'},
                                          {"1", U'1', U'!'},
                                          {"2", U'2', U'"', U'²'},
                                          {"3", U'3', U'§', U'³'},
                                          {"4", U'4', U'$'},
                                          {"5", U'5', U'%'},
                                          {"6", U'6', U'&'},
                                          {"7", U'7', U'/', U'{'},
                                          {"8", U'8', U'(', U'['},
                                          {"9", U'9', U')', U']'},
                                          {"0", U'0', U'=', U'}'},
                                          {"minus", U'ß', U'?', U'\\'},
                                          {"bracket_left", U'ü', U'Ü'},
                                          {"bracket_right", U'+', U'*', U'~'},
                                          {"backslash", U'#', U'\''},
                                          {"semicolon", U'ö', U'Ö'},
                                          {"apostrophe", U'ä', U'Ä'},
                                          {"less", U'<', U'>', U'|'},
                                          {"comma", U',', U';'},
                                          {"dot", U'.', U':'},
                                          {"slash", U'-', U'_'},
                                          {"spc", U' ', 0},
                                          {"a", U'a', U'A'},
                                          {"b", U'b', U'B'},
                                          {"c", U'c', U'C'},
                                          {"d", U'd', U'D'},
                                          {"e", U'e', U'E', U'€'},
                                          {"f", U'f', U'F'},
                                          {"g", U'g', U'G'},
                                          {"h", U'h', U'H'},
                                          {"i", U'i', U'I'},
                                          {"j", U'j', U'J'},
                                          {"k", U'k', U'K'},
                                          {"l", U'l', U'L'},
                                          {"m", U'm', U'M', U'µ'},
                                          {"n", U'n', U'N'},
                                          {"o", U'o', U'O'},
                                          {"p", U'p', U'P'},
                                          {"q", U'q', U'Q', U'@'},
                                          {"r", U'r', U'R'},
                                          {"s", U's', U'S'},
                                          {"t", U't', U'T'},
                                          {"u", U'u', U'U'},
                                          {"v", U'v', U'V'},
                                          {"w", U'w', U'W'},
                                          {"x", U'x', U'X'},
                                          {"y", U'z', U'Z'},
                                          {"z", U'y', U'Y'}}};

struct Layout {
    const char* name;
    std::span<const KeyRow> rows;
};
constexpr std::array<Layout, 2> layouts{{{"us", us_rows}, {"de", de_rows}}};

/// Keys that have no character, and the names that people use for keys. The second is QEMU's.
const std::map<std::string, std::string>& named_keys() {
    static const std::map<std::string, std::string> table = [] {
        std::map<std::string, std::string> names{
            {"enter", "ret"},          {"return", "ret"},       {"escape", "esc"},
            {"space", "spc"},          {"altgr", "alt_r"},      {"super", "meta_l"},
            {"meta", "meta_l"},        {"windows", "meta_l"},   {"del", "delete"},
            {"ins", "insert"},         {"pageup", "pgup"},      {"pagedown", "pgdn"},
            {"capslock", "caps_lock"}, {"numlock", "num_lock"}, {"scrolllock", "scroll_lock"},
            {"control", "ctrl"},       {"plus", "equal"},       {"period", "dot"}};
        for (const char* own :
             {"ret",   "esc",    "spc",    "tab",   "backspace", "ctrl",     "ctrl_r",      "shift", "shift_r", "alt",
              "alt_r", "meta_l", "meta_r", "menu",  "delete",    "insert",   "home",        "end",   "pgup",    "pgdn",
              "up",    "down",   "left",   "right", "caps_lock", "num_lock", "scroll_lock", "print", "pause",   "less"})
            names[own] = own;
        for (int i = 1; i <= 12; ++i) names["f" + std::to_string(i)] = "f" + std::to_string(i);
        for (const auto& row : us_rows) names[row.key] = row.key;
        return names;
    }();
    return table;
}

[[noreturn]] void reject(const std::string& field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, field + ": " + value + " is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

std::u32string characters(const std::string& text) {
    std::u32string found;
    for (std::size_t at = 0; at < text.size();) {
        const auto first = static_cast<unsigned char>(text[at]);
        const std::size_t length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
        char32_t value = length == 1 ? first : first & (0x7fu >> length);
        bool good = length != 0 && at + length <= text.size();
        for (std::size_t i = 1; good && i < length; ++i) {
            const auto next = static_cast<unsigned char>(text[at + i]);
            good = (next & 0xc0) == 0x80;
            value = (value << 6) | (next & 0x3fu);
        }
        if (!good) reject("text", "byte " + std::to_string(at), "UTF-8 is needed");
        found.push_back(value);
        at += length;
    }
    return found;
}

/// For an error: the character itself where it can be shown.
std::string shown(const std::string& text, char32_t character, std::size_t index) {
    std::string name =
        character > 0x20 && character < 0x7f ? "'" + std::string(1, static_cast<char>(character)) + "'" : "U+" + [&] {
            std::string hex;
            for (int shift = 12; shift >= 0; shift -= 4) hex += "0123456789ABCDEF"[(character >> shift) & 0xf];
            return hex;
        }();
    return name + " (character " + std::to_string(index + 1) + " of " + std::to_string(characters(text).size()) + ")";
}

void stroke(std::vector<InputEvent>& events, const std::string& key, const char* modifier) {
    if (modifier) events.push_back({Kind::key_down, modifier, 0, 0});
    events.push_back({Kind::key_down, key, 0, 0});
    events.push_back({Kind::key_up, key, 0, 0});
    if (modifier) events.push_back({Kind::key_up, modifier, 0, 0});
}

bool type_character(std::vector<InputEvent>& events, char32_t character, std::span<const KeyRow> rows) {
    if (character == U'\n' || character == U'\t') {
        stroke(events, character == U'\n' ? "ret" : "tab", nullptr);
        return true;
    }
    if (character == 0) return false;
    for (const auto& row : rows) {
        if (character != row.plain && character != row.shifted && character != row.third) continue;
        stroke(events, row.key, character == row.plain ? nullptr : character == row.shifted ? "shift" : "alt_r");
        return true;
    }
    return false;
}

}  // namespace

std::vector<std::string> keyboard_layouts() {
    std::vector<std::string> names;
    for (const auto& layout : layouts) names.emplace_back(layout.name);
    return names;
}

std::vector<InputEvent> typing(const std::string& text, const std::string& layout) {
    auto chosen = std::find_if(layouts.begin(), layouts.end(), [&](const Layout& l) { return l.name == layout; });
    if (chosen == layouts.end()) reject("layout", "'" + layout + "'", "allowed: us, de");
    const auto wanted = characters(text);
    if (wanted.size() > most_characters)
        reject("text", std::to_string(wanted.size()) + " characters",
               "at most " + std::to_string(most_characters) + "; write longer ones with files.put");
    std::vector<InputEvent> events;
    for (std::size_t i = 0; i < wanted.size(); ++i)
        if (!type_character(events, wanted[i], chosen->rows))
            reject("text", shown(text, wanted[i], i), "the layout " + layout + " has no key for it");
    return events;
}

std::vector<InputEvent> chord(const std::string& keys) {
    std::vector<std::string> found;
    for (std::size_t at = 0; at <= keys.size();) {
        auto end = std::min(keys.find('+', at), keys.size());
        auto name = keys.substr(at, end - at);
        std::transform(name.begin(), name.end(), name.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
        auto known = named_keys().find(name);
        if (known == named_keys().end()) {
            std::vector<std::string> names;
            for (const auto& entry : named_keys()) names.push_back(entry.first);
            auto near = did_you_mean(name, names);
            reject("keys", "'" + keys + "'",
                   "names of keys joined by '+', such as ctrl+alt+delete; there is no key '" + name + "'" +
                       (near.empty() ? "" : "; did you mean '" + near + "'?"));
        }
        found.push_back(known->second);
        at = end + 1;
    }
    if (found.size() > most_keys) reject("keys", "'" + keys + "'", "at most 8 keys together");
    std::vector<InputEvent> events;
    for (const auto& key : found) events.push_back({Kind::key_down, key, 0, 0});
    for (auto key = found.rbegin(); key != found.rend(); ++key) events.push_back({Kind::key_up, *key, 0, 0});
    return events;
}

}  // namespace infrastructure_sdk
