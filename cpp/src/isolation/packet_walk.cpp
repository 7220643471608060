#include "isolation/packet_walk.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <vector>

#include "isolation/facts.hpp"

namespace infrastructure_sdk::isolation {
namespace {

using Json = nlohmann::json;

/// ended: of a chain, back to whoever jumped there; of a base chain, its policy.
enum class Verdict { dropped, accepted, fell_through, ended, unclear };
/// Of a match; nullopt = it is not known.
using Matched = std::optional<bool>;

constexpr int deepest = 16;  // of jumps, as in the kernel

bool has_name(const std::string& name, const std::string& pattern) {
    if (!pattern.ends_with('*')) return name == pattern;
    return name.starts_with(pattern.substr(0, pattern.size() - 1));
}

Matched is_in(std::uint32_t address, const Json& right) {
    if (right.is_string()) {
        auto one = address_number(right.get<std::string>());
        return one ? Matched(*one == address) : std::nullopt;
    }
    if (!right.is_object() || right.size() != 1) return std::nullopt;
    if (right.contains("prefix")) {
        const auto& prefix = right["prefix"];
        auto base = address_number(text_at(prefix, "addr").value_or(""));
        if (!base || !prefix.contains("len") || !prefix["len"].is_number_unsigned() || prefix["len"] > 32)
            return std::nullopt;
        const auto length = prefix["len"].get<unsigned>();
        const std::uint32_t mask = length == 0 ? 0 : ~std::uint32_t{0} << (32 - length);
        return (address & mask) == (*base & mask);
    }
    if (!right.contains("set") || !right["set"].is_array()) return std::nullopt;
    bool unknown = false;
    for (const auto& item : right["set"]) {
        auto one = is_in(address, item);
        if (one && *one) return true;
        unknown = unknown || !one;
    }
    return unknown ? std::nullopt : Matched(false);
}

/// A state, a list or a set of them.
Matched is_new(const Json& right) {
    bool set = right.is_object() && right.size() == 1 && right.contains("set");
    const auto& given = set ? right["set"] : right;
    auto states = given.is_array() ? given : Json::array({given});
    bool found = false;
    for (const auto& state : states) {
        if (!state.is_string() || state.get_ref<const std::string&>().starts_with('@')) return std::nullopt;
        found = found || state == "new";
    }
    return found;
}

class Walk {
public:
    Walk(const TracedPacket& packet, const std::map<std::string, std::vector<const Json*>>& chains)
        : packet_(packet), chains_(chains) {}

    Verdict chain(const std::string& name, int depth = 0) const {
        auto rules = chains_.find(name);
        if (rules == chains_.end()) return Verdict::fell_through;
        for (const auto* rule : rules->second) {
            auto verdict = this->rule(*rule, name, depth);
            if (verdict == Verdict::fell_through) continue;
            return verdict == Verdict::ended ? Verdict::fell_through : verdict;
        }
        return Verdict::fell_through;
    }

private:
    /// What a rule does that some such packets pass by: it stops not all of them, and may let one through.
    static Verdict at_times(Verdict verdict) {
        bool stops = verdict == Verdict::dropped || verdict == Verdict::fell_through;
        return stops ? Verdict::fell_through : Verdict::unclear;
    }

    Verdict rule(const Json& expressions, const std::string& chain_name, int depth) const {
        bool sure = true, always = true;
        auto does = [&](Verdict verdict) {
            if (!sure) return Verdict::unclear;
            return always ? verdict : at_times(verdict);
        };
        for (const auto& part : expressions) {
            if (!part.is_object() || part.size() != 1) return Verdict::unclear;
            const auto& kind = part.begin().key();
            if (kind == "match") {
                if (may_leave_by(part["match"])) {
                    always = false;
                    continue;
                }
                auto matched = match(part["match"]);
                if (matched && !*matched) return Verdict::fell_through;
                sure = sure && matched;
            } else if (kind == "drop" || kind == "reject") {
                return does(Verdict::dropped);
            } else if (kind == "accept") {
                return does(Verdict::accepted);
            } else if (kind == "return") {
                return does(Verdict::ended);
            } else if (kind == "limit") {
                always = false;
            } else if (kind == "jump" || kind == "goto") {
                if (!sure || depth == deepest) return Verdict::unclear;
                auto target = text_at(part[kind], "target").value_or("?");
                auto verdict = chain(chain_name.substr(0, chain_name.rfind('/') + 1) + target, depth + 1);
                if (verdict == Verdict::fell_through && kind == "goto") verdict = Verdict::ended;
                if (verdict != Verdict::fell_through) return does(verdict);
            } else if (kind != "counter" && kind != "log" && kind != "comment" && kind != "masquerade") {
                return Verdict::unclear;
            }
        }
        return Verdict::fell_through;
    }

    /// Whether it asks for an interface where a packet leaves, and where this one leaves is not known.
    bool may_leave_by(const Json& match) const {
        if (!packet_.outgoing.empty() || !match.is_object() || !match.contains("left")) return false;
        const auto& left = match["left"];
        bool asks = left.is_object() && left.contains("meta") && text_at(left["meta"], "key") == "oifname";
        auto name = text_at(match, "right").value_or("");
        return packet_.hook == "forward" && asks && text_at(match, "op") == "==" && !name.empty();
    }

