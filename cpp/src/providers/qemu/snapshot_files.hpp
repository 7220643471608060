#pragma once
// Snapshots on disk: a folder for each, complete or not there. Everything here blocks.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk::qemu {

/// "snap-" and lower-case letters and digits: safe in a path.
bool is_snapshot_name(const std::string& id);

/// Where the copy comes from: a raw file that QEMU filled in the scratch folder, or the disk of a VM that does not run.
struct DiskSource {
    std::string disk;         ///< the VM's own qcow2 file; empty = the raw file
    std::string base;         ///< what it lies on
    std::string base_format;  ///< "qcow2" or "raw"
};

class SnapshotFolder {
public:
    /// Makes the folder (0700) if need be. @throws Error(store)
    explicit SnapshotFolder(std::string path);

    std::string disk_of(const std::string& id) const { return path_ + "/" + id + "/disk.qcow2"; }
    /// The file that QEMU fills, in the scratch folder of `begin`.
    std::string raw_of(const std::string& id) const { return scratch_of(id) + "/disk.raw"; }

    /// An empty scratch folder; what an earlier try left is removed.
    void begin(const std::string& id) const;
    /// Copies into one file that depends on no other, hashes it, brings it to disk; then it is there.
    /// @throws Error(provider), Error(store)
    VmSnapshot finish(VmSnapshot snapshot, const DiskSource& source, const std::string& image_tool) const;
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
