#pragma once
// Counts what policies answered, by what became of it.

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <infrastructure_sdk/simulation/simulation.hpp>

namespace infrastructure_sdk {

class DecisionCounts {
public:
    void add(const PolicyJudgement& judged);
    /// By point, then by answer.
    std::vector<DecisionCount> list() const;

private:
    std::map<std::pair<DecisionPoint, std::string>, DecisionCount> counts_;
};

/// Passes every question on, and is not closed: it goes on to live with who gave it.
std::shared_ptr<PolicyHost> make_borrowed_host(std::shared_ptr<PolicyHost> inner);

}  // namespace infrastructure_sdk
