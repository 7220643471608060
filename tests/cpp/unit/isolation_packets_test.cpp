// What the packet filter does with one packet, upon rules as nft 1.0.6 lists those of a VM that may reach the internet;
// and what the checks make of it.

#include <gtest/gtest.h>

#include "isolation/packet_walk.hpp"
#include "support/isolation_scene.hpp"

namespace infrastructure_sdk {
namespace {

using isolation::address_number;
using isolation::is_dropped;
using isolation::TracedPacket;
using nlohmann::json;
using test::Scene;

const char* const listed = R"json({"nftables":[
{"table":{"family":"inet","name":"isdk1"}},
{"chain":{"family":"inet","table":"isdk1","name":"to_host","type":"filter","hook":"input","prio":-300,"policy":"accept"}},
{"chain":{"family":"inet","table":"isdk1","name":"forwarded","type":"filter","hook":"forward","prio":-300,"policy":"accept"}},
{"chain":{"family":"inet","table":"isdk1","name":"from_guest"}},
{"chain":{"family":"inet","table":"isdk1","name":"leaving","type":"nat","hook":"postrouting","prio":100,"policy":"accept"}},
{"rule":{"family":"inet","table":"isdk1","chain":"to_host","expr":[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"isdk1"}},{"counter":{"packets":0,"bytes":0}},{"drop":null}]}},
{"rule":{"family":"inet","table":"isdk1","chain":"forwarded","expr":[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"isdk1"}},{"jump":{"target":"from_guest"}}]}},
{"rule":{"family":"inet","table":"isdk1","chain":"forwarded","expr":[{"match":{"op":"==","left":{"meta":{"key":"oifname"}},"right":"isdk1"}},{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}},{"accept":null}]}},
{"rule":{"family":"inet","table":"isdk1","chain":"forwarded","expr":[{"match":{"op":"==","left":{"meta":{"key":"oifname"}},"right":"isdk1"}},{"counter":{"packets":0,"bytes":0}},{"drop":null}]}},
{"rule":{"family":"inet","table":"isdk1","chain":"from_guest","expr":[{"match":{"op":"!=","left":{"meta":{"key":"nfproto"}},"right":"ipv4"}},{"counter":{"packets":0,"bytes":0}},{"drop":null}]}},
{"rule":{"family":"inet","table":"isdk1","chain":"from_guest","expr":[{"match":{"op":"!=","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"198.19.0.0","len":16}}}},{"counter":{"packets":0,"bytes":0}},{"drop":null}]}},
{"rule":{"family":"inet","table":"isdk1","chain":"from_guest","expr":[{"match":{"op":"==","left":{"meta":{"key":"oifname"}},"right":"isdk*"}},{"counter":{"packets":0,"bytes":0}},{"drop":null}]}},
{"rule":{"family":"inet","table":"isdk1","chain":"from_guest","expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":"192.168.1.1"}},{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":53}},{"accept":null}]}},
{"rule":{"family":"inet","table":"isdk1","chain":"from_guest","expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":{"set":[{"prefix":{"addr":"0.0.0.0","len":8}},{"prefix":{"addr":"10.0.0.0","len":8}},{"prefix":{"addr":"100.64.0.0","len":10}},{"prefix":{"addr":"127.0.0.0","len":8}},"168.63.129.16",{"prefix":{"addr":"169.254.0.0","len":16}},{"prefix":{"addr":"172.16.0.0","len":12}},{"prefix":{"addr":"192.0.0.0","len":24}},{"prefix":{"addr":"192.168.0.0","len":16}},{"prefix":{"addr":"198.18.0.0","len":15}},{"prefix":{"addr":"224.0.0.0","len":3}}]}}},{"counter":{"packets":0,"bytes":0}},{"drop":null}]}},
{"rule":{"family":"inet","table":"isdk1","chain":"leaving","expr":[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"isdk1"}},{"masquerade":null}]}}
]})json";

json rules() { return json::parse(listed); }

/// The rules of one chain, by their place in the list.
std::vector<std::size_t> rules_of(const json& ruleset, const std::string& chain) {
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < ruleset["nftables"].size(); ++i)
        if (ruleset["nftables"][i].contains("rule") && ruleset["nftables"][i]["rule"]["chain"] == chain)
            places.push_back(i);
    return places;
}
json without(json ruleset, const std::string& chain, std::size_t number) {
    ruleset["nftables"].erase(rules_of(ruleset, chain).at(number));
    return ruleset;
}

