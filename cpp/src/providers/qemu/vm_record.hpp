#pragma once
// The provider's own note of a VM: written before and after every effect. It lies above the guest folder, out of the
// reach of the VM's uid.

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk::qemu {

/// The guest whose memory a VM begins with.
struct MemoryOrigin {
    std::string vm;           ///< it was written of this VM
    std::uint64_t epoch = 0;  ///< as this file of it
    std::string mac_address;  ///< that the guest knows its network card by
    std::string qemu;         ///< the version that wrote it, as its monitor tells it
    friend bool operator==(const MemoryOrigin&, const MemoryOrigin&) = default;
};
void to_json(nlohmann::json& json, const MemoryOrigin& origin);
void from_json(const nlohmann::json& json, MemoryOrigin& origin);

struct VmRecord {
    VmSpec spec;
    VmState phase = VmState::stopped;
    bool resuming = false;  ///< with phase `starting`: from the memory file
    std::string reason;
    std::string message;
    std::string execution_id;
    std::string accelerator;
    std::string program;
    std::vector<std::string> arguments;  ///< of the last cold start; a resume needs the same
    std::optional<unsigned> uid;
    std::optional<ProcessIdentity> process;
    std::optional<ProcessIdentity> tpm_process;  ///< swtpm's; it ends with the VM's process
    std::string network_interface;    ///< the host's for this VM, and its packet rules; empty = there is none
    std::string firmware_code;        ///< the host's file that the VM was made with; empty = BIOS
    std::vector<std::string> groups;  ///< control groups of the last start, as folders; known before they exist
    std::vector<LimitStatus> limits;  ///< of the last start
    std::vector<int> host_cpus;       ///< that the VM's CPUs are pinned to
    std::string snapshotting;         ///< the snapshot that is being copied: its guest may be frozen
    std::string image_identity;       ///< of the image's files when the VM was made: its disk fits no others
    bool donor = false;               ///< it becomes a template and is nobody's VM
    bool cloning = false;             ///< its first start, from a template, has not ended: nobody has used it
    VmLaunch launch;
    /// Of a complete memory file; of a sealed one, its header and tags. Empty = there is none.
    std::string memory_sha256;
    std::string memory_key;          ///< of a sealed memory file, wrapped by the user's key; empty = a plain one
    std::uint64_t memory_epoch = 0;  ///< of the last sealed memory file
    /// Until its first start has ended: the memory file is a snapshot's, and the guest in it another one.
    std::optional<MemoryOrigin> origin;
    std::string disk_key;  ///< the passphrase of its disk, wrapped likewise; empty = a plain one
    /// Another passphrase that may open the disk: a change of passphrase was not finished.
    std::string stray_disk_key;
    std::string base_key;  ///< of its snapshot's disk
};

std::string to_text(const VmRecord& record);
/// @throws Error(provider) when it is not such a record.
VmRecord record_from_text(const std::string& text);

/// QEMU's working directory, given the VM's folder.
std::string guest_folder(const std::string& directory);

/// The files that the VM lies on: its image's, with the disk of its snapshot if it began from one. Pure.
ImageFiles files_of(const VmRecord& record, const std::string& directory);

/// Whether a guest that runs may still be another one: a copy that was not given its own identity, or what copies are
/// made of. Nobody but the provider speaks to it. Pure.
inline bool is_unnamed(const VmRecord& record) { return record.cloning || record.donor; }

/// What a VM is, given its record and whether its process lives. Pure.
/// @param status QMP's query-status ("running", "paused", "inmigrate", "postmigrate", ...); empty = not asked or no
/// answer.
VmState settle(const VmRecord& record, bool alive, const std::string& status);

/// Atomic and on disk when it returns. Blocking. @throws Error(store)
void save_record(const std::string& directory, const VmRecord& record);
/// nullopt when there is none. @throws Error(provider)
std::optional<VmRecord> load_record(const std::string& directory);

}  // namespace infrastructure_sdk::qemu
