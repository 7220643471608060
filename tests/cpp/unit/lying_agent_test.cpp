// A guest may have anything speak in place of its agent: every answer is an answer or an Error, and none costs the
// host.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <boost/asio/use_future.hpp>
#include <nlohmann/json.hpp>

#include "core/unix_socket.hpp"
#include "providers/qemu/agent_answers.hpp"
#include "providers/qemu/guest_agent.hpp"
#include "support/real_runtime.hpp"
#include "support/temporary_directory.hpp"

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;
using testing::HasSubstr;

/// Answers synchronisation as it should, and everything else as it is told to.
class Liar {
public:
    explicit Liar(const std::string& path) : listener_(listen_unix(path)), thread_([this] { serve(); }) {}
    ~Liar() {
        over_ = true;
        ::shutdown(listener_, SHUT_RDWR);
        thread_.join();
        ::close(listener_);
    }
    void say(std::string text) {
        std::lock_guard guard(mutex_);
        text_ = std::move(text);
    }

private:
    void serve() {
        while (!over_) {
            int peer = ::accept(listener_, nullptr, nullptr);
            if (peer < 0) return;
            talk(peer);
            ::close(peer);
        }
    }
    void talk(int peer) {
        std::string heard;
        while (!over_) {
            pollfd waiting{peer, POLLIN, 0};
            if (::poll(&waiting, 1, 20) <= 0) continue;
            char bytes[4096];
            auto got = ::read(peer, bytes, sizeof bytes);
            if (got <= 0) return;
            heard.append(bytes, static_cast<std::size_t>(got));
            for (auto end = heard.find('\n'); end != std::string::npos; end = heard.find('\n')) {
                auto request =
                    json::parse(heard.substr(heard[0] == '\xff', end - (heard[0] == '\xff')), nullptr, false);
                heard.erase(0, end + 1);
                std::string answer = told();
                if (request.is_object() && request.value("execute", "") == "guest-sync-delimited")
                    answer = "\xff{\"return\": " + request["arguments"]["id"].dump() + "}\n";
                for (std::size_t at = 0; at < answer.size();) {
                    auto put = ::send(peer, answer.data() + at, answer.size() - at, MSG_NOSIGNAL);
                    if (put <= 0) return;
                    at += static_cast<std::size_t>(put);
                }
            }
        }
    }
    std::string told() {
        std::lock_guard guard(mutex_);
        return text_;
    }

    int listener_;
    std::atomic<bool> over_{false};
    std::mutex mutex_;
    std::string text_;
    std::thread thread_;
};

class LyingAgent : public testing::Test {
protected:
    ~LyingAgent() override {
        auto executor = runtime_.runtime.environment().executor;
        boost::asio::post(executor, [this] { agent_.reset(); });  // where its connection is read
        boost::asio::post(executor, boost::asio::use_future).get();
    }

    Call call() {
        return {Deadline::after(*runtime_.runtime.environment().clock, std::chrono::milliseconds(200)), {}, "test"};
    }
    /// For an answer that must come, however busy the host is.
    Call patient() {
        return {Deadline::after(*runtime_.runtime.environment().clock, std::chrono::minutes(3)), {}, "test"};
    }
    static Task<bool> done(Task<void> task) {
        co_await std::move(task);
        co_return true;
    }
    template <class T>
    static Task<bool> done(Task<T> task) {
        co_await std::move(task);
        co_return true;
    }
    /// "" when it believed the answer. What is no Error fails the test.
    std::string refusal(Task<bool> task) {
        try {
            runtime_(std::move(task));
        } catch (const Error& error) {
            // What it says of a file may also not fit the question.
            const std::set<Errc> expected{Errc::provider, Errc::not_ready, Errc::timeout, Errc::conflict};
            EXPECT_TRUE(expected.contains(error.errc())) << error.message();
            return error.message();
        }
        return {};
    }

    RealRuntime runtime_;
    test::TemporaryDirectory place_;
    Liar liar_{place_.path() + "/agent.sock"};
    std::shared_ptr<QemuGuestAgent> agent_ =
        make_guest_agent(runtime_.runtime.environment(), place_.path() + "/agent.sock");
};