TracedPacket to(const std::string& address, const std::string& protocol = "tcp", std::uint16_t port = 80) {
    return {"forward", "isdk1", "", address_number("198.19.0.1").value(), address_number(address).value(),
            protocol,  port};
}
const TracedPacket to_guest{"forward", "", "isdk1", 1u << 24, address_number("198.19.0.1").value()};
const TracedPacket to_host{"input", "isdk1", "", address_number("198.19.0.1").value(), 1u << 24};

TEST(PacketWalk, FollowsARealRuleset) {
    for (const char* inner : {"10.1.2.3", "127.0.0.1", "169.254.169.254", "172.31.0.1", "192.168.1.1",
                              "100.100.100.200", "168.63.129.16", "224.0.0.251", "255.255.255.255"})
        EXPECT_EQ(is_dropped(rules(), to(inner)), true) << inner;
    for (const char* outer : {"1.1.1.1", "172.32.0.1", "168.63.129.17", "11.0.0.1"})
        EXPECT_EQ(is_dropped(rules(), to(outer)), false) << outer;
    EXPECT_EQ(is_dropped(rules(), to("192.168.1.1", "udp", 53)), false);  // the name server
    EXPECT_EQ(is_dropped(rules(), to("192.168.1.1", "tcp", 53)), true);
    auto only_web = without(rules(), "from_guest", 4);
    auto place = rules_of(only_web, "from_guest").at(3);
    only_web["nftables"][place]["rule"]["expr"] = json::parse(
        R"([{"match":{"op":"!=","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":80}},{"drop":null}])");
    EXPECT_EQ(is_dropped(only_web, to("1.1.1.1", "tcp", 22)), true);
    EXPECT_EQ(is_dropped(only_web, to("1.1.1.1", "udp", 22)), false) << "a rule of TCP is none of UDP";
    EXPECT_EQ(is_dropped(rules(), to_guest), true);
    EXPECT_EQ(is_dropped(rules(), to_host), true);
    auto neighbour = to("1.1.1.1");
    neighbour.outgoing = "isdk2";
    EXPECT_EQ(is_dropped(rules(), neighbour), true);
    auto forged = to("1.1.1.1");
    forged.from = address_number("8.8.8.8").value();
    EXPECT_EQ(is_dropped(rules(), forged), true);
}

TEST(PacketWalk, TracesIpv6ByItsOwnRules) {
    const TracedPacket out{"forward", "isdk1", "", 0, 0, "tcp", 80, true},
        in{"forward", "", "isdk1", 0, 0, "tcp", 80, true}, host{"input", "isdk1", "", 0, 0, "tcp", 80, true};
    for (const auto& packet : {out, in, host}) EXPECT_EQ(is_dropped(rules(), packet), true);
    EXPECT_EQ(is_dropped(without(rules(), "from_guest", 0), out), false);
    EXPECT_EQ(is_dropped(without(rules(), "to_host", 0), host), false);
    // Rules of IPv4 stop nothing of it, and the other way round.
    auto text = rules().dump();
    for (auto at = text.find("\"inet\""); at != text.npos; at = text.find("\"inet\"")) text.replace(at, 6, "\"ip\"");
    for (const auto& packet : {out, in, host}) EXPECT_EQ(is_dropped(json::parse(text), packet), false);
    EXPECT_EQ(is_dropped(json::parse(text), to_host), true);
    // Addresses of IPv6 are not compared.
    auto by_address = without(rules(), "from_guest", 0);
    auto place = rules_of(by_address, "from_guest").at(0);
    by_address["nftables"][place]["rule"]["expr"][0] = {
        {"match",
         {{"op", "=="}, {"left", {{"payload", {{"protocol", "ip6"}, {"field", "daddr"}}}}}, {"right", "::1"}}}};
    EXPECT_EQ(is_dropped(by_address, out), std::nullopt);
    EXPECT_EQ(is_dropped(by_address, to("10.1.2.3")), true);
}

