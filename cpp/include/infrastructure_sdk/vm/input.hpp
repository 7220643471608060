#pragma once
// Keys and pointer of a VM's display: what is sent, and how texts and names become it. Pure.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace infrastructure_sdk {

/// One event of a keyboard or pointer.
struct InputEvent {
    enum class Kind { key_down, key_up, button_down, button_up, move_to };
    Kind kind = Kind::key_down;
    /// A key after QEMU's QKeyCode ("a", "ret", "shift", "f1"), or a button: left, middle, right, wheel-up, wheel-down.
    std::string name;
    /// Of `move_to`: where on the screen, each axis from 0 to `input_axis_maximum`.
    std::uint32_t x = 0;
    std::uint32_t y = 0;
    friend bool operator==(const InputEvent&, const InputEvent&) = default;
};
constexpr std::uint32_t input_axis_maximum = 0x7fff;

struct DisplaySize {
    std::uint32_t width = 0;  ///< pixels
    std::uint32_t height = 0;
    friend bool operator==(const DisplaySize&, const DisplaySize&) = default;
};
/// Of a PNG. nullopt when the bytes are not one.
std::optional<DisplaySize> png_size(const std::string& bytes);

/// The keyboard layouts that texts can be typed with: the guest must be set to the same one.
std::vector<std::string> keyboard_layouts();

/// The strokes that type a UTF-8 text of at most 4096 characters; "\n" is the enter key.
/// @throws Error(validation) naming the character that the layout does not have, or an unknown layout.
std::vector<InputEvent> typing(const std::string& text, const std::string& layout);

/// The strokes of keys held together, e.g. "ctrl+alt+delete", "f5", "shift+a".
/// @throws Error(validation)
std::vector<InputEvent> chord(const std::string& keys);

/// What a pointer does: it goes somewhere, then does something with a button, then turns the wheel.
struct MouseAction {
    std::optional<std::pair<std::uint32_t, std::uint32_t>> at;  ///< x and y in pixels from the upper left
    std::string button = "left";                                ///< "left", "middle" or "right"
    std::string action;                                         ///< "click", "press", "release"; empty = nothing
    std::uint32_t count = 1;                                    ///< clicks, 1 to 3
    std::int32_t scroll = 0;                                    ///< steps, down above zero; at most 100 either way
};
/// @throws Error(validation), also for a place outside `size`.
std::vector<InputEvent> pointing(const MouseAction& action, DisplaySize size);

}  // namespace infrastructure_sdk
