#pragma once
// A transport without a network: answers as told, on whatever clock there is.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/async_tools.hpp"
#include <infrastructure_sdk/http/http.hpp>

namespace infrastructure_sdk::test {

struct FakeAnswer {
    int status = 200;  ///< 0 = the connection breaks
    HttpHeaders headers;
    Duration after{};    ///< when it comes
    bool never = false;  ///< it does not
    std::string body;
};

/// What receivers do, and what they saw. Outlives the owners whose transports speak to it.
class FakeReceivers {
public:
    std::function<FakeAnswer(const HttpRequest&)> answer = [](const HttpRequest&) { return FakeAnswer(); };
    std::vector<HttpRequest> seen;
    std::size_t under_way = 0;
    std::size_t most_under_way = 0;

    std::shared_ptr<HttpTransport> transport(const Environment& environment);
};

class FakeStream final : public HttpStream {
public:
    explicit FakeStream(HttpResponse response) : body_(std::move(response.body)), head_(std::move(response)) {
        head_.body.clear();
    }
    const HttpResponse& head() const override { return head_; }
    Task<std::string> next(Call) override { co_return std::exchange(body_, {}); }

private:
    std::string body_;
    HttpResponse head_;
};

class FakeTransport final : public HttpTransport {
public:
    FakeTransport(Environment environment, FakeReceivers* receivers)
        : environment_(std::move(environment)), receivers_(receivers) {}

    Task<std::shared_ptr<HttpStream>> open(HttpRequest request, Call call) override {
        auto receivers = receivers_;
        check(call, *environment_.clock, "sending");
        receivers->seen.push_back(request);
        auto answer = receivers->answer(request);
        receivers->most_under_way = std::max(receivers->most_under_way, ++receivers->under_way);
        auto come = answer.never ? Deadline() : Deadline::after(*environment_.clock, answer.after);
        auto until = come.earlier(call.deadline);
        co_await environment_.clock->sleep_until(until.when(), call.stop);
        --receivers->under_way;
        if (answer.never || come.when() > environment_.clock->monotonic_now())
            check(call, *environment_.clock, "waiting for a receiver");
        if (answer.status == 0)
            throw Error(Errc::not_ready, "receive: broken pipe", {{"channel", "http"}, {"stage", "receive"}});
        co_return std::make_shared<FakeStream>(HttpResponse{answer.status, answer.headers, answer.body});
    }
    Task<HttpResponse> send(HttpRequest request, Call call) override {
        auto stream = co_await open(std::move(request), call);
        auto response = stream->head();
        response.body = co_await stream->next(call);
        co_return response;
    }
    Task<void> close() override { co_return; }

private:
    Environment environment_;
    FakeReceivers* receivers_;
};

inline std::shared_ptr<HttpTransport> FakeReceivers::transport(const Environment& environment) {
    return std::make_shared<FakeTransport>(environment, this);
}

}  // namespace infrastructure_sdk::test
