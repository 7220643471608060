#pragma once
// A guest that has booted and never had a user, kept so that new VMs begin as copies of it: its RAM, the state of its
// devices, its disk. What decides about templates is pure; the folder that holds them blocks.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

#include "providers/qemu/command_line.hpp"

namespace infrastructure_sdk::qemu {

/// Why a VM of this shape is always booted; empty = it may begin from a template. Pure.
std::string why_booted(const VmSpec& spec);

/// Pure. Equal only for VMs that may be copies of one another: the same image, program, accelerator and command line.
struct TemplateKey {
    std::string digest;  ///< hex, a name in the folder of templates
    std::string kind;    ///< hex; of what the user chose: a new digest of the same kind replaces the old one
};
/// @param image_identity, program_identity of the files; whatever changes with them
/// @param host what else must be the same, e.g. the boot of the host
TemplateKey template_key(const VmSpec& spec, const CommandLineOptions& options, const std::string& image_identity,
                         const std::string& program_identity, const std::string& host);

/// What is on disk of one.
struct TemplateRecord {
    TemplateKey key;
    std::string refused;  ///< why there is none, and none is made until `retry_at`; empty = there is one
    WallTime retry_at;    ///< with `refused`
    std::string image;    ///< for people
    std::string qemu;     ///< the version, as its monitor tells it
    std::uint64_t memory_bytes = 0;
    std::string interface;       ///< the guest's name of its network interface; empty = it has none
    bool files_suffice = false;  ///< for its identity, as `identity_files`
};
std::string to_text(const TemplateRecord& record);
/// nullopt when it is not one.
std::optional<TemplateRecord> template_from_text(const std::string& text);

/// A template whose RAM is at hand. Its pages are shared by all copies, which nobody can write to: the memory is
/// sealed.
class RamTemplate {
public:
    RamTemplate(TemplateRecord record, std::string folder, int memory)
        : record_(std::move(record)), folder_(std::move(folder)), memory_(memory) {}
    ~RamTemplate();
    RamTemplate(const RamTemplate&) = delete;
    RamTemplate& operator=(const RamTemplate&) = delete;
    const TemplateRecord& record() const { return record_; }
    int memory() const { return memory_; }
    std::string state_path() const;
    std::string disk_path() const;  ///< of a file only if the image has a disk

private:
    TemplateRecord record_;
    std::string folder_;
    int memory_;
};
using RamTemplatePtr = std::shared_ptr<const RamTemplate>;

/// Memory for a guest that becomes a template, all zero. Close it. @throws Error(capacity)
int make_guest_memory(std::uint64_t bytes);

class TemplateFolder {
public:
    explicit TemplateFolder(std::string path) : path_(std::move(path)) {}

    std::optional<TemplateRecord> find(const std::string& digest) const;
    /// Reads its RAM; from now on it counts as used. @throws Error(store)
    RamTemplatePtr load(const TemplateRecord& record) const;
    /// Why there is no room for one of so much RAM on the disk and in memory; empty = there is.
    std::string why_no_room(std::uint64_t memory_bytes) const;

    /// An empty scratch folder; the file in it that gets the state of the devices. Close it. @throws Error(store)
    int begin(const std::string& digest) const;
    /// Seals the memory, which is the template's from now on, writes RAM and disk beside the state; then it is there,
    /// and older ones of its kind are not. @param disk the donor's; empty = it has none. @throws Error(store)
    RamTemplatePtr finish(const TemplateRecord& record, int memory, const std::string& disk) const;
    void abandon(const std::string& digest) const;
    /// Only the record, with `refused`.
    void refuse(const TemplateRecord& record) const;

    /// Removes what was left half made, what cannot be read, and all but those used last.
    void sweep() const;

private:
    std::string scratch_of(const std::string& digest) const { return path_ + "/.new-" + digest; }
    std::string folder_of(const std::string& digest) const { return path_ + "/" + digest; }
    void place(const std::string& digest, const TemplateRecord& record) const;
    std::string path_;
};

/// A new file with the bytes of the other, sharing its blocks where the file system can. @throws Error(store)
void copy_file(const std::string& from, const std::string& to);

/// Ticks of the CPU that a process has used, from the text of its stat file. Pure.
std::optional<std::uint64_t> cpu_ticks(const std::string& stat);

}  // namespace infrastructure_sdk::qemu
