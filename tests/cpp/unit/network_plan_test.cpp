// How a VM is connected, as data.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "providers/qemu/command_line.hpp"
#include "providers/qemu/network.hpp"
#include "providers/qemu/network_plan.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

NetworkHost able() {
    NetworkHost host;
    host.root = host.namespaces = host.tun = host.forwards = true;
    host.ip_program = "/sbin/ip";
    host.bridge_program = "/sbin/bridge";
    host.nft_program = "/sbin/nft";
    host.bridges = {"br0", "br1"};
    return host;
}

VmSpec connected(NetworkMode mode) {
    VmSpec spec;
    spec.id.value = "11111111-2222-4333-8444-555555555555";
    spec.mac_address = "02:11:22:33:44:55";
    spec.network = mode;
    return spec;
}

TEST(NetworkPlan, EveryModeIsGivenWhereEverythingIsThere) {
    for (const auto& name : network_mode_names())
        EXPECT_EQ(refusal_of(parse_network_mode(name), name == "bridge" ? "br1" : "", able()), "") << name;
}

TEST(NetworkPlan, NoneAndIsolatedNeedNothing) {
    EXPECT_EQ(refusal_of(NetworkMode::none, "", {}), "");
    EXPECT_EQ(refusal_of(NetworkMode::isolated, "", {}), "");
}

TEST(NetworkPlan, EachThingThatIsMissingIsNamed) {
    struct Row {
        void (*lose)(NetworkHost&);
        const char* internet;
        const char* bridge;
    };
    const Row rows[] = {
        {[](NetworkHost& h) { h.root = false; }, "root", "root"},
        {[](NetworkHost& h) { h.namespaces = false; }, "namespaces", ""},
        {[](NetworkHost& h) { h.ip_program.clear(); }, "iproute2", "iproute2"},
        {[](NetworkHost& h) { h.bridge_program.clear(); }, "", "iproute2"},
        {[](NetworkHost& h) { h.nft_program.clear(); }, "nftables", "nftables"},
        {[](NetworkHost& h) { h.nft_refusal = "Operation not supported"; }, "Operation not supported",
         "Operation not supported"},
        {[](NetworkHost& h) { h.forwards = false; }, "sysctl -w net.ipv4.ip_forward=1", ""},
        {[](NetworkHost& h) { h.tun = false; }, "", "/dev/net/tun"},
        {[](NetworkHost& h) { h.bridges = {"br1"}; }, "", "no bridge 'br0'; there is br1"},
        {[](NetworkHost& h) { h.bridges.clear(); }, "", "there is none"},
    };
    auto expect = [](const std::string& why, const std::string& wanted) {
        if (wanted.empty()) EXPECT_EQ(why, "");
        else EXPECT_NE(why.find(wanted), std::string::npos) << why;
    };
    for (const auto& row : rows) {
        auto host = able();
        row.lose(host);
        expect(refusal_of(NetworkMode::internet, "", host), row.internet);
        expect(refusal_of(NetworkMode::bridge, "br0", host), row.bridge);
    }
}

TEST(NetworkPlan, TheRulesOfInternetAreExactlyThese) {
    EXPECT_EQ(packet_rules(connected(NetworkMode::internet), "isdkabcd1234567", {"192.0.2.53", "10.0.0.2"}),
              "add table inet isdkabcd1234567\n"
              "delete table inet isdkabcd1234567\n"
              "table inet isdkabcd1234567 {\n"
              "chain to_host {\n"
              "type filter hook input priority -300; policy accept;\n"
              "iifname \"isdkabcd1234567\" counter drop\n"
              "}\n"
              "chain forwarded {\n"
              "type filter hook forward priority -300; policy accept;\n"
              "iifname \"isdkabcd1234567\" jump from_guest\n"
              "oifname \"isdkabcd1234567\" ct state established,related accept\n"
              "oifname \"isdkabcd1234567\" counter drop\n"
              "}\n"
              "chain from_guest {\n"
              "meta nfproto != ipv4 counter drop\n"
              "ip saddr != 198.19.0.0/16 counter drop\n"
              "oifname \"isdk*\" counter drop\n"
              "ip daddr 10.0.0.2 udp dport 53 accept\n"
              "ip daddr 10.0.0.2 tcp dport 53 accept\n"
              "ip daddr 192.0.2.53 udp dport 53 accept\n"
              "ip daddr 192.0.2.53 tcp dport 53 accept\n"
              "ip daddr { 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 168.63.129.16, 169.254.0.0/16, "
              "172.16.0.0/12, 192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3 } counter drop\n"
              "}\n"
              "chain leaving {\n"
              "type nat hook postrouting priority 100; policy accept;\n"
              "iifname \"isdkabcd1234567\" masquerade\n"
              "}\n"
              "}\n");
}

