#include <cstdlib>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/vm/input.hpp>

namespace infrastructure_sdk {
namespace {

using Kind = InputEvent::Kind;

[[noreturn]] void reject(const std::string& field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, field + ": '" + value + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

/// The middle of a pixel's share of the axis is nearest to it whatever the guest rounds.
std::uint32_t on_axis(std::uint32_t pixel, std::uint32_t pixels) {
    return static_cast<std::uint32_t>((std::uint64_t{pixel} * input_axis_maximum + (pixels - 1) / 2) /
                                      std::max(pixels - 1, 1u));
}

void check(const MouseAction& action, DisplaySize size) {
    if (action.button != "left" && action.button != "middle" && action.button != "right")
        reject("button", action.button, "allowed: left, middle, right");
    if (!action.action.empty() && action.action != "click" && action.action != "press" && action.action != "release")
        reject("action", action.action, "allowed: click, press, release");
    if (action.count < 1 || action.count > 3) reject("count", std::to_string(action.count), "1 to 3");
    if (std::abs(std::int64_t{action.scroll}) > 100) reject("scroll", std::to_string(action.scroll), "-100 to 100");
    if (!action.at) return;
    const auto [x, y] = *action.at;
    if (x >= size.width || y >= size.height)
        reject("position", std::to_string(x) + "," + std::to_string(y),
               "the screen has " + std::to_string(size.width) + "x" + std::to_string(size.height) + " pixels");
}

}  // namespace

std::optional<DisplaySize> png_size(const std::string& bytes) {
    constexpr std::size_t header = 24;
    if (bytes.size() < header || !bytes.starts_with("\x89PNG\r\n\x1a\n") || bytes.compare(12, 4, "IHDR") != 0)
        return std::nullopt;
    auto number = [&](std::size_t at) {
        std::uint32_t value = 0;
        for (std::size_t i = 0; i < 4; ++i) value = (value << 8) | static_cast<unsigned char>(bytes[at + i]);
        return value;
    };
    DisplaySize size{number(16), number(20)};
    constexpr std::uint32_t most = 1u << 16;
    if (size.width == 0 || size.height == 0 || size.width > most || size.height > most) return std::nullopt;
    return size;
}

std::vector<InputEvent> pointing(const MouseAction& action, DisplaySize size) {
    check(action, size);
    std::vector<InputEvent> events;
    if (action.at)
        events.push_back(
            {Kind::move_to, "", on_axis(action.at->first, size.width), on_axis(action.at->second, size.height)});
    for (std::uint32_t i = 0; i < (action.action == "click" ? action.count : 0); ++i) {
        events.push_back({Kind::button_down, action.button, 0, 0});
        events.push_back({Kind::button_up, action.button, 0, 0});
    }
    if (action.action == "press") events.push_back({Kind::button_down, action.button, 0, 0});
    if (action.action == "release") events.push_back({Kind::button_up, action.button, 0, 0});
    const char* wheel = action.scroll > 0 ? "wheel-down" : "wheel-up";
    for (std::int32_t i = 0; i < std::abs(action.scroll); ++i) {
        events.push_back({Kind::button_down, wheel, 0, 0});
        events.push_back({Kind::button_up, wheel, 0, 0});
    }
    return events;
}

}  // namespace infrastructure_sdk
