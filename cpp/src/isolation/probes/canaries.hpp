#pragma once
// Sockets of our own that should not be reached. Blocking, and quick: nothing here waits for anybody.

#include <cstdint>
#include <functional>
#include <set>
#include <string>

namespace infrastructure_sdk::isolation {

/// A TCP and a UDP socket on ports of the kernel's choosing, and what reached them. Each was reached once by ourselves,
/// from where it is allowed: that is the positive control.
class Canary {
public:
    /// Listens in the network namespace that this thread is in.
    /// @param address IPv4, e.g. "127.0.0.1", or "0.0.0.0" for all of this host
    /// @param nonce that the control sends. @throws Error(provider)
    Canary(const std::string& address, std::string nonce);
    ~Canary();
    Canary(const Canary&) = delete;
    Canary& operator=(const Canary&) = delete;

    std::uint16_t tcp_port() const { return tcp_port_; }
    std::uint16_t udp_port() const { return udp_port_; }
    /// Reads what came in since.
    void look();
    bool tcp_alive() const { return tcp_alive_ && !flooded_; }
    bool udp_alive() const { return udp_alive_ && !flooded_; }
    /// Somebody else connected.
    bool was_connected() const { return connected_; }
    /// Payloads that came in over UDP, without the control's.
    const std::set<std::string>& payloads() const { return payloads_; }

private:
    void control(const std::string& address);
    std::string nonce_;
    int tcp_ = -1, udp_ = -1;
    std::uint16_t tcp_port_ = 0, udp_port_ = 0;
    bool tcp_alive_ = false, udp_alive_ = false, connected_ = false, flooded_ = false;
    std::set<std::string> payloads_;
};

}  // namespace infrastructure_sdk::isolation
