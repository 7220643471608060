#pragma once
// Documents of samples, readings, verdicts, clocks and the detector's memory. Times are RFC 3339, durations Go's
// grammar, moments of the monotonic clock whole nanoseconds. What is absent is null.
// The readers throw Error(validation) on a document that was not written by the writers here.

#include <nlohmann/json_fwd.hpp>

#include <infrastructure_sdk/session/idleness.hpp>
#include <infrastructure_sdk/session/session.hpp>

namespace infrastructure_sdk {

void to_json(nlohmann::json& document, const SignalReading& reading);
void to_json(nlohmann::json& document, const ActivitySample& sample);
void to_json(nlohmann::json& document, const IdleSettings& settings);
void to_json(nlohmann::json& document, const IdleVerdict& verdict);
void to_json(nlohmann::json& document, const IdleMemory& memory);
void to_json(nlohmann::json& document, const SessionClocks& clocks);
void to_json(nlohmann::json& document, const ClockDeadline& deadline);

SignalReading signal_reading_from_json(const nlohmann::json& document);
ActivitySample activity_sample_from_json(const nlohmann::json& document);
IdleSettings idle_settings_from_json(const nlohmann::json& document);
IdleMemory idle_memory_from_json(const nlohmann::json& document);
SessionClocks session_clocks_from_json(const nlohmann::json& document);

}  // namespace infrastructure_sdk
