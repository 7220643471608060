#include <infrastructure_sdk/store/store.hpp>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/async_tools.hpp"
#include "store/wait_for_lock.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

std::string read_file(const char* path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::string own_command() {
    auto text = read_file("/proc/self/cmdline");
    for (char& c : text)
        if (c == '\0') c = ' ';
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return text.substr(0, 500);
}

std::string boot_id() {
    auto text = read_file("/proc/sys/kernel/random/boot_id");
    return text.substr(0, text.find('\n'));
}

[[noreturn]] void refuse(const std::string& directory, int error, const std::string& what) {
    bool denied = error == EACCES || error == EPERM || error == EROFS;
    throw Error(denied ? Errc::permission_denied : Errc::store,
                "the state directory " + directory + " " + what + ": " + std::strerror(error) +
                    "; choose another with store.state_directory",
                {{"field", "store.state_directory"}, {"value", directory}});
}

[[noreturn]] void refuse_owned(const std::string& directory, int fd) {
    char text[4096];
    auto got = ::pread(fd, text, sizeof text, 0);
    auto holder = nlohmann::json::parse(std::string(text, got > 0 ? static_cast<std::size_t>(got) : 0), nullptr, false);
    // The holder may just be writing it, and anybody may have damaged it.
    auto field = [&](const char* name) {
        auto it = holder.is_object() ? holder.find(name) : holder.end();
        if (!holder.is_object() || it == holder.end()) return std::string("unknown");
        return it->is_string() ? it->get<std::string>() : it->dump();
    };
    throw Error(Errc::conflict,
                "the state directory " + directory + " is owned by process " + field("pid") + " (" + field("command") +
                    ") since " + field("since") + "; end that process or choose another with store.state_directory",
                {{"pid", field("pid")},
                 {"command", field("command")},
                 {"since", field("since")},
                 {"field", "store.state_directory"},
                 {"value", directory}});
}

void write_holder(int fd, const std::string& directory, WallTime now) {
    nlohmann::json holder{
        {"pid", ::getpid()}, {"command", own_command()}, {"since", to_rfc3339(now)}, {"boot_id", boot_id()}};
    auto text = holder.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
        refuse(directory, errno, "cannot be written");
}

}  // namespace

OwnerLock OwnerLock::acquire(const std::string& state_directory, const Clock& clock) {
    std::error_code error;
    bool made = std::filesystem::create_directories(state_directory, error);
    if (error) refuse(state_directory, error.value(), "cannot be made");
    // VMs that run under uids of their own must pass through it, but nobody lists it.
    if (made && ::chmod(state_directory.c_str(), 0711) != 0) refuse(state_directory, errno, "cannot be given its mode");

    auto path = state_directory + "/owner.lock";
    int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0) refuse(state_directory, errno, errno == ELOOP ? "has a symbolic link as owner.lock" : "cannot be used");
    OwnerLock lock(fd);
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) refuse_owned(state_directory, fd);
        refuse(state_directory, errno, "cannot be locked");
    }
    if (::fchmod(fd, 0600) != 0) refuse(state_directory, errno, "has an owner.lock that cannot be made private");
    write_holder(fd, state_directory, clock.wall_now());
    return lock;
}

OwnerLock::OwnerLock(OwnerLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

OwnerLock& OwnerLock::operator=(OwnerLock&& other) noexcept {
    if (this != &other) {
        if (fd_ >= 0) ::close(fd_);
        fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
}

OwnerLock::~OwnerLock() {
    if (fd_ >= 0) ::close(fd_);
}

Task<OwnerLock> wait_for_lock(Environment environment, std::string state_directory, Call call) {
    Duration pause = std::chrono::milliseconds(20);
    for (;;) {
        try {
            co_return OwnerLock::acquire(state_directory, *environment.clock);
        } catch (const Error& error) {
            if (error.errc() != Errc::conflict || call.deadline.expired(*environment.clock)) throw;
        }
        check(Call{Deadline(), call.stop, call.correlation_id}, *environment.clock, "waiting for the state directory");
        auto next = Deadline::after(*environment.clock, pause).earlier(call.deadline);
        co_await environment.clock->sleep_until(next.when(), call.stop);
    }
}

}  // namespace infrastructure_sdk
