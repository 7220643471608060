#include "isolation/probes/foreign.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace infrastructure_sdk::isolation {
namespace {

constexpr int patience_ms = 2000;

sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    return address;
}

// From here to the end of `child`: after a fork of a process with threads only system calls are safe.

int connect_error(const sockaddr_un& address) {
    int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) return EBADF;
    int error = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
    ::close(fd);
    return error;
}

int open_error(const char* path) {
    int fd = ::open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return errno;
    ::close(fd);
    return 0;
}

int read_error(pid_t pid, void* address) {
    char byte = 0;
    iovec here{&byte, 1}, there{address, 1};
    return ::process_vm_readv(pid, &here, 1, &there, 1, 0) == 1 ? 0 : errno;
}

struct Prepared {
    unsigned uid;
    int folder, report;
    pid_t pid;
    sockaddr_un open_socket;
    const char* open_file;
    const std::vector<sockaddr_un>* sockets;
    const std::vector<std::string>* files;
};

[[noreturn]] void child(const Prepared& p) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    bool somebody_else = ::fchdir(p.folder) == 0 && ::setgroups(0, nullptr) == 0 &&
                         ::setresgid(p.uid, p.uid, p.uid) == 0 && ::setresuid(p.uid, p.uid, p.uid) == 0;
    if (!somebody_else) ::_exit(1);
    char own = 1;
    auto tell = [&](int error) { return ::write(p.report, &error, sizeof error) == sizeof error; };
    bool told = tell(connect_error(p.open_socket)) && tell(open_error(p.open_file)) &&
                tell(read_error(::getpid(), &own)) &&
                // No page is ever mapped there, so nothing is read; who may not ask is refused first.
                tell(p.pid > 0 ? read_error(p.pid, reinterpret_cast<void*>(8)) : EPERM);
    for (const auto& address : *p.sockets) told = told && tell(connect_error(address));
    for (const auto& path : *p.files) told = told && tell(open_error(path.c_str()));
    ::_exit(told ? 0 : 1);
}

/// Whole numbers, as many as are expected, until the child ends; fewer when it takes too long.
std::vector<int> numbers_from(int fd, std::size_t count) {
    std::vector<int> numbers(count);
    auto* bytes = reinterpret_cast<char*>(numbers.data());
    std::size_t got = 0;
    while (got < count * sizeof(int)) {
        pollfd ready{fd, POLLIN, 0};
        if (::poll(&ready, 1, patience_ms) <= 0) break;
        auto size = ::read(fd, bytes + got, count * sizeof(int) - got);
        if (size <= 0) break;
        got += static_cast<std::size_t>(size);
    }
    numbers.resize(got / sizeof(int));
    return numbers;
}

}  // namespace

std::optional<ForeignResult> try_as_foreigner(const ForeignTrial& trial, std::string& why) {
    if (::geteuid() != 0) {
        why = "only root can try it as another user";
        return std::nullopt;
    }
    std::vector<sockaddr_un> sockets;
    for (const auto& path : trial.sockets) sockets.push_back(address_of(path));
    int folder = ::open(trial.folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    int ends[2] = {-1, -1};
    if (folder < 0 || ::pipe2(ends, O_CLOEXEC) != 0) {
        why = std::string("no process could be started to try it: ") + std::strerror(errno);
        if (folder >= 0) ::close(folder);
        return std::nullopt;
    }
    Prepared prepared{trial.uid,
                      folder,
                      ends[1],
                      static_cast<pid_t>(trial.pid),
                      address_of(trial.open_socket),
                      trial.open_file.c_str(),
                      &sockets,
                      &trial.files};
    pid_t pid = ::fork();
    if (pid == 0) child(prepared);
    ::close(folder);
    ::close(ends[1]);
    const std::size_t first = 4;
    auto numbers = pid > 0 ? numbers_from(ends[0], first + sockets.size() + trial.files.size()) : std::vector<int>();
    ::close(ends[0]);
    if (pid > 0) {
        ::kill(pid, SIGKILL);
        while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
        }
    }
    if (numbers.size() != first + sockets.size() + trial.files.size()) {
        why = "the process that tried it ended too soon";
        return std::nullopt;
    }
    auto at = numbers.begin() + first, files_at = at + static_cast<std::ptrdiff_t>(sockets.size());
    return ForeignResult{numbers[0], numbers[1], numbers[2], numbers[3], {at, files_at}, {files_at, numbers.end()}};
}

}  // namespace infrastructure_sdk::isolation
