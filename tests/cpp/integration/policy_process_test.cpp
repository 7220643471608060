// What the engine's side makes of a process that does not keep to the protocol. The processes are shell scripts in
// place of an interpreter.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include <unistd.h>

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
    R"({"name": "fake", "version": "1", "author": "", "sha256": "", "points": ["idle"], "missing": ["memory: none"]})";

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
    EXPECT_EQ(host->identity(), (PolicyIdentity{"fake", "1", "", ""}));
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

}  // namespace
}  // namespace infrastructure_sdk
