#pragma once
// Snapshots on disk: a folder for each, complete or not there. Everything here blocks.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "providers/qemu/snapshot_terms.hpp"
#include "providers/qemu/vm_record.hpp"
#include <infrastructure_sdk/secret.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk::qemu {

/// "snap-" and lower-case letters and digits: safe in a path.
bool is_snapshot_name(const std::string& id);

/// Where the copy comes from: a raw file that QEMU filled in the scratch folder, or the disk of a VM that does not run.
struct DiskSource {
    std::string disk;                      ///< the VM's own qcow2 file; empty = the raw file
    std::string base;                      ///< what it lies on
    std::string base_format;               ///< "qcow2" or "raw"; empty = nothing
    std::uint64_t virtual_size_bytes = 0;  ///< of an encrypted copy
    Secret disk_key;                       ///< passphrases; empty = not encrypted
    Secret base_key;
};

/// The keys of a snapshot, wrapped by the key of the user whose session it was.
struct SnapshotKey {
    std::string user;
    std::string wrapped;  ///< the disk's passphrase; empty = the disk is not encrypted
    std::string memory;   ///< the key of the memory file; empty = it is a plain one, or there is none
    friend bool operator==(const SnapshotKey&, const SnapshotKey&) = default;
};

/// The memory that belongs to a snapshot's disk.
struct SnapshotMemory {
    std::string sha256;
    std::uint64_t size_bytes = 0;
    MemoryOrigin origin;
    MemoryTerms terms;
};

/// Makes an empty, encrypted qcow2 file (0600). Blocking. @throws Error(store)
void make_encrypted_disk(const std::string& path, std::uint64_t size, const Secret& passphrase, Random& random);
/// Adds a passphrase to an encrypted disk that nobody uses, or takes one away. Blocking. @throws Error(provider)
void add_passphrase(const std::string& image_tool, const std::string& path, const Secret& opens, const Secret& added);
void remove_passphrase(const std::string& image_tool, const std::string& path, const Secret& opens,
                       const Secret& removed);

class SnapshotFolder {
public:
    /// Makes the folder (0700) if need be. @throws Error(store)
    explicit SnapshotFolder(std::string path);

    std::string disk_of(const std::string& id) const { return path_ + "/" + id + "/disk.qcow2"; }
    /// The file that QEMU fills, in the scratch folder of `begin`.
    std::string raw_of(const std::string& id) const { return scratch_of(id) + "/disk.raw"; }
    /// The same for an encrypted copy.
    std::string sealed_of(const std::string& id) const { return scratch_of(id) + "/disk.sealed"; }

    /// The VM's own disk file as it was, before it is copied with what it lies on.
    std::string copy_of(const std::string& id) const { return scratch_of(id) + "/disk.copy"; }
    /// The memory file that is being written, and that of a complete snapshot.
    std::string new_memory_of(const std::string& id) const { return scratch_of(id) + "/memory.state"; }
    std::string memory_file_of(const std::string& id) const { return path_ + "/" + id + "/memory.state"; }

    /// An empty scratch folder; what an earlier try left is removed.
    void begin(const std::string& id) const;
    /// Copies into one file that depends on no other, hashes it, brings it to disk; then it is there.
    /// @throws Error(provider), Error(store)
    /// @param passphrase of the copy; empty = it is not encrypted. @param key it, wrapped.
    /// @param memory whose file is in the scratch folder; nullopt = there is none
    VmSnapshot finish(VmSnapshot snapshot, const DiskSource& source, const Secret& passphrase, const SnapshotKey& key,
                      const std::optional<SnapshotMemory>& memory, const std::string& image_tool, Random& random) const;
    SnapshotKey key_of(const std::string& id) const;
    std::optional<SnapshotMemory> memory_of(const std::string& id) const;
    /// Atomic and on disk when it returns.
    void set_key(const std::string& id, const SnapshotKey& key) const;
    /// Whether the file is what was recorded. @throws Error(provider, reason=SnapshotCorrupted)
    void verify(const std::string& id) const;
    /// Removes it, complete or not.
    void remove(const std::string& id) const;
    std::optional<VmSnapshot> find(const std::string& id) const;
    /// Half-made ones too.
    std::vector<std::string> ids() const;

private:
    std::string scratch_of(const std::string& id) const { return path_ + "/.new-" + id; }
    std::string path_;
};

/// Another name for the file, so that it stays when the first is removed; a copy where a link cannot be.
/// @throws Error(store)
void link_or_copy(const std::string& from, const std::string& to);

}  // namespace infrastructure_sdk::qemu
