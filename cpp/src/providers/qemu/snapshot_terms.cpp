#include "providers/qemu/snapshot_terms.hpp"

#include <algorithm>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {

std::string why_not_copied(const VmSpec& spec) {
    const auto& channels = spec.channels;
    if (std::find(channels.begin(), channels.end(), "agent") == channels.end())
        return "a copy gets its identity from the guest agent, and the template has no such channel";
    if (!spec.enlightenments.empty()) return "Windows guests cannot be given another identity while they run";
    if (spec.tpm) return "the state of a TPM cannot be copied";
    if (spec.firmware != Firmware::bios) return "the variables of UEFI belong to one VM";
    if (spec.gpu_count > 0) return "a GPU cannot be copied";
    return {};
}

std::string why_no_memory_snapshot(const VmSpec& spec) {
    if (auto why = why_not_copied(spec); !why.empty()) return why;
    // The others are alone in their networks; bridges let through a guest's own address only.
    if (spec.network == NetworkMode::bridge) return "two guests would have one address on the bridge";
    return {};
}

MemoryTerms memory_terms(const VmSpec& spec, const std::string& accelerator, const std::string& boot_files,
                         const std::string& host) {
    auto yes = [](bool value) { return std::string(value ? "yes" : "no"); };
    return {{"accelerator", accelerator},
            {"boot of the host", host},
            {"clock", name_of(spec.clock)},
            {"CPUs", std::to_string(spec.cpu_count)},
            {"disk_size", std::to_string(std::max(spec.disk_size_bytes, spec.image.disk_size_bytes))},
            {"display", yes(spec.display)},
            {"driver disc", yes(!spec.image.disc.empty())},
            {"image", spec.image.name},
            {"image files", boot_files},
            {"machine", spec.machine},
            {"memory", std::to_string(spec.memory_bytes)},
            {"network card", yes(spec.network != NetworkMode::none)},
            {"watchdog", yes(spec.watchdog)}};
}

void check_terms(const std::string& snapshot, const MemoryTerms& saved, const MemoryTerms& here) {
    for (const auto& [name, value] : here) {
        auto found = saved.find(name);
        auto needed = found == saved.end() ? std::string() : found->second;
        if (needed == value) continue;
        throw Error(Errc::conflict,
                    "the memory of snapshot " + snapshot + " does not fit this VM: " + name + " is '" + value + "', '" +
                        needed + "' is needed",
                    {{"reason", "MemoryDoesNotFit"}, {"field", name}, {"value", value}, {"allowed", needed}});
    }
}

}  // namespace infrastructure_sdk::qemu
