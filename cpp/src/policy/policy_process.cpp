#include "policy/policy_process.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr std::size_t longest_line = 128 * 1024;
constexpr rlim_t most_cpu_seconds = 3600;  // of its whole life; then it is started anew

/// What the child tells before its interpreter runs: an errno for each step, in order.
/// Without the last two nothing is started.
enum Step { step_limits, step_network, step_parent_death, step_descriptors, step_exec, step_count };
constexpr std::array step_names{"limits", "network", "parent_death", "descriptors", "exec"};
using Report = std::array<int, step_count>;

int limit(int what, rlim_t most) {
    rlimit wanted{most, most};
    return ::setrlimit(static_cast<__rlimit_resource_t>(what), &wanted) == 0 ? 0 : errno;
}

/// Only async-signal-safe calls, and nothing of the parent is changed: they share their memory.
[[noreturn]] void child(char* const* argv, int null, int socket, int report) {
    Report failed{};
    // Out of the way of the numbers that will be given.
    int high_socket = ::fcntl(socket, F_DUPFD, 100), high_report = ::fcntl(report, F_DUPFD, 100);
    int high_null = ::fcntl(null, F_DUPFD, 100);
    constexpr int report_fd = policy_socket + 1;
    if (::dup3(high_report, report_fd, O_CLOEXEC) < 0) ::_exit(127);
    bool placed = ::dup2(high_socket, policy_socket) >= 0;
    for (int fd = 0; fd < 3; ++fd) placed = ::dup2(high_null, fd) >= 0 && placed;
    if (!placed || ::syscall(SYS_close_range, static_cast<unsigned>(report_fd + 1), ~0u, 0u) != 0) {
        failed[step_descriptors] = errno;
        (void)!::write(report_fd, failed.data(), sizeof failed);
        ::_exit(127);
    }
    // No handler of the parent may run here: first there is none, then signals may come.
    for (int signal = 1; signal < 32; ++signal) ::signal(signal, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    // Not a session of its own: the kernel gives each session as much of the processors as any other.
    ::setpgid(0, 0);
    (void)!::chdir("/");
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) failed[step_parent_death] = errno;
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0 &&
        ::unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0)
        failed[step_network] = errno;
    for (auto [what, most] : {std::pair{RLIMIT_CORE, rlim_t{0}},
                              {RLIMIT_FSIZE, rlim_t{0}},
                              {RLIMIT_CPU, most_cpu_seconds},
                              {RLIMIT_NPROC, rlim_t{0}}})
        if (int code = limit(what, most)) failed[step_limits] = code;
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    char* const environment[] = {nullptr};
    (void)!::write(report_fd, failed.data(), sizeof failed);
    ::execve(argv[0], argv, environment);
    failed[step_exec] = errno;
    (void)!::write(report_fd, failed.data(), sizeof failed);
    ::_exit(127);
}

std::string program_of(const std::string& name) {
    if (name.find('/') != std::string::npos) return name;
    const char* path = std::getenv("PATH");
    std::string folders = path ? path : "/usr/bin:/bin";
    for (std::size_t begin = 0; begin <= folders.size();) {
        auto end = std::min(folders.find(':', begin), folders.size());
        auto candidate = folders.substr(begin, end - begin) + "/" + name;
        if (candidate.front() == '/' && ::access(candidate.c_str(), X_OK) == 0) return candidate;
        begin = end + 1;
    }
    return name;
}

[[noreturn]] void refuse(const std::string& what, int code) {
    throw Error(Errc::policy, "the process of a policy cannot be started: " + what + ": " + std::strerror(code),
                {{"field", "interpreter"}});
}

/// All that the child wrote before its interpreter ran.
std::vector<Report> read_reports(int fd) {
    std::vector<Report> reports;
    Report report{};
    for (;;) {
        auto got = ::read(fd, report.data(), sizeof report);
        if (got < 0 && errno == EINTR) continue;
        if (got != sizeof report) return reports;
        reports.push_back(report);
    }
}

void reap(std::int64_t pid) {
    while (::waitpid(static_cast<pid_t>(pid), nullptr, 0) < 0 && errno == EINTR) {
    }
}

/// A descriptor, closed at the end of the scope unless it is released.
class Held {
public:
    Held() = default;
    explicit Held(int fd) : fd_(fd) {}
    Held(Held&& other) noexcept : fd_(other.release()) {}
    Held& operator=(Held&& other) noexcept {
        close();
        fd_ = other.release();
        return *this;
    }
    ~Held() { close(); }
    int get() const { return fd_; }
    int release() { return std::exchange(fd_, -1); }
    void close() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

private:
    int fd_ = -1;
};

