#include "isolation/facts.hpp"

#include "core/sha256.hpp"

namespace infrastructure_sdk::isolation {
namespace {

/// At most `most` bytes, cut between characters: a report must stay valid UTF-8.
std::string shortened(const std::string& text, std::size_t most) {
    if (text.size() <= most) return text;
    while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xc0) == 0x80) --most;
    return text.substr(0, most);
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

const nlohmann::json* Facts::value(const std::string& name) const {
    auto it = facts_.find(name);
    if (it == facts_.end() || !it->second.could_not_look.empty() || it->second.json.empty()) return nullptr;
    auto parsed = parsed_.find(name);
    if (parsed == parsed_.end())
        parsed = parsed_.emplace(name, nlohmann::json::parse(it->second.json, nullptr, false)).first;
    return parsed->second.is_discarded() ? nullptr : &parsed->second;
}

std::string Facts::why(const std::string& name) const {
    auto it = facts_.find(name);
    if (it == facts_.end()) return "could not look at " + name + ": nobody collected it";
    if (!it->second.could_not_look.empty()) return "could not look at " + name + ": " + it->second.could_not_look;
    return "could not look at " + name + ": what was read makes no sense";
}

Evidence Facts::evidence(const CheckDefinition& check, const std::string& name, const std::string& excerpt) const {
    const auto& fact = facts_.at(name);
    Evidence item;
    item.id = std::string(check.id) + "/" + name;
    item.check_id = check.id;
    item.session_id = session_id;
    item.instance_epoch = epoch;
    item.source = fact.source;
    item.locator = fact.locator;
    item.vantage = fact.vantage;
    item.strength = fact.source == "provider" ? Strength::e0 : Strength::e3;
    item.collected_at = fact.collected_at;
    item.sha256 = sha256_hex(fact.json);
    item.excerpt = shortened(excerpt, 500);
    return item;
}

}  // namespace infrastructure_sdk::isolation
