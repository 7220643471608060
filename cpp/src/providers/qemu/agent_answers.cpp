#include "providers/qemu/agent_answers.hpp"

#include <array>
#include <utility>

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;

constexpr int deepest = 32;

using Kind = bool (*)(const json&);
constexpr Kind number = [](const json& value) { return value.is_number_integer(); };
constexpr Kind truth = [](const json& value) { return value.is_boolean(); };
constexpr Kind text = [](const json& value) { return value.is_string(); };

/// Of the objects that agents return. Source: QEMU's qga/qapi-schema.json
constexpr std::array<std::pair<const char*, Kind>, 12> fields{{{"pid", number},
                                                               {"exited", truth},
                                                               {"exitcode", number},
                                                               {"signal", number},
                                                               {"out-data", text},
                                                               {"err-data", text},
                                                               {"out-truncated", truth},
                                                               {"err-truncated", truth},
                                                               {"buf-b64", text},
                                                               {"count", number},
                                                               {"eof", truth},
                                                               {"position", number}}};

/// The first known field of another type; nullptr = there is none.
const char* wrong_field(const json& value) {
    if (!value.is_object()) return nullptr;
    for (const auto& [name, is_right] : fields)
        if (auto found = value.find(name); found != value.end() && !is_right(*found)) return name;
    return nullptr;
}

AgentAnswer refusal(const std::string& command, const std::string& what) {
    AgentAnswer result;
    result.error.emplace(Errc::provider, "the guest agent " + what, ErrorContext{{"command", command}});
    return result;
}

}  // namespace

json parse_answer(const std::string& line) {
    bool too_deep = false;
    auto watch = [&too_deep](int depth, json::parse_event_t, json&) {
        too_deep = too_deep || depth > deepest;
        return !too_deep;
    };
    auto answer = json::parse(line, watch, false);
    return too_deep ? json(json::value_t::discarded) : answer;
}

AgentAnswer answer_of(const std::string& command, json answer) {
    if (auto error = answer.find("error"); error != answer.end()) {
        auto result = refusal(command, "refused " + command);
        if (error->is_object() && error->contains("desc") && (*error)["desc"].is_string())
            result.error->with_remote_message((*error)["desc"].get<std::string>());
        return result;
    }
    auto value = answer.find("return");
    if (value == answer.end()) return refusal(command, "gave no return value for " + command);
    if (const char* wrong = wrong_field(*value))
        return refusal(command, std::string("answered ") + command + " wrongly: " + wrong);
    AgentAnswer result;
    result.value = std::move(*value);
    return result;
}

}  // namespace infrastructure_sdk::qemu
