#pragma once
// The shell around a user's own check.

#include <memory>
#include <optional>

#include "isolation/facts.hpp"
#include <infrastructure_sdk/isolation/own_checks.hpp>

namespace infrastructure_sdk::isolation {

/// A check with its definition, which findings point to: it is there until the process ends.
struct RegisteredCheck {
    const CheckDefinition* definition = nullptr;
    std::function<OwnVerdict(const OwnFacts&)> judge;
};
/// @throws Error(validation) naming the field that is not allowed
RegisteredCheck registered(const OwnCheck& check, const std::vector<RegisteredCheck>& others);

/// The facts that it reads; or the finding that some could not be had.
struct OwnQuestion {
    OwnFacts facts;
    std::optional<Finding> blind;
};
OwnQuestion question_for(const RegisteredCheck& check, const Facts& facts);
/// Asks, whatever the check throws. Blocking.
OwnVerdict answer_of(const RegisteredCheck& check, const OwnFacts& facts);
/// The finding that the verdict and the evidence make.
Finding finding_of(const RegisteredCheck& check, const Facts& facts, const OwnVerdict& verdict);

}  // namespace infrastructure_sdk::isolation
