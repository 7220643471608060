#pragma once
// Sessions on real QEMU for tests: a state directory of its own, a runtime, and the promise that nothing is left.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include <sys/stat.h>

#include <infrastructure_sdk/sdk.hpp>

namespace infrastructure_sdk::test {

namespace fs = std::filesystem;

inline std::string image_directory() {
    const char* directory = std::getenv("INFRA_SDK_TEST_IMAGE_DIR");
    return directory ? directory : default_image_directory();
}

/// A state directory of its own, a runtime, and the promise that nothing is left.
class RealSession : public ::testing::Test {
protected:
    void SetUp() override {
        char name[] = "/tmp/session-engine-XXXXXX";
        ASSERT_NE(::mkdtemp(name), nullptr);
        state_ = name;
        ::chmod(name, 0711);
        open();
    }
    void TearDown() override {
        if (!sdk_) open();
        SessionFilter everything;
        auto page = run(*runtime_, sdk_->sessions().list(everything));
        for (const auto& session : page.sessions) {
            run(*runtime_, sdk_->sessions().terminate(session.id, TerminationReason::request, call()));
            run(*runtime_, sdk_->sessions().wait(session.id, SessionState::terminated, call()));
        }
        EXPECT_TRUE(fs::is_empty(state_ / "vms"));
        close();
        fs::remove_all(state_);
    }
    void open() {
        runtime_ = std::make_unique<Runtime>(make_null_sink());
        auto config = Config::from_json(R"({"store": {"state_directory": ")" + state_.string() +
                                        R"("}, "vm": {"image_directory": ")" + image_directory() +
                                        R"(", "template_directory": ")" + template_directory_ + R"("}, "session": )" +
                                        session_options_ + "}");
        sdk_ = run(*runtime_, InfrastructureSDK::open(runtime_->environment(), config));
    }
    void close() {
        run(*runtime_, sdk_->close());
        sdk_.reset();
        runtime_.reset();
    }
    Call call() { return {Deadline::after(*runtime_->environment().clock, std::chrono::minutes(4)), {}, "test"}; }
    Session start(const std::string& template_name = "linux-tiny") {
        SessionRequest request;
        request.user_id = "alice";
        request.template_name = template_name;
        auto session = run(*runtime_, sdk_->sessions().create(request, call()));
        return run(*runtime_, sdk_->sessions().wait(session.id, SessionState::active, call()));
    }
    Session wait(const Session& session, SessionState state) {
        return run(*runtime_, sdk_->sessions().wait(session.id, state, call()));
    }
    std::string shell(const Session& session, const std::string& command) {
        ExecRequest request;
        request.arguments = {"sh", "-c", command};
        return run(*runtime_, sdk_->sessions().exec(session.id, request, call())).stdout_data;
    }
    VmStatus vm(const Session& session) { return run(*runtime_, sdk_->sessions().inspect_vm(session.id, call())); }
    template <class T>
    Errc errc_of(Task<T> task) {
        try {
            run(*runtime_, std::move(task));
        } catch (const Error& error) {
            last_error_ = error.message();
            last_context_ = error.context();
            return error.errc();
        }
        return Errc{};
    }

    /// Waits for an event of that type.
    Event next(const Session& session, const std::string& type) {
        EventQuery query;
        query.subject = session.id;
        query.after = seen_;
        for (;;)
            for (const auto& event : run(*runtime_, sdk_->sessions().next_events(query, call()))) {
                query.after = seen_ = event.sequence;
                if (event.type == type) return event;
            }
    }
    std::string explained(const Session& session) {
        std::string text;
        for (const auto& sentence : run(*runtime_, sdk_->sessions().explain(session.id, {}, call())).sentences)
            text += sentence + "\n";
        return text;
    }

    fs::path state_;
    std::string session_options_ = "{}";
    std::uint64_t seen_ = 0;
    std::string template_directory_;  ///< empty = the built-in templates alone
    std::unique_ptr<Runtime> runtime_;
    std::shared_ptr<InfrastructureSDK> sdk_;
    std::string last_error_;
    ErrorContext last_context_;
};

}  // namespace infrastructure_sdk::test
