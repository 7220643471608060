#include "providers/qemu/network_plan.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/sha256.hpp"
#include "providers/qemu/command_line.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

constexpr std::size_t prefix_length = 8;
constexpr unsigned pair_count = 1u << 15;  // of addresses in a /16
constexpr const char* own_interfaces = "isdk*";

// What is never the internet (RFC 6890), and what clouds keep there: metadata services have addresses in 169.254/16,
// Alibaba's is in 100.64/10, Azure's is the one public address. 198.18/15 holds our own.
constexpr const char* denied =
    "{ 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 168.63.129.16, 169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24, "
    "192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3 }";

std::string quoted(const std::string& name) { return '"' + name + '"'; }

/// "add" makes the "delete" succeed where there is none.
std::string without_table(const char* family, const std::string& interface) {
    auto table = std::string(" table ") + family + " " + interface + "\n";
    return "add" + table + "delete" + table;
}

std::string address_at(unsigned offset) {
    return "198.19." + std::to_string(offset >> 8) + "." + std::to_string(offset & 255);
}

/// Sent and received share one limit. Packets above it are dropped, to which senders adapt. A quarter of a second may
/// come at once, and always the largest packet that an interface hands over.
std::string bandwidth_limit(const VmLimits& limits) {
    if (limits.network_bytes_per_second == 0) return {};
    constexpr std::uint64_t least = 128u << 10, most = 1u << 30;
    const auto burst = std::clamp(limits.network_bytes_per_second / 4, least, most);
    return "limit bandwidth { rate over " + std::to_string(limits.network_bytes_per_second) + " bytes/second burst " +
           std::to_string(burst) + " bytes ; }\n";
}

std::string above_limit(const VmLimits& limits, const std::string& packets) {
    return limits.network_bytes_per_second == 0 ? std::string() : packets + " limit name \"bandwidth\" counter drop\n";
}

/// Before every other filter (-300): what others accept was dropped before.
std::string internet_rules(const std::string& interface, const VmLimits& limits,
                           const std::set<std::string>& resolvers) {
    const auto own = quoted(interface);
    std::string text = "table inet " + interface + " {\n" + bandwidth_limit(limits);
    text += "chain to_host {\ntype filter hook input priority -300; policy accept;\n";
    text += "iifname " + own + " counter drop\n}\n";
    text += "chain forwarded {\ntype filter hook forward priority -300; policy accept;\n";
    text += above_limit(limits, "iifname " + own) + above_limit(limits, "oifname " + own);
    text += "iifname " + own + " jump from_guest\n";
    text += "oifname " + own + " ct state established,related accept\n";
    text += "oifname " + own + " counter drop\n}\n";
    text += "chain from_guest {\nmeta nfproto != ipv4 counter drop\n";
    text += "ip saddr != 198.19.0.0/16 counter drop\n";
    text += std::string("oifname ") + quoted(own_interfaces) + " counter drop\n";
    for (const auto& address : resolvers)
        for (const char* protocol : {"udp", "tcp"})
            text += "ip daddr " + address + " " + protocol + " dport 53 accept\n";
    text += std::string("ip daddr ") + denied + " counter drop\n}\n";
    text += "chain leaving {\ntype nat hook postrouting priority 100; policy accept;\n";
    text += "iifname " + own + " masquerade\n}\n}\n";
    return text;
}

/// A guest speaks with its own address only, and plays neither DHCP server nor router.
std::string bridge_rules(const std::string& interface, const VmLimits& limits, const std::string& mac) {
    const auto own = "iifname " + quoted(interface);
    std::string text = "table bridge " + interface + " {\n" + bandwidth_limit(limits);
    text += "chain from_guest {\ntype filter hook prerouting priority -300; policy accept;\n";
    text += own + " ether saddr != " + mac + " counter drop\n";
    text += own + " arp saddr ether != " + mac + " counter drop\n";
    text += own + " udp sport { 67, 547 } counter drop\n";
    text += own + " icmpv6 type { nd-router-advert, nd-redirect } counter drop\n" + above_limit(limits, own) + "}\n";
    if (limits.network_bytes_per_second > 0)
        text += "chain to_guest {\ntype filter hook postrouting priority -300; policy accept;\n" +
                above_limit(limits, "oifname " + quoted(interface)) + "}\n";
    text += "chain between_guests {\ntype filter hook forward priority -300; policy accept;\n";
    text += own + " oifname " + quoted(own_interfaces) + " counter drop\n}\n}\n";
    return text;
}

std::string internet_refusal(const NetworkHost& host) {
    if (!host.root) return "it takes root: only rules of the host keep a guest from the host's own network";
    if (!host.namespaces) return "this process may not make network namespaces";
    if (host.ip_program.empty()) return "ip is not there; apt-get install iproute2";
    if (host.nft_program.empty()) return "nft is not there; apt-get install nftables";
    if (!host.nft_refusal.empty()) return "nft cannot load rules: " + host.nft_refusal;
    if (!host.forwards)
        return "net.ipv4.ip_forward is 0, so this host forwards nothing; sysctl -w net.ipv4.ip_forward=1";
    return {};
}

