// One real session from C++: create, use, look at its isolation, suspend, resume, end.
//
//     infra-sdk image build linux-tiny      # once
//     ./example_01_first_session

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <unistd.h>

#include <infrastructure_sdk/sdk.hpp>

namespace isdk = infrastructure_sdk;

static isdk::Task<void> first_session(isdk::Environment environment, isdk::Config config) {
    auto sdk = co_await isdk::InfrastructureSDK::open(environment, config);
    auto& sessions = sdk->sessions();
    isdk::Call call{isdk::Deadline::after(*environment.clock, std::chrono::minutes(3)), {}, "first-session"};

    isdk::SessionRequest request;
    request.user_id = "alice";
    request.ttl = std::chrono::hours(2);
    auto session = co_await sessions.create(request, call);
    session = co_await sessions.wait(session.id, isdk::SessionState::active, call);
    std::printf("active:     %s (%s)\n", session.id.c_str(), session.accelerator.c_str());

    isdk::ExecRequest uname;
    uname.arguments = {"uname", "-a"};
    auto result = co_await sessions.exec(session.id, uname, call);
    std::printf("exec:       %s", result.stdout_data.c_str());
    co_await sessions.write_file(session.id, "/tmp/note", "kept in memory", call);

    std::vector<isdk::Layer> every_layer;  // empty = all
    auto report = co_await sdk->validate_isolation(session.id, every_layer, call);
    std::printf("isolation:  %s, %.0f to %.0f of 100\n", isdk::name_of(report.score.verdict), report.score.lower,
                report.score.upper);

    co_await sessions.suspend(session.id, call);
    co_await sessions.wait(session.id, isdk::SessionState::suspended, call);
    co_await sessions.resume(session.id, call);
    co_await sessions.wait(session.id, isdk::SessionState::active, call);
    auto note = co_await sessions.read_file(session.id, "/tmp/note", 1 << 20, call);
    std::printf("resumed:    /tmp/note says '%s'\n", note.c_str());

    co_await sessions.terminate(session.id, isdk::TerminationReason::request, call);
    co_await sessions.wait(session.id, isdk::SessionState::terminated, call);
    auto left = co_await sdk->list_vms(call);
    std::printf("terminated: %zu virtual machines left\n", left.size());
    co_await sdk->close();
    if (note != "kept in memory" || !left.empty())
        throw isdk::Error(isdk::Errc::internal, "the session was not what it must be");
}

int main() {
    std::map<std::string, std::string> environment;
    for (char** entry = environ; *entry; ++entry) {
        std::string text(*entry);
        auto equals = text.find('=');
        if (text.starts_with("INFRA_SDK_")) environment[text.substr(0, equals)] = text.substr(equals + 1);
    }
    auto state = std::filesystem::temp_directory_path() / ("first-session-" + std::to_string(::getpid()));
    int code = 0;
    try {
        auto config = isdk::Config::from_json(R"({"store": {"state_directory": ")" + state.string() + R"("}})")
                          .overlaid_with(isdk::Config::from_environment(environment));
        isdk::Runtime runtime(isdk::make_stream_sink(isdk::LogFormat::text), isdk::LogLevel::warning);
        isdk::run(runtime, first_session(runtime.environment(), config));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "failed: %s\n", error.what());
        code = 1;
    }
    std::filesystem::remove_all(state);
    return code;
}
