#include "providers/qemu/doctor_rules.hpp"

#include <algorithm>
#include <cstdio>

namespace infrastructure_sdk::qemu {
namespace {

constexpr std::uint64_t gibibyte = 1ull << 30;

std::string gib(std::uint64_t bytes) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f GiB", static_cast<double>(bytes) / static_cast<double>(gibibyte));
    return text;
}

DoctorLine program_line(const std::string& name, const ProgramFact& program) {
    const std::string nothing = "no virtual machine can be made";
    if (!program.found)
        return {name, "error", program.name + " is not there", nothing, "apt-get install " + program.package};
    if (!program.trouble.empty())
        return {name, "error", program.trouble, nothing, "apt-get install --reinstall " + program.package};
    return {name, "ok", program.version, "virtual machines can be made", ""};
}

DoctorLine accelerator_line(const DoctorFacts& facts) {
    const auto detail = facts.accelerator + ": " + facts.accelerator_reason;
    if (facts.accelerator == "kvm") return {"accelerator", "ok", detail, "guests run at the speed of the host", ""};
    return {"accelerator", "warning", detail,
            "guests run about 10 times slower, timeouts are 6 times longer, and emulation is no security boundary",
            facts.kvm == DeviceAccess::refused
                ? "add your user to the group kvm: usermod -aG kvm USER, then log in anew"
                : "use a host with hardware virtualization"};
}

DoctorLine kvm_line(const DoctorFacts& facts) {
    switch (facts.kvm) {
        case DeviceAccess::granted: return {"kvm-permission", "ok", "/dev/kvm can be opened", "KVM can be tried", ""};
        case DeviceAccess::refused:
            return {"kvm-permission", "warning", "/dev/kvm is there but not for uid " + std::to_string(facts.uid),
                    "guests are emulated although the host could do better",
                    "add your user to the group kvm: usermod -aG kvm USER, then log in anew"};
        case DeviceAccess::absent: break;
    }
    return {
        "kvm-permission", "warning", "there is no /dev/kvm", "guests are emulated",
        "enable virtualization in the firmware (or nested virtualization of the host), and load kvm_intel or kvm_amd"};
}

DoctorLine windows_line(const DoctorFacts& facts) {
    std::string missing = facts.firmware.empty() ? " ovmf" : "";
    if (facts.tpm_program.empty()) missing += " swtpm";
    if (missing.empty())
        return {"secure-boot", "ok", facts.firmware + ", " + facts.tpm_program,
                "VMs can have UEFI with secure boot and a TPM", ""};
    return {"secure-boot", "warning", "not there:" + missing,
            "templates with secure boot or a TPM (Windows) are refused", "apt-get install" + missing};
}

DoctorLine state_line(const DoctorFacts& facts) {
    const auto& directory = facts.state_directory;
    if (!facts.state_free_bytes)
        return {"state-directory", "error", directory + " cannot be written", "no session can be kept",
                "choose another with store.state_directory or --state-dir"};
    const auto shown = gib(*facts.state_free_bytes) + " free in " + directory;
    if (*facts.state_free_bytes < 2 * gibibyte)
        return {"state-directory", "warning", shown,
                "a suspend may fail for want of space, and guests that write are stopped until there is some",
                "free some disk space"};
    return {"state-directory", "ok", shown, "sessions, disks and memory files have room", ""};
}

DoctorLine image_line(const DoctorFacts& facts) {
    if (!facts.image_version.empty())
        return {"image", "ok", "linux-tiny " + facts.image_version, "sessions can be started", ""};
    return {"image", "warning", facts.image_trouble, "no session can be started from linux-tiny",
            "infra-sdk image build linux-tiny"};
}

DoctorLine uid_line(const DoctorFacts& facts) {
    if (facts.root) return {"uid-separation", "ok", "running as root", "every VM gets a uid of its own", ""};
    return {"uid-separation", "warning", "running as an ordinary user",
            "all VMs run under your uid and are not separated by it", "run as root for a uid per VM"};
}

DoctorLine groups_line(const DoctorFacts& facts) {
    std::string there, missing;
    for (const auto& [controller, offer] : facts.groups) {
        if (offer.version != 0)
            there += (there.empty() ? "" : ", ") + controller + " (version " + std::to_string(offer.version) + ")";
        else missing += (missing.empty() ? "" : "; ") + controller + ": " + offer.reason;
    }
    if (missing.empty())
        return {"cgroups", "ok", there, "a VM's CPU time, memory and processes are limited by the kernel", ""};
    return {
        "cgroups", "warning", (there.empty() ? "" : there + "; not ") + missing,
        "what is missing is not limited by the kernel: one guest can take the host's time or memory from the others",
        facts.root ? "mount the control groups, or run outside the container that hides them"
                   : "run as root, or have systemd delegate a group: systemd-run --user --scope -p Delegate=yes ..."};
}

DoctorLine namespaces_line(const DoctorFacts& facts) {
    if (facts.root)
        return {"user-namespaces", "ok", "running as root",
                "VMs get their own network, IPC and host name namespaces without them", ""};
    if (!facts.user_namespaces || *facts.user_namespaces == 0)
        return {"user-namespaces", "warning",
                facts.user_namespaces ? "user.max_user_namespaces is 0" : "this kernel has none",
                "VMs share the host's network namespace; they are kept from the host by QEMU's own network alone",
                facts.user_namespaces ? "sysctl user.max_user_namespaces=15000, or run as root" : "run as root"};
    if (facts.user_namespaces_restricted)
        return {"user-namespaces", "warning", "ordinary users may not make any",
                "VMs share the host's network namespace; they are kept from the host by QEMU's own network alone",
                "sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu) or kernel.unprivileged_userns_clone=1 "
                "(Debian), or run as root"};
    return {"user-namespaces", "ok", "up to " + std::to_string(*facts.user_namespaces),
            "image building without root works", ""};
}

DoctorLine ksm_line(const DoctorFacts& facts) {
    if (facts.ksm.empty()) return {"ksm", "ok", "this kernel has none", "pages of VMs are not merged", ""};
    if (facts.ksm != "1")
        return {"ksm", "ok", "/sys/kernel/mm/ksm/run is " + facts.ksm, "pages of VMs are not merged", ""};
    return {"ksm", "warning", "/sys/kernel/mm/ksm/run is 1",
            "the kernel merges equal pages; ours opt out, others on this host do not",
            "echo 0 > /sys/kernel/mm/ksm/run"};
}

DoctorLine swap_line(const DoctorFacts& facts) {
    if (facts.swaps.empty()) return {"swap", "ok", "there is none", "memory of guests stays in RAM", ""};
    std::string names;
    for (const auto& name : facts.swaps) names += (names.empty() ? "" : ", ") + name;
    auto memory = facts.groups.find("memory");
    if (memory != facts.groups.end() && memory->second.version != 0)
        return {"swap", "ok", names, "memory of guests stays in RAM: their control groups have no swap", ""};
    return {"swap", "warning", names, "memory of guests may be written to disk", "swapoff -a, or encrypt the swap"};
}

DoctorLine memory_line(const DoctorFacts& facts) {
    if (facts.memory_bytes == 0 || facts.memory_available_bytes == 0)
        return {"memory", "warning", "/proc/meminfo cannot be read", "sessions start without a look at free memory",
                ""};
    const auto shown = gib(facts.memory_available_bytes) + " of " + gib(facts.memory_bytes) + " available, " +
                       std::to_string(facts.cpus) + " CPUs";
    constexpr double high_pressure = 10.0;
    if (facts.memory_pressure.value_or(0) >= high_pressure)
        return {"memory", "warning", shown + ", and processes are waiting for memory",
                "guests are slow, and the kernel may end one", "suspend sessions that are not used"};
    if (facts.memory_available_bytes < gibibyte)
        return {"memory", "warning", shown, "new sessions may be refused for want of memory",
                "suspend sessions that are not used, or end other programs"};
    return {"memory", "ok", shown, "small guests take about 0.3 GiB each, desktops about 1 GiB", ""};
}

DoctorLine clock_line(const DoctorFacts& facts) {
    const auto source = facts.clock_source.empty() ? std::string() : "; clock source " + facts.clock_source;
    if (!facts.clock_synchronized)
        return {"clock", "warning", "the kernel does not tell" + source, "times in events and bills may be wrong", ""};
    if (!*facts.clock_synchronized)
        return {"clock", "warning", "not synchronized" + source,
                "deadlines, events and bills follow a clock that may drift or jump, and guests get it after a resume",
                "apt-get install chrony, or enable systemd-timesyncd"};
    return {"clock", "ok", "synchronized" + source, "deadlines, events and guests' clocks are right", ""};
}

DoctorLine network_line(const DoctorFacts& facts) {
    std::string given, refused, causes;
    for (const auto& [mode, why] : facts.networks) {
        auto& list = why.empty() ? given : refused;
        list += (list.empty() ? "" : ", ") + mode;
        if (!why.empty()) causes += (causes.empty() ? "" : "; ") + mode + ": " + why;
    }
    if (refused.empty()) return {"network", "ok", given, "guests can be given every kind of network", ""};
    return {"network", "warning", given, "a session that asks for " + refused + " is refused", causes};
}

DoctorLine gpu_line(const DoctorFacts& facts) {
    if (facts.gpu.found.empty()) return {"gpu", "ok", "there is none", "requests for GPUs are refused", ""};
    std::string usable, not_usable;
    for (const auto& [address, why] : facts.gpu.found) {
        auto& list = why.empty() ? usable : not_usable;
        list += (list.empty() ? "" : "; ") + address + (why.empty() ? "" : ": " + why);
    }
    if (not_usable.empty()) return {"gpu", "ok", usable, "these could be given to a VM", ""};
    return {
        "gpu", "warning", not_usable, "these cannot be given to a VM; requests for them are refused",
        "enable the IOMMU (intel_iommu=on or amd_iommu=on), bind the whole group to vfio-pci, open /dev/vfio/GROUP"};
}

}  // namespace

std::vector<DoctorLine> judge_host(const DoctorFacts& facts) {
    std::vector<DoctorLine> lines{program_line("qemu", facts.qemu), program_line("qemu-img", facts.qemu_img)};
    if (!facts.accelerator.empty()) lines.push_back(accelerator_line(facts));
    for (auto judge : {kvm_line, windows_line, state_line, image_line, uid_line, groups_line, namespaces_line, ksm_line,
                       swap_line, memory_line, clock_line, gpu_line, network_line})
        lines.push_back(judge(facts));
    return lines;
}

}  // namespace infrastructure_sdk::qemu
