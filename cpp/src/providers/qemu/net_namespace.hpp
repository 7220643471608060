#pragma once
// Sockets in the network namespace of a VM's process. Blocking.

#include <cstdint>
#include <memory>

#include "core/network_visit.hpp"
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk::qemu {

/// @throws Error(unsupported, capability=forward) without the right to, Error(not_ready) when the process is gone
std::unique_ptr<NetworkVisit> visit_network(const ProcessIdentity& process);

/// Brings the loopback of the process's namespace up, if it is not ours. A new namespace has it down.
/// @throws Error(unsupported, capability=forward) without the right to, Error(not_ready) when the process is gone
void raise_loopback(const ProcessIdentity& process);
/// A non-blocking TCP socket, connected to 127.0.0.1 there. @throws as above, Error(provider)
int connect_loopback(const ProcessIdentity& process, std::uint16_t port);

}  // namespace infrastructure_sdk::qemu
