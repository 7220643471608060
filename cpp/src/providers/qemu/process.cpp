#include "providers/qemu/process.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "providers/qemu/command_line.hpp"
#include <infrastructure_sdk/error.hpp>

extern char** environ;

namespace infrastructure_sdk::qemu {
namespace fs = std::filesystem;
namespace {

std::string read_all(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> result;
    for (auto& word : words) result.push_back(word.data());
    result.push_back(nullptr);
    return result;
}

constexpr int report_fd = 30;  // the child tells here why it could not start
constexpr int go_fd = 31;      // and waits here until it may
constexpr int first_fd = 10, last_fd = 29;

/// Only async-signal-safe calls: the parent has threads.
[[noreturn]] void child(const Launch& request, char* const* argv, char* const* environment, int log, int null,
                        int report, int go) {
    auto fail = [&](int step) {
        int answer[2] = {step, errno};
        (void)!::write(report_fd, answer, sizeof answer);
        ::_exit(127);
    };
    // Out of the way of the numbers that will be given.
    int high[last_fd - first_fd + 1];
    std::size_t count = 0;
    for (const auto& pair : request.descriptors) high[count++] = ::fcntl(pair.first, F_DUPFD, 100);
    int high_report = ::fcntl(report, F_DUPFD, 100);
    int high_log = ::fcntl(log, F_DUPFD, 100);
    int high_go = ::fcntl(go, F_DUPFD, 100);
    ::dup2(null, 0);
    ::dup2(high_log, 1);
    ::dup2(high_log, 2);
    ::dup3(high_report, report_fd, O_CLOEXEC);
    ::dup3(high_go, go_fd, O_CLOEXEC);
    for (int fd = first_fd; fd <= last_fd; ++fd) {
        bool given = false;
        for (std::size_t i = 0; i < count; ++i)
            if (request.descriptors[i].second == fd) {
                if (::dup2(high[i], fd) < 0) fail(1);
                given = true;
            }
        if (!given) ::close(fd);
    }
    ::syscall(SYS_close_range, 3u, static_cast<unsigned>(first_fd - 1), 0u);
    ::syscall(SYS_close_range, static_cast<unsigned>(go_fd + 1), ~0u, 0u);
    // Our own copy of the other end is closed by now: the end of file says that the parent died or gave up.
    char word = 0;
    ssize_t got = 0;
    do got = ::read(go_fd, &word, 1);
    while (got < 0 && errno == EINTR);
    if (got != 1) ::_exit(127);

    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    for (int signal = 1; signal < 32; ++signal) ::signal(signal, SIG_DFL);
    ::umask(077);
    if (::setsid() < 0) fail(2);
    if (::chdir(request.directory.c_str()) != 0) fail(3);
    rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    if (request.uid) {
        // Best effort: a container may forbid namespaces. The isolation report reads what is really there.
        if (::unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0 && request.own_network) fail(9);
        for (int capability = 0; capability < 64; ++capability) ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
        if (::syscall(SYS_setgroups, request.group ? 1 : 0, request.group ? &*request.group : nullptr) != 0) fail(4);
        if (::syscall(SYS_setresgid, *request.uid, *request.uid, *request.uid) != 0) fail(5);
        if (::syscall(SYS_setresuid, *request.uid, *request.uid, *request.uid) != 0) fail(6);
    }
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail(7);
    ::execve(argv[0], argv, environment);
    fail(8);
    ::_exit(127);
}

}  // namespace

int launch(const Launch& request, const std::function<void(int pid)>& forked) {
    auto refuse = [&](const std::string& what, int code) {
        throw Error(Errc::provider, "cannot start " + request.program + ": " + what + ": " + std::strerror(code),
                    {{"program", request.program}});
    };
    std::vector<std::string> words{request.program};
    words.insert(words.end(), request.arguments.begin(), request.arguments.end());
    auto argv = pointers(words);
    std::vector<std::string> variables{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/nonexistent"};
    // Sanitizer options and the like must not reach it; nothing of ours does.
    auto environment = pointers(variables);
    auto log_path = fs::path(request.directory) / request.log_file;
    int log = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log < 0) refuse("its log " + log_path.string(), errno);
    int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    int report[2], go[2];
    if (::pipe2(report, O_CLOEXEC) != 0) refuse("pipe", errno);
    // A socket and not a pipe: a child that was killed meanwhile must not raise SIGPIPE here.
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, go) != 0) refuse("socketpair", errno);
    pid_t pid = ::fork();
    if (pid == 0) child(request, argv.data(), environment.data(), log, null, report[1], go[0]);
    int fork_error = errno;
    ::close(log);
    ::close(null);
    ::close(report[1]);
    ::close(go[0]);
    std::exception_ptr stopped;
    if (pid > 0) try {
            forked(pid);
            (void)::send(go[1], "", 1, MSG_NOSIGNAL);
        } catch (...) {
            stopped = std::current_exception();
        }
    ::close(go[1]);
    if (stopped) {
        ::waitpid(pid, nullptr, 0);
        ::close(report[0]);
        std::rethrow_exception(stopped);
    }
    int answer[2] = {0, 0};
    ssize_t got = 0;
    if (pid > 0) do
            got = ::read(report[0], answer, sizeof answer);
        while (got < 0 && errno == EINTR);
    ::close(report[0]);
    if (pid < 0) refuse("fork", fork_error);
    if (got != 0) {
        ::waitpid(pid, nullptr, 0);
        constexpr const char* steps[] = {
            "",       "descriptors", "setsid",       "its directory", "setgroups",
            "setgid", "setuid",      "no_new_privs", "exec",          "a network namespace"};
        refuse(steps[answer[0] >= 0 && answer[0] <= 9 ? answer[0] : 0], answer[1]);
    }
    return pid;
}

