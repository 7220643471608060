#pragma once

#include <memory>
#include <vector>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/isolation/isolation.hpp>
#include <infrastructure_sdk/vm/evidence_source.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk {

/// One VM to judge, and its neighbours for the cross-session checks.
struct IsolationSubject {
    std::string session_id;
    VmId vm_id;  ///< empty: whichever VM the process is
    std::shared_ptr<EvidenceSource> source;
};

class IsolationEngine {
public:
    explicit IsolationEngine(Environment environment);
    ~IsolationEngine();

    /// Collects and judges; the layers run in parallel. Never throws because something could not be seen: that is a
    /// finding. @param layers empty = all. @throws Error(cancelled)
    Task<IsolationReport> validate(IsolationSubject subject, std::vector<IsolationSubject> neighbours,
                                   std::vector<Layer> layers, Call call);

    /// Each subject against all others and the neighbours: one report per subject, in their order. Everything is read
    /// once. Nothing is started or changed. @param layers empty = all. @throws Error(cancelled)
    Task<std::vector<IsolationReport>> audit(std::vector<IsolationSubject> subjects,
                                             std::vector<IsolationSubject> neighbours, std::vector<Layer> layers,
                                             Call call);

private:
    struct Impl;
    Environment environment_;
    std::unique_ptr<Impl> impl_;
};

}  // namespace infrastructure_sdk