TEST(PacketWalk, SaysThatItDoesNotKnow) {
    EXPECT_EQ(is_dropped(json(), to_host), std::nullopt);
    EXPECT_EQ(is_dropped(json{{"nftables", {1}}}, to_host), std::nullopt);
    // A rule that may concern the packet and is not understood, in front of the one that drops it.
    auto strange = rules();
    auto place = rules_of(strange, "to_host").at(0);
    for (const auto& part : {json{{"vmap", 1}}, json{{"queue", 1}}, json{{"jump", 1}, {"accept", nullptr}}})
        for (bool alone : {true, false}) {
            auto changed = strange;
            auto& rule = changed["nftables"][place]["rule"]["expr"];
            rule = alone ? json::array({part}) : json::array({rule[0], part});
            EXPECT_EQ(is_dropped(changed, to_host), std::nullopt) << part;
        }
    auto by_mark = strange;
    by_mark["nftables"][place]["rule"]["expr"][0]["match"]["left"] = {{"meta", {{"key", "mark"}}}};
    EXPECT_EQ(is_dropped(by_mark, to_host), std::nullopt);
    auto circle = strange;
    circle["nftables"][place]["rule"]["expr"] = json::array({json{{"jump", {{"target", "to_host"}}}}});
    EXPECT_EQ(is_dropped(circle, to_host), std::nullopt);
}

/// What every interface of a VM with a limit of its bandwidth has in front.
json with_limits() {
    auto limited = rules();
    auto& list = limited["nftables"];
    auto rule_of = [](const char* chain, const char* side) {
        return json::parse(std::string(R"({"rule":{"family":"inet","table":"isdk1","chain":")") + chain +
                           R"(","expr":[{"match":{"op":"==","left":{"meta":{"key":")" + side +
                           R"("}},"right":"isdk1"}},{"limit":"bandwidth"},{"counter":{"packets":0,"bytes":0}},)" +
                           R"({"drop":null}]}})");
    };
    list.insert(list.begin() + 1, rule_of("to_host", "iifname"));
    list.insert(list.begin() + 1, rule_of("forwarded", "oifname"));
    list.insert(list.begin() + 1, rule_of("forwarded", "iifname"));
    return limited;
}

TEST(PacketWalk, ALimitNeitherStopsNorHidesAnything) {
    for (const auto& packet : {to("10.1.2.3"), to_guest, to_host}) EXPECT_EQ(is_dropped(with_limits(), packet), true);
    EXPECT_EQ(is_dropped(with_limits(), to("1.1.1.1")), false);
    EXPECT_EQ(is_dropped(without(with_limits(), "to_host", 1), to_host), false);
    auto accepting = with_limits();
    accepting["nftables"][rules_of(accepting, "to_host").at(0)]["rule"]["expr"].back() = {{"accept", nullptr}};
    EXPECT_EQ(is_dropped(accepting, to_host), std::nullopt);
}

TEST(PacketWalk, AGotoEndsTheChainAndAReturnToo) {
    for (const json& last : {json{{"goto", {{"target", "nowhere"}}}}, json{{"return", nullptr}}}) {
        auto changed = rules();
        auto place = rules_of(changed, "to_host").at(0);
        auto early = changed["nftables"][place];
        early["rule"]["expr"].back() = last;
        changed["nftables"].insert(changed["nftables"].begin() + static_cast<std::ptrdiff_t>(place), early);
        EXPECT_EQ(is_dropped(changed, to_host), false) << last;
        changed["nftables"][1]["chain"]["policy"] = "drop";
        EXPECT_EQ(is_dropped(changed, to_host), true) << last;
    }
}

TEST(PacketWalk, ReadsSetsOfStates) {
    auto changed = rules();
    auto place = rules_of(changed, "forwarded").at(1);
    auto& right = changed["nftables"][place]["rule"]["expr"][1]["match"]["right"];
    right = {{"set", {"established", "related"}}};
    EXPECT_EQ(is_dropped(changed, to_guest), true);
    right = {{"set", {"established", "new"}}};
    EXPECT_EQ(is_dropped(changed, to_guest), false);
    right = "@states";
    EXPECT_EQ(is_dropped(changed, to_guest), std::nullopt);
}

