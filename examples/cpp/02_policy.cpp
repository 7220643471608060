// A policy in Python decides inside a C++ program: the same file that decides in the Python package. Each line of a log
// of requests (their JSON) is answered by a line.
//
//     ./example_02_policy patient.py requests.jsonl

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include <infrastructure_sdk/policy/python_host.hpp>
#include <infrastructure_sdk/policy/python_interpreter.hpp>
#include <infrastructure_sdk/sdk.hpp>

namespace isdk = infrastructure_sdk;

static std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw isdk::Error(isdk::Errc::not_found, "cannot read " + path);
    return {std::istreambuf_iterator<char>(file), {}};
}

static isdk::Task<void> answer_all(isdk::Environment environment, isdk::PolicyText policy, std::string log) {
    isdk::Call loading{isdk::Deadline::after(*environment.clock, std::chrono::seconds(10))};
    isdk::PythonPolicyOptions options;
    auto host = co_await isdk::load_python_policy(environment, std::move(policy), options, loading);
    const auto& identity = host->identity();
    std::fprintf(stderr, "%s %s, %s\n", identity.name.c_str(), identity.version.c_str(), identity.sha256.c_str());
    std::ifstream lines(log);
    for (std::string line; std::getline(lines, line);) {
        isdk::Call call{isdk::Deadline::after(*environment.clock, std::chrono::seconds(10))};
        auto answer = co_await host->decide(isdk::policy_request_from_json(line), "", call);
        if (answer.outcome != isdk::PolicyAnswer::Outcome::decided)
            std::fprintf(stderr, "%s: %s\n", isdk::name_of(answer.outcome), answer.detail.c_str());
        std::puts(isdk::to_json(answer.decision).c_str());
    }
    co_await host->close();
}

int main(int count, char** words) {
    if (count != 3) {
        std::fprintf(stderr, "usage: %s POLICY.py REQUESTS.jsonl\n", words[0]);
        return 2;
    }
    try {
        isdk::PythonInterpreter python;
        isdk::Runtime runtime(isdk::make_stream_sink(isdk::LogFormat::text), isdk::LogLevel::warning);
        isdk::PolicyText policy{read_file(words[1]), words[1]};
        isdk::run(runtime, answer_all(runtime.environment(), policy, words[2]));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "failed: %s\n", error.what());
        return 1;
    }
    return 0;
}
