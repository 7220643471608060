#include "providers/qemu/host_check.hpp"

#include <filesystem>

#include <unistd.h>

#include "providers/qemu/process.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

/// Names of Debian's package, the newer and larger ones first.
std::optional<FirmwareFiles> find_files(const std::string& directory, const std::string& kind) {
    for (const std::string size : {"_4M", ""}) {
        FirmwareFiles files{directory + "/OVMF_CODE" + size + kind + ".fd",
                            directory + "/OVMF_VARS" + size + kind + ".fd"};
        if (!std::filesystem::is_regular_file(files.code) || !std::filesystem::is_regular_file(files.variables))
            continue;
        // The package has one file under several names.
        return FirmwareFiles{std::filesystem::canonical(files.code).string(),
                             std::filesystem::canonical(files.variables).string()};
    }
    return std::nullopt;
}

}  // namespace

HostFacts look_at_host(const std::string& firmware_directory, const std::string& tpm_binary) {
    HostFacts host;
    auto pages = ::sysconf(_SC_PHYS_PAGES), page_size = ::sysconf(_SC_PAGESIZE);
    if (pages > 0 && page_size > 0)
        host.memory_bytes = static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_size);
    host.uefi = find_files(firmware_directory, "");
    host.secure_boot = find_files(firmware_directory, ".ms");
    host.tpm_program = find_program(tpm_binary);
    return host;
}

void check_host(const VmSpec& spec, const HostFacts& host) {
    if (spec.firmware != Firmware::bios && !host.files_for(spec.firmware))
        throw Error(Errc::unsupported,
                    "firmware " + std::string(name_of(spec.firmware)) +
                        " needs OVMF, which is not there; install it: apt-get install ovmf",
                    {{"field", "firmware"}, {"capability", "firmware"}, {"package", "ovmf"}});
    if (spec.tpm && host.tpm_program.empty())
        throw Error(Errc::unsupported, "a TPM needs swtpm, which is not there; install it: apt-get install swtpm",
                    {{"field", "tpm"}, {"capability", "tpm"}, {"package", "swtpm"}});
    if (host.memory_bytes != 0 && spec.memory_bytes > host.memory_bytes) {
        auto shown = [](std::uint64_t bytes) { return std::to_string(bytes >> 20) + "Mi"; };
        throw Error(
            Errc::capacity,
            "memory: " + shown(spec.memory_bytes) + " are more than this host has (" + shown(host.memory_bytes) + ")",
            {{"field", "resources.memory"},
             {"value", shown(spec.memory_bytes)},
             {"allowed", "at most " + shown(host.memory_bytes)}});
    }
}

}  // namespace infrastructure_sdk::qemu