std::string bridge_refusal(const std::string& bridge, const NetworkHost& host) {
    if (!host.root) return "it takes root: a port of a bridge and its rules are the host's";
    if (!host.tun) return "/dev/net/tun cannot be opened; modprobe tun";
    if (host.ip_program.empty() || host.bridge_program.empty())
        return "ip and bridge are not there; apt-get install iproute2";
    if (host.nft_program.empty()) return "nft is not there; apt-get install nftables";
    if (!host.nft_refusal.empty()) return "nft cannot load rules: " + host.nft_refusal;
    if (!bridge.empty() && !host.bridges.contains(bridge)) {
        std::string known;
        for (const auto& name : host.bridges) known += (known.empty() ? "" : ", ") + name;
        return "this host has no bridge '" + bridge + "'; there " +
               (known.empty() ? "is none" : std::string(host.bridges.size() == 1 ? "is " : "are ") + known);
    }
    return {};
}

}  // namespace

std::string refusal_of(NetworkMode mode, const std::string& bridge, const NetworkHost& host) {
    if (mode == NetworkMode::internet) return internet_refusal(host);
    if (mode == NetworkMode::bridge) return bridge_refusal(bridge, host);
    return {};
}

std::string refusal_of_limits(const NetworkHost& host) {
    if (!host.root) return "it takes root: rules of the host count what a guest sends and receives";
    if (host.nft_program.empty()) return "nft is not there; apt-get install nftables";
    return host.limit_refusal;
}

std::string network_prefix(const std::string& identity) { return "isdk" + sha256_hex(identity).substr(0, 4); }

std::string interface_name(const std::string& prefix, const VmId& id) {
    return prefix + sha256_hex(id.value).substr(0, 7);
}

UplinkAddresses uplink_addresses(const VmId& id, const std::set<std::string>& used) {
    const auto first = std::stoul(sha256_hex(id.value).substr(0, 4), nullptr, 16);
    for (unsigned i = 0; i < pair_count; ++i) {
        const auto offset = static_cast<unsigned>((first + i) % pair_count) * 2;
        UplinkAddresses pair{address_at(offset), address_at(offset + 1)};
        if (!used.contains(pair.host) && !used.contains(pair.guest)) return pair;
    }
    throw Error(Errc::capacity, "all addresses of 198.19.0.0/16 are in use", {{"field", "network.mode"}});
}

std::string packet_rules(const VmSpec& spec, const std::string& interface, const std::set<std::string>& resolvers) {
    if (spec.network == NetworkMode::internet)
        return without_table("inet", interface) + internet_rules(interface, spec.limits, resolvers);
    if (spec.network == NetworkMode::bridge)
        return without_table("bridge", interface) + bridge_rules(interface, spec.limits, spec.mac_address);
    return {};
}

std::string without_packet_rules(const std::string& interface) {
    return without_table("inet", interface) + without_table("bridge", interface);
}

std::set<std::string> stale_interfaces(const nlohmann::json& listed, const std::string& prefix,
                                       const std::set<std::string>& there) {
    std::set<std::string> stale;
    const auto entries = listed.is_object() ? listed.value("nftables", nlohmann::json::array()) : nlohmann::json();
    for (const auto& entry : entries) {
        if (!entry.is_object() || !entry.contains("table") || !entry["table"].is_object()) continue;
        const auto& table = entry["table"];
        if (!table.contains("name") || !table["name"].is_string()) continue;
        const auto name = table["name"].get<std::string>();
        const bool ours = name.size() == prefix_length + 7 && name.starts_with(prefix);
        if (ours && !there.contains(name)) stale.insert(name);
    }
    return stale;
}

std::vector<NetworkStep> uplink_steps(const NetworkHost& host, const std::string& interface,
                                      const UplinkAddresses& addresses, const std::string& host_namespace) {
    const auto& ip = host.ip_program;
    return {
        {true, {ip, "link", "add", "uplink", "type", "veth", "peer", "name", interface, "netns", host_namespace}},
        {true, {ip, "address", "add", addresses.guest + "/31", "dev", "uplink"}},
        {true, {ip, "link", "set", "uplink", "up"}},
        {true, {ip, "route", "add", "default", "via", addresses.host}},
        {false, {ip, "link", "set", interface, "addrgenmode", "none"}},
        {false, {ip, "address", "add", addresses.host + "/31", "dev", interface}},
        {false, {ip, "link", "set", interface, "up"}},
    };
}

std::vector<NetworkStep> port_steps(const NetworkHost& host, const std::string& interface, const std::string& bridge) {
    return {
        {false, {host.ip_program, "link", "set", interface, "addrgenmode", "none"}},
        {false, {host.ip_program, "link", "set", interface, "master", bridge}},
        {false, {host.bridge_program, "link", "set", "dev", interface, "isolated", "on", "hairpin", "off"}},
        {false, {host.ip_program, "link", "set", interface, "up"}},
    };
}

std::string netdev_of(NetworkMode mode) {
    switch (mode) {
        case NetworkMode::none: return {};
        // restrict=on: without it the guest reads what listens on the host's loopback.
        case NetworkMode::isolated: return "user,id=net0,restrict=on,ipv6=off";
        case NetworkMode::internet: return "user,id=net0,ipv6=off";
        case NetworkMode::bridge: return "tap,id=net0,fd=" + std::to_string(inherited::tap);
    }
    return {};
}

}  // namespace infrastructure_sdk::qemu
