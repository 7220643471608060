#pragma once
// Documents for people, files and bindings. Field names are those of the structs; times are RFC 3339, durations Go's
// grammar, quantities Kubernetes', enums by name. The types are only named here: include the header of those you use.

#include <nlohmann/json_fwd.hpp>

namespace infrastructure_sdk {

struct Amounts;
struct Capabilities;
struct Charge;
struct Condition;
struct Denial;
struct DoctorLine;
struct Event;
struct Evidence;
class Finding;
struct IsolationReport;
struct Hold;
struct KeyRotation;
struct Limit;
struct Pool;
struct PoolStatus;
struct PoolUnit;
struct PoolWindow;
struct ProcessIdentity;
struct Reservation;
struct Session;
struct SessionFilter;
struct SessionPage;
struct SessionRequest;
struct StateChange;
struct Snapshot;
struct ForkRequest;
struct Template;
struct UsageLine;
struct UserKeys;
struct VmStatus;

void to_json(nlohmann::json& json, const Session& session);
void to_json(nlohmann::json& json, const SessionPage& page);
void to_json(nlohmann::json& json, const Condition& condition);
void to_json(nlohmann::json& json, const Charge& charge);
void to_json(nlohmann::json& json, const Hold& hold);
void to_json(nlohmann::json& json, const StateChange& change);
void to_json(nlohmann::json& json, const Event& event);
void to_json(nlohmann::json& json, const Snapshot& snapshot);
void to_json(nlohmann::json& json, const VmStatus& status);
void to_json(nlohmann::json& json, const ProcessIdentity& identity);
void to_json(nlohmann::json& json, const Capabilities& capabilities);
void to_json(nlohmann::json& json, const UserKeys& keys);
void to_json(nlohmann::json& json, const KeyRotation& rotation);
void to_json(nlohmann::json& json, const Template& value);
void to_json(nlohmann::json& json, const Evidence& evidence);
void to_json(nlohmann::json& json, const Finding& finding);
void to_json(nlohmann::json& json, const IsolationReport& report);
void to_json(nlohmann::json& json, const DoctorLine& line);
/// Amounts are written as in a limits document: counts as numbers, the rest as texts ("500m", "8Gi", "0.50").
void to_json(nlohmann::json& json, const Amounts& amounts);
void to_json(nlohmann::json& json, const Limit& limit);
void to_json(nlohmann::json& json, const Reservation& reservation);
void to_json(nlohmann::json& json, const Denial& denial);
void to_json(nlohmann::json& json, const UsageLine& line);
/// Pools are written as in a pools document.
void to_json(nlohmann::json& json, const PoolWindow& window);
void to_json(nlohmann::json& json, const Pool& pool);
void to_json(nlohmann::json& json, const PoolUnit& unit);
void to_json(nlohmann::json& json, const PoolStatus& status);

/// The stored form of a session. @throws Error(validation)
Session session_from_json(const nlohmann::json& json);
/// The stored form of a snapshot. @throws Error(validation)
Snapshot snapshot_from_json(const nlohmann::json& json);
/// The stored form of a reservation; every field but `gpu_type` is needed. @throws Error(validation) that names the
/// wrong field.
Reservation reservation_from_json(const nlohmann::json& json);
/// Checks every field and names the wrong one; unknown keys are errors with a did-you-mean. @throws Error(validation)
SessionRequest session_request_from_json(const nlohmann::json& json);
ForkRequest fork_request_from_json(const nlohmann::json& json);
SessionFilter session_filter_from_json(const nlohmann::json& json);

}  // namespace infrastructure_sdk
