#pragma once
// What can be asked of a simulated guest.

#include "providers/simulator/host.hpp"

namespace infrastructure_sdk {

std::shared_ptr<GuestAgent> make_simulated_agent(Environment environment, std::shared_ptr<SimulatedHost::State> host,
                                                 VmId id);
std::shared_ptr<Display> make_simulated_display(std::shared_ptr<SimulatedHost::State> host, VmId id);
std::shared_ptr<EvidenceSource> make_simulated_evidence(Environment environment);

}  // namespace infrastructure_sdk
