#pragma once
// The verdict of two-sided probes.

#include <string>

#include "isolation/look.hpp"

namespace infrastructure_sdk::isolation {

/// Notes faults and blindness of one probe fact: it went through, or left nothing behind that shows that it could have.
void judge_probe(Look& look, const std::string& fact);
/// The probes of the network count only where the gate shows that rules are enforced at all.
void need_gate(Look& look);

}  // namespace infrastructure_sdk::isolation
