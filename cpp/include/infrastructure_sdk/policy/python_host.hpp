#pragma once
// Policies in Python, in this process. Defined in the Python package's extension module and, for C++ programs, in the
// optional library `infrastructure_sdk::policy_python`, where `PythonInterpreter` (policy/python_interpreter.hpp) has to
// exist first.

#include <cstddef>
#include <memory>
#include <string>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/policy/policy_host.hpp>

namespace infrastructure_sdk {

/// The text of a policy.
struct PolicyText {
    std::string source;
    std::string origin;  ///< its file, for tracebacks; a policy without a name has that of the file
};

struct PythonPolicyOptions {
    /// What a policy may keep and use at once, of Python's own memory: an allocation beyond fails with MemoryError.
    /// Libraries that allocate by themselves are not counted. 0 = no limit.
    std::size_t memory_budget = 64u << 20;
    /// Refuse what the linter calls an error.
    bool lint = true;
    /// On the caller's thread and without a time limit: for simulations, whose clock stands still meanwhile.
    bool inline_calls = false;
    /// How long loading and the questions of the trial may take.
    Duration load_budget = std::chrono::seconds(10);
    /// How many threads are started anew after one that did not come back.
    unsigned fresh_threads = 3;
};

/// Runs the text, lints it and asks it once at each of its points with a sample request; only then there is a host. A
/// change of the text is a new host: who has the old one keeps it until the new one is good.
///
/// Blocks at most for the load budget; the caller does not hold Python's lock, except with `inline_calls`, where it may.
/// A question that is overdue is answered with `timed_out` at once and interrupted; while it still runs, others are
/// refused. One that does not come back loses its thread. A call into C that keeps Python's lock cannot be interrupted
/// and stops all of Python in this process, though not the engine: only a process of its own helps there.
/// @throws Error(policy) saying what is wrong with it, Error(timeout)
std::shared_ptr<PolicyHost> make_python_policy(Environment environment, PolicyText text,
                                               PythonPolicyOptions options = PythonPolicyOptions());

}  // namespace infrastructure_sdk
