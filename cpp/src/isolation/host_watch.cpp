#include "isolation/host_watch.hpp"

#include <array>
#include <cstring>
#include <filesystem>
#include <set>

#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

namespace infrastructure_sdk::isolation {
namespace {

namespace fs = std::filesystem;

constexpr const char* page_merging = "/sys/kernel/mm/ksm/run";
constexpr std::uint32_t root_events = IN_CREATE | IN_MOVED_TO;
constexpr std::uint32_t file_events = IN_ATTRIB | IN_CREATE | IN_MOVED_TO | IN_DELETE;
/// The VM's own folder and what its process may write to.
constexpr int folder_depth = 2;

/// -1 = the kernel has no such group, or we may not listen to it.
int open_netlink(int protocol, std::uint32_t groups) {
    int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (fd < 0) return -1;
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = groups;
    if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
    ::close(fd);
    return -1;
}

constexpr std::uint32_t mask_of(int group) { return 1u << (group - 1); }

}  // namespace

struct HostWatch::Source {
    Source(Executor executor, int fd, const char* name) : stream(executor, fd), what(name) {}
    asio::posix::stream_descriptor stream;
    const char* what;
};

HostWatch::HostWatch(Environment environment, std::string directory, std::function<void(std::string)> heard)
    : environment_(std::move(environment)),
      directory_(std::move(directory)),
      heard_(std::move(heard)),
      tasks_(environment_.executor) {
    open_files();
    listen("network links", open_netlink(NETLINK_ROUTE, mask_of(RTNLGRP_LINK)));
    listen("packet rules", open_netlink(NETLINK_NETFILTER, mask_of(NFNLGRP_NFTABLES)));
}

HostWatch::~HostWatch() = default;

Task<void> HostWatch::close() {
    for (const auto& source : sources_) source->stream.close();
    co_await tasks_.join();
    sources_.clear();
}

void HostWatch::listen(const char* what, int fd) {
    if (fd < 0) {
        environment_.logger->log(LogLevel::debug, "isolation", std::string("cannot listen to ") + what,
                                 {{"detail", std::strerror(errno)}});
        return;
    }
    sources_.push_back(std::make_shared<Source>(environment_.executor, fd, what));
    tasks_.spawn(environment_.logger, std::string("listen to ") + what, hear(sources_.back()));
}

Task<void> HostWatch::hear(SourcePtr source) {
    for (;;) {
        boost::system::error_code error;
        auto token = asio::redirect_error(asio::use_awaitable, error);
        co_await source->stream.async_wait(asio::posix::stream_descriptor::wait_read, token);
        if (error) co_return;
        if (source->stream.native_handle() == files_) {
            take_files(source);
            continue;
        }
        // Lost messages (ENOBUFS) are news too.
        std::array<char, 16384> bytes;
        while (::recv(source->stream.native_handle(), bytes.data(), bytes.size(), 0) > 0) {
        }
        heard_(std::string());
    }
}

void HostWatch::open_files() {
    files_ = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (files_ >= 0) {
        watch_folder(page_merging, IN_MODIFY, std::string());
        watch_folder(directory_, root_events, std::string());
    }
    listen("files", files_);
}

/// Also what is in it already; what is made meanwhile is told twice, which does no harm.
void HostWatch::watch_folder(const std::string& path, std::uint32_t events, std::string vm) {
    int number = ::inotify_add_watch(files_, path.c_str(), events);
    if (number < 0) return;
    folders_[number] = {path, vm};
    const auto depth = fs::path(path).lexically_relative(directory_);
    if (path != directory_ && (vm.empty() || std::distance(depth.begin(), depth.end()) >= folder_depth)) return;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(path, error)) {
        const auto name = entry.path().filename().string();
        // A name with a dot is a VM that is not there yet, or not any more.
        if (!entry.is_directory(error) || name.starts_with('.')) continue;
        watch_folder(entry.path().string(), file_events, vm.empty() ? name : vm);
    }
}

/// One read for each wake: the VM's uid may make events faster than they are read.
void HostWatch::take_files(SourcePtr source) {
    alignas(inotify_event) std::array<char, 16384> bytes;
    const auto size = ::read(source->stream.native_handle(), bytes.data(), bytes.size());
    std::set<std::string> names;
    for (const char* at = bytes.data(); size > 0 && at < bytes.data() + size;) {
        const auto& event = *reinterpret_cast<const inotify_event*>(at);
        at += sizeof event + event.len;
        if (event.mask & IN_Q_OVERFLOW) names.insert(std::string());
        auto found = folders_.find(event.wd);
        if (found == folders_.end()) continue;
        const auto folder = found->second;
        if (event.mask & IN_IGNORED) {
            folders_.erase(found);
            continue;
        }
        const bool is_root = folder.path == directory_;
        if ((event.mask & IN_ISDIR) && (event.mask & (IN_CREATE | IN_MOVED_TO)))
            watch_folder(folder.path, is_root ? root_events : file_events, folder.vm);
        // The folder of all tells of VMs that come; nobody is isolated less for that.
        if (!is_root) names.insert(folder.vm);
    }
    for (const auto& name : names) heard_(name);
}

}  // namespace infrastructure_sdk::isolation
