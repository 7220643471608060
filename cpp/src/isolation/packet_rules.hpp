#pragma once
// What a packet filter does with a tap's packets that no rule allows. Pure.

#include <string>

#include <nlohmann/json.hpp>

namespace infrastructure_sdk::isolation {

enum class Default {
    denied,   ///< dropped unless a rule names them
    none,     ///< they pass
    unclear,  ///< the rules are more than is understood here
};
/// `ruleset`: the output of `nft -j list ruleset`. `to_guest`: packets that leave through the tap; else those that come
/// from it. Looks at base chains of the forward hook with policy drop, where every accepting rule must name an
/// interface (or the state of a connection), and none may accept everything of this tap. IPv4 and IPv6 each need one.
Default nft_default(const nlohmann::json& ruleset, const std::string& tap, bool to_guest);
/// The line between the output of `iptables-save` and that of `ip6tables-save`.
inline constexpr const char* ipv6_part = "# IPv6";
/// `rules`: both, or without the line and what follows the first alone, which denies nothing for sure.
Default iptables_default(const std::string& rules);

}  // namespace infrastructure_sdk::isolation
