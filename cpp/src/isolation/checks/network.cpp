// Checks on what the guest's network reaches, and on what reaches it.

#include <algorithm>
#include <iterator>
#include <set>
#include <string_view>
#include <utility>

#include "isolation/checks/judges.hpp"
#include "isolation/look.hpp"
#include "isolation/packet_rules.hpp"
#include "isolation/packet_walk.hpp"
#include "isolation/probes/verdict.hpp"
#include "isolation/readings.hpp"

namespace infrastructure_sdk::isolation {
namespace {

/// Interfaces of the host that the process holds.
std::set<std::string> taps_of(const std::vector<OpenFile>& files) {
    std::set<std::string> taps;
    for (const auto& file : files)
        if (!file.interface.empty()) taps.insert(file.interface);
    return taps;
}

/// What the host's packet filters say of the taps: every tap must be denied by default.
void judge_filters(Look& look, const std::set<std::string>& taps, bool to_guest) {
    auto nft = look.may("nft.ruleset", read_object);
    auto tables = look.may("iptables.rules", read_string);
    if (!nft && !tables) {
        look.blind(look.why("nft.ruleset"));
        return;
    }
    for (const auto& tap : taps) {
        auto stand = Default::none;
        if (nft) stand = nft_default(*nft, tap, to_guest);
        if (tables && stand == Default::none) stand = iptables_default(*tables);
        if (stand == Default::none) look.fault("no rule denies by default what passes " + tap);
        if (stand == Default::unclear) look.blind("the packet rules of " + tap + " are more than this check reads");
    }
    look.saw("nft.ruleset", "ruleset read");
    look.saw("iptables.rules", "rules read");
}

/// Of a user-mode network that leaves through these interfaces of the host alone.
std::vector<std::string> uplinks_of(const Look& look) {
    const auto* names = look.may("sys.uplinks", read_strings);
    return names ? *names : std::vector<std::string>();
}

/// Addresses that are never the internet, one of each kind, and what clouds keep their metadata at.
const std::vector<std::string>& inner_addresses() {
    static const std::vector<std::string> addresses{"10.0.0.1",      "100.64.0.1",      "100.100.100.200", "127.0.0.1",
                                                    "168.63.129.16", "169.254.169.254", "172.16.0.1",      "192.0.0.1",
                                                    "192.168.0.1",   "198.18.0.1",      "224.0.0.1"};
    return addresses;
}

/// What the packet filter does with what passes an uplink: towards the guest nothing new, to the host nothing, and to
/// others only what is of the internet.
void judge_uplink(Look& look, const std::string& uplink, bool to_guest, bool only_host) {
    auto nft = look.need("nft.ruleset", read_object);
    if (!nft) return;
    const auto guest = address_number("198.19.0.1").value();
    std::vector<std::pair<std::string, TracedPacket>> packets;
    for (const auto& text : inner_addresses()) {
        const auto address = address_number(text).value();
        if (to_guest) packets.push_back({"from " + text, {"forward", "", uplink, address, guest}});
        else if (!only_host) packets.push_back({"to " + text, {"forward", uplink, "", guest, address}});
    }
    if (!to_guest)
        packets.push_back({"to the host", {"input", uplink, "", guest, address_number("198.19.0.0").value()}});
    // Nobody has a way out by IPv6: all of it is stopped.
    if (to_guest) packets.push_back({"by IPv6 to the guest", {"forward", "", uplink, 0, 0, "tcp", 80, true}});
    else if (!only_host) packets.push_back({"by IPv6 to others", {"forward", uplink, "", 0, 0, "tcp", 80, true}});
    if (!to_guest) packets.push_back({"by IPv6 to the host", {"input", uplink, "", 0, 0, "tcp", 80, true}});
    for (const auto& [words, packet] : packets) {
        auto dropped = is_dropped(*nft, packet);
        if (!dropped) look.blind("the packet rules of " + uplink + " are more than this check reads");
        else if (!*dropped) look.fault("no rule stops what goes " + words + " through " + uplink);
    }
    look.saw("nft.ruleset", std::to_string(packets.size()) + " packets through " + uplink + " were traced");
}

Finding judge_default(const CheckDefinition& check, const Facts& facts, bool to_guest) {
    Look look(check, facts);
    auto network = look.need("hmp:info network", read_network);
    auto files = look.need("proc.files", read_files);
    if (!network || !files) return look.conclude({});
    std::string kinds;
    for (const auto& back : network->backends) kinds += back.name + " " + back.type + "; ";
    look.saw("hmp:info network", kinds);
    auto taps = taps_of(*files);
    auto uplinks = uplinks_of(look);
    auto promises = look.may("process.promises", read_promises);
    bool internet = promises && promises->network == "internet";
    look.saw("proc.files", std::to_string(taps.size()) + " host interfaces");
    if (network->backends.empty() && taps.empty()) return look.absent("the VM has no network");
    for (const auto& back : network->backends) {
        if (back.type == "tap") {
            if (taps.empty()) look.blind("could not look at " + back.name + ": no interface of it is open");
        } else if (back.type == "user") {
            if (back.restricted()) continue;
            if (uplinks.empty()) look.fault(back.name + " reaches everything that the host reaches");
            else if (!to_guest && !internet) look.fault(back.name + " reaches the internet, which was not declared");
            for (const auto& uplink : uplinks) judge_uplink(look, uplink, to_guest, false);
            look.saw("sys.uplinks", std::to_string(uplinks.size()) + " ways out of its network namespace");
        } else if (back.type != "hubport") {
            look.blind("it is not known what filters " + back.name + ", a network of type " + back.type);
        }
    }
    if (!taps.empty()) judge_filters(look, taps, to_guest);
    return look.conclude(to_guest ? "nothing may connect to the guest but what was declared"
                                  : "the guest may connect to nothing but what was declared");
}

/// A guest without a network reaches nothing. Only when that was seen.
bool has_no_network(Look& look) {
    auto network = look.may("hmp:info network", read_network);
    auto files = look.may("proc.files", read_files);
    if (!network || !files || !network->backends.empty() || !taps_of(*files).empty()) return false;
    look.saw("hmp:info network", "no network");
    look.saw("proc.files", "no host interface");
    return true;
}

Finding judge_reach(const CheckDefinition& check, const Facts& facts, const char* probe, const char* sentence) {
    Look look(check, facts);
    if (has_no_network(look)) return look.absent("the VM has no network");
    for (const char* name : {"hmp:info network", "proc.files"})
        if (!facts.value(name)) look.blind(facts.why(name));
    look.need("hmp:info network", read_network);
    look.need("proc.files", read_files);
    need_gate(look);
    judge_probe(look, probe);
    return look.conclude(sentence);
}

/// Every address that the VM has or uses; nullopt when one of the two cannot be seen.
std::optional<std::set<std::string>> macs_of(const Facts& facts) {
    auto current = facts.as("qmp:query-rx-filter", read_filters);
    auto network = facts.as("hmp:info network", read_network);
    if (!current || !network) return std::nullopt;
    std::set<std::string> macs(current->begin(), current->end());
    macs.insert(network->macs.begin(), network->macs.end());
    return macs;
}

/// A part of a probe's port, which is there while it is open (see ProbePort).
bool is_of_probe(const Network::Backend& filter) {
    constexpr std::pair<std::string_view, std::string_view> parts[] = {{"probe-sent-filter", "filter-mirror"},
                                                                       {"probe-delivered-filter", "filter-mirror"},
                                                                       {"probe-put-filter", "filter-redirector"}};
    return std::find(std::begin(parts), std::end(parts),
                     std::pair<std::string_view, std::string_view>(filter.name, filter.type)) != std::end(parts);
}

bool is_loopback(const std::string& address) {
    return address.starts_with("127.") || address == "::1" || address.starts_with("::ffff:127.") ||
           address == "localhost";
}

}  // namespace

Finding judge_net_01(const CheckDefinition& check, const Facts& facts) { return judge_default(check, facts, true); }
Finding judge_net_02(const CheckDefinition& check, const Facts& facts) { return judge_default(check, facts, false); }

Finding judge_net_03(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    if (has_no_network(look)) return look.absent("the VM has no network");
    look.need("hmp:info network", read_network);
    look.need("proc.files", read_files);
    judge_probe(look, "probe.gate");
    return look.conclude("what is denied is blocked and what is allowed is open");
}

Finding judge_net_04(const CheckDefinition& check, const Facts& facts) {
    return judge_reach(check, facts, "probe.guests", "no other guest saw what was sent to it");
}
Finding judge_net_05(const CheckDefinition& check, const Facts& facts) {
    return judge_reach(check, facts, "probe.metadata", "no metadata service was reached");
}

Finding judge_net_06(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto identity = look.need("process.identity", read_object);
    if (identity) look.saw("process.identity", "boot " + text_at(*identity, "boot_id").value_or("?"));
    return look.absent("the VM is a process of this host; it belongs to no cluster");
}

Finding judge_net_07(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    if (has_no_network(look)) return look.absent("the VM has no network");
    auto network = look.need("hmp:info network", read_network);
    look.need("proc.files", read_files);
    for (const auto& back : network ? network->backends : std::vector<Network::Backend>())
        // slirp connects on the guest's behalf, also to what listens on the host's loopback.
        if (back.type == "user" && !back.restricted()) {
            auto uplinks = uplinks_of(look);
            if (uplinks.empty()) look.fault(back.name + " lets the guest connect to the host's own services");
            for (const auto& uplink : uplinks) judge_uplink(look, uplink, false, true);
        }
    look.saw("hmp:info network", network ? std::to_string(network->backends.size()) + " networks" : "");
    need_gate(look);
    judge_probe(look, "probe.host");
    return look.conclude("no service of the host was reached");
}

Finding judge_net_08(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto own = look.need("proc.namespaces", read_namespaces);
    auto first = look.need("sys.init_namespaces", read_namespaces);
    auto others = look.neighbours("proc.namespaces", read_namespaces);
    if (own) look.saw("proc.namespaces", "net " + std::to_string(own->at("net")));
    if (first) look.saw("sys.init_namespaces", "net " + std::to_string(first->at("net")));
    auto ours = look.may("sys.our_namespaces", read_namespaces);
    if (own && ((first && own->at("net") == first->at("net")) || (ours && own->at("net") == ours->at("net"))))
        look.fault("it is in the host's network namespace");
    look.saw("sys.our_namespaces", "of the process that looks");
    for (const auto& [session, theirs] : others)
        if (own && theirs.at("net") == own->at("net"))
            look.fault("session " + session + " is in the same network namespace");
    return look.conclude("its network namespace is its own");
}

Finding judge_net_09(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto network = look.need("hmp:info network", read_network);
    if (!network) return look.conclude({});
    look.saw("hmp:info network", std::to_string(network->backends.size()) + " networks");
    bool covered = false;  // the one tap that NET-01 to NET-10 look at
    for (const auto& back : network->backends) {
        bool first_tap = back.type == "tap" && !std::exchange(covered, covered || back.type == "tap");
        if (network->backends.size() > 1 && !first_tap && !back.restricted())
            look.fault("its further network " + back.name + " (" + back.type + ") is not covered by the rules");
    }
    for (const auto& filter : network->filters)
        if (!is_of_probe(filter))
            look.blind("it is not known who gets the frames of filter " + filter.name + " (" + filter.type + ")");
    return look.conclude("it has no network besides the one that is looked at");
}

Finding judge_net_10(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto network = look.need("hmp:info network", read_network);
    auto files = look.need("proc.files", read_files);
    if (!network || !files) return look.conclude({});
    auto names = taps_of(*files);
    look.saw("hmp:info network", std::to_string(network->backends.size()) + " networks");
    look.saw("proc.files", std::to_string(names.size()) + " host interfaces");
    for (const auto& back : network->backends)
        if (back.type != "user" && back.type != "tap" && back.type != "hubport")
            look.blind("it is not known who shares " + back.name + ", a network of type " + back.type);
    if (names.empty()) return look.absent("it is on no network that others could share");
    auto taps = look.need("sys.taps", read_taps);
    auto others = look.neighbours("sys.taps", read_taps);
    for (const auto& name : names) {
        if (!taps) break;
        auto tap = std::find_if(taps->begin(), taps->end(), [&](const Tap& t) { return t.name == name; });
        if (tap == taps->end()) {
            look.blind("could not look at sys.taps: " + name + " is not among them");
            continue;
        }
        look.saw("sys.taps", name + " in " + (tap->master.empty() ? "no bridge" : tap->master));
        if (tap->hairpin) look.fault(name + " reflects frames");
        for (const auto& [session, theirs] : others)
            for (const auto& other : theirs)
                if (!tap->master.empty() && other.master == tap->master && !(tap->isolated && other.isolated))
                    look.fault("session " + session + " is on the same bridge " + tap->master);
    }
    return look.conclude("it shares no bridge with another session, or both ports are isolated");
}

Finding judge_net_11(const CheckDefinition& check, const Facts& facts) {
    return judge_reach(check, facts, "probe.spoofing", "no forged frame was seen by another session");
}

Finding judge_net_12(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    look.need("qmp:query-rx-filter", read_filters);
    look.need("hmp:info network", read_network);
    auto own = macs_of(facts);
    if (!own) return look.conclude({});
    auto listed = own->empty() ? std::string("no network device") : *own->begin();
    look.saw("qmp:query-rx-filter", listed);
    look.saw("hmp:info network", listed);
    if (own->empty()) return look.absent("the VM has no network device");
    // QEMU's default, the same for everybody who sets none.
    if (own->contains("52:54:00:12:34:56")) look.fault("it has QEMU's default address 52:54:00:12:34:56");
    auto compare = [&](const std::string& session, const std::vector<std::string>& macs) {
        for (const auto& mac : macs)
            if (own->contains(mac)) look.fault("session " + session + " has the same address " + mac);
    };
    for (const auto& [session, macs] : look.neighbours("qmp:query-rx-filter", read_filters)) compare(session, macs);
    for (const auto& [session, theirs] : look.neighbours("hmp:info network", read_network))
        compare(session, theirs.macs);
    return look.conclude(listed + " is used by no other session");
}

Finding judge_net_13(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto sockets = look.need("proc.sockets", read_sockets);
    auto forwards = look.need("hmp:info usernet", read_forwards);
    auto promises = look.need("process.promises", read_promises);
    for (const auto& socket : sockets ? sockets->tcp : std::vector<Sockets::Tcp>())
        if (!is_loopback(socket.address))
            look.fault("it listens on " + socket.address + ":" + std::to_string(socket.port));
    if (sockets && sockets->strange > 0)
        look.blind("could not look at proc.sockets: " + std::to_string(sockets->strange) +
                   " sockets are of no known kind");
    for (const auto& forward : forwards ? *forwards : std::vector<Forward>()) {
        auto name = forward.address + ":" + std::to_string(forward.port);
        if (!is_loopback(forward.address)) look.fault("the host's " + name + " leads into the guest");
        if (promises && std::count(promises->ports.begin(), promises->ports.end(), forward.port) == 0)
            look.fault("the host's " + name + " leads into the guest and was not declared");
    }
    look.saw("proc.sockets", sockets ? std::to_string(sockets->tcp.size()) + " listening TCP sockets" : "");
    look.saw("hmp:info usernet", forwards ? std::to_string(forwards->size()) + " forwarded ports" : "");
    look.saw("process.promises", promises ? std::to_string(promises->ports.size()) + " declared ports" : "");
    return look.conclude("it listens on nothing but what was declared");
}

}  // namespace infrastructure_sdk::isolation
