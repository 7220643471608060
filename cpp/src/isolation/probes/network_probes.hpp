#pragma once
// Runs the probes of a VM's network.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "isolation/facts.hpp"
#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/vm/evidence_source.hpp>

namespace infrastructure_sdk::isolation {

/// A VM with what was collected of it.
struct ProbeSite {
    std::shared_ptr<const Facts> facts;
    std::shared_ptr<EvidenceSource> source;
};

/// What a probe found, or why it found nothing; exactly one is there.
struct ProbeOutcome {
    nlohmann::json value;
    std::string why;
    std::string locator;
};
using ProbeOutcomes = std::map<std::string, ProbeOutcome>;

/// probe.gate, probe.guests, probe.metadata, probe.host and probe.spoofing of one VM. The ports of at most eight of its
/// neighbours are watched, those on the same bridge first. Takes less than two seconds, sends at most 80 frames, 200 in
/// a second. Undoes what it needs. @throws Error(cancelled)
Task<ProbeOutcomes> probe_network(Environment environment, ProbeSite subject, std::vector<ProbeSite> neighbours,
                                  Call call);

}  // namespace infrastructure_sdk::isolation
