#pragma once
// What can be asked of the guest. Every answer is untrusted: sizes are bounded, JSON is checked.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/deadline.hpp>

namespace infrastructure_sdk {

struct ExecRequest {
    std::vector<std::string> arguments;  ///< argv; arguments[0] is looked up in the guest's PATH
    std::string stdin_data;
    std::map<std::string, std::string> environment;  ///< empty = the agent's own
    /// Per stream; more is cut and flagged. The agent itself stops at 16 MiB.
    std::size_t output_limit_bytes = 16u << 20;
};

struct ExecResult {
    int exit_code = 0;        ///< 128 + signal when killed by one, as in a shell
    std::string stdout_data;  ///< bytes
    std::string stderr_data;  ///< bytes
    bool stdout_truncated = false;
    bool stderr_truncated = false;
    Duration elapsed{};
};

struct GuestInterface {
    std::string name;
    std::string mac_address;
    std::vector<std::string> addresses;     ///< "10.0.2.15/24"
    std::optional<std::uint64_t> rx_bytes;  ///< since the guest booted
    std::optional<std::uint64_t> tx_bytes;
};

struct GuestFile {
    std::string path;   ///< absolute, in the guest
    std::string bytes;  ///< at most 48 KiB
};

/// One request at a time; callers queue. Completes on the awaiting executor.
/// Every call may throw Error(not_ready, channel=agent) on deadline, Error(cancelled), Error(provider).
class GuestAgent {
public:
    virtual ~GuestAgent() = default;
    virtual Task<void> ping(Call call) = 0;
    /// When the deadline passes the guest process is killed (SIGKILL) and Error(timeout) is thrown, with what it had
    /// printed unavailable. A command that does not exist gives Error(not_found, field=arguments[0]).
    virtual Task<ExecResult> exec(ExecRequest request, Call call) = 0;
    /// @throws Error(not_found) Error(validation) when above `limit_bytes`.
    virtual Task<std::string> read_file(std::string path, std::size_t limit_bytes, Call call) = 0;
    virtual Task<void> write_file(std::string path, std::string bytes, Call call) = 0;
    /// As `write_file` for each, in order; an agent may do it in fewer round trips. When one fails others may be
    /// written.
    virtual Task<void> write_files(std::vector<GuestFile> files, Call call) {
        for (auto& file : files) co_await write_file(std::move(file.path), std::move(file.bytes), call);
    }
    virtual Task<void> set_time(WallTime time, Call call) = 0;
    virtual Task<std::vector<GuestInterface>> interfaces(Call call) = 0;
    /// How many users are logged in.
    virtual Task<std::uint32_t> logged_in_users(Call call) = 0;
};

}  // namespace infrastructure_sdk