namespace {

/// Where the tool finds its first secret.
constexpr int first_secret_fd = 3;

/// Descriptors above those that a tool is given, so that giving one does not overwrite the next.
std::vector<int> pipes_of(const std::vector<Secret>& secrets) {
    std::vector<int> pipes;
    for (const auto& secret : secrets) {
        int low = pipe_of(secret);
        pipes.push_back(low < 0 ? -1 : ::fcntl(low, F_DUPFD_CLOEXEC, 100));
        if (low >= 0) ::close(low);
    }
    return pipes;
}

std::string run_and_read(const std::vector<std::string>& command, bool want_output,
                         const std::vector<Secret>& secrets = {}) {
    auto words = command;
    auto argv = pointers(words);
    int out[2];
    if (::pipe2(out, O_CLOEXEC) != 0) throw Error(Errc::provider, std::string("pipe: ") + std::strerror(errno));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, out[1], 2);
    auto pipes = pipes_of(secrets);
    for (std::size_t i = 0; i < pipes.size(); ++i)
        posix_spawn_file_actions_adddup2(&actions, pipes[i], first_secret_fd + static_cast<int>(i));
    pid_t pid = 0;
    int code = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    for (int fd : pipes)
        if (fd >= 0) ::close(fd);
    ::close(out[1]);
    std::string text;
    if (code == 0) {
        char buffer[4096];
        for (;;) {
            auto got = ::read(out[0], buffer, sizeof buffer);
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) break;
            if (text.size() < (1u << 20)) text.append(buffer, static_cast<std::size_t>(got));
        }
    }
    ::close(out[0]);
    if (code != 0)
        throw Error(
            Errc::provider,
            "cannot run " + command[0] + ": " + std::strerror(code) + "; apt-get install qemu-utils qemu-system-x86",
            {{"program", command[0]}});
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        throw Error(Errc::provider, fs::path(command[0]).filename().string() + " failed", {{"program", command[0]}})
            .with_remote_message(text.substr(0, 2000));
    return want_output ? text : std::string();
}

}  // namespace

