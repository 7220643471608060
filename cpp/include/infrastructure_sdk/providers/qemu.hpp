#pragma once
// The local provider: real QEMU processes that outlive us.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/vm/evidence_source.hpp>
#include <infrastructure_sdk/vm/vm_provider.hpp>

namespace infrastructure_sdk {

enum class AcceleratorChoice { automatic, kvm, tcg };

struct QemuOptions {
    std::string state_directory;  ///< VMs live in <state_directory>/vms/<uuid>; the directory itself is 0711
    std::string qemu_binary = "qemu-system-x86_64";  ///< looked up in PATH
    std::string qemu_img_binary = "qemu-img";
    std::string tpm_binary = "swtpm";                    ///< for VMs with a TPM
    std::string firmware_directory = "/usr/share/OVMF";  ///< for VMs with UEFI
    AcceleratorChoice accelerator = AcceleratorChoice::automatic;
    /// A tiny image that is booted once under KVM to see that it works; empty = KVM is not tried.
    std::string probe_image_directory;
    int translation_cache_mib = 64;
    /// When root, each VM runs under a uid of its own from [uid_base, uid_base + uid_count).
    unsigned uid_base = 610000;
    unsigned uid_count = 10000;
    /// Whether new VMs begin as copies of a guest that has booted, where that can be: see `VmStatus::launch`. The first
    /// VM of a kind waits for the boot of that guest. Templates live in <state_directory>/templates.
    bool fast_launch = false;
    /// Wraps the keys of users; see `make_file_key_store`. Empty = a key made in <state_directory>/keys.
    Secret master_key;
    /// For tests of crashes: called after each effect of the provider with its name, on any thread. Empty = nobody
    /// looks.
    std::function<void(const char* effect)> after_effect;
};

/// Finds QEMU, chooses the accelerator (cached per boot id and QEMU version in the state directory).
/// @throws Error(provider) when QEMU is missing, with what to install.
Task<std::shared_ptr<VmProvider>> make_qemu_provider(Environment environment, QemuOptions options, Call call);

/// A QEMU of this host, whoever started it.
struct QemuProcess {
    std::int64_t pid = 0;
    std::string qmp_socket;  ///< path of a QMP unix socket that is free for us; empty = none is at hand
};
/// Every process that runs a program named qemu-system-* or qemu-kvm, by pid. Processes whose program cannot be seen
/// are left out. Blocking.
std::vector<QemuProcess> find_qemu_processes();
/// What can be seen of it. Without a QMP socket the facts of the monitor are "could not look". Starts and changes
/// nothing.
std::shared_ptr<EvidenceSource> make_process_evidence(Environment environment, QemuProcess process);

struct DoctorLine {
    std::string name;     ///< "qemu", "accelerator", "images", "state-directory", ...
    std::string status;   ///< "ok", "warning", "error"
    std::string detail;   ///< what was found
    std::string meaning;  ///< what it means for the user
    std::string advice;   ///< what to do; empty when ok
};
/// Looks at the host; changes nothing but the cached verdict on KVM.
Task<std::vector<DoctorLine>> qemu_doctor(Environment environment, QemuOptions options, Call call);

}  // namespace infrastructure_sdk
