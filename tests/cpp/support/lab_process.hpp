#pragma once
// QEMU processes started by hand, paused and without a guest, for the isolation lab.

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/unix_socket.hpp"

namespace infrastructure_sdk::test {

/// How one is started. The defaults are as isolated as a process without namespaces can be.
struct LabLaunch {
    unsigned uid = 0;
    std::string machine = "pc,mem-merge=off,dump-guest-core=off,memory-backend=ram";
    std::string memory_file;  ///< empty: in its own folder
    std::string disk;         ///< empty: a new one in its own folder
    bool disk_locked = true;
    unsigned disk_mode = 0600;
    std::string sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
    std::string network = "user,id=net0,restrict=on,ipv6=off";
    std::string mac;
    bool runs = false;  ///< else it is paused; a port that is probed needs a VM that runs
    bool merge_any = false;
    bool open_socket = false;  ///< its QMP socket may be used by everybody
    std::vector<std::string> more{};
};

/// Runs until it is destroyed.
class LabProcess {
public:
    LabProcess(const std::filesystem::path& lab, const std::string& name, LabLaunch launch)
        : launch_(std::move(launch)) {
        folder_ = lab / name;
        sockets_ = lab / (name + ".run");
        for (const auto& folder : {folder_, sockets_}) make_folder(folder);
        if (launch_.disk.empty()) launch_.disk = make_file(folder_ / "disk.raw", 1u << 20, launch_.disk_mode);
        if (launch_.memory_file.empty()) launch_.memory_file = make_file(folder_ / "ram", 32u << 20, 0600);
        int listener = listen_at(socket());
        if (::chown(socket().c_str(), launch_.uid, launch_.uid) != 0) throw std::runtime_error("chown");
        if (launch_.open_socket && (::chmod(socket().c_str(), 0777) != 0 || ::chmod(sockets_.c_str(), 0755) != 0))
            throw std::runtime_error("chmod");
        pid_ = start(listener);
        ::close(listener);
    }
    LabProcess(const LabProcess&) = delete;
    ~LabProcess() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }

    std::int64_t pid() const { return pid_; }
    std::string socket() const { return sockets_ / "qmp.sock"; }
    const LabLaunch& launch() const { return launch_; }

    /// Blocks until its monitor has answered: then it has opened everything. False when it ended instead.
    bool is_up() const {
        int fd = connect_unix(socket());
        if (fd < 0) return false;
        ::fcntl(fd, F_SETFL, 0);
        timeval most{60, 0};
        ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
        // The greeting may come before the disks are open; a command is answered by the main loop.
        const std::string command = "{\"execute\":\"qmp_capabilities\"}\n";
        std::string text;
        char part[512];
        bool sent = ::send(fd, command.data(), command.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(command.size());
        while (sent && text.find("\"return\"") == std::string::npos) {
            auto got = ::read(fd, part, sizeof part);
            if (got <= 0) break;
            text.append(part, static_cast<std::size_t>(got));
        }
        ::close(fd);
        return text.find("\"return\"") != std::string::npos;
    }

private:
    void make_folder(const std::filesystem::path& path) const {
        std::filesystem::create_directory(path);
        if (::chmod(path.c_str(), 0700) != 0 || ::chown(path.c_str(), launch_.uid, launch_.uid) != 0)
            throw std::runtime_error("the folder " + path.string());
    }
    std::string make_file(const std::filesystem::path& path, off_t size, unsigned mode) const {
        int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
        bool made = fd >= 0 && ::ftruncate(fd, size) == 0 && ::fchmod(fd, mode) == 0 &&
                    ::fchown(fd, launch_.uid, launch_.uid) == 0;
        ::close(fd);
        if (!made) throw std::runtime_error("the file " + path.string());
        return path;
    }

    /// By its plain path, as QEMU itself would.
    static int listen_at(const std::string& path) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        if (path.size() >= sizeof address.sun_path) throw std::runtime_error("the path is too long: " + path);
        std::memcpy(address.sun_path, path.c_str(), path.size());
        int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ::fchmod(fd, 0600);
        if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(fd, 8) != 0)
            throw std::runtime_error("listen at " + path);
        return fd;
    }

    std::vector<std::string> arguments(int listener) const {
        std::vector<std::string> line{"qemu-system-x86_64", "-nodefaults",  "-no-user-config",
                                      "-display",           "none",         "-accel",
                                      "tcg,tb-size=8",      "-m",           "32",
                                      "-machine",           launch_.machine};
        auto add = [&line](const char* option, std::string value) {
            line.emplace_back(option);
            line.push_back(std::move(value));
        };
        if (!launch_.runs) line.emplace_back("-S");
        add("-object", "memory-backend-file,id=ram,size=32M,share=on,mem-path=" + launch_.memory_file);
        add("-chardev", "socket,id=qmp,server=on,wait=off,fd=" + std::to_string(listener));
        add("-mon", "chardev=qmp,mode=control");
        add("-blockdev",
            "driver=file,node-name=f,filename=" + launch_.disk + ",locking=" + (launch_.disk_locked ? "on" : "off"));
        add("-blockdev", "driver=raw,node-name=d,file=f");
        add("-device", "virtio-blk-pci,drive=d,share-rw=on");
        if (!launch_.network.empty()) {
            add("-netdev", launch_.network);
            add("-device", "virtio-net-pci,netdev=net0,romfile=,mac=" + launch_.mac);
        }
        if (!launch_.sandbox.empty()) add("-sandbox", launch_.sandbox);
        line.insert(line.end(), launch_.more.begin(), launch_.more.end());
        return line;
    }

    pid_t start(int listener) const {
        auto line = arguments(listener);
        std::vector<char*> argv;
        for (auto& word : line) argv.push_back(word.data());
        argv.push_back(nullptr);
        char path[] = "PATH=/usr/bin:/bin";
        char* environment[] = {path, nullptr};
        int log = ::open((folder_ / "log").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
        pid_t pid = ::fork();
        if (pid == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            ::fcntl(listener, F_SETFD, 0);
            ::dup2(null, 0);
            ::dup2(log, 1);
            ::dup2(log, 2);
            rlimit any_core{RLIM_INFINITY, RLIM_INFINITY};
            ::setrlimit(RLIMIT_CORE, &any_core);
            constexpr int set_memory_merge = 67;  // linux/prctl.h
            if (launch_.merge_any && ::prctl(set_memory_merge, 1, 0, 0, 0) != 0) ::_exit(126);
            if (::chdir(folder_.c_str()) != 0 || ::setresgid(launch_.uid, launch_.uid, launch_.uid) != 0 ||
                ::setresuid(launch_.uid, launch_.uid, launch_.uid) != 0)
                ::_exit(126);
            ::execve("/usr/bin/qemu-system-x86_64", argv.data(), environment);
            ::_exit(127);
        }
        ::close(log);
        ::close(null);
        return pid;
    }

    LabLaunch launch_;
    std::filesystem::path folder_, sockets_;
    pid_t pid_ = -1;
};

}  // namespace infrastructure_sdk::test
