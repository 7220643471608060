#pragma once
// A host's network of its own for a test, with an "internet" behind it, and listeners that tell whether they were
// reached. Nothing of the real host is touched: all of it lies in network namespaces that end with it.

#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "providers/qemu/process.hpp"

namespace infrastructure_sdk::test {

/// This thread, and every thread that it starts, is in a new network namespace until the end of the block.
class OwnNetwork {
public:
    OwnNetwork()
        : home_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)),
          mounts_(::open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC)) {
        if (home_ < 0 || ::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) throw std::runtime_error("no network namespace");
        here_ = ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        // /sys shows the interfaces of the namespace in which it was mounted.
        qemu::run_tool({"/bin/sh", "-c",
                        "mount --make-rprivate / && mount -t sysfs none /mnt && mount --bind /mnt/class/net "
                        "/sys/class/net && mount --bind /mnt/devices/virtual/net /sys/devices/virtual/net"});
    }
    /// The threads that were made meanwhile have ended.
    ~OwnNetwork() {
        ::setns(home_, CLONE_NEWNET);
        ::setns(mounts_, CLONE_NEWNS);
        for (int fd : {home_, mounts_, here_}) ::close(fd);
    }
    OwnNetwork(const OwnNetwork&) = delete;
    OwnNetwork& operator=(const OwnNetwork&) = delete;
    /// For `ip ... netns PATH`.
    std::string path() const { return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(here_); }
    /// Runs `body` in the namespace of that descriptor, or of this one.
    template <class Body>
    auto inside(int there, Body body) const {
        struct Return {
            int here;
            ~Return() { ::setns(here, CLONE_NEWNET); }
        } back{here_};
        if (::setns(there, CLONE_NEWNET) != 0) throw std::runtime_error("setns");
        return body();
    }
    int descriptor() const { return here_; }

private:
    int home_, mounts_, here_ = -1;
};

/// One word after the other.
inline void ip(const std::string& words) { qemu::run_tool({"/bin/sh", "-c", "ip " + words}); }

/// Accepts on 0.0.0.0:port or another address, in the namespace where it was made, says its nonce and counts.
class Listener {
public:
    Listener(const std::string& address, std::uint16_t port, std::string nonce) : nonce_(std::move(nonce)) {
        fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int one = 1;
        ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        sockaddr_in name{};
        name.sin_family = AF_INET;
        name.sin_port = htons(port);
        ::inet_pton(AF_INET, address.c_str(), &name.sin_addr);
        if (::bind(fd_, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 || ::listen(fd_, 16) != 0)
            throw std::runtime_error("listen on " + address + ": " + std::strerror(errno));
        thread_ = std::thread([this] { serve(); });
    }
    ~Listener() {
        ::shutdown(fd_, SHUT_RDWR);
        thread_.join();
        ::close(fd_);
    }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;
    const std::string& nonce() const { return nonce_; }
    /// Connections since the last question.
    int reached() { return count_.exchange(0); }

private:
    void serve() {
        for (;;) {
            const int client = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
            if (client < 0 && errno == EINTR) continue;
            if (client < 0) return;
            ++count_;
            (void)::send(client, nonce_.data(), nonce_.size(), MSG_NOSIGNAL);
            ::close(client);
        }
    }
    std::string nonce_;
    int fd_ = -1;
    std::atomic<int> count_{0};
    std::thread thread_;
};

/// What is read there within two seconds; empty when it cannot be reached.
inline std::string read_from(const std::string& address, std::uint16_t port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    ::inet_pton(AF_INET, address.c_str(), &name.sin_addr);
    (void)::connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name);
    std::string text;
    char buffer[256];
    for (pollfd wanted{fd, POLLIN, 0}; ::poll(&wanted, 1, 2000) == 1;) {
        const auto got = ::read(fd, buffer, sizeof buffer);
        if (got <= 0) break;
        text.append(buffer, static_cast<std::size_t>(got));
    }
    ::close(fd);
    return text;
}

}  // namespace infrastructure_sdk::test
