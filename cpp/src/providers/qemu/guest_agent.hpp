#pragma once
// qemu-guest-agent over virtio-serial.

#include <memory>
#include <string>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/vm/guest_agent.hpp>

namespace infrastructure_sdk::qemu {

/// Connects at the first call and again after a lost connection; starts every connection with guest-sync-delimited, and
/// sends it again after a timeout so that a late answer is never taken for the next one's.
class QemuGuestAgent : public GuestAgent {
public:
    /// Drops the connection (the VM ended or the owner lets go); pending calls fail with Error(not_ready).
    virtual void disconnect() = 0;
};
std::shared_ptr<QemuGuestAgent> make_guest_agent(Environment environment, std::string socket_path);

}  // namespace infrastructure_sdk::qemu
