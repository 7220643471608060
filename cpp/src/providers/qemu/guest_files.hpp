#pragma once
// Files of the guest through its agent.

#include "providers/qemu/agent_channel.hpp"

namespace infrastructure_sdk::qemu {

/// What one read or write carries. The agent takes more, but holds it several times over in the guest's memory.
constexpr std::size_t file_chunk = 48u << 10;
constexpr std::size_t part_limit = 1u << 20;

/// @throws Error(validation) unless it is an absolute path.
void check_guest_path(const std::string& path);
/// @param mode as of fopen(3) @returns the agent's handle @throws Error(not_found)
Task<std::int64_t> open_guest_file(AgentChannel& channel, std::string path, std::string mode, Call call);
/// Never throws: a handle that stays open dies with the agent.
Task<void> close_guest_file(AgentChannel& channel, std::int64_t handle);

/// See GuestAgent.
Task<std::string> read_guest_part(AgentChannel& channel, std::string path, std::uint64_t offset, std::size_t limit,
                                  Call call);
Task<void> write_guest_part(AgentChannel& channel, std::string path, std::uint64_t offset, std::string bytes,
                            Call call);

/// From an open handle on, until `limit` or the end of what is there. The handle stays open and can be read on.
Task<std::string> read_on(AgentChannel& channel, std::int64_t handle, std::size_t limit, Call call);

/// The shell script that lists the folder "$1": names, each ended by a NUL, one more NUL, then one line of mode (hex),
/// size and time for each.
extern const char* const list_script;
/// What it printed. nullopt when the two halves do not fit: the folder changed meanwhile. Pure.
std::optional<std::vector<GuestFileEntry>> parse_listing(const std::string& output);

}  // namespace infrastructure_sdk::qemu
