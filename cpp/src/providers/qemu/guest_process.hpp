#pragma once
// Commands in the guest through its agent: as another user, in another folder, followed while they run.

#include <memory>

#include "providers/qemu/agent_channel.hpp"

namespace infrastructure_sdk::qemu {

/// The words that run `request` as its user in its folder. Without either they are the request's own. What cannot be
/// done is said on standard error as "<nonce> user|directory|command", with exit code 125. Pure.
std::vector<std::string> run_words(const ExecRequest& request, const std::string& nonce);
/// The same with standard output and error in `<directory>/out` and `<directory>/err`, which it makes.
std::vector<std::string> follow_words(const ExecRequest& request, const std::string& nonce,
                                      const std::string& directory);
/// What the words say that cannot be done. @throws Error(not_found)
void raise_refusal(const std::string& stderr_data, const std::string& nonce, const ExecRequest& request);

/// Checks and describes a command for `guest-exec`. @throws Error(validation)
nlohmann::json exec_arguments(const ExecRequest& request, std::vector<std::string> words, bool capture);
/// Starts it. @returns the process id in the guest @throws Error(not_found) for an absent program
Task<std::int64_t> spawn_in_guest(AgentChannel& channel, nlohmann::json arguments, Call call);
/// nullopt while it runs. Pure. @throws Error(provider)
std::optional<int> exit_code_of(const nlohmann::json& status);
/// To the whole process group if it leads one. @throws Error(validation) for an unknown name, and as any request
Task<void> signal_in_guest(AgentChannel& channel, std::int64_t pid, std::string signal, Call call);

Task<std::shared_ptr<GuestProcess>> start_in_guest(std::shared_ptr<AgentChannel> channel, ExecRequest request,
                                                   Call call);
/// A name that nobody can guess.
std::string random_name(const Environment& environment);

}  // namespace infrastructure_sdk::qemu
