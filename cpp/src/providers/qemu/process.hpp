#pragma once
// Processes that outlive us: started hardened, identified by more than a pid, ended through a pidfd.

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <infrastructure_sdk/secret.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk::qemu {

struct Launch {
    std::string program;                           ///< absolute path
    std::vector<std::string> arguments;            ///< after the program's name
    std::string directory;                         ///< becomes the working directory
    std::string log_file;                          ///< inside the directory; gets standard output and error
    std::vector<std::pair<int, int>> descriptors;  ///< ours -> the child's number (10..29)
    std::optional<unsigned> uid;    ///< when root: this uid and gid, no capabilities, own net, ipc and uts namespaces
    bool own_network = false;       ///< with a uid: fail without a network namespace of its own
    std::optional<unsigned> group;  ///< the one group beside it, e.g. that of /dev/kvm; without it there is none
};

/// Starts it in a session of its own, without privileges to gain, without core dumps, with no other descriptor of ours.
/// Blocks until the program runs. The child waits until `forked` has returned, and never runs the program when it
/// throws or when we die before: so what is noted there is known of every program that runs.
/// @returns the pid. @throws Error(provider), or what `forked` throws
int launch(const Launch& request, const std::function<void(int pid)>& forked);

/// Runs a tool to its end. @throws Error(provider) with its error output as remote message.
/// @param secrets what the tool may read from "/dev/fd/3" on, one a number: on no command line, in no environment, in
/// no file.
void run_tool(const std::vector<std::string>& command, const std::vector<Secret>& secrets = {});
/// The read end of a pipe that holds the secret and ends there; -1 with errno when there is none. Close it.
int pipe_of(const Secret& secret);
/// What a tool prints on standard output. @throws Error(provider)
std::string tool_output(const std::vector<std::string>& command);

/// Absolute path of a program, by PATH; empty when there is none.
std::string find_program(const std::string& name);

std::string boot_id();
/// Field 22 of /proc/PID/stat; nullopt when there is no such process or it is a zombie.
std::optional<std::uint64_t> start_time_ticks(std::int64_t pid);
/// Pure: of the text of a stat file.
std::optional<std::uint64_t> parse_start_time(const std::string& stat);
/// True when exactly that process lives on this boot.
bool is_alive(const ProcessIdentity& identity);
/// The process whose command line names the VM.
std::optional<ProcessIdentity> find_vm_process(const std::string& uuid);
/// -1 with errno when it is gone. Close it.
int open_pidfd(std::int64_t pid);
void kill_through(int pidfd);
/// Waits so long for it to end by itself, then ends it. Reaps it if it is a child of ours. Blocking.
/// @returns false when it still lives 10 seconds after it was killed.
bool end_process(const ProcessIdentity& identity, int patience_ms);

}  // namespace infrastructure_sdk::qemu
