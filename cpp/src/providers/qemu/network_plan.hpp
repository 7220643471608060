#pragma once
// How a VM is connected, as data: what QEMU is told, which interface the host has for it, which packet rules guard that
// interface and which commands set it up. Pure: the shell in network.cpp carries it out.
//
//   none      no card
//   isolated  QEMU's user-mode network with restrict=on: it forwards nothing
//   internet  QEMU's user-mode network in the VM's own network namespace, whose one way out is a veth pair. The host
//             forwards and masquerades what the rules let through. The guest's "host loopback" is that of its
//             namespace.
//   bridge    a tap that is a port of a bridge of the host; the port is isolated from other isolated ports
//
// Both interfaces end with the VM's process: a veth pair with its namespace, a tap with its last descriptor.

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk::qemu {

/// What of the host decides which modes there are.
struct NetworkHost {
    bool root = false;
    std::string ip_program;           ///< absolute path of iproute2's ip; empty = there is none
    std::string bridge_program;       ///< of its bridge
    std::string nft_program;          ///< of nftables' nft
    std::string nft_refusal;          ///< why rules of this kind cannot be loaded; empty = they can
    std::string limit_refusal;        ///< why rules cannot hold an interface to a bandwidth; empty = they can
    bool namespaces = false;          ///< a network namespace of its own can be had
    bool tun = false;                 ///< /dev/net/tun can be opened
    bool forwards = false;            ///< net.ipv4.ip_forward
    std::set<std::string> bridges;    ///< names
    std::set<std::string> resolvers;  ///< IPv4 addresses of name servers that are not on the loopback
};

/// Why a VM cannot be connected so; empty = it can. An empty `bridge` asks for the mode alone.
std::string refusal_of(NetworkMode mode, const std::string& bridge, const NetworkHost& host);

/// Why rules cannot hold interfaces of VMs to a bandwidth; empty = they can.
std::string refusal_of_limits(const NetworkHost& host);

/// Prefix of all interfaces and tables of an installation: "isdk" and four hex digits.
/// @param identity of its folder, the same for as long as the folder is there
std::string network_prefix(const std::string& identity);
/// Of a VM's interface on the host, 15 characters; also the name of its tables.
std::string interface_name(const std::string& prefix, const VmId& id);

/// The two ends of a veth pair, of a /31 in 198.19.0.0/16 (RFC 2544: never routed in the internet).
struct UplinkAddresses {
    std::string host;
    std::string guest;
};
/// Where a search begins is decided by the VM's id. @param used addresses of the host's interfaces.
/// @throws Error(capacity) when there is no free pair
UplinkAddresses uplink_addresses(const VmId& id, const std::set<std::string>& used);

/// Input of `nft` that replaces the tables of the interface as one transaction; empty for modes without one.
std::string packet_rules(const VmSpec& spec, const std::string& interface, const std::set<std::string>& resolvers);
/// Input of `nft` that removes them, whether they are there or not.
std::string without_packet_rules(const std::string& interface);
/// Interfaces that have tables but are not there any more. @param listed output of `nft -j list tables`.
std::set<std::string> stale_interfaces(const nlohmann::json& listed, const std::string& prefix,
                                       const std::set<std::string>& there);

/// A program and its arguments.
struct NetworkStep {
    bool inside = false;  ///< in the VM's network namespace
    std::vector<std::string> words;
    friend bool operator==(const NetworkStep&, const NetworkStep&) = default;
};
/// Makes the veth pair. The last step lets packets through.
/// @param host_namespace path of the host's, as seen from inside
std::vector<NetworkStep> uplink_steps(const NetworkHost& host, const std::string& interface,
                                      const UplinkAddresses& addresses, const std::string& host_namespace);
/// Makes a tap that is there a port of the bridge. The last step lets packets through.
std::vector<NetworkStep> port_steps(const NetworkHost& host, const std::string& interface, const std::string& bridge);

/// The argument of QEMU's -netdev; empty = no card.
std::string netdev_of(NetworkMode mode);

}  // namespace infrastructure_sdk::qemu
