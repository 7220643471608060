#pragma once
// Carries out what network_plan says. Blocking.

#include <set>
#include <string>

#include "providers/qemu/network_plan.hpp"

namespace infrastructure_sdk::qemu {

/// What of the host decides which modes there are; changes nothing. Without its bridges.
NetworkHost look_at_network();
/// The part that may change while we run: whether the host forwards, its name servers and, if asked, its bridges.
void refresh(NetworkHost& host, bool with_bridges);

/// Pure. IPv4 addresses of name servers in the text of a resolv.conf, without those on the loopback.
std::set<std::string> resolvers_in(const std::string& resolv_conf);

/// Tells nft. @throws Error(provider)
void load_rules(const NetworkHost& host, const std::string& rules);
/// Removes the tables of interfaces that are gone. @returns how many. @throws Error(provider)
std::size_t remove_stale_rules(const NetworkHost& host, const std::string& prefix);

bool is_up(const std::string& interface);
/// Whether or not it is there. @throws Error(provider)
void remove_interface(const NetworkHost& host, const std::string& interface);

/// A tap that is gone with its last descriptor. @throws Error(provider)
int make_tap(const std::string& interface);
void connect_port(const NetworkHost& host, const std::string& interface, const std::string& bridge);
/// Makes the VM's way out. On error nothing of it is left. @throws Error(provider), Error(capacity), Error(not_ready)
void connect_uplink(const NetworkHost& host, const std::string& interface, const ProcessIdentity& process);

}  // namespace infrastructure_sdk::qemu
