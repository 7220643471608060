#pragma once
// What QEMU's monitor says about its user-mode network ("info usernet"). Pure.

#include <cstdint>
#include <string>
#include <vector>

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

}  // namespace infrastructure_sdk::qemu