TEST(PacketWalk, WhereAPacketLeavesIsNotGuessed) {
    auto changed = rules();
    auto place = rules_of(changed, "from_guest").at(2);
    auto& match = changed["nftables"][place]["rule"]["expr"][0]["match"];
    match["op"] = "!=";
    match["right"] = "eth0";
    EXPECT_EQ(is_dropped(changed, to("1.1.1.1")), std::nullopt);
    match["op"] = "==";
    changed["nftables"][place]["rule"]["expr"].back() = {{"accept", nullptr}};
    EXPECT_EQ(is_dropped(changed, to("10.1.2.3")), std::nullopt);
}

TEST(PacketWalk, ATableThatSleepsStopsNothing) {
    for (const json& flags : {json("dormant"), json::array({"dormant"})}) {
        auto changed = rules();
        changed["nftables"][0]["table"]["flags"] = flags;
        EXPECT_EQ(is_dropped(changed, to_host), false) << flags;
    }
}

/// As a VM of the mode internet looks.
Scene internet() {
    Scene scene;
    scene["hmp:info network"] =
        "net0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:aa:bb:c0\r\n"
        " \\ net0: index=0,type=user,net=10.0.2.0,restrict=off\r\n";
    json files = json::array();
    for (const auto& file : scene["proc.files"])
        if (file["interface"] == "") files.push_back(file);
    scene["proc.files"] = files;
    scene["sys.uplinks"] = {"isdk1"};
    scene["nft.ruleset"] = rules();
    scene["process.promises"]["network"] = "internet";
    return scene;
}

FindingStatus status(Scene& scene, const std::string& check) {
    for (const auto& each : isolation::checks())
        if (each.definition.id == check) return isolation::judge(each, scene.facts()).status();
    throw std::logic_error(check);
}

TEST(PacketWalk, TheInternetIsNoFaultWhereItsRulesHold) {
    auto limited = internet();
    limited["nft.ruleset"] = with_limits();
    for (const char* check : {"NET-01", "NET-02", "NET-07"})
        EXPECT_EQ(status(limited, check), FindingStatus::pass) << check;
    auto good = internet();
    for (const char* check : {"NET-01", "NET-02", "NET-07"})
        EXPECT_EQ(status(good, check), FindingStatus::pass) << check;
    struct Twin {
        const char* check;
        std::function<void(Scene&)> seed;
        FindingStatus wanted = FindingStatus::fail;
    };
    const std::vector<Twin> twins{
        {"NET-01", [](Scene& s) { s["nft.ruleset"] = without(rules(), "forwarded", 2); }},
        {"NET-02", [](Scene& s) { s["nft.ruleset"] = without(rules(), "from_guest", 4); }},
        {"NET-02", [](Scene& s) { s["nft.ruleset"] = without(rules(), "forwarded", 0); }},
        {"NET-02", [](Scene& s) { s["nft.ruleset"] = without(rules(), "to_host", 0); }},
        {"NET-02", [](Scene& s) { s["process.promises"]["network"] = "isolated"; }},
        {"NET-07", [](Scene& s) { s["nft.ruleset"] = without(rules(), "to_host", 0); }},
        {"NET-02", [](Scene& s) { s["nft.ruleset"] = without(rules(), "from_guest", 0); }},  // IPv6
        {"NET-01", [](Scene& s) { s["nft.ruleset"] = json{{"nftables", json::array()}}; }},
        {"NET-01", [](Scene& s) { s["sys.uplinks"] = json::array(); }},
        {"NET-02", [](Scene& s) { s.forget("sys.uplinks"); }},
        {"NET-07", [](Scene& s) { s["sys.uplinks"] = {"another"}; }},
        {"NET-01", [](Scene& s) { s.forget("nft.ruleset"); }, FindingStatus::unknown},
        {"NET-02", [](Scene& s) { s["nft.ruleset"] = json{{"nftables", {1}}}; }, FindingStatus::unknown},
        {"NET-07", [](Scene& s) { s.deny("nft.ruleset", "refused"); }, FindingStatus::unknown},
    };
    for (std::size_t i = 0; i < twins.size(); ++i) {
        auto scene = internet();
        twins[i].seed(scene);
        EXPECT_EQ(status(scene, twins[i].check), twins[i].wanted) << i << ": " << twins[i].check;
    }
}

}  // namespace
}  // namespace infrastructure_sdk
