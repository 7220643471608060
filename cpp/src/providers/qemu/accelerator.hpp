#pragma once

#include <string>

#include <infrastructure_sdk/providers/qemu.hpp>

namespace infrastructure_sdk::qemu {

struct Accelerator {
    std::string name;    ///< "kvm" or "tcg"
    std::string reason;  ///< for people
    /// Timeouts are stated for KVM; emulation is slower by about this.
    double timeout_scale() const { return name == "kvm" ? 1.0 : 6.0; }
};

/// Boots a guest to its agent under KVM, because the device file alone proves nothing. The verdict is kept in the state
/// directory for this boot of the host and this QEMU.
Task<Accelerator> choose_accelerator(Environment environment, QemuOptions options, std::string program,
                                     std::string version, Call call);

}  // namespace infrastructure_sdk::qemu
