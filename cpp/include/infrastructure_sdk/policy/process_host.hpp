#pragma once
// Policies that are not trusted: Python in a process of its own, which may compute and talk to us, and nothing else.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/policy/policy_host.hpp>

namespace infrastructure_sdk {

struct ProcessPolicyOptions {
    std::string interpreter = "python3";  ///< a path, or a name that is looked up in PATH
    /// The folder of the Python package `infrastructure_sdk`, with its extension module, for that interpreter.
    std::string package;
    std::size_t memory_budget = standard_memory_budget;  ///< beyond what the interpreter itself needs
    bool lint = false;                                   ///< the process holds it anyway
};

/// A policy and the process that runs it.
class ProcessPolicy : public PolicyHost {
public:
    /// What is in force there: "no_new_privs", "seccomp", "limits", "network", ... sorted.
    virtual std::vector<std::string> protections() const = 0;
    virtual std::int64_t pid() const = 0;  ///< 0 = not running
};

/// Starts the process and has it load and try the text, as `load_python_policy` does. To be awaited, and the policy to
/// be used, on the Environment's executor.
///
/// The process has none of our descriptors but one socket, no environment, an empty network, limits on memory, files,
/// processes and CPU time, and from before the text is run a filter that lets these calls of the system through:
/// read and write on the socket, mmap of plain memory and mprotect, both without PROT_EXEC, munmap, mremap, madvise,
/// brk, futex, rt_sigprocmask, rt_sigreturn, exit, exit_group. All others fail with EPERM. Where the filter cannot be
/// had, nothing is loaded; what else is missing is told, and logged as a warning. It is never root.
///
/// One question is asked after the other. The time budget of a question, from `decide` to the call's deadline, counts
/// again from when it is sent: one that has not been answered in all of it ends the process. Whoever waited too long
/// for its turn gets `timed_out`, and the process lives. While it is started anew, after a pause that doubles from 0.1
/// to 30 s with each death, questions are refused. From the second death on it gets only the processor time that nobody
/// else wants (SCHED_IDLE), until it has answered 100 questions in a row. Nothing that it sends is believed: an answer
/// is one line of at most 128 KiB of JSON, 32 levels deep, for the question that was asked, and is checked. `sha256` is
/// not its word either.
/// @throws Error(policy), Error(unsupported) without the filter, Error(timeout), Error(cancelled)
Task<std::shared_ptr<ProcessPolicy>> load_process_policy(Environment environment, std::string source,
                                                         std::string origin, ProcessPolicyOptions options, Call call);

/// For the process itself: root becomes nobody (65534); then the filter, for this thread and those that it could still
/// start. Works once per process.
/// @param socket the one descriptor that may be read and written
/// @throws Error(unsupported) naming what the kernel refused.
void enter_policy_sandbox(int socket);

}  // namespace infrastructure_sdk
