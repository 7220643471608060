#include "isolation/facts.hpp"

#include <algorithm>

#include "core/sha256.hpp"

namespace infrastructure_sdk::isolation {
namespace {

/// At most `most` bytes, cut between characters: a report must stay valid UTF-8.
std::string shortened(const std::string& text, std::size_t most) {
    if (text.size() <= most) return text;
    while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xc0) == 0x80) --most;
    return text.substr(0, most);
}

Strength strength_of(const std::string& source) {
    if (source == "provider") return Strength::e0;
    return source == "probe" ? Strength::e4 : Strength::e3;
}

/// Processes change at any time, hardware does not; a probe is repeated by its severity.
Duration ttl_of(const std::string& fact, Severity severity) {
    using namespace std::chrono_literals;
    if (fact.starts_with("probe.")) return severity == Severity::critical ? 5min : 15min;
    for (const char* host : {"sys.vulnerabilities", "sys.smt", "sys.siblings", "sys.iommu_groups"})
        if (fact == host) return 1h;
    return 30s;
}

}  // namespace

std::optional<std::string> text_at(const nlohmann::json& object, const char* key) {
    if (!object.is_object()) return std::nullopt;
    auto it = object.find(key);
    if (it == object.end() || !it->is_string()) return std::nullopt;
    return it->get<std::string>();
}

double vantage_factor(const std::string& vantage) {
    if (vantage == "node" || vantage == "control-plane") return 1;
    return vantage == "pod-exec" || vantage == "peer" ? 0.8 : 0;
}

const nlohmann::json* HeldFact::value() {
    if (!fact_.could_not_look.empty() || fact_.json.empty()) return nullptr;
    std::lock_guard guard(mutex_);
    if (!parsed_) parsed_ = nlohmann::json::parse(fact_.json, nullptr, false);
    return parsed_->is_discarded() ? nullptr : &*parsed_;
}

const std::string& HeldFact::sha256() {
    std::lock_guard guard(mutex_);
    if (sha256_.empty()) sha256_ = sha256_hex(fact_.json);
    return sha256_;
}

void Facts::add(Fact fact) {
    auto instance = fact.instance;
    add(std::make_shared<HeldFact>(std::move(fact)), std::move(instance));
}

void Facts::add(std::shared_ptr<HeldFact> held, std::string instance) {
    const auto& name = held->fact().name;
    facts_[name] = {std::move(held), std::move(instance)};
}

HeldFact* Facts::usable(const std::string& name) const {
    auto it = facts_.find(name);
    bool usable = broken.empty() && it != facts_.end() && it->second.instance == epoch;
    return usable ? it->second.held.get() : nullptr;
}

const nlohmann::json* Facts::value(const std::string& name) const {
    auto* held = usable(name);
    return held ? held->value() : nullptr;
}

std::string Facts::why(const std::string& name) const {
    if (!broken.empty()) return "could not look at the VM's process: " + broken;
    auto it = facts_.find(name);
    if (it == facts_.end()) return "could not look at " + name + ": nobody collected it";
    const auto& fact = it->second.held->fact();
    if (!fact.could_not_look.empty()) return "could not look at " + name + ": " + fact.could_not_look;
    if (it->second.instance != epoch) return "could not look at " + name + ": what was read is of another instance";
    return "could not look at " + name + ": what was read makes no sense";
}

Evidence Facts::evidence(const CheckDefinition& check, const std::string& name, const std::string& excerpt) const {
    auto& held = *facts_.at(name).held;
    const auto& fact = held.fact();
    Evidence item;
    item.id = std::string(check.id) + "/" + name;
    item.check_id = check.id;
    item.session_id = session_id;
    item.instance_epoch = epoch;
    item.source = fact.source;
    item.locator = fact.locator;
    item.vantage = fact.vantage;
    item.strength = strength_of(fact.source);
    item.collected_at = fact.collected_at;
    item.ttl = ttl_of(name, check.severity);
    item.sha256 = held.sha256();
    item.excerpt = shortened(excerpt, 500);
    return item;
}

Evidence Facts::neighbour_evidence(const CheckDefinition& check, const std::string& name,
                                   const std::string& excerpt) const {
    Evidence item;
    item.id = std::string(check.id) + "/neighbours:" + name;
    item.check_id = check.id;
    item.session_id = session_id;
    item.instance_epoch = epoch;
    item.source = "neighbours";
    item.vantage = "node";
    // A comparison adds to what was seen of the VM itself and is never enough alone.
    item.strength = Strength::e0;
    item.ttl = ttl_of(name, check.severity);
    std::string digests;
    std::size_t count = 0;
    for (const auto& neighbour : neighbours ? *neighbours : std::vector<std::shared_ptr<const Facts>>()) {
        auto it = neighbour->facts_.find(name);
        ++count;
        if (it == neighbour->facts_.end()) continue;
        for (const auto* part : {&neighbour->session_id, &neighbour->epoch, &it->second.held->sha256()})
            digests.append(*part) += ' ';
        auto at = it->second.held->fact().collected_at;
        item.collected_at = item.collected_at == WallTime() ? at : std::min(item.collected_at, at);
    }
    if (item.collected_at == WallTime()) item.collected_at = looked_at;
    item.locator = name + " of " + std::to_string(count) + " other sessions";
    item.sha256 = sha256_hex(digests);
    item.excerpt = shortened(excerpt, 500);
    return item;
}

}  // namespace infrastructure_sdk::isolation
