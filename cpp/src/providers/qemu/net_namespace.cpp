#include "providers/qemu/net_namespace.hpp"

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "providers/qemu/process.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

Error no_way(const std::string& doing) {
    return Error(Errc::unsupported, "the VM's network cannot be reached: " + doing + ": " + std::strerror(errno),
                 {{"capability", "forward"}});
}

}  // namespace

std::unique_ptr<NetworkVisit> visit_network(const ProcessIdentity& process) {
    try {
        return std::make_unique<NetworkVisit>(process.pid, [&process] { return is_alive(process); });
    } catch (const std::system_error& error) {
        errno = error.code().value();
        throw no_way("its namespace");
    }
}

void raise_loopback(const ProcessIdentity& process) {
    auto visit = visit_network(process);
    if (visit->is_away() && !infrastructure_sdk::raise_loopback()) throw no_way("its loopback");
}

int connect_loopback(const ProcessIdentity& process, std::uint16_t port) {
    auto visit = visit_network(process);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) throw Error(Errc::provider, std::string("no socket: ") + std::strerror(errno));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    // Of the loopback: it is accepted or refused at once.
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        const auto why = std::string(std::strerror(errno));
        ::close(fd);
        throw Error(Errc::provider, "QEMU's forwarded port cannot be reached: " + why);
    }
    return fd;
}

}  // namespace infrastructure_sdk::qemu