TEST(NetworkPlan, TheRulesOfABridgeAreExactlyThese) {
    EXPECT_EQ(packet_rules(connected(NetworkMode::bridge), "isdkabcd1234567", {"192.0.2.53"}),
              "add table bridge isdkabcd1234567\n"
              "delete table bridge isdkabcd1234567\n"
              "table bridge isdkabcd1234567 {\n"
              "chain from_guest {\n"
              "type filter hook prerouting priority -300; policy accept;\n"
              "iifname \"isdkabcd1234567\" ether saddr != 02:11:22:33:44:55 counter drop\n"
              "iifname \"isdkabcd1234567\" arp saddr ether != 02:11:22:33:44:55 counter drop\n"
              "iifname \"isdkabcd1234567\" udp sport { 67, 547 } counter drop\n"
              "iifname \"isdkabcd1234567\" icmpv6 type { nd-router-advert, nd-redirect } counter drop\n"
              "}\n"
              "chain between_guests {\n"
              "type filter hook forward priority -300; policy accept;\n"
              "iifname \"isdkabcd1234567\" oifname \"isdk*\" counter drop\n"
              "}\n"
              "}\n");
    EXPECT_EQ(packet_rules(connected(NetworkMode::isolated), "isdkabcd1234567", {}), "");
    EXPECT_EQ(packet_rules(connected(NetworkMode::none), "isdkabcd1234567", {}), "");
}

TEST(NetworkPlan, ALimitIsOneForBothDirectionsAndComesBeforeEverythingElse) {
    auto spec = connected(NetworkMode::internet);
    spec.limits.network_bytes_per_second = 8 << 20;
    auto has = [](const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; };
    const auto internet = packet_rules(spec, "isdk1", {});
    EXPECT_TRUE(has(internet,
                    "table inet isdk1 {\n"
                    "limit bandwidth { rate over 8388608 bytes/second burst 2097152 bytes ; }\n"))
        << internet;
    EXPECT_TRUE(has(internet,
                    "priority -300; policy accept;\n"
                    "iifname \"isdk1\" limit name \"bandwidth\" counter drop\n"
                    "oifname \"isdk1\" limit name \"bandwidth\" counter drop\n"
                    "iifname \"isdk1\" jump from_guest\n"))
        << internet;
    spec.network = NetworkMode::bridge;
    spec.limits.network_bytes_per_second = 1024;
    const auto bridge = packet_rules(spec, "isdk1", {});
    EXPECT_TRUE(has(bridge, "limit bandwidth { rate over 1024 bytes/second burst 131072 bytes ; }\n")) << bridge;
    EXPECT_TRUE(has(bridge,
                    "iifname \"isdk1\" limit name \"bandwidth\" counter drop\n}\n"
                    "chain to_guest {\ntype filter hook postrouting priority -300; policy accept;\n"
                    "oifname \"isdk1\" limit name \"bandwidth\" counter drop\n}\n"))
        << bridge;
    auto host = able();
    EXPECT_EQ(refusal_of_limits(host), "");
    host.limit_refusal = "the kernel has no nft_limit";
    EXPECT_EQ(refusal_of_limits(host), "the kernel has no nft_limit");
    host.nft_program.clear();
    EXPECT_TRUE(has(refusal_of_limits(host), "apt-get install nftables"));
    host.root = false;
    EXPECT_TRUE(has(refusal_of_limits(host), "root"));
}

TEST(NetworkPlan, TheStepsAreExactlyTheseAndTheLastOneOpens) {
    EXPECT_EQ(uplink_steps(able(), "isdkabcd1234567", {"198.19.0.2", "198.19.0.3"}, "/proc/7/fd/9"),
              (std::vector<NetworkStep>{
                  {true,
                   {"/sbin/ip", "link", "add", "uplink", "type", "veth", "peer", "name", "isdkabcd1234567", "netns",
                    "/proc/7/fd/9"}},
                  {true, {"/sbin/ip", "address", "add", "198.19.0.3/31", "dev", "uplink"}},
                  {true, {"/sbin/ip", "link", "set", "uplink", "up"}},
                  {true, {"/sbin/ip", "route", "add", "default", "via", "198.19.0.2"}},
                  {false, {"/sbin/ip", "link", "set", "isdkabcd1234567", "addrgenmode", "none"}},
                  {false, {"/sbin/ip", "address", "add", "198.19.0.2/31", "dev", "isdkabcd1234567"}},
                  {false, {"/sbin/ip", "link", "set", "isdkabcd1234567", "up"}},
              }));
    EXPECT_EQ(
        port_steps(able(), "isdkabcd1234567", "br0"),
        (std::vector<NetworkStep>{
            {false, {"/sbin/ip", "link", "set", "isdkabcd1234567", "addrgenmode", "none"}},
            {false, {"/sbin/ip", "link", "set", "isdkabcd1234567", "master", "br0"}},
            {false, {"/sbin/bridge", "link", "set", "dev", "isdkabcd1234567", "isolated", "on", "hairpin", "off"}},
            {false, {"/sbin/ip", "link", "set", "isdkabcd1234567", "up"}},
        }));
}

