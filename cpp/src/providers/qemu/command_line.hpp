#pragma once
// QEMU's command line as data, pure. Everything outside the VM's own directory comes as an inherited descriptor with a
// fixed number, and QEMU's working directory is the VM's: so the line holds no host path, is the same at every start
// and resume, and the VM's uid needs no access to anything else.

#include <cstdint>
#include <string>
#include <vector>

#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk::qemu {

/// Descriptor numbers in the QEMU process.
namespace inherited {
constexpr int qmp = 10;
constexpr int agent = 11;
constexpr int kernel = 12;
constexpr int initrd = 13;
constexpr int base_disk = 14;
constexpr int memory = 15;
constexpr int firmware = 16;
constexpr int tpm = 17;
constexpr int disc = 18;
constexpr int tap = 19;
constexpr int ram = 20;
constexpr int disk_key = 28;  ///< pipes that hold a passphrase each
constexpr int base_key = 29;
}  // namespace inherited

/// Files of a VM. Only the record is ours alone; the others lie in the guest folder, which is QEMU's working directory
/// and belongs to the VM's uid: nothing there is believed.
namespace file_name {
constexpr const char* record = "vm.json";
constexpr const char* guest = "guest";  ///< the guest folder
constexpr const char* disk = "disk.qcow2";
constexpr const char* base = "snapshot.base";  ///< below the disk of a VM that began from a snapshot; ours, read-only
constexpr const char* memory = "memory.state";
constexpr const char* serial = "serial.log";
constexpr const char* log = "qemu.log";
constexpr const char* qmp = "qmp.sock";
constexpr const char* agent = "agent.sock";
constexpr const char* screen = "screen.png";
constexpr const char* vnc = "vnc.sock";
constexpr const char* firmware = "firmware.fd";  ///< the variables of UEFI
constexpr const char* tpm = "tpm";               ///< a folder, swtpm's
constexpr const char* tpm_log = "tpm.log";
}  // namespace file_name

struct CommandLineOptions {
    std::string accelerator = "tcg";  ///< "kvm" or "tcg"
    int translation_cache_mib = 64;
    bool disk_encrypted = false;  ///< the VM's own disk is LUKS
    bool base_encrypted = false;  ///< so is the one below it, that of a snapshot
};

/// The arguments after the program's name.
std::vector<std::string> command_line(const VmSpec& spec, const CommandLineOptions& options);

/// The arguments of swtpm after its name. It serves the one connection that it is born with and ends with it.
std::vector<std::string> tpm_command_line();

/// The first, with its RAM in the file of descriptor `inherited::ram`: that of a template, which writes to it, or of a
/// copy, whose own writes stay with it. The guest sees no difference, and a resume needs neither.
std::vector<std::string> with_ram_file(std::vector<std::string> arguments, std::uint64_t memory_bytes, bool writes);

/// The first, for a process that waits for a memory stream.
std::vector<std::string> incoming(std::vector<std::string> arguments);

/// True when a command line is that of this VM.
bool names_vm(const std::vector<std::string>& arguments, const std::string& uuid);

}  // namespace infrastructure_sdk::qemu
