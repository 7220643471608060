#pragma once
// Somebody who wants a session as planned, whatever happens to it.

#include "simulation/tally.hpp"

namespace infrastructure_sdk {

/// What people act in.
struct SimulatedScene {
    Environment environment;
    SessionEngine* engine = nullptr;
    SimulatedHost* host = nullptr;
    Tally* tally = nullptr;
    const SimulationOptions* options = nullptr;
    WallTime start;
};

/// Lives one planned session: creates it, uses it, resumes it when it is suspended, makes another when it is gone, and
/// ends it in the end. `lived` and `scene` outlive it.
Task<void> live(const SimulatedScene* scene, LivedSession* lived);

}  // namespace infrastructure_sdk
