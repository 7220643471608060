#pragma once
// What the state of this host means for its user. Pure: facts -> lines.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "providers/qemu/gpu.hpp"
#include "providers/qemu/limit_plan.hpp"
#include <infrastructure_sdk/providers/qemu.hpp>

namespace infrastructure_sdk::qemu {

/// A program that was looked for.
struct ProgramFact {
    std::string name;     ///< as configured
    std::string package;  ///< of Debian
    bool found = false;
    std::string version;  ///< the first line that it prints of itself
    std::string trouble;  ///< why it cannot be run
};

enum class DeviceAccess { absent, refused, granted };

struct DoctorFacts {
    bool root = false;
    unsigned uid = 0;
    ProgramFact qemu, qemu_img;
    std::string accelerator;  ///< "kvm", "tcg"; empty without QEMU
    std::string accelerator_reason;
    DeviceAccess kvm = DeviceAccess::absent;  ///< /dev/kvm
    std::string firmware;                     ///< OVMF with secure boot; empty = there is none
    std::string tpm_program;                  ///< swtpm; empty = there is none
    std::string state_directory;
    std::optional<std::uint64_t> state_free_bytes;  ///< nullopt = it cannot be written
    std::string image_version;                      ///< of linux-tiny; empty = it is not there
    std::string image_trouble;
    GroupOffers groups;
    std::optional<std::uint64_t> user_namespaces;  ///< how many there may be; nullopt = the kernel has none
    bool user_namespaces_restricted = false;       ///< AppArmor or Debian's switch keeps ordinary users from them
    std::string ksm;                               ///< /sys/kernel/mm/ksm/run; empty = the kernel has none
    std::vector<std::string> swaps;                ///< names
    std::uint64_t memory_bytes = 0, memory_available_bytes = 0;  ///< 0 = not known
    std::optional<double> memory_pressure;  ///< per cent of the last 10 s in which somebody waited for memory
    unsigned cpus = 0;
    std::optional<bool> clock_synchronized;  ///< what the kernel was told
    std::string clock_source;
    GpuVerdict gpu;
    std::map<std::string, std::string> networks;  ///< each mode, with why it cannot be given; empty = it can
};

/// A line for each part; those that are missing are warnings, those without which nothing works are errors.
std::vector<DoctorLine> judge_host(const DoctorFacts& facts);

}  // namespace infrastructure_sdk::qemu
