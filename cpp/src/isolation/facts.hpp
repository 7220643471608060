#pragma once
// What was collected of one VM, and the judgement of a check upon it.

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <nlohmann/json.hpp>

#include "isolation/held_fact.hpp"
#include <infrastructure_sdk/isolation/isolation.hpp>

namespace infrastructure_sdk::isolation {

/// Facts by name: those of EvidenceSource and those of the collectors (see readings.hpp for their shapes). Copies share
/// what was made of them. Reading is thread-safe.
class Facts {
public:
    void add(Fact fact);
    /// One that holds for many, here for `instance`.
    void add(std::shared_ptr<HeldFact> held, std::string instance);
    /// nullptr when it could not be had, or is of another instance; `why()` tells.
    const nlohmann::json* value(const std::string& name) const;
    /// The same as `read` understands it.
    template <class T>
    const T* as(const std::string& name, std::optional<T> (*read)(const nlohmann::json&)) const {
        auto* held = usable(name);
        return held ? held->as(read) : nullptr;
    }
    std::string why(const std::string& name) const;
    /// Evidence from a fact that was had.
    Evidence evidence(const CheckDefinition& check, const std::string& name, const std::string& excerpt) const;
    /// One evidence for the same fact of every neighbour, as far as it was had.
    Evidence neighbour_evidence(const CheckDefinition& check, const std::string& name,
                                const std::string& excerpt) const;

    std::string session_id;
    std::string epoch;
    std::string platform = "local";
    WallTime looked_at;  ///< when the neighbours were listed
    /// Why nothing of this holds, e.g. because the process changed meanwhile; then no fact has a value.
    std::string broken;
    /// The other sessions; nullopt when nobody could list them.
    std::optional<std::vector<std::shared_ptr<const Facts>>> neighbours;

private:
    struct Entry {
        std::shared_ptr<HeldFact> held;
        std::string instance;  ///< of whom it is
    };
    HeldFact* usable(const std::string& name) const;

    std::unordered_map<std::string, Entry> facts_;
};

/// The text under `key` of what should be an object; nullopt when it is anything else. Never throws.
std::optional<std::string> text_at(const nlohmann::json& object, const char* key);

/// How far what was seen from there is believed, 0..1; at 0 it supports no pass.
double vantage_factor(const std::string& vantage);

using Judge = Finding (*)(const CheckDefinition&, const Facts&);

struct Check {
    CheckDefinition definition;
    Judge judge;
};
/// Every check with its judgement, ordered by id; `check_catalogue()` shows the definitions.
const std::vector<Check>& checks();
std::vector<Check> compute_checks();
std::vector<Check> memory_checks();
std::vector<Check> network_checks();
std::vector<Check> runtime_checks();
std::vector<Check> storage_checks();

/// The judgement for the platform of the facts. On a platform without collectors it is `unknown`.
Finding judge(const Check& check, const Facts& facts);

/// Of some findings, as `layer_scores` of all. Pure.
std::vector<LayerScore> layer_scores_of(const std::vector<const Finding*>& findings, WallTime now);

/// What raises the lower bound most, first. Pure.
std::vector<std::string> recommendations(const std::vector<Finding>& findings, WallTime now);

}  // namespace infrastructure_sdk::isolation
