#include <algorithm>
#include <utility>

#include "isolation/facts.hpp"

namespace infrastructure_sdk {
namespace isolation {

const std::vector<Check>& checks() {
    static const std::vector<Check> table = [] {
        std::vector<Check> all;
        for (auto part : {compute_checks, memory_checks, network_checks, runtime_checks, storage_checks})
            for (auto& check : part()) all.push_back(std::move(check));
        return all;
    }();
    return table;
}

Finding judge(const Check& check, const Facts& facts) {
    if (facts.platform == "local") return check.judge(check.definition, facts);
    if (facts.platform != "kubernetes")
        return Finding::unknown(check.definition, "the check is not declared for " + facts.platform);
    std::string missing;
    for (const auto& name : check.definition.kubernetes_facts) missing += (missing.empty() ? "" : ", ") + name;
    return Finding::unknown(check.definition,
                            "could not look at " + missing + ": this build has no collector of it on kubernetes");
}

std::vector<std::string> recommendations(const std::vector<Finding>& findings, WallTime now) {
    struct Item {
        std::pair<double, double> reached;  ///< the weakest layer, then what all layers lose (negative)
        std::string text;
    };
    std::vector<Item> items;
    for (const auto& finding : findings) {
        if (finding.status() != FindingStatus::fail && finding.status() != FindingStatus::unknown) continue;
        std::vector<const Finding*> without;
        for (const auto& other : findings)
            if (std::string_view(other.check().root_cause) != finding.check().root_cause) without.push_back(&other);
        // The weakest layer decides; among equals, what helps its own layer most. A layer without findings loses
        // nothing.
        std::pair<double, double> reached{100, 0};
        for (const auto& layer : layer_scores_of(without, now)) {
            reached.first = std::min(reached.first, layer.lower);
            reached.second -= 100 - layer.lower;
        }
        items.push_back({reached, std::string(finding.check().id) + " (" + name_of(finding.status()) +
                                      "): " + finding.check().fix});
    }
    std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.reached > b.reached; });
    std::vector<std::string> texts;
    for (auto& item : items) texts.push_back(std::move(item.text));
    return texts;
}

}  // namespace isolation

const std::vector<CheckDefinition>& check_catalogue() {
    static const std::vector<CheckDefinition> definitions = [] {
        std::vector<CheckDefinition> result;
        for (const auto& check : isolation::checks()) result.push_back(check.definition);
        return result;
    }();
    return definitions;
}

}  // namespace infrastructure_sdk
