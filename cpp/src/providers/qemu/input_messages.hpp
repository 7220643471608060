#pragma once
// Keys and pointer in QEMU's words. Pure.

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/vm/input.hpp>

namespace infrastructure_sdk::qemu {

/// The arguments of `input-send-event`.
nlohmann::json input_message(const InputEvent& event);

/// The arguments of `human-monitor-command` that read the keyboard controller's status port, which changes nothing.
nlohmann::json keyboard_status_question();
/// True while the controller holds a byte that the guest has not read. An answer of another form is "no": a machine
/// without such a controller keeps nothing there.
bool is_keyboard_busy(const nlohmann::json& answer);

}  // namespace infrastructure_sdk::qemu
