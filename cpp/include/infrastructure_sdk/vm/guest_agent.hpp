#pragma once
// What can be asked of the guest. Every answer is untrusted: sizes are bounded, JSON is checked.

#include <cstdint>
#include <map>
#include <memory>
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
    std::string working_directory = {};  ///< absolute, in the guest; empty = the agent's own
    std::string user = {};               ///< of the guest, by name; empty = the agent's own
};

struct ExecResult {
    int exit_code = 0;        ///< 128 + signal when killed by one, as in a shell
    std::string stdout_data;  ///< bytes
    std::string stderr_data;  ///< bytes
    bool stdout_truncated = false;
    bool stderr_truncated = false;
    Duration elapsed{};
};

/// What a command did since the last look.
struct ExecProgress {
    std::string stdout_data;       ///< bytes
    std::string stderr_data;       ///< bytes
    std::optional<int> exit_code;  ///< as in ExecResult; set when it ended and all of its output was given
};

/// A command that was started and is followed. Its output is kept in files of the guest that are removed at once and
/// vanish with it. Used by one caller at a time.
class GuestProcess {
public:
    virtual ~GuestProcess() = default;
    /// Completes when there is output, or when it ended. At most about 1 MiB of each stream at once.
    virtual Task<ExecProgress> follow(Call call) = 0;
    /// To the command and what it started in its process group. @param signal "TERM", "KILL", "INT", "HUP", "QUIT",
    /// "USR1", "USR2", "STOP" or "CONT". One that ended is fine. @throws Error(validation)
    virtual Task<void> signal(std::string signal, Call call) = 0;
    /// Kills what runs and lets go of its files in the guest. Again is fine.
    virtual Task<void> close(Call call) = 0;
};

/// One entry of a folder in the guest.
struct GuestFileEntry {
    std::string name;  ///< bytes, without a slash
    std::string type;  ///< "file", "directory", "link" or "other"
    std::uint64_t size_bytes = 0;
    std::uint32_t mode = 0;        ///< permission bits, 0 to 07777
    std::int64_t modified_at = 0;  ///< seconds since 1970, by the guest's clock
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
    /// A user or working directory that the guest does not have gives Error(not_found) too.
    virtual Task<ExecResult> exec(ExecRequest request, Call call) = 0;
    /// Starts a command that is followed while it runs. `output_limit_bytes` does not count. @throws as `exec`
    virtual Task<std::shared_ptr<GuestProcess>> start(ExecRequest request, Call call);
    /// @throws Error(not_found) Error(validation) when above `limit_bytes`.
    virtual Task<std::string> read_file(std::string path, std::size_t limit_bytes, Call call) = 0;
    virtual Task<void> write_file(std::string path, std::string bytes, Call call) = 0;
    /// As `write_file` for each, in order; an agent may do it in fewer round trips. When one fails others may be
    /// written.
    virtual Task<void> write_files(std::vector<GuestFile> files, Call call) {
        for (auto& file : files) co_await write_file(std::move(file.path), std::move(file.bytes), call);
    }
    /// At most `limit_bytes` (up to 1 MiB) from `offset` on; fewer only at the end of the file.
    virtual Task<std::string> read_file_part(std::string path, std::uint64_t offset, std::size_t limit_bytes,
                                             Call call);
    /// At most 1 MiB at `offset`. At 0 the file is made or emptied first; elsewhere it must reach that far.
    /// @throws Error(not_found), Error(conflict)
    virtual Task<void> write_file_part(std::string path, std::uint64_t offset, std::string bytes, Call call);
    /// What is in a folder, by name; "." and ".." are not shown. @throws Error(not_found), Error(validation) for what
    /// is not a folder, Error(conflict) when it changes all the time
    virtual Task<std::vector<GuestFileEntry>> list_files(std::string path, Call call);
    virtual Task<void> set_time(WallTime time, Call call) = 0;
    virtual Task<std::vector<GuestInterface>> interfaces(Call call) = 0;
    /// How many users are logged in.
    virtual Task<std::uint32_t> logged_in_users(Call call) = 0;
};

}  // namespace infrastructure_sdk
