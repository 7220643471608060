#pragma once
// Snapshots of sessions' disks and memory, and sessions that begin from them.

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/session/session.hpp>

namespace infrastructure_sdk {

enum class SnapshotState {
    creating,
    ready,
    deleting,
};
const char* name_of(SnapshotState state) noexcept;
/// @throws Error(validation)
SnapshotState parse_snapshot_state(const std::string& name);

/// A durable copy of a session's disk, or of its disk and memory at one instant. It depends on no other file of the
/// session or its VM. That of a disk needs no image either; that of memory begins only with the same image.
struct Snapshot {
    std::string id;  ///< "snap-" and 16 hex digits
    std::string name;
    std::string session_id;
    std::string user_id;  ///< whose disk it counts for
    std::string tenant;   ///< of the session: counts for it too, and is that of sessions from it
    std::string template_name;
    std::string session_type;
    SessionState session_state = SessionState::active;  ///< when it was taken: active, suspended or failed
    SnapshotState state = SnapshotState::creating;
    SnapshotMode mode = SnapshotMode::disk;
    /// "frozen": the guest had flushed and held its file systems; "crash": as after a power cut; "memory": what its
    /// disk misses is in its memory; empty until ready.
    std::string consistent;
    bool temporary = false;  ///< made for a fork, and removed when its sessions have their disks
    VmId vm_id;
    Quantity cpu;  ///< of the session, as are the next four: what a session from it gets
    Quantity memory;
    Quantity disk_size;
    std::int64_t gpu_count = 0;
    std::string gpu_type;
    std::optional<VmLimits> limits;           ///< of the session's disk and network; none = the template's
    std::optional<NetworkMode> network;       ///< of the session; none = the template's, with its bridge
    std::string bridge;                       ///< empty but for NetworkMode::bridge
    Encryption encryption = Encryption::off;  ///< of the session, and at least that of sessions from it
    std::uint64_t memory_size_bytes = 0;      ///< of the memory file; 0 without one
    std::uint64_t size_bytes = 0;             ///< of the disk's file
    std::uint64_t virtual_size_bytes = 0;     ///< of the disk
    std::string sha256;                       ///< of the file
    WallTime created_at;
    std::uint64_t version = 0;  ///< of the stored record
};

struct SnapshotFilter {
    std::optional<std::string> session_id;
    std::optional<std::string> user_id;
};

struct ForkRequest {
    std::string source;                      ///< a snapshot's id, or a session's
    SnapshotMode mode = SnapshotMode::disk;  ///< of the copy that is made of a session; a snapshot has its own
    int count = 1;                           ///< 1..100
    std::optional<std::string> user_id;      ///< none = the source's
    std::optional<Duration> ttl;             ///< none = the configuration's default
    std::map<std::string, std::string> tags;
};

/// One fork: exactly one of the two.
struct ForkEntry {
    std::optional<Session> session;
    std::optional<Error> error;
};

}  // namespace infrastructure_sdk
