#pragma once
// Which probes there are, and how they become facts.

#include <set>
#include <string>
#include <vector>

#include "isolation/collection.hpp"
#include "isolation/probes/network_probes.hpp"

namespace infrastructure_sdk::isolation {

/// Facts that the probes of these checks bring. @throws Error(validation) naming `probes` and the id that has none
std::set<std::string> probes_of(const std::vector<std::string>& check_ids);
/// What probes need to know of a VM itself and of its neighbours.
Wanted wanted_by_probes();

/// Facts of the kind "probe", each of the instance that ran before and after; see `EvidenceSource` for why there is
/// none.
/// @throws Error(cancelled)
Task<std::vector<Fact>> run_probes(Environment environment, ProbeSite subject, std::vector<ProbeSite> neighbours,
                                   std::set<std::string> wanted, Call call);

}  // namespace infrastructure_sdk::isolation
