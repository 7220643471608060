#pragma once

#include <csignal>
#include <string>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace infrastructure_sdk::test {

/// A forked child that runs `body(write_end)` and exits without running any destructor of the parent. The parent reads
/// what it writes. Fork before this process has threads. Killed and reaped by the destructor.
class ChildProcess {
public:
    template <class Body>
    explicit ChildProcess(Body body) {
        int ends[2];
        if (::pipe(ends) != 0) return;
        pid_ = ::fork();
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            ::close(ends[0]);
            int code = 1;
            try {
                body(ends[1]);
                code = 0;
            } catch (...) {
            }
            ::_exit(code);
        }
        ::close(ends[1]);
        read_end_ = ends[0];
    }
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;
    ~ChildProcess() {
        kill();
        if (read_end_ >= 0) ::close(read_end_);
    }

    pid_t pid() const { return pid_; }

    /// One line without its end; empty when the child has closed its end.
    std::string read_line() {
        std::string line;
        char c = 0;
        while (::read(read_end_, &c, 1) == 1 && c != '\n') line += c;
        // A line that the child did not finish is not a line.
        return c == '\n' ? line : std::string();
    }

    /// Returns when the child is dead.
    void kill() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        wait();
    }

    /// The exit code; -1 when a signal ended it.
    int wait() {
        int status = 0;
        ::waitpid(pid_, &status, 0);
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }

private:
    pid_t pid_ = -1;
    int read_end_ = -1;
};

}  // namespace infrastructure_sdk::test
