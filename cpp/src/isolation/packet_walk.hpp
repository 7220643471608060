#pragma once
// What the host's packet filter does with one packet. Pure.

#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace infrastructure_sdk::isolation {

/// The first packet of a new connection.
struct TracedPacket {
    std::string hook;                ///< "input" (for the host itself) or "forward"
    std::string incoming, outgoing;  ///< interfaces; empty = none of those that rules name
    std::uint32_t from = 0, to = 0;  ///< addresses, in the order of the host
    std::string protocol = "tcp";
    std::uint16_t port = 80;  ///< where to
    bool ipv6 = false;        ///< then its addresses are any
};
/// 203.0.113.1 as a number; nullopt for anything else.
std::optional<std::uint32_t> address_number(const std::string& text);

/// True when some base chain of the families inet and ip (or ip6) drops it, false when all let it pass; nullopt when a
/// rule that may concern it is more than is understood here.
/// @param ruleset the output of `nft -j list ruleset`
std::optional<bool> is_dropped(const nlohmann::json& ruleset, const TracedPacket& packet);

}  // namespace infrastructure_sdk::isolation
