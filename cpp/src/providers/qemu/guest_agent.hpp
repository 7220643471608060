#pragma once
// qemu-guest-agent over virtio-serial.

#include <functional>
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

    struct Freeze {
        bool frozen = false;  ///< the guest's file systems were flushed and held while the work ran
        bool thawed = true;   ///< false: the guest did not say that it let go of them
    };
    /// Runs `work` once, between freeze and thaw if the guest can do that; other requests wait meanwhile, because a
    /// frozen guest refuses them. What fails about freezing does not fail the work; what the work throws is thrown
    /// after the thaw.
    virtual Task<Freeze> while_frozen(std::function<Task<void>()> work, Call call) = 0;
    /// @throws as any request. Thawing what is not frozen is fine.
    virtual Task<void> thaw(Call call) = 0;
    /// What the guest's clock says. @throws as any request
    virtual Task<WallTime> time(Call call) = 0;
};
std::shared_ptr<QemuGuestAgent> make_guest_agent(Environment environment, std::string socket_path);

}  // namespace infrastructure_sdk::qemu
