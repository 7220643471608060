#pragma once
// A QMP connection over a unix socket. One command at a time; events go to a handler.

#include <functional>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/deadline.hpp>
#include <infrastructure_sdk/environment.hpp>

namespace infrastructure_sdk::qemu {

/// All calls on the Environment's executor. Everything read from QEMU is checked; a line above 16 MiB ends the
/// connection.
class QmpClient {
public:
    /// Connects, reads the greeting and leaves negotiation mode. `socket_path` may be longer than 108 bytes: the
    /// directory is opened and the socket is reached through /proc/self/fd. Retries until the deadline while the socket
    /// is absent or refuses. @throws Error(not_ready, channel=qmp), Error(cancelled)
    static Task<std::shared_ptr<QmpClient>> connect(Environment environment, std::string socket_path, Call call);
    ~QmpClient();

    /// The "return" value. With `fd` >= 0 the descriptor travels with the command (SCM_RIGHTS); the caller keeps and
    /// closes its own copy. @throws Error(provider) with QEMU's text as remote message and context `class`;
    /// Error(not_ready, channel=qmp) when the connection ended; Error(timeout), Error(cancelled).
    /// After a timeout the late answer is dropped by its id; the connection stays usable.
    Task<nlohmann::json> execute(std::string command, nlohmann::json arguments, Call call, int fd = -1);

    /// Gets each event object ({"event","data","timestamp"}).
    void on_event(std::function<void(const nlohmann::json&)> handler);
    bool connected() const noexcept;
    /// Closes the socket; pending commands fail. The reader child ends soon after; `join` waits for it.
    void close();
    Task<void> join();

private:
    struct Impl;
    explicit QmpClient(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace infrastructure_sdk::qemu
