#pragma once
// Counts what a policy answers.

#include <map>
#include <memory>
#include <vector>

#include <infrastructure_sdk/simulation/simulation.hpp>

namespace infrastructure_sdk {

class DecisionCounts {
public:
    void add(const PolicyRequest& request, const PolicyAnswer& answer);
    /// By point, then by answer.
    std::vector<DecisionCount> list() const;

private:
    std::map<std::pair<DecisionPoint, std::string>, std::uint64_t> counts_;
};

/// Passes every question on. `counts` outlives it.
std::shared_ptr<PolicyHost> make_counting_host(std::shared_ptr<PolicyHost> inner, DecisionCounts& counts);

}  // namespace infrastructure_sdk
