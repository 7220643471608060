#pragma once
// Pure decisions around snapshots: when one may be taken, what it records, who needs it, what begins from it.

#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/session/limits.hpp>
#include <infrastructure_sdk/session/snapshot.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk {

/// @throws Error(unsupported) that names the capability.
void need_snapshot_capability(const Capabilities& capabilities);
/// A session whose disk may be copied now. @throws Error(invalid_transition)
void need_copyable(const Session& session);
/// @throws Error(validation)
void check_snapshot_name(const std::string& name);
/// @throws Error(validation)
void check_fork(const ForkRequest& request);
bool is_snapshot_id(const std::string& id);

/// `creating`. @throws Error(validation) for the name.
Snapshot plan_snapshot(const Session& session, const std::string& id, const std::string& name, bool temporary,
                       WallTime now);
/// `ready`, with what the provider shows of it.
Snapshot completed(Snapshot snapshot, const VmSnapshot& seen);
/// The disk that it counts for, under its own id.
Reservation reservation_of(const Snapshot& snapshot);

/// The request with what it takes over from the snapshot. @throws Error(conflict) unless it is ready, Error(validation)
/// when it names another template.
SessionRequest begin_from(SessionRequest request, const Snapshot& snapshot);
/// One of the requests of a fork.
SessionRequest request_of(const ForkRequest& fork, const Snapshot& snapshot);

/// A session that begins from the snapshot and has no disk yet.
bool waits_for(const Session& session, const Snapshot& snapshot);
/// A temporary snapshot goes when no session may need it any more: a failed one may have no disk and be recovered.
bool may_need(const Session& session, const Snapshot& snapshot);

bool matches(const SnapshotFilter& filter, const Snapshot& snapshot);

}  // namespace infrastructure_sdk
