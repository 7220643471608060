#pragma once
// Pure decisions around snapshots: when one may be taken, what it records, who needs it, what begins from it.

#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/session/limits.hpp>
#include <infrastructure_sdk/session/snapshot.hpp>
#include <infrastructure_sdk/vm/template.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk {

/// @throws Error(unsupported) that names the capability.
void need_snapshot_capability(const Capabilities& capabilities, SnapshotMode mode = SnapshotMode::disk);
/// A session that may be copied so now. @throws Error(invalid_transition)
void need_copyable(const Session& session, SnapshotMode mode);
/// A guest that can be told, while it runs, that it is another one. @throws Error(unsupported,
/// capability=memory_snapshot)
void need_renamable(const Template& source);
/// A Linux guest with an agent. Its shell is asked for later.
bool takes_identity(const Template& source);
/// @throws Error(validation)
void check_snapshot_name(const std::string& name);
/// @throws Error(validation)
void check_fork(const ForkRequest& request);
/// @throws Error(validation) when the memory of a session is to be somebody else's
void need_user_of_memory(const ForkRequest& request, const Session& session);
bool is_snapshot_id(const std::string& id);

/// `creating`. @throws Error(validation) for the name.
Snapshot plan_snapshot(const Session& session, const std::string& id, const std::string& name, SnapshotMode mode,
                       bool temporary, WallTime now);
/// `ready`, with what the provider shows of it.
Snapshot completed(Snapshot snapshot, const VmSnapshot& seen);
/// Where the session had the template's network, what begins from the snapshot of its disk has the template's of then.
/// Memory remembers its network card and keeps the network.
void leave_network_to(const Template& source, Snapshot& snapshot);
/// What it counts for, under its own id: the disk's size and, if it has memory, that of the memory.
Reservation reservation_of(const Snapshot& snapshot);

/// The request with what it takes over from the snapshot. @throws Error(conflict) unless it is ready, Error(validation)
/// when it names another template, less encryption or, for one with memory, other resources or another user.
/// @param source the template: its encryption is the least, its limits are the most
SessionRequest begin_from(SessionRequest request, const Snapshot& snapshot, const Template& source = Template());
/// One of the requests of a fork.
SessionRequest request_of(const ForkRequest& fork, const Snapshot& snapshot);

/// A session that begins from the snapshot and has no disk yet.
bool waits_for(const Session& session, const Snapshot& snapshot);
/// A temporary snapshot goes when no session may need it any more: a failed one may have no disk and be recovered.
bool may_need(const Session& session, const Snapshot& snapshot);

bool matches(const SnapshotFilter& filter, const Snapshot& snapshot);

}  // namespace infrastructure_sdk