TEST(NetworkPlan, QemuIsToldExactlyThis) {
    EXPECT_EQ(netdev_of(NetworkMode::none), "");
    EXPECT_EQ(netdev_of(NetworkMode::isolated), "user,id=net0,restrict=on,ipv6=off");
    EXPECT_EQ(netdev_of(NetworkMode::internet), "user,id=net0,ipv6=off");
    EXPECT_EQ(netdev_of(NetworkMode::bridge), "tap,id=net0,fd=19");
    for (auto mode : {NetworkMode::isolated, NetworkMode::internet, NetworkMode::bridge}) {
        const auto line = command_line(connected(mode), {});
        auto netdev = std::find(line.begin(), line.end(), "-netdev");
        ASSERT_NE(netdev, line.end());
        EXPECT_EQ(*(netdev + 1), netdev_of(mode));
    }
}

TEST(NetworkPlan, NamesFitTheKernelAndFollowFolderAndVm) {
    const auto prefix = network_prefix("8:1234");
    const auto name = interface_name(prefix, connected(NetworkMode::bridge).id);
    EXPECT_EQ(name.size(), 15u);
    EXPECT_TRUE(is_interface_name(name));
    EXPECT_TRUE(name.starts_with(prefix));
    EXPECT_EQ(name, interface_name(network_prefix("8:1234"), connected(NetworkMode::bridge).id));
    EXPECT_NE(name, interface_name(network_prefix("8:1235"), connected(NetworkMode::bridge).id));
    EXPECT_NE(name, interface_name(prefix, {"11111111-2222-4333-8444-555555555556"}));
}

TEST(NetworkPlan, NoTwoVmsGetOneAddress) {
    std::set<std::string> used;
    for (int i = 0; i < 2000; ++i) {
        const VmId id{"vm-" + std::to_string(i % 100)};
        const auto pair = uplink_addresses(id, used);
        EXPECT_TRUE(pair.host.starts_with("198.19.")) << pair.host;
        EXPECT_TRUE(used.insert(pair.host).second) << pair.host;
        EXPECT_TRUE(used.insert(pair.guest).second) << pair.guest;
        const auto last = std::stoi(pair.host.substr(pair.host.rfind('.') + 1));
        EXPECT_EQ(last % 2, 0) << "a /31 begins at an even address";
        EXPECT_EQ(pair.guest.substr(pair.guest.rfind('.') + 1), std::to_string(last + 1));
    }
    for (int high = 0; high < 256; ++high)
        for (int low = 0; low < 256; low += 2)
            used.insert("198.19." + std::to_string(high) + "." + std::to_string(low));
    try {
        uplink_addresses({"one-more"}, used);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::capacity);
    }
}

TEST(NetworkPlan, OnlyOurTablesWithoutAnInterfaceAreStale) {
    auto table = [](const std::string& name) {
        return nlohmann::json{{"table", {{"family", "inet"}, {"name", name}}}};
    };
    nlohmann::json listed{{"nftables",
                           {{{"metainfo", {{"version", "1"}}}},
                            table("isdk00010000001"),
                            table("isdk00010000002"),
                            table("isdk00020000003"),
                            table("isdk0001-not-ours"),
                            table("filter"),
                            {{"table", {{"name", 7}}}},
                            {{"table", "odd"}},
                            "odd"}}};
    EXPECT_EQ(stale_interfaces(listed, "isdk0001", {"isdk00010000002", "eth0"}),
              std::set<std::string>{"isdk00010000001"});
    for (const char* odd : {"null", "[]", "7", "{}", R"({"nftables": 7})", R"({"nftables": {"table": {}}})"})
        EXPECT_TRUE(stale_interfaces(nlohmann::json::parse(odd), "isdk0001", {}).empty()) << odd;
}

TEST(NetworkPlan, NameServersOnTheLoopbackAreNone) {
    EXPECT_EQ(resolvers_in("# one\nnameserver 127.0.0.53\nnameserver 10.1.2.3\n nameserver\t192.0.2.1 \n"
                           "nameserver ::1\nnameserver 1.2.3.4;x\nsearch nameserver\nnameserver"),
              (std::set<std::string>{"10.1.2.3", "192.0.2.1"}));
    EXPECT_TRUE(resolvers_in("").empty());
}

TEST(NetworkMode, WrongNamesAreRefusedWithASuggestion) {
    for (const auto& name : network_mode_names()) EXPECT_EQ(name_of(parse_network_mode(name)), name);
    try {
        parse_network_mode("internett");
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::validation);
        EXPECT_NE(std::string(error.message()).find("did you mean 'internet'?"), std::string::npos);
    }
    for (const char* bad : {"", ".", "..", "-br0", "br 0", "br/0", "br0\n", "a2345678901234567", "br\"0"})
        EXPECT_FALSE(is_interface_name(bad)) << bad;
    EXPECT_TRUE(is_interface_name("br-0a1b2c3d4e5f"));
}

}  // namespace
}  // namespace infrastructure_sdk::qemu