struct Ends {
    Held null, ours, theirs, report, their_report;
};

Ends make_ends() {
    Ends ends;
    ends.null = Held(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (ends.null.get() < 0) refuse("/dev/null", errno);
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) refuse("socketpair", errno);
    ends.ours = Held(pair[0]);
    ends.theirs = Held(pair[1]);
    if (::pipe2(pair, O_CLOEXEC) != 0) refuse("pipe", errno);
    ends.report = Held(pair[0]);
    ends.their_report = Held(pair[1]);
    return ends;
}

void end_process(pid_t pid) {
    ::kill(pid, SIGKILL);
    reap(pid);
}

/// @throws Error(policy) when the interpreter does not run; the process is ended then.
void check_reports(const std::vector<Report>& reports, pid_t pid, const std::string& program) {
    const auto last = reports.empty() ? Report{} : reports.back();
    if (reports.size() == 1 && last[step_descriptors] == 0) return;
    end_process(pid);
    if (last[step_descriptors] != 0) refuse("close_range", last[step_descriptors]);
    refuse(program, reports.empty() ? ECHILD : last[step_exec]);
}

/// Runs `child`. Unlike after a fork none of the parent's pages are write-protected and copied, which its other threads
/// would pay for: the pages are shared, and this thread rests until the program is another.
pid_t start_child(char* const* argv, const Ends& ends) {
    sigset_t all, before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t pid = ::vfork();
    if (pid == 0) child(argv, ends.null.get(), ends.theirs.get(), ends.their_report.get());
    const int code = errno;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) refuse("vfork", code);
    return pid;
}

}  // namespace

StartedProcess start_policy_process(const ProcessPolicyOptions& options, bool is_last) {
    auto program = program_of(options.interpreter);
    // Isolated: no environment, no user's site, not the current folder. The worker gets the package from its own path.
    std::vector<std::string> words{program, "-I", "-S", "-B", options.package + "/policy/worker.py"};
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    auto ends = make_ends();
    const pid_t pid = start_child(argv.data(), ends);
    ends.theirs.close();
    ends.their_report.close();
    auto reports = read_reports(ends.report.get());
    check_reports(reports, pid, program);
    const sched_param no_priority{};
    if (is_last) ::sched_setscheduler(pid, SCHED_IDLE, &no_priority);
    Held pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (pidfd.get() < 0) {
        int code = errno;
        end_process(pid);
        refuse("pidfd_open", code);
    }
    ::fcntl(ends.ours.get(), F_SETFL, ::fcntl(ends.ours.get(), F_GETFL) | O_NONBLOCK);
    StartedProcess started{pid, pidfd.release(), ends.ours.release(), {}};
    for (std::size_t step = 0; step < step_descriptors; ++step)
        if (reports[0][step] != 0)
            started.missing.push_back(std::string(step_names[step]) + ": " + std::strerror(reports[0][step]));
    return started;
}

PolicyProcess::PolicyProcess(Executor executor, Executor blocking, const StartedProcess& started)
    : pid_(started.pid),
      pidfd_(started.pidfd),
      blocking_(std::move(blocking)),
      socket_(std::move(executor), asio::local::stream_protocol(), started.socket) {}

PolicyProcess::~PolicyProcess() {
    kill();
    asio::post(blocking_, [pid = pid_, pidfd = pidfd_] {
        reap(pid);
        ::close(pidfd);
    });
}

void PolicyProcess::kill() {
    ::syscall(SYS_pidfd_send_signal, pidfd_, SIGKILL, nullptr, 0);
    boost::system::error_code ignored;
    socket_.close(ignored);
}

Task<void> PolicyProcess::send(std::string line) {
    line += '\n';
    co_await asio::async_write(socket_, asio::buffer(line), asio::use_awaitable);
}

Task<std::string> PolicyProcess::receive() {
    std::array<char, 4096> buffer;
    for (std::size_t seen = 0;;) {
        auto end = received_.find('\n', seen);
        if (end != std::string::npos) {
            auto line = received_.substr(0, end);
            received_.erase(0, end + 1);
            co_return line;
        }
        seen = received_.size();
        if (seen > longest_line) throw Error(Errc::policy, "its answer is longer than 128 KiB");
        auto got = co_await socket_.async_read_some(asio::buffer(buffer), asio::use_awaitable);
        received_.append(buffer.data(), got);
    }
}

}  // namespace infrastructure_sdk
