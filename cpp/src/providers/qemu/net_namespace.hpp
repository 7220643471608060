#pragma once
// Sockets in the network namespace of a VM's process. Blocking.

#include <cstdint>
#include <string>

#include "providers/qemu/descriptors.hpp"
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk::qemu {

/// This thread is in the process's network namespace until the end of the block; sockets stay where they were made.
class Visit {
public:
    /// @throws Error(unsupported, capability=forward) without the right to, Error(not_ready) when the process is gone
    explicit Visit(const ProcessIdentity& process);
    // A pool's thread that stays in a guest's namespace would do other work there.
    ~Visit();
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;
    /// False when the process is in ours.
    bool is_away() const { return away_; }

private:
    Descriptors files_;
    int own_ = -1;
    bool away_ = false;
};

/// Brings the loopback of the process's namespace up, if it is not ours. A new namespace has it down.
/// @throws Error(unsupported, capability=forward) without the right to, Error(not_ready) when the process is gone
void raise_loopback(const ProcessIdentity& process);
/// A non-blocking TCP socket, connected to 127.0.0.1 there. @throws as above, Error(provider)
int connect_loopback(const ProcessIdentity& process, std::uint16_t port);

}  // namespace infrastructure_sdk::qemu
