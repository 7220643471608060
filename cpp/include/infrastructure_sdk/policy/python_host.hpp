#pragma once
// Policies in Python, in this process. Defined in the Python package's extension module and, for C++ programs, in the
// optional library `infrastructure_sdk::policy_python`, where `PythonInterpreter` (policy/python_interpreter.hpp) has
// to exist first.

#include <cstddef>
#include <memory>
#include <string>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/policy/policy_engine.hpp>
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
    std::size_t memory_budget = standard_memory_budget;
    /// Refuse what the linter calls an error.
    bool lint = true;
    /// How many threads are started anew after one that did not come back.
    unsigned fresh_threads = 3;
};

/// Runs the text, lints it and asks it once at each of its points with a sample request; only then there is a host. A
/// change of the text is a new host: who has the old one keeps it until the new one is good. All of Python happens on a
/// thread of the policy's own; to be awaited on the Environment's executor.
///
/// A question that is overdue is answered with `timed_out` at once and interrupted; while it still runs, others are
/// refused. One that does not come back loses its thread. A call into C that keeps Python's lock cannot be interrupted
/// and stops all of Python in this process, though not the engine: only a process of its own helps there.
/// @throws Error(policy) saying what is wrong with it, Error(timeout) when it takes longer than `call` allows,
/// Error(cancelled)
Task<std::shared_ptr<PolicyHost>> load_python_policy(Environment environment, PolicyText text,
                                                     PythonPolicyOptions options, Call call);

/// The same, but it is asked on the caller's thread and without a time limit, and tells at once (`decide_now`): for
/// simulations, whose clock stands still meanwhile. Blocks; the caller may hold Python's lock or not. A thread that
/// asked takes that lock once more when it ends: who holds it must not wait for that.
/// @throws Error(policy)
std::shared_ptr<PolicyHost> make_inline_python_policy(PolicyText text, PythonPolicyOptions options);

/// Where the processes of untrusted policies come from; see ProcessPolicyOptions.
struct PolicyWorkerPlace {
    std::string interpreter;
    std::string package;  ///< empty = there is none: untrusted policies are refused
};

/// For the policy engine: loads "FILE" or "entry:NAME" (of a package that offers policies), trusted ones as
/// `load_python_policy` does, untrusted ones in a process of their own.
PolicyHostFactory make_python_policy_factory(Environment environment, PolicyWorkerPlace place);

}  // namespace infrastructure_sdk