    Matched match(const Json& match) const {
        if (!match.is_object() || !match.contains("left") || !match.contains("right")) return std::nullopt;
        if (is_of_another_protocol(match["left"])) return false;
        auto op = text_at(match, "op").value_or("");
        auto same = compare(match["left"], match["right"]);
        if (!same || (op != "==" && op != "in" && op != "!=")) return std::nullopt;
        return op == "!=" ? !*same : *same;
    }

    /// What asks for a field of another protocol matches never, also when it asks for another value.
    bool is_of_another_protocol(const Json& left) const {
        if (!left.is_object() || !left.contains("payload")) return false;
        auto protocol = text_at(left["payload"], "protocol").value_or("");
        if (protocol == "ip" || protocol == "ip6") return (protocol == "ip6") != packet_.ipv6;
        return (protocol == "tcp" || protocol == "udp") && protocol != packet_.protocol;
    }

    Matched compare(const Json& left, const Json& right) const {
        if (!left.is_object() || left.size() != 1) return std::nullopt;
        const auto& kind = left.begin().key();
        auto key = text_at(left[kind], "key").value_or("");
        auto text = right.is_string() ? right.get<std::string>() : std::string();
        if (kind == "meta" && (key == "iifname" || key == "oifname")) {
            bool leaves_anywhere = key == "oifname" && packet_.hook == "forward" && packet_.outgoing.empty();
            if (text.empty() || text.starts_with('@') || leaves_anywhere) return std::nullopt;
            return has_name(key == "iifname" ? packet_.incoming : packet_.outgoing, text);
        }
        if (kind == "meta" && key == "nfproto") return text == (packet_.ipv6 ? "ipv6" : "ipv4");
        if (kind == "ct" && key == "state") {
            return is_new(right);
        }
        if (kind != "payload") return std::nullopt;
        auto protocol = text_at(left[kind], "protocol").value_or(""), field = text_at(left[kind], "field").value_or("");
        if (protocol == "ip" && field == "saddr") return is_in(packet_.from, right);
        if (protocol == "ip" && field == "daddr") return is_in(packet_.to, right);
        if (protocol != "tcp" && protocol != "udp") return std::nullopt;
        return field == "dport" && right.is_number_unsigned() ? Matched(right == packet_.port) : std::nullopt;
    }

    const TracedPacket& packet_;
    const std::map<std::string, std::vector<const Json*>>& chains_;
};

std::string name_of_chain(const Json& item, const char* key) {
    return text_at(item, "family").value_or("?") + "/" + text_at(item, "table").value_or("?") + "/" +
           text_at(item, key).value_or("?");
}

/// "family/table/" of the tables that the kernel passes over.
std::set<std::string> dormant_tables(const Json& list) {
    std::set<std::string> names;
    for (const auto& item : list) {
        if (!item.is_object() || !item.contains("table") || !item["table"].is_object()) continue;
        const auto& table = item["table"];
        auto flags = table.value("flags", Json::array());
        if (flags.is_string()) flags = Json::array({flags});
        if (std::find(flags.begin(), flags.end(), "dormant") != flags.end())
            names.insert(text_at(table, "family").value_or("?") + "/" + text_at(table, "name").value_or("?") + "/");
    }
    return names;
}

}  // namespace

std::optional<std::uint32_t> address_number(const std::string& text) {
    std::uint32_t number = 0;
    const char *at = text.data(), *end = at + text.size();
    for (int i = 0; i < 4; ++i) {
        unsigned part = 0;
        auto [next, error] = std::from_chars(at, end, part);
        if (error != std::errc() || part > 255 || (i < 3 && (next == end || *next != '.'))) return std::nullopt;
        number = number << 8 | part;
        at = i < 3 ? next + 1 : next;
    }
    return at == end ? std::optional(number) : std::nullopt;
}

std::optional<bool> is_dropped(const Json& ruleset, const TracedPacket& packet) {
    if (!ruleset.is_object() || !ruleset.contains("nftables") || !ruleset["nftables"].is_array()) return std::nullopt;
    std::map<std::string, std::vector<const Json*>> chains;
    std::map<std::string, bool> bases;  // name -> its policy drops
    for (const auto& item : ruleset["nftables"]) {
        if (!item.is_object() || item.size() != 1) return std::nullopt;
        if (item.contains("chain")) {
            auto family = text_at(item["chain"], "family").value_or("");
            if (text_at(item["chain"], "hook") == packet.hook && text_at(item["chain"], "type") == "filter" &&
                (family == "inet" || family == (packet.ipv6 ? "ip6" : "ip")))
                bases[name_of_chain(item["chain"], "name")] = text_at(item["chain"], "policy") == "drop";
        } else if (item.contains("rule")) {
            const auto& rule = item["rule"];
            if (!rule.is_object() || !rule.contains("expr") || !rule["expr"].is_array()) return std::nullopt;
            chains[name_of_chain(rule, "chain")].push_back(&rule["expr"]);
        }
    }
    const auto dormant = dormant_tables(ruleset["nftables"]);
    bool unclear = false;
    for (const auto& [name, drops] : bases) {
        if (dormant.contains(name.substr(0, name.rfind('/') + 1))) continue;
        auto verdict = Walk(packet, chains).chain(name);
        if (verdict == Verdict::dropped || (verdict == Verdict::fell_through && drops)) return true;
        unclear = unclear || verdict == Verdict::unclear;
    }
    return unclear ? std::nullopt : std::optional(false);
}

}  // namespace infrastructure_sdk::isolation
