#include "providers/qemu/input_messages.hpp"

#include <cstdlib>
#include <string>

namespace infrastructure_sdk::qemu {
using nlohmann::json;

json input_message(const InputEvent& event) {
    using Kind = InputEvent::Kind;
    auto events = json::array();
    switch (event.kind) {
        case Kind::key_down:
        case Kind::key_up:
            events.push_back(
                {{"type", "key"},
                 {"data",
                  {{"down", event.kind == Kind::key_down}, {"key", {{"type", "qcode"}, {"data", event.name}}}}}});
            break;
        case Kind::button_down:
        case Kind::button_up:
            events.push_back(
                {{"type", "btn"}, {"data", {{"down", event.kind == Kind::button_down}, {"button", event.name}}}});
            break;
        case Kind::move_to:
            events.push_back({{"type", "abs"}, {"data", {{"axis", "x"}, {"value", event.x}}}});
            events.push_back({{"type", "abs"}, {"data", {{"axis", "y"}, {"value", event.y}}}});
            break;
    }
    return {{"events", events}};
}

json keyboard_status_question() { return {{"command-line", "i /b 0x64"}}; }

bool is_keyboard_busy(const json& answer) {
    // "portb[0x0064] = 0x1d"; bit 0 is "output buffer full" (IBM PC/AT Technical Reference, keyboard controller).
    if (!answer.is_string()) return false;
    const auto& text = answer.get_ref<const std::string&>();
    auto equals = text.find("= 0x");
    if (!text.starts_with("portb[0x0064]") || equals == std::string::npos) return false;
    return (std::strtoul(text.c_str() + equals + 2, nullptr, 16) & 1u) != 0;
}

}  // namespace infrastructure_sdk::qemu
