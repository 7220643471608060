#pragma once
// Pure decisions around a session: from request and template to a record, from a record to a VM, from an observed VM to
// the input of the state machine.

#include <array>
#include <cstdint>
#include <optional>

#include <infrastructure_sdk/session/session.hpp>
#include <infrastructure_sdk/vm/template.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

#include "session/session_fsm.hpp"

namespace infrastructure_sdk {

struct SessionIds {
    std::string session;
    std::string vm;
    std::string execution;
};

/// The limits that a request may set, by the names of its `resources`.
struct ResourceLimit {
    const char* name;
    std::uint64_t VmLimits::* place;
    std::optional<Quantity> ResourceSpec::* asked;
    const char* least;  ///< quantities, as in templates
    const char* most;
};
inline constexpr std::array<ResourceLimit, 3> resource_limits{
    {{"disk_iops", &VmLimits::disk_iops, &ResourceSpec::disk_iops, "1", "10M"},
     {"disk_bandwidth", &VmLimits::disk_bytes_per_second, &ResourceSpec::disk_bandwidth, "64Ki", "1Ti"},
     {"network_bandwidth", &VmLimits::network_bytes_per_second, &ResourceSpec::network_bandwidth, "1Ki", "1Ti"}}};

/// What holds a session: the template's limits, or less where the request asks for less. @throws Error(validation)
VmLimits limits_of(const ResourceSpec& resources, const Template& source);

/// A `pending` session. What the request does not say of clocks comes from `rules`.
/// @throws Error(validation) when a resource or a clock is outside what is allowed.
Session plan_session(const SessionRequest& request, const Template& source, const SessionIds& ids,
                     const SessionClocks& rules, WallTime now);

/// Gives the session the GPUs that are asked for, and its price.
/// @throws Error(unsupported, capability=gpu) when the provider has none, Error(validation) when it has no such type or
/// never that many.
void plan_gpus(Session& session, const ResourceSpec& resources, const Template& source,
               const Capabilities& capabilities);

/// @throws Error(validation) when the template's resources cannot be given to a VM.
VmSpec plan_vm(const Session& session, const Template& source, ImageFiles image);

/// "02:" and five bytes of the session's id: locally administered, unicast, the same for the session's whole life.
std::string mac_address_of(const std::string& session_id);

/// What recovery does with a session, given what the provider sees of its VM.
struct RecoveryStep {
    enum class Action {
        keep,   ///< nothing to do
        drive,  ///< carry on with the transient state
        apply,  ///< feed `input` to the state machine
    };
    Action action = Action::keep;
    SessionInput input = SessionInput::vm_lost;
};
RecoveryStep plan_recovery(SessionState state, VmState vm);

/// True when a filter accepts a session (`after` and `limit` apart).
bool matches(const SessionFilter& filter, const Session& session);

/// Sets or replaces the condition of that type; `since` moves only when the status changes.
void set_condition(Session& session, Condition condition);

}  // namespace infrastructure_sdk