void run_tool(const std::vector<std::string>& command, const std::vector<Secret>& secrets) {
    run_and_read(command, false, secrets);
}

int pipe_of(const Secret& secret) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
    const auto& text = secret.reveal();
    // Far below what a pipe holds, so that nobody has to read yet.
    bool good = ::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::close(ends[1]);
    if (good) return ends[0];
    ::close(ends[0]);
    return -1;
}
std::string tool_output(const std::vector<std::string>& command) { return run_and_read(command, true); }

std::string find_program(const std::string& name) {
    if (name.find('/') != std::string::npos)
        return ::access(name.c_str(), X_OK) == 0 ? fs::absolute(name).string() : std::string();
    const char* path = std::getenv("PATH");
    std::istringstream folders(std::string(path ? path : "") + ":/usr/bin:/bin:/usr/sbin:/sbin");
    for (std::string folder; std::getline(folders, folder, ':');) {
        if (folder.empty() || folder.front() != '/') continue;
        auto candidate = folder + "/" + name;
        if (::access(candidate.c_str(), X_OK) == 0 && fs::is_regular_file(candidate)) return candidate;
    }
    return {};
}

std::string boot_id() {
    auto text = read_all("/proc/sys/kernel/random/boot_id");
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

std::optional<std::uint64_t> parse_start_time(const std::string& stat) {
    // The command's name stands in parentheses and may hold anything, also parentheses.
    auto end = stat.rfind(')');
    if (end == std::string::npos) return std::nullopt;
    std::istringstream rest(stat.substr(end + 1));
    std::string word;
    for (int field = 3; field <= 22; ++field) {
        if (!(rest >> word)) return std::nullopt;
        if (field == 3 && (word == "Z" || word == "X")) return std::nullopt;
    }
    char* after = nullptr;
    auto value = std::strtoull(word.c_str(), &after, 10);
    if (*after != '\0') return std::nullopt;
    return value;
}

std::optional<std::uint64_t> start_time_ticks(std::int64_t pid) {
    return parse_start_time(read_all("/proc/" + std::to_string(pid) + "/stat"));
}

bool is_alive(const ProcessIdentity& identity) {
    return identity.pid > 0 && identity.boot_id == boot_id() &&
           start_time_ticks(identity.pid) == identity.start_time_ticks;
}

std::optional<ProcessIdentity> find_vm_process(const std::string& uuid) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/proc", error)) {
        auto name = entry.path().filename().string();
        if (name.find_first_not_of("0123456789") != std::string::npos) continue;
        auto text = read_all(entry.path() / "cmdline");
        std::vector<std::string> arguments;
        std::istringstream words(text);
        for (std::string word; std::getline(words, word, '\0');) arguments.push_back(word);
        if (!names_vm(arguments, uuid)) continue;
        auto pid = std::stoll(name);
        if (auto started = start_time_ticks(pid)) return ProcessIdentity{boot_id(), pid, *started, uuid};
    }
    return std::nullopt;
}

int open_pidfd(std::int64_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0)); }
void kill_through(int pidfd) { (void)::syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0); }

bool end_process(const ProcessIdentity& identity, int patience_ms) {
    constexpr int killed_patience_ms = 10'000;
    bool gone = true;
    int pidfd = open_pidfd(identity.pid);
    // The pid may have been given to another process between the look and the open.
    if (pidfd >= 0 && is_alive(identity)) {
        pollfd wanted{pidfd, POLLIN, 0};
        gone = ::poll(&wanted, 1, patience_ms) == 1;
        if (!gone) {
            kill_through(pidfd);
            gone = ::poll(&wanted, 1, killed_patience_ms) == 1;
        }
    }
    if (pidfd >= 0) ::close(pidfd);
    // Ours if we started it; otherwise init reaps it.
    ::waitpid(static_cast<pid_t>(identity.pid), nullptr, WNOHANG);
    return gone;
}

}  // namespace infrastructure_sdk::qemu
