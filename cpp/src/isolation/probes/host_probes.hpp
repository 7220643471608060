#pragma once
// Probes that need no network: another user's id at the VM's sockets, disks and memory, what a fresh disk holds, and
// starts that must be refused.

#include <vector>

#include "isolation/probes/foreign.hpp"
#include "isolation/probes/network_probes.hpp"

namespace infrastructure_sdk::isolation {

/// {"attempts": [...]} of what was tried as another user. `refused`: the numbers of errors that are a refusal. Pure.
nlohmann::json judge_foreigner(const std::vector<std::string>& names, const std::vector<int>& errors, bool control);
/// Templates that would weaken isolation, each with a good twin that differs in one line. {"attempts": [...]}: refused
/// while the twin is accepted. Pure.
nlohmann::json probe_admission();

/// probe.sockets, probe.disks, probe.memory, probe.leftovers, probe.admission. Blocking, some milliseconds.
/// @param nonce 16 characters
ProbeOutcomes probe_host(const Facts& facts, const std::string& nonce);

}  // namespace infrastructure_sdk::isolation
