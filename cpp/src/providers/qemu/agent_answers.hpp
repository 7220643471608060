#pragma once
// What a guest's agent says, before it is believed to be an answer. The guest may have any program speak in its place.
// Pure.

#include <string>

#include <nlohmann/json.hpp>

#include "providers/qemu/agent_channel.hpp"

namespace infrastructure_sdk::qemu {

/// A line as JSON; discarded when it is none, or nested deeper than any answer: what is copied or compared recursively
/// later would take the stack.
nlohmann::json parse_answer(const std::string& line);

/// The answer to one command. A refusal, an answer without a value and one whose known fields are of another type are
/// errors: Error(provider).
AgentAnswer answer_of(const std::string& command, nlohmann::json answer);

}  // namespace infrastructure_sdk::qemu
