#include "isolation/probes/canaries.hpp"

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::isolation {
namespace {

sockaddr_in address_of(const std::string& text, std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    ::inet_pton(AF_INET, text.c_str(), &address.sin_addr);
    return address;
}

[[noreturn]] void fail(const char* doing) {
    throw Error(Errc::provider, std::string("no canary: ") + doing + ": " + std::strerror(errno));
}

std::uint16_t bound_port(int fd) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) fail("its port");
    return ntohs(address.sin_port);
}

int bound(const std::string& text, int kind) {
    int fd = ::socket(AF_INET, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    auto address = address_of(text, 0);
    if (fd >= 0 && ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
    const int error = errno;
    ::close(fd);
    errno = error;
    fail("a socket");
}

/// What one look takes at most.
constexpr int most_in_a_look = 4096;

/// At most what a nonce needs; nullopt when there is nothing. Messages may be empty.
std::optional<std::string> received(int fd) {
    char bytes[256];
    auto size = ::recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    return size >= 0 ? std::optional(std::string(bytes, static_cast<std::size_t>(size))) : std::nullopt;
}

}  // namespace

Canary::Canary(const std::string& address, std::string nonce) : nonce_(std::move(nonce)) {
    tcp_ = bound(address, SOCK_STREAM);
    try {
        udp_ = bound(address, SOCK_DGRAM);
        tcp_port_ = bound_port(tcp_);
        udp_port_ = bound_port(udp_);
        if (::listen(tcp_, 64) != 0) fail("listening");
    } catch (const Error&) {
        ::close(tcp_);
        if (udp_ >= 0) ::close(udp_);
        throw;
    }
    control(address == "0.0.0.0" ? "127.0.0.1" : address);
    look();
}

Canary::~Canary() {
    ::close(tcp_);
    ::close(udp_);
}

/// Over the loopback: it is there when the call returns. What fails shows as a canary that is not alive.
void Canary::control(const std::string& text) {
    for (auto [kind, port] : {std::pair(SOCK_STREAM, tcp_port_), std::pair(SOCK_DGRAM, udp_port_)}) {
        int fd = ::socket(AF_INET, kind | SOCK_CLOEXEC, 0);
        auto address = address_of(text, port);
        if (fd < 0) continue;
        if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0)
            (void)!::send(fd, nonce_.data(), nonce_.size(), MSG_NOSIGNAL);
        ::close(fd);
    }
}

void Canary::look() {
    int connections = 0, messages = 0;
    for (int fd; connections < most_in_a_look && (fd = ::accept4(tcp_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;
         ::close(fd)) {
        ++connections;
        // The first with our nonce is the control; whoever else connects has got here.
        if (!tcp_alive_ && received(fd) == nonce_) tcp_alive_ = true;
        else connected_ = true;
    }
    for (; messages < most_in_a_look; ++messages) {
        auto bytes = received(udp_);
        if (!bytes) break;
        if (*bytes == nonce_) udp_alive_ = true;
        else payloads_.insert(std::move(*bytes));
    }
    // Too much to see all of it.
    flooded_ = flooded_ || connections == most_in_a_look || messages == most_in_a_look;
}

}  // namespace infrastructure_sdk::isolation
