#include "core/network_visit.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

struct File {
    explicit File(const std::string& path) : fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), error(errno) {}
    ~File() {
        if (fd >= 0) ::close(fd);
    }
    File(const File&) = delete;
    int fd, error;
};

[[noreturn]] void fail(int error) { throw std::system_error(error, std::generic_category(), "its namespace"); }

}  // namespace

NetworkVisit::NetworkVisit(std::int64_t pid, const std::function<bool()>& is_it) {
    File own("/proc/thread-self/ns/net"), there("/proc/" + std::to_string(pid) + "/ns/net");
    if (!is_it()) throw Error(Errc::not_ready, "the VM does not run");
    struct stat mine{}, its{};
    for (const auto* file : {&own, &there})
        if (file->fd < 0) fail(file->error);
    if (::fstat(own.fd, &mine) != 0 || ::fstat(there.fd, &its) != 0) fail(errno);
    if (mine.st_dev == its.st_dev && mine.st_ino == its.st_ino) return;
    if (::setns(there.fd, CLONE_NEWNET) != 0) fail(errno);
    std::swap(own_, own.fd);
}

NetworkVisit::~NetworkVisit() {
    if (own_ < 0) return;
    if (::setns(own_, CLONE_NEWNET) != 0) std::abort();
    ::close(own_);
}

bool raise_loopback() {
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    bool up = ::ioctl(fd, SIOCGIFFLAGS, &request) == 0;
    if (up && (request.ifr_flags & IFF_UP) == 0) {
        request.ifr_flags |= IFF_UP;
        up = ::ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    }
    const int error = errno;
    ::close(fd);
    errno = error;
    return up;
}

}  // namespace infrastructure_sdk
