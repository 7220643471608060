#include "providers/qemu/net_namespace.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

Visit::Visit(const ProcessIdentity& process) {
    own_ = files_.add(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    auto path = "/proc/" + std::to_string(process.pid) + "/ns/net";
    const int there = files_.add(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    // After opening: the number may be another process's by now.
    if (!is_alive(process)) throw Error(Errc::not_ready, "the VM does not run");
    struct stat mine{}, its{};
    if (own_ < 0 || there < 0 || ::fstat(own_, &mine) != 0 || ::fstat(there, &its) != 0) throw no_way("its namespace");
    if (mine.st_dev == its.st_dev && mine.st_ino == its.st_ino) return;
    if (::setns(there, CLONE_NEWNET) != 0) throw no_way("its namespace");
    away_ = true;
}

Visit::~Visit() {
    if (away_ && ::setns(own_, CLONE_NEWNET) != 0) std::abort();
}

void raise_loopback(const ProcessIdentity& process) {
    Visit visit(process);
    if (!visit.is_away()) return;
    Descriptors sockets;
    const int fd = sockets.add(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    if (fd < 0 || ::ioctl(fd, SIOCGIFFLAGS, &request) != 0) throw no_way("its loopback");
    if (request.ifr_flags & IFF_UP) return;
    request.ifr_flags |= IFF_UP;
    if (::ioctl(fd, SIOCSIFFLAGS, &request) != 0) throw no_way("its loopback");
}

int connect_loopback(const ProcessIdentity& process, std::uint16_t port) {
    Visit visit(process);
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