TEST_F(LyingAgent, EveryVerbGetsAnAnswerOrAnError) {
    liar_.say("{\"return\": {}}\n");
    EXPECT_EQ(refusal(done(agent_->ping(patient()))), "") << "the positive control";
    std::string answers = R"([1, "x", null, [], true, {"pid": "1"}, {"pid": 1, "exited": "yes"},
        {"pid": 1, "exited": true, "exitcode": "0", "out-data": 5}, {"pid": 1, "exited": true, "out-truncated": 1},
        {"pid": 1, "exited": true, "out-data": "%%%"}, {"count": "many", "eof": 7, "buf-b64": []},
        {"count": -1, "eof": true, "buf-b64": "AA=="}, {"position": {}}, [{"name": 5}], [[1]],
        [{"ip-addresses": {"a": 1}}], [{"statistics": []}], 1e300, -1, 18446744073709551615])";
    std::vector<std::string> texts{"no json\n", "{}\n", "[]\n", "{\"error\": 5}\n", "{\"error\": {\"desc\": [1]}}\n"};
    for (const auto& answer : json::parse(answers)) texts.push_back(json{{"return", answer}}.dump() + "\n");
    ExecRequest command;
    command.arguments = {"true"};
    const std::pair<const char*, std::function<Task<bool>()>> verbs[] = {
        {"ping", [&] { return done(agent_->ping(call())); }},
        {"exec", [&] { return done(agent_->exec(command, call())); }},
        {"start", [&] { return done(agent_->start(command, call())); }},
        {"read_file", [&] { return done(agent_->read_file("/a", 10, call())); }},
        {"read_file_part", [&] { return done(agent_->read_file_part("/a", 5, 10, call())); }},
        {"write_file", [&] { return done(agent_->write_file("/a", "bytes", call())); }},
        {"write_file_part", [&] { return done(agent_->write_file_part("/a", 5, "bytes", call())); }},
        {"write_files", [&] { return done(agent_->write_files({{"/a", "bytes"}}, call())); }},
        {"list_files", [&] { return done(agent_->list_files("/a", call())); }},
        {"interfaces", [&] { return done(agent_->interfaces(call())); }},
        {"logged_in_users", [&] { return done(agent_->logged_in_users(call())); }},
        {"time", [&] { return done(agent_->time(call())); }},
        {"thaw", [&] { return done(agent_->thaw(call())); }},
    };
    for (const auto& text : texts) {
        liar_.say(text);
        for (const auto& [name, verb] : verbs) {
            SCOPED_TRACE(std::string(name) + " was answered " + text);
            refusal(verb());
        }
    }
}

TEST_F(LyingAgent, IsNotListenedToWithoutEnd) {
    // Far more than may wait, for one request that wants one line.
    std::string flood;
    for (int i = 0; i < 1100; ++i) flood += "\"" + std::string(64 << 10, 'x') + "\"\n";
    liar_.say(flood);
    EXPECT_NE(refusal(done(agent_->ping(call()))), "");
    liar_.say("{\"return\": {}}\n");
    EXPECT_EQ(refusal(done(agent_->ping(patient()))), "") << "one that comes to its senses is heard again";
}

TEST(AgentAnswers, AreNotNestedAsDeepAsAStack) {
    const std::string deep(200'000, '[');
    EXPECT_TRUE(parse_answer(deep).is_discarded());
    EXPECT_TRUE(parse_answer("{\"return\": " + deep + std::string(deep.size(), ']') + "}").is_discarded());
    EXPECT_TRUE(parse_answer("{\"return\": [[[{\"a\": [1]}]]]}").is_object());
    EXPECT_THAT(answer_of("guest-exec", json{{"return", {{"pid", "x"}}}}).error->message(), HasSubstr("pid"));
    EXPECT_EQ(answer_of("guest-exec", json{{"return", {{"pid", 5}}}}).value["pid"], 5);
}

}  // namespace
}  // namespace infrastructure_sdk::qemu
