#include "core/unix_socket.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

struct Descriptor {
    int fd = -1;
    ~Descriptor() {
        int kept = errno;
        if (fd >= 0) ::close(fd);
        errno = kept;
    }
    int release() { return std::exchange(fd, -1); }
};

sockaddr_un address_in(int directory, const std::string& name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    auto path = "/proc/self/fd/" + std::to_string(directory) + "/" + name;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    return address;
}

int open_directory(const std::string& path) {
    auto parent = std::filesystem::path(path).parent_path();
    return ::open(parent.empty() ? "." : parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
}

}  // namespace

int listen_unix(const std::string& path) {
    auto fail = [&](const char* what) {
        throw Error(Errc::provider,
                    std::string("cannot ") + what + " the socket " + path + ": " + std::strerror(errno));
    };
    auto name = std::filesystem::path(path).filename().string();
    Descriptor directory{open_directory(path)};
    if (directory.fd < 0) fail("reach");
    Descriptor listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (listener.fd < 0) fail("make");
    ::unlinkat(directory.fd, name.c_str(), 0);
    auto address = address_in(directory.fd, name);
    // fchmod before bind sets the mode with which the file appears.
    ::fchmod(listener.fd, 0600);
    if (::bind(listener.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("bind");
    if (::listen(listener.fd, 8) != 0) fail("listen on");
    return listener.release();
}

int connect_unix(const std::string& path) {
    auto name = std::filesystem::path(path).filename().string();
    Descriptor directory{open_directory(path)};
    if (directory.fd < 0) return -1;
    Descriptor socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (socket.fd < 0) return -1;
    auto address = address_in(directory.fd, name);
    if (::connect(socket.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return -1;
    return socket.release();
}

}  // namespace infrastructure_sdk
