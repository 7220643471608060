#pragma once

#include <memory>
#include <string>
#include <vector>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/isolation/isolation.hpp>
#include <infrastructure_sdk/isolation/own_checks.hpp>
#include <infrastructure_sdk/vm/evidence_source.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk {

/// One VM to judge, and its neighbours for the cross-session checks.
struct IsolationSubject {
    std::string session_id;
    VmId vm_id;  ///< empty: whichever VM the process is
    std::shared_ptr<EvidenceSource> source;
};

/// The checks that active probes decide, or add to: what `probes` may name.
const std::vector<std::string>& probed_checks();

class IsolationEngine {
public:
    explicit IsolationEngine(Environment environment);
    ~IsolationEngine();

    /// From now on the check is in every report. On the Environment's executor.
    /// @throws Error(validation) naming the field that is not allowed: an id that is taken, no facts, no function
    void add_check(const OwnCheck& check);

    /// Collects and judges; the layers run in parallel. Never throws because something could not be seen: that is a
    /// finding. @param layers empty = all. @throws Error(cancelled)
    Task<IsolationReport> validate(IsolationSubject subject, std::vector<IsolationSubject> neighbours,
                                   std::vector<Layer> layers, Call call);

    /// The same with active probes for these checks (see `probed_checks`): frames put in at the port of the VM's
    /// network card, and a process under another user's id, against sockets of our own and the VM's. No guest takes
    /// part and none is believed. One VM is probed at a time, and other looks wait meanwhile; a probe takes a second or
    /// two. What was found counts for later looks at the same process too, until it is too old: 10 minutes for critical
    /// checks, else 30, weighing less after half of that. @throws Error(validation) naming `probes`, Error(cancelled)
    Task<std::vector<IsolationReport>> audit_with_probes(std::vector<IsolationSubject> subjects,
                                                         std::vector<IsolationSubject> neighbours,
                                                         std::vector<Layer> layers, std::vector<std::string> probes,
                                                         Call call);

    /// Each subject against all others and the neighbours: one report per subject, in their order. Everything is read
    /// once. Nothing is started or changed. @param layers empty = all. @throws Error(cancelled)
    Task<std::vector<IsolationReport>> audit(std::vector<IsolationSubject> subjects,
                                             std::vector<IsolationSubject> neighbours, std::vector<Layer> layers,
                                             Call call);

private:
    struct Impl;
    Environment environment_;
    std::shared_ptr<Impl> impl_;
};

}  // namespace infrastructure_sdk
