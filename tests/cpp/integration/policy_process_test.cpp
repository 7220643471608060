// What the engine's side makes of a process that does not keep to the protocol. The processes are shell scripts in
// place of an interpreter.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <tuple>

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <infrastructure_sdk/detail/run.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/policy/process_host.hpp>

namespace infrastructure_sdk {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::HasSubstr;
using enum PolicyAnswer::Outcome;

constexpr const char* ready =
    R"({"name": "fake", "version": "1", "author": "", "sha256": "f0", "points": ["idle"], "missing": ["memory: none"]})";
constexpr const char* hash_of_the_source =
    "8ff436def1451285599a1b1ad70800493b8dcafde2912e1a38345633054e4c26";  // of "x = 1"

std::string nested(std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

/// Goes on only when the test says so.
class SteppedClock final : public Clock {
public:
    void advance(Duration step) { now_ += step.count(); }
    WallTime wall_now() const override { return WallTime(); }
    MonotonicTime monotonic_now() const override { return MonotonicTime(Duration(now_.load())); }
    Task<void> sleep_until(MonotonicTime when, std::stop_token stop) override {
        boost::asio::steady_timer look_again(co_await boost::asio::this_coro::executor);
        while (monotonic_now() < when && !stop.stop_requested()) {
            look_again.expires_after(1ms);
            co_await look_again.async_wait(boost::asio::use_awaitable);
        }
    }

private:
    std::atomic<Duration::rep> now_{0};
};

/// Bytes between the test and a process that knows its path.
class Fifo {
public:
    explicit Fifo(const fs::path& path) {
        EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
        fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    }
    ~Fifo() { ::close(fd_); }
    void write_line() const { EXPECT_EQ(::write(fd_, "x\n", 2), 2); }
    void read_line() const {
        char line[2];
        EXPECT_EQ(::read(fd_, line, 2), 2);
    }

private:
    int fd_ = -1;
};

class PolicyProcessTest : public testing::Test {
protected:
    PolicyProcessTest() : runtime_(make_stream_sink(LogFormat::text), LogLevel::error) {
        auto pattern = (fs::temp_directory_path() / "isdk-policy-XXXXXX").string();
        place_ = ::mkdtemp(pattern.data());
    }
    ~PolicyProcessTest() override {
        runtime_.stop();
        fs::remove_all(place_);
    }

    /// A program that reads the policy, sends `first`, and for each question does `then`.
    ProcessPolicyOptions program(const std::string& first, const std::string& then) {
        auto path = fs::path(place_) / "program";
        std::ofstream(path) << "#!/bin/sh\nread setup <&3\nprintf '%s\\n' '" << first << "' >&3\n"
                            << "while read line <&3; do\n"
                            << then << "\ndone\n";
        fs::permissions(path, fs::perms::owner_all);
        ProcessPolicyOptions options;
        options.interpreter = path.string();
        return options;
    }
    static std::string says(const std::string& line) { return "printf '%s\\n' '" + line + "' >&3"; }

    std::shared_ptr<ProcessPolicy> load(const ProcessPolicyOptions& options) {
        Call call(Deadline::after(*runtime_.environment().clock, 60s));
        return run(runtime_, load_process_policy(runtime_.environment(), "x = 1", "x.py", options, call));
    }
    PolicyAnswer ask(PolicyHost& host, Duration budget) {
        Call call(Deadline::after(*runtime_.environment().clock, budget));
        return run(runtime_, host.decide(IdleRequest(), "", call));
    }
    /// Of one question to a process that answers so.
    PolicyAnswer answer_to(const std::string& then, Duration budget = 60s) {
        auto host = load(program(ready, then));
        auto answer = ask(*host, budget);
        run(runtime_, host->close());
        return answer;
    }
    std::string refusal(const ProcessPolicyOptions& options, Errc code) {
        try {
            run(runtime_, load(options)->close());
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), code) << error.message();
            return error.message();
        }
        ADD_FAILURE() << "it was loaded";
        return {};
    }

    std::string place_;
    Runtime runtime_;
};

TEST_F(PolicyProcessTest, AnAnswerIsTaken) {
    auto host = load(program(
        ready,
        says(R"({"id": 1, "decision": {"action": "keep", "ask_again_after": 5, "reason": "so"}, "state": "{}"})")));
    EXPECT_EQ(host->identity(), (PolicyIdentity{"fake", "1", "", hash_of_the_source}));
    EXPECT_EQ(host->points(), std::vector{DecisionPoint::idle});
    EXPECT_THAT(host->missing_protections(), testing::Contains("memory: none"));
    EXPECT_GT(host->pid(), 0);
    auto answer = ask(*host, 60s);
    EXPECT_EQ(answer.outcome, decided) << answer.detail;
    EXPECT_EQ(answer.decision, PolicyDecision(SessionDecision{SessionAction::keep, "so", 5s}));
    EXPECT_EQ(answer.state, "{}");
    run(runtime_, host->close());
    EXPECT_EQ(host->pid(), 0);
}

