#include "providers/qemu/line_connection.hpp"

#include <cerrno>
#include <cstring>

#include <sys/socket.h>

namespace infrastructure_sdk::qemu {

LineConnection::LineConnection(Environment environment, int fd, std::size_t limit_bytes)
    : environment_(environment),
      socket_(environment.executor, asio::local::stream_protocol(), fd),
      splitter_(limit_bytes),
      writing_(environment.executor),
      tasks_(environment.executor) {
    socket_.non_blocking(true);
}

void LineConnection::start(Handlers handlers) {
    handlers_ = std::move(handlers);
    tasks_.spawn(environment_.logger, "line reader", read());
}

Task<void> LineConnection::read() {
    auto self = shared_from_this();
    std::vector<char> buffer(64 << 10);
    while (open_) {
        boost::system::error_code error;
        auto got =
            co_await socket_.async_read_some(asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
        if (error) break;
        auto lines = splitter_.feed({buffer.data(), got});
        for (auto& line : lines)
            if (open_ && handlers_.on_line) handlers_.on_line(std::move(line));
        if (splitter_.overflown()) break;
    }
    open_ = false;
    boost::system::error_code ignored;
    socket_.close(ignored);
    auto on_close = std::move(handlers_.on_close);
    handlers_ = {};
    if (on_close) on_close();
}

Task<void> LineConnection::write(std::string bytes, Call call, int fd) {
    auto self = shared_from_this();
    auto guard = co_await writing_.lock(*environment_.clock, call, "writing to a control socket");
    std::size_t sent = 0;
    while (sent < bytes.size()) {
        if (!open_) throw Error(Errc::not_ready, "the control connection was closed");
        iovec part{bytes.data() + sent, bytes.size() - sent};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
        if (fd >= 0 && sent == 0) {
            message.msg_control = control;
            message.msg_controllen = sizeof control;
            auto* header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int));
            std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
        }
        auto done = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done >= 0) {
            sent += static_cast<std::size_t>(done);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            boost::system::error_code error;
            co_await socket_.async_wait(asio::local::stream_protocol::socket::wait_write,
                                        asio::redirect_error(asio::use_awaitable, error));
        } else if (errno != EINTR) {
            throw Error(Errc::not_ready, std::string("the control connection failed: ") + std::strerror(errno));
        }
    }
}

void LineConnection::close() {
    if (!open_) return;
    open_ = false;
    handlers_ = {};
    boost::system::error_code ignored;
    socket_.close(ignored);
}

Task<void> LineConnection::join() {
    auto self = shared_from_this();
    co_await tasks_.join();
}

}  // namespace infrastructure_sdk::qemu
