#pragma once
// Collects the facts of VMs: from /proc and /sys, and from whoever runs them.

#include <memory>
#include <optional>
#include <set>
#include <string>

#include "isolation/collectors/reading.hpp"
#include "isolation/facts.hpp"
#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/isolation/isolation_engine.hpp>

namespace infrastructure_sdk::isolation {

/// What the checks of these layers read of a VM itself, and of its neighbours.
struct Wanted {
    std::set<std::string> own, of_neighbours;
};
Wanted wanted_by(const std::vector<Layer>& layers);

/// "boot id/pid/start time/uuid" of the fact process.identity; nullopt when it makes no sense.
std::optional<std::string> epoch_of(const Fact& identity);

/// Fills `into` (which outlives the task). Whatever goes wrong is in it: single facts that could not be had, or all of
/// them when the VM is another one than `subject` says or changed meanwhile. `round` is shared by those who are looked
/// at together. @throws Error(cancelled)
Task<void> collect(Environment environment, std::shared_ptr<Facts> into, IsolationSubject subject,
                   std::set<std::string> wanted, std::shared_ptr<DigestCache> digests,
                   std::shared_ptr<RoundReadings> round, Call call);

}  // namespace infrastructure_sdk::isolation
