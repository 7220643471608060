#pragma once
// The process of a policy that is not trusted: started, talked to by lines, ended.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/asio.hpp"
#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/policy/process_host.hpp>

namespace infrastructure_sdk {

/// What `start_policy_process` has begun.
struct StartedProcess {
    std::int64_t pid = 0;
    int pidfd = -1;
    int socket = -1;                   ///< ours; non-blocking
    std::vector<std::string> missing;  ///< "network: Operation not permitted"
};

/// The descriptor of the socket in the process.
constexpr int policy_socket = 3;

/// Blocks until the interpreter runs. @param is_last it gets what processors nobody else wants. @throws Error(policy)
StartedProcess start_policy_process(const ProcessPolicyOptions& options, bool is_last);

/// One running process. Used on the executor only; ends it when it goes.
class PolicyProcess {
public:
    PolicyProcess(Executor executor, Executor blocking, const StartedProcess& started);
    ~PolicyProcess();
    PolicyProcess(const PolicyProcess&) = delete;

    std::int64_t pid() const { return pid_; }
    /// @throws boost::system::system_error when it is gone.
    Task<void> send(std::string line);
    /// Without its line feed. @throws boost::system::system_error at the end of it, Error(policy) for a line above
    /// 128 KiB.
    Task<std::string> receive();
    /// SIGKILL; whoever waits in `send` or `receive` is woken.
    void kill();

private:
    std::int64_t pid_;
    int pidfd_;
    Executor blocking_;
    asio::local::stream_protocol::socket socket_;
    std::string received_;
};

}  // namespace infrastructure_sdk
