#pragma once
// What QEMU's monitor says about its user-mode network ("info usernet"). Pure.

#include <cstdint>
#include <string>
#include <vector>

#include <infrastructure_sdk/vm/guest_agent.hpp>

namespace infrastructure_sdk::qemu {

struct UsernetLine {
    std::string state;   ///< "HOST_FORWARD", "ESTABLISHED", "SYN_SENT", ...
    std::string source;  ///< of a HOST_FORWARD: where the host listens
    std::uint16_t source_port = 0;
    std::string target;  ///< in the guest
    std::uint16_t target_port = 0;
};

/// The TCP lines of the answer. Lines of another form are left out.
std::vector<UsernetLine> parse_usernet(const std::string& text);

/// Where the guest's card is in QEMU's network 10.0.2.0/24, by what the guest says: DHCP gives a copy of another guest
/// the next free address. "10.0.2.15", the first, if it says nothing that can be.
std::string forward_target(const std::vector<GuestInterface>& interfaces, const std::string& mac_address);

}  // namespace infrastructure_sdk::qemu