TEST_F(PolicyProcessTest, ALieIsNoDecision) {
    for (const char* line :
         {"", "no JSON", "[1]", "null", R"({"id": 2, "decision": {"action": "keep", "reason": ""}})",
          R"({"decision": {"action": "keep"}})", R"({"id": "1"})", R"({"id": 1, "failed": 7})",
          R"({"id": 1, "decision": {"action": "keep", "ask_again_after": null, "reason": ""}, "state": 7})"})
        EXPECT_EQ(answer_to(says(line)).outcome, failed) << line;
    for (const char* line :
         {R"({"id": 1})", R"({"id": 1, "decision": 7})",
          R"({"id": 1, "decision": {"action": "explode", "reason": ""}})",
          R"({"id": 1, "decision": {"candidate": "", "reason": ""}})", R"({"id": 1, "invalid": "it says so"})"})
        EXPECT_EQ(answer_to(says(line)).outcome, invalid) << line;
}

TEST_F(PolicyProcessTest, AnAnswerWithoutBottomIsNoDecision) {
    const auto deep = nested(60'000);
    for (const auto& line : {deep, R"({"id": )" + deep + "}", R"({"id": 1, "decision": {"action": )" + deep + "}}",
                             std::string(126'000, '[')})
        EXPECT_EQ(answer_to(says(line)).outcome, failed);
}

TEST_F(PolicyProcessTest, WhoWaitsTooLongForItsTurnDoesNotEndTheProcess) {
    Fifo asked(fs::path(place_) / "asked"), gate(fs::path(place_) / "gate");
    auto clock = std::make_shared<SteppedClock>();
    auto environment = runtime_.environment();
    environment.clock = clock;
    const auto answer = R"({"id": %d, "decision": {"action": "keep", "reason": ""}, "state": ""})";
    auto options =
        program(ready, "exec 4<>'" + place_ + "/gate' 5<>'" + place_ + "/asked'\nn=$((n + 1)); echo x >&5\n" +
                           "read go <&4; printf '" + answer + "\\n' $n >&3");
    auto host = run(runtime_, load_process_policy(environment, "x = 1", "x.py", options, Call()));
    const auto pid = host->pid();
    auto ask_in_time = [&] {
        Call call(Deadline::after(*clock, 100ms));
        return boost::asio::co_spawn(environment.executor, host->decide(IdleRequest(), "", call),
                                     boost::asio::use_future);
    };
    auto first = ask_in_time(), second = ask_in_time();
    boost::asio::post(environment.executor, boost::asio::use_future).get();  // both wait for their turn
    asked.read_line();
    clock->advance(90ms);
    gate.write_line();
    EXPECT_EQ(first.get().outcome, decided);
    asked.read_line();  // the second one is sent with 10 ms left
    clock->advance(10ms);
    EXPECT_EQ(second.get().outcome, timed_out);
    gate.write_line();
    auto third = ask_in_time();
    EXPECT_EQ(host->pid(), pid);
    if (host->pid() == pid) {
        asked.read_line();
        gate.write_line();
        EXPECT_EQ(third.get().outcome, decided);
        auto overdue = ask_in_time();
        asked.read_line();
        clock->advance(100ms);
        EXPECT_EQ(overdue.get().outcome, timed_out);
    }
    run(runtime_, host->close());
    EXPECT_EQ(host->pid(), 0);
}

TEST_F(PolicyProcessTest, ALineWithoutEndIsCutOff) {
    auto answer =
        answer_to("while :; do printf 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' >&3; done");
    EXPECT_EQ(answer.outcome, failed);
    EXPECT_THAT(answer.detail, HasSubstr("128 KiB"));
}

TEST_F(PolicyProcessTest, ASilentProcessIsOverdueAndOneThatEndsIsTold) {
    EXPECT_EQ(answer_to("read more <&3", 50ms).outcome, timed_out);
    auto answer = answer_to("exit 3");
    EXPECT_EQ(answer.outcome, failed);
    EXPECT_THAT(answer.detail, HasSubstr("ended"));
}

/// Looked up on the executor, as all of a host is.
Task<std::int64_t> pid_of(ProcessPolicy* host) { co_return host->pid(); }

TEST_F(PolicyProcessTest, OneThatEndsAgainRunsBehindEverybodyElseUntilItDoesWell) {
    // It ends at the first two questions and answers all others.
    auto host = load(program(ready, R"(id=${line#*:}; id=${id%%,*}; [ $id -gt 2 ] || exit 1
printf '{"id": %s, "decision": {}, "state": ""}\n' $id >&3)"));
    const auto deadline = std::chrono::steady_clock::now() + 60s;
    auto another = [&](std::int64_t than) {
        std::int64_t pid = than;
        while ((pid == than || pid == 0) && std::chrono::steady_clock::now() < deadline)
            pid = run(runtime_, pid_of(host.get()));
        EXPECT_GT(pid, 0) << "it was not started again";
        // In our session, where the kernel weighs it against us, and not in our process group.
        EXPECT_EQ(::getsid(static_cast<pid_t>(pid)), ::getsid(0));
        EXPECT_EQ(::getpgid(static_cast<pid_t>(pid)), pid);
        return pid;
    };
    auto first = another(0);
    EXPECT_EQ(::sched_getscheduler(static_cast<pid_t>(first)), SCHED_OTHER);
    EXPECT_EQ(ask(*host, 60s).outcome, failed);
    auto second = another(first);
    EXPECT_EQ(ask(*host, 60s).outcome, failed);
    auto third = another(second);
    EXPECT_EQ(::sched_getscheduler(static_cast<pid_t>(third)), SCHED_IDLE);
    for (int question = 0; question < 100; ++question) {
        auto answer = ask(*host, 60s);
        ASSERT_EQ(answer.outcome, decided) << answer.detail;
    }
    auto fourth = another(third);
    EXPECT_EQ(::sched_getscheduler(static_cast<pid_t>(fourth)), SCHED_OTHER);
    EXPECT_EQ(ask(*host, 60s).outcome, decided);
    run(runtime_, host->close());
}

TEST_F(PolicyProcessTest, WhatCannotBeLoadedIsRefused) {
    ProcessPolicyOptions nowhere;
    nowhere.interpreter = "/nonexistent/python3";
    EXPECT_THAT(refusal(nowhere, Errc::policy), HasSubstr("/nonexistent/python3"));
    EXPECT_THAT(refusal(program(R"({"error": "line 3 is wrong"})", ":"), Errc::policy), HasSubstr("line 3 is wrong"));
    EXPECT_THAT(refusal(program(R"({"unsupported": "seccomp: no"})", ":"), Errc::unsupported), HasSubstr("seccomp"));
    refusal(program("no JSON", ":"), Errc::policy);
    refusal(program(R"({"name": "x", "points": 3, "missing": []})", ":"), Errc::policy);
    refusal(program(R"({"name": "x", "points": ["sleep"], "missing": []})", ":"), Errc::validation);
}

TEST_F(PolicyProcessTest, AQuestionThatIsCancelledEnds) {
    auto host = load(program(ready, "read more <&3"));
    std::stop_source stop;
    stop.request_stop();
    Call call(Deadline(), stop.get_token());
    try {
        run(runtime_, host->decide(IdleRequest(), "", call));
        ADD_FAILURE() << "it was answered";
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::cancelled);
    }
    run(runtime_, host->close());
}

std::string line_of(const fs::path& file, const std::string& name) {
    std::ifstream lines(file);
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with(name)) return line;
    return {};
}

/// In the child: what the filter makes of three wishes, one byte each.
[[noreturn]] void try_the_sandbox(int socket) {
    int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    try {
        enter_policy_sandbox(socket);
    } catch (const Error&) {
        ::_exit(1);
    }
    auto map = [](int protection, int flags, int fd) -> char {
        return ::mmap(nullptr, 4096, protection, flags, fd, 0) != MAP_FAILED ? 'y' : errno == EPERM ? 'n' : '?';
    };
    const char got[3] = {map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1),
                         map(PROT_READ, MAP_PRIVATE, file),
                         map(PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1)};
    char end;
    if (::write(socket, got, 3) == 3) std::ignore = ::read(socket, &end, 1);  // until it is killed
    ::_exit(2);
}

TEST(PolicySandbox, GivesPlainMemoryOnlyAndIsNotRoot) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::close(ends[0]);
        try_the_sandbox(ends[1]);
    }
    ::close(ends[1]);
    char got[3] = {};
    EXPECT_EQ(::recv(ends[0], got, 3, MSG_WAITALL), 3);
    EXPECT_EQ(std::string(got, 3), "ynn");
    auto users = line_of("/proc/" + std::to_string(pid) + "/status", "Uid:");
    if (::geteuid() == 0) {
        EXPECT_EQ(users, "Uid:\t65534\t65534\t65534\t65534");
    }
    // Killed: a search for leaks at its exit would need what the sandbox does not give.
    ::kill(pid, SIGKILL);
    EXPECT_EQ(::waitpid(pid, nullptr, 0), pid);
    ::close(ends[0]);
}

}  // namespace
}  // namespace infrastructure_sdk
