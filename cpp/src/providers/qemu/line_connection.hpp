#pragma once
// A unix socket that carries lines: a reader child, writes in order, descriptors on request.

#include <functional>
#include <memory>
#include <string>

#include "core/async_tools.hpp"
#include "providers/qemu/line_splitter.hpp"

namespace infrastructure_sdk::qemu {

class LineConnection : public std::enable_shared_from_this<LineConnection> {
public:
    struct Handlers {
        std::function<void(std::string)> on_line;
        std::function<void()> on_close;  ///< once, whatever the cause
    };
    /// Takes the descriptor.
    LineConnection(Environment environment, int fd, std::size_t limit_bytes);
    void start(Handlers handlers);

    /// @throws Error(not_ready) when the peer is gone.
    Task<void> write(std::string bytes, Call call, int fd = -1);
    bool is_open() const { return open_; }
    /// No handler is called after this.
    void close();
    Task<void> join();

private:
    Task<void> read();
    Environment environment_;
    asio::local::stream_protocol::socket socket_;
    LineSplitter splitter_;
    Handlers handlers_;
    AsyncMutex writing_;
    TaskGroup tasks_;
    bool open_ = true;
};

}  // namespace infrastructure_sdk::qemu
