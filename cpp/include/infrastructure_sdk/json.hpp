#pragma once
// Documents for people, files and bindings. Field names are those of the structs; times are RFC 3339, durations Go's
// grammar, quantities Kubernetes', enums by name.

#include <string>

#include <nlohmann/json_fwd.hpp>

#include <infrastructure_sdk/config/config.hpp>
#include <infrastructure_sdk/event.hpp>
#include <infrastructure_sdk/isolation/isolation.hpp>
#include <infrastructure_sdk/providers/qemu.hpp>
#include <infrastructure_sdk/session/session.hpp>
#include <infrastructure_sdk/vm/template.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk {

void to_json(nlohmann::json& json, const Session& session);
void to_json(nlohmann::json& json, const SessionPage& page);
void to_json(nlohmann::json& json, const Condition& condition);
void to_json(nlohmann::json& json, const Event& event);
void to_json(nlohmann::json& json, const VmStatus& status);
void to_json(nlohmann::json& json, const ProcessIdentity& identity);
void to_json(nlohmann::json& json, const Capabilities& capabilities);
void to_json(nlohmann::json& json, const Template& value);
void to_json(nlohmann::json& json, const Evidence& evidence);
void to_json(nlohmann::json& json, const Finding& finding);
void to_json(nlohmann::json& json, const IsolationReport& report);
void to_json(nlohmann::json& json, const DoctorLine& line);

/// The stored form of a session. @throws Error(validation)
Session session_from_json(const nlohmann::json& json);
/// Checks every field and names the wrong one; unknown keys are errors with a did-you-mean. @throws Error(validation)
SessionRequest session_request_from_json(const nlohmann::json& json);
SessionFilter session_filter_from_json(const nlohmann::json& json);

}  // namespace infrastructure_sdk
