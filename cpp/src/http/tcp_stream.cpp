#include "http/byte_stream.hpp"

#include <cerrno>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using asio::ip::tcp;
using boost::system::error_code;

class TcpStream final : public ByteStream {
public:
    explicit TcpStream(const Executor& executor) : socket_(executor) {}

    Task<void> connect(tcp::endpoint endpoint) override {
        error_code error;
        co_await socket_.async_connect(endpoint, asio::redirect_error(asio::use_awaitable, error));
        if (error) fail_stage("connect", error.message());
        tune(socket_);
    }
    Task<void> start() override { co_return; }
    Task<std::size_t> read_some(std::span<char> room) override {
        error_code error;
        auto buffer = asio::buffer(room.data(), room.size());
        auto got = co_await socket_.async_read_some(buffer, asio::redirect_error(asio::use_awaitable, error));
        if (error && error != asio::error::eof) fail_stage("receive", error.message());
        co_return got;
    }
    Task<std::size_t> write_some(std::string_view bytes) override {
        error_code error;
        auto buffer = asio::buffer(bytes.data(), bytes.size());
        auto sent = co_await socket_.async_write_some(buffer, asio::redirect_error(asio::use_awaitable, error));
        if (error) fail_stage("send", error.message());
        co_return sent;
    }
    bool ended_orderly() const override { return true; }
    bool is_stale() override { return is_stale_socket(socket_.native_handle()); }
    void abort() noexcept override {
        error_code ignored;
        socket_.close(ignored);
    }

private:
    tcp::socket socket_;
};

}  // namespace

void fail_stage(const char* stage, const std::string& why) {
    throw Error(Errc::not_ready, std::string(stage) + ": " + why, {{"channel", "http"}, {"stage", stage}});
}

void tune(tcp::socket& socket) {
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::keep_alive(true), ignored);
    // A peer that vanished is found in about a minute.
    int idle = 30, interval = 10, count = 3, unacknowledged = 45'000;
    auto set = [&](int option, int value) {
        ::setsockopt(socket.native_handle(), IPPROTO_TCP, option, &value, sizeof value);
    };
    set(TCP_KEEPIDLE, idle);
    set(TCP_KEEPINTVL, interval);
    set(TCP_KEEPCNT, count);
    set(TCP_USER_TIMEOUT, unacknowledged);
}

bool is_stale_socket(int descriptor) {
    char byte = 0;
    auto got = ::recv(descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

std::unique_ptr<ByteStream> make_tcp_stream(const Executor& executor) { return std::make_unique<TcpStream>(executor); }

}  // namespace infrastructure_sdk
