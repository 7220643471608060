#pragma once
// What of a specification this host can run: its firmware files, a TPM emulator, its memory.

#include <cstdint>
#include <optional>
#include <string>

#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk::qemu {

struct FirmwareFiles {
    std::string code;       ///< read-only, shared by all VMs
    std::string variables;  ///< what a VM's own variables begin as
};

struct HostFacts {
    std::uint64_t memory_bytes = 0;  ///< 0 = not known
    std::optional<FirmwareFiles> uefi;
    std::optional<FirmwareFiles> secure_boot;
    std::string tpm_program;  ///< absolute path of swtpm; empty = there is none

    const std::optional<FirmwareFiles>& files_for(Firmware firmware) const {
        return firmware == Firmware::secure_boot ? secure_boot : uefi;
    }
};

/// Looks. @param firmware_directory where OVMF's package puts its files. @param tpm_binary looked up in PATH.
HostFacts look_at_host(const std::string& firmware_directory, const std::string& tpm_binary);

/// Pure. @throws Error(unsupported) with the capability and the package that is missing, Error(capacity)
void check_host(const VmSpec& spec, const HostFacts& host);

}  // namespace infrastructure_sdk::qemu
