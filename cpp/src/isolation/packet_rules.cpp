#include "isolation/packet_rules.hpp"

#include <algorithm>
#include <optional>
#include <set>
#include <sstream>
#include <vector>

#include "isolation/facts.hpp"

namespace infrastructure_sdk::isolation {
namespace {

using Json = nlohmann::json;

/// "family/table/chain" of a chain or of the chain of a rule.
std::string chain_name(const Json& item, const char* key) {
    return text_at(item, "family").value_or("?") + "/" + text_at(item, "table").value_or("?") + "/" +
           text_at(item, key).value_or("?");
}

struct Rule {
    bool accepts = false, jumps = false;
    bool by_state = false;           ///< only connections that exist already
    bool narrow = false;             ///< matches more than interfaces
    std::string incoming, outgoing;  ///< interface names, when they are compared with ==
};

bool is_one_of(const Json& object, const std::set<std::string>& names) {
    return object.is_object() && object.size() == 1 && names.contains(object.begin().key());
}

// What libnftables-json(5) lists and what of it a rule may hold here.
const std::set<std::string> objects{"metainfo", "table",     "chain",      "rule",          "set",
                                    "map",      "element",   "flowtable",  "counter",       "quota",
                                    "limit",    "ct helper", "ct timeout", "ct expectation"};
const std::set<std::string> expressions{"match", "accept", "drop",   "counter", "log",    "jump",
                                        "goto",  "return", "reject", "limit",   "comment"};

/// Only connections that exist already, or belong to one.
bool is_known_state(const Json& right) {
    auto list = right.is_string() ? Json::array({right}) : right;
    return list.is_array() && !list.empty() && std::all_of(list.begin(), list.end(), [](const Json& state) {
               return state == "established" || state == "related";
           });
}

/// nullopt for what is no list of expressions.
std::optional<Rule> understand(const Json& rule) {
    Rule result;
    auto list = rule.is_object() ? rule.find("expr") : rule.end();
    if (!rule.is_object() || list == rule.end() || !list->is_array()) return std::nullopt;
    for (const auto& part : *list) {
        if (!is_one_of(part, expressions)) return std::nullopt;
        result.accepts = result.accepts || part.contains("accept");
        result.jumps = result.jumps || part.contains("jump") || part.contains("goto");
        if (!part.contains("match")) continue;
        const auto& match = part["match"];
        if (!match.is_object() || !match.contains("left") || !match.contains("right") || !text_at(match, "op"))
            return std::nullopt;
        auto key = [&](const char* kind) {
            const auto& left = match["left"];
            return left.is_object() && left.contains(kind) ? text_at(left[kind], "key").value_or("") : std::string();
        };
        auto name = text_at(match, "right").value_or("");
        bool equal = text_at(match, "op") == "==" && !name.empty();
        if (equal && key("meta") == "iifname") result.incoming = name;
        else if (equal && key("meta") == "oifname") result.outgoing = name;
        else if (key("ct") == "state" && text_at(match, "op") != "!=") result.by_state = is_known_state(match["right"]);
        else result.narrow = true;
    }
    return result;
}

/// Names of the chains that drop what is forwarded, "family/..."; nullopt when the list makes no sense.
std::optional<std::set<std::string>> denying_chains(const Json& list) {
    std::set<std::string> denying;
    for (const auto& item : list) {
        if (!is_one_of(item, objects)) return std::nullopt;
        if (!item.contains("chain")) continue;
        const auto& chain = item["chain"];
        for (const char* key : {"family", "table", "name"})
            if (!text_at(chain, key)) return std::nullopt;
        if (text_at(chain, "hook") == "forward" && text_at(chain, "policy") == "drop")
            denying.insert(chain_name(chain, "name"));
    }
    return denying;
}

/// What one rule of a denying chain does to the tap.
Default effect_of(const Rule& rule, const std::string& tap, bool to_guest) {
    if (rule.jumps) return Default::unclear;
    if (!rule.accepts || rule.by_state) return Default::denied;
    const auto& side = to_guest ? rule.outgoing : rule.incoming;
    const auto& other = to_guest ? rule.incoming : rule.outgoing;
    if (side == tap && !rule.narrow && other.empty()) return Default::none;
    if (side.empty() && other.empty()) return rule.narrow ? Default::unclear : Default::none;
    // Accepted for a named interface on the other side only: it concerns this tap too.
    return side.empty() && other != tap ? Default::unclear : Default::denied;
}

}  // namespace

Default nft_default(const Json& ruleset, const std::string& tap, bool to_guest) {
    if (!ruleset.is_object() || !ruleset.contains("nftables") || !ruleset["nftables"].is_array())
        return Default::unclear;
    const auto& list = ruleset["nftables"];
    auto denying = denying_chains(list);
    if (!denying) return Default::unclear;
    for (const char* family : {"ip/", "ip6/"})
        if (std::none_of(denying->begin(), denying->end(), [&](const std::string& name) {
                return name.starts_with(family) || name.starts_with("inet/") || name.starts_with("bridge/");
            }))
            return Default::none;
    for (const auto& item : list) {
        if (!item.contains("rule")) continue;
        const auto& rule = item["rule"];
        for (const char* key : {"family", "table", "chain"})
            if (!text_at(rule, key)) return Default::unclear;
        if (!denying->contains(chain_name(rule, "chain"))) continue;
        auto understood = understand(rule);
        if (!understood) return Default::unclear;
        auto effect = effect_of(*understood, tap, to_guest);
        if (effect != Default::denied) return effect;
    }
    return Default::denied;
}

Default iptables_default(const std::string& rules) {
    std::istringstream lines(rules);
    bool filter = false, more = false, both = false;
    std::size_t drops = 0;
    for (std::string line; std::getline(lines, line);) {
        both = both || line == ipv6_part;
        if (line.starts_with("*")) filter = line == "*filter";
        if (!filter) continue;
        if (line.starts_with(":FORWARD ") && !line.starts_with(":FORWARD DROP")) return Default::none;
        if (line.starts_with(":FORWARD ")) ++drops;
        more = more || line.starts_with("-A FORWARD");
    }
    // A family without such a chain lets everything pass; one that was not looked at is not known.
    if (drops < (both ? 2 : 1)) return Default::none;
    return more || !both ? Default::unclear : Default::denied;
}

}  // namespace infrastructure_sdk::isolation
