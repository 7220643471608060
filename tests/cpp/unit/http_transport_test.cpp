// The HTTP transport on real sockets, against servers good and bad.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "support/http_server.hpp"
#include <infrastructure_sdk/detail/run.hpp>
#include <infrastructure_sdk/http/http.hpp>

namespace infrastructure_sdk {
namespace {

using test::Certificates;
using test::HttpServer;
using test::HttpServerOptions;
using test::ok;
using test::Script;
using test::SeenRequest;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using namespace std::chrono_literals;

/// A client and a server, and the log of both.
class Rig {
public:
    explicit Rig(HttpServer::Answer answer, AsioHttpOptions options = {}, HttpServerOptions server_options = {})
        : runtime_(make_callback_sink([this](const LogRecord& record) {
                       std::lock_guard lock(mutex_);
                       log_ += format_json(record) + "\n";
                   }),
                   LogLevel::debug),
          server(runtime_.environment(), std::move(answer), server_options),
          transport(make_asio_http_transport(runtime_.environment(), std::move(options))) {}
    ~Rig() {
        run(transport->close());
        run(server.close());
    }

    template <class T>
    T run(Task<T> task) {
        return infrastructure_sdk::run(runtime_, std::move(task));
    }
    void run(Task<void> task) {
        auto work = [](Task<void> inner) -> Task<bool> {
            co_await std::move(inner);
            co_return true;
        };
        infrastructure_sdk::run(runtime_, work(std::move(task)));
    }
    Call within(Duration length, std::stop_token stop = {}) {
        return {Deadline::after(*runtime_.environment().clock, length), stop, "request-7"};
    }
    HttpResponse get(const std::string& url, Duration length = 20s) {
        HttpRequest request;
        request.url = url;
        return run(transport->send(request, within(length)));
    }
    HttpResponse post(const std::string& body, bool repeatable = false) {
        HttpRequest request;
        request.method = "POST";
        request.url = server.url();
        request.body = body;
        request.repeatable = repeatable;
        return run(transport->send(request, within(20s)));
    }
    /// The code and the stage of what it throws; "none" when it does not.
    template <class F>
    std::string failure_of(F action) {
        try {
            action();
            return "none";
        } catch (const Error& error) {
            message = error.message();
            auto stage = error.context().find("stage");
            return std::string(name_of(error.errc())) + (stage == error.context().end() ? "" : " " + stage->second);
        }
    }
    std::string failure_of_get(const std::string& url, Duration length = 20s) {
        return failure_of([&] { get(url, length); });
    }
    std::string log() {
        std::lock_guard lock(mutex_);
        return log_;
    }

private:
    std::mutex mutex_;
    std::string log_;
    Runtime runtime_;

public:
    HttpServer server;
    std::shared_ptr<HttpTransport> transport;
    std::string message;
};

AsioHttpOptions trusting(const std::string& ca) {
    AsioHttpOptions options;
    options.tls.ca_file = ca;
    return options;
}
HttpServerOptions tls_server(bool demand = false) { return {true, demand}; }

TEST(HttpTransport, AsksAndAnswersOverOneConnection) {
    Rig rig([](const SeenRequest& request) { return ok(request.method + " " + request.target + " " + request.body); });
    auto response = rig.get(rig.server.url("/a?b=c"));
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "GET /a?b=c ");
    EXPECT_EQ(rig.post("sent").body, "POST / sent");
    EXPECT_EQ(rig.run(rig.server.connections()), 1u);
    auto seen = rig.run(rig.server.seen());
    ASSERT_EQ(seen.size(), 2u);
    EXPECT_THAT(seen[0].headers.at("host"), testing::StartsWith("127.0.0.1:"));
}

TEST(HttpTransport, AnyStatusIsAResponseAndNoRedirectIsFollowed) {
    Rig rig([](const SeenRequest& request) {
        return Script{"HTTP/1.1 " + request.target.substr(1) +
                      " X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"};
    });
    for (int status : {301, 404, 429, 500, 599}) {
        auto response = rig.get(rig.server.url(std::string("/").append(std::to_string(status))));
        EXPECT_EQ(response.status, status);
        EXPECT_EQ(response.headers.find("location"), "/elsewhere");
    }
    EXPECT_EQ(rig.run(rig.server.seen()).size(), 5u);
}

TEST(HttpTransport, StreamsChunksAsTheyCome) {
    Rig rig([](const SeenRequest&) {
        return Script{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", false, false, true};
    });
    HttpRequest request;
    request.url = rig.server.url();
    auto stream = rig.run(rig.transport->open(request, rig.within(20s)));
    EXPECT_EQ(stream->head().status, 200);
    EXPECT_EQ(rig.run(stream->next(rig.within(20s))), "first");
    // The server says nothing more.
    EXPECT_EQ(rig.failure_of([&] { rig.run(stream->next(rig.within(30ms))); }), "timeout");
    EXPECT_EQ(rig.failure_of([&] { rig.run(stream->next(rig.within(20s))); }), "cancelled");
}

TEST(HttpTransport, AStreamThatIsDroppedLeavesNothingOpen) {
    Rig rig([](const SeenRequest&) {
        return Script{"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc", false, false, true};
    });
    HttpRequest request;
    request.url = rig.server.url();
    rig.run(rig.transport->open(request, rig.within(20s))).reset();
    rig.run(rig.server.until_closed(1));
    EXPECT_EQ(rig.run(rig.transport->open(request, rig.within(20s)))->head().status, 200);
    EXPECT_EQ(rig.run(rig.server.connections()), 2u);
}

TEST(HttpTransport, AServerThatNeverAnswersEndsAtTheDeadline) {
    Rig rig([](const SeenRequest&) { return Script{"", false, false, true}; });
    EXPECT_EQ(rig.failure_of_get(rig.server.url(), 30ms), "timeout");
    rig.run(rig.server.until_closed(1));
}

TEST(HttpTransport, AServerThatNeverEndsItsHeadOrBodyEndsAtTheDeadline) {
    Rig rig([](const SeenRequest& request) {
        if (request.target == "/head") return Script{"HTTP/1.1 200 OK\r\nA: b", false, false, true};
        return Script{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", false, false, true};
    });
    EXPECT_EQ(rig.failure_of_get(rig.server.url("/head"), 30ms), "timeout");
    EXPECT_EQ(rig.failure_of_get(rig.server.url("/body"), 30ms), "timeout");
}

TEST(HttpTransport, ATlsHandshakeThatNeverEndsEndsAtTheDeadline) {
    // A server without TLS reads the client's hello as a request that is not complete.
    Rig rig([](const SeenRequest&) { return ok(); });
    auto url = "https" + rig.server.url().substr(4);
    EXPECT_EQ(rig.failure_of_get(url, 50ms), "timeout");
    rig.run(rig.server.until_closed(1));
}

TEST(HttpTransport, ARequestIsCancelledWhileItWaits) {
    Rig rig([](const SeenRequest&) { return Script{"", false, false, true}; });
    HttpRequest request;
    request.url = rig.server.url();
    std::stop_source stop;
    auto cancel = [](HttpServer* server, std::stop_source source) -> Task<bool> {
        co_await server->until_seen(1);
        source.request_stop();
        co_return true;
    };
    auto both = [&](std::stop_source source) -> Task<bool> {
        auto executor = co_await asio::this_coro::executor;
        asio::co_spawn(executor, cancel(&rig.server, source), asio::detached);
        co_await rig.transport->send(request, rig.within(20s, source.get_token()));
        co_return true;
    };
    EXPECT_EQ(rig.failure_of([&] { rig.run(both(stop)); }), "cancelled");
    rig.run(rig.server.until_closed(1));
    std::stop_source before;
    before.request_stop();
    EXPECT_EQ(rig.failure_of([&] { rig.run(rig.transport->send(request, rig.within(20s, before.get_token()))); }),
              "cancelled");
    EXPECT_EQ(rig.run(rig.server.connections()), 1u);
}

TEST(HttpTransport, ClosingEndsWhatIsUnderWay) {
    Rig rig([](const SeenRequest&) { return Script{"", false, false, true}; });
    HttpRequest request;
    request.url = rig.server.url();
    auto close = [](Rig* rig) -> Task<bool> {
        co_await rig->server.until_seen(1);
        co_await rig->transport->close();
        co_return true;
    };
    auto both = [&]() -> Task<bool> {
        auto executor = co_await asio::this_coro::executor;
        asio::co_spawn(executor, close(&rig), asio::detached);
        co_await rig.transport->send(request, rig.within(20s));
        co_return true;
    };
    EXPECT_EQ(rig.failure_of([&] { rig.run(both()); }), "cancelled");
    EXPECT_EQ(rig.failure_of_get(rig.server.url()), "cancelled");
}

TEST(HttpTransport, WhatTheServerDoesWrongIsSaid) {
    Rig rig(
        [](const SeenRequest& request) {
            std::string head = "HTTP/1.1 200 OK\r\n";
            if (request.target == "/garbage") return Script{"garbage\r\n\r\n", true};
            if (request.target == "/nothing") return Script{"", true};
            if (request.target == "/cut-head") return Script{head + "A:", true};
            if (request.target == "/cut-body") return Script{head + "Content-Length: 100\r\n\r\nabc", true};
            if (request.target == "/cut-chunk")
                return Script{head + "Transfer-Encoding: chunked\r\n\r\n64\r\nabc", true};
            if (request.target == "/two-lengths")
                return Script{head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", true};
            if (request.target == "/huge-head")
                return Script{head + "A: " + std::string(100'000, 'a') + "\r\n\r\n", true};
            if (request.target == "/endless-head")
                return Script{"HTTP/1.1 200 OK\r\nA: b\r\nB: c", false, false, false, true};
            if (request.target == "/endless-chunk")
                return Script{head + "Transfer-Encoding: chunked\r\n\r\n5;x=" + std::string(1'000'000, 'x'), true};
            if (request.target == "/endless-trailer")
                return Script{head + "Transfer-Encoding: chunked\r\n\r\n0\r\nA: " + std::string(1'000'000, 'x'), true};
            if (request.target == "/huge-length") return Script{head + "Content-Length: 999999999999\r\n\r\nabc", true};
            return Script{head + "\r\n" + std::string(3'000'000, 'x'), true};
        },
        [] {
            AsioHttpOptions options;
            options.body_bytes = 1'000'000;
            return options;
        }());
    const std::pair<const char*, const char*> rows[] = {
        {"/garbage", "provider receive"},       {"/nothing", "not_ready receive"},
        {"/cut-head", "not_ready receive"},     {"/cut-body", "not_ready receive"},
        {"/cut-chunk", "not_ready receive"},    {"/two-lengths", "provider receive"},
        {"/huge-head", "provider receive"},     {"/endless-head", "provider receive"},
        {"/endless-chunk", "provider receive"}, {"/endless-trailer", "provider receive"},
        {"/huge-length", "not_ready receive"},  {"/huge-body", "provider receive"},
    };
    for (const auto& [path, failure] : rows) EXPECT_EQ(rig.failure_of_get(rig.server.url(path)), failure) << path;
}

TEST(HttpTransport, ABodyOfTheVeryLimitIsTaken) {
    AsioHttpOptions options;
    options.body_bytes = 100'000;
    Rig rig([](const SeenRequest& request) { return ok(std::string(std::stoul(request.target.substr(1)), 'x')); },
            options);
    EXPECT_EQ(rig.get(rig.server.url("/100000")).body.size(), 100'000u);
    EXPECT_EQ(rig.failure_of_get(rig.server.url("/100001")), "provider receive");
}

TEST(HttpTransport, NobodyThereIsSaid) {
    std::string url;
    {
        Rig gone([](const SeenRequest&) { return ok(); });
        url = gone.server.url();
    }
    Rig rig([](const SeenRequest&) { return ok(); });
    EXPECT_EQ(rig.failure_of_get(url), "not_ready connect");
    EXPECT_THAT(rig.message, HasSubstr("127.0.0.1:"));
    EXPECT_EQ(rig.failure_of_get("http://no-such-host.invalid/"), "not_ready resolve");
    EXPECT_THAT(rig.message, HasSubstr("no-such-host.invalid"));
}

TEST(HttpTransport, AConnectionThatTheServerClosedIsNotUsedAgain) {
    Rig rig([](const SeenRequest&) {
        auto script = ok();
        script.close = true;
        return script;
    });
    EXPECT_EQ(rig.post("one").status, 200);
    rig.run(rig.server.until_closed(1));
    EXPECT_EQ(rig.post("two").status, 200);
    EXPECT_EQ(rig.run(rig.server.connections()), 2u);
}

/// Answers the first request of a connection and closes at the second without a word, as a server that just gave up on
/// an idle connection does.
Script second_is_not_answered(const SeenRequest& request, std::size_t& last) {
    if (request.connection == last) return {"", false, true};
    last = request.connection;
    return ok();
}

TEST(HttpTransport, AKeptConnectionThatDiesUnansweredIsReplacedOnce) {
    std::size_t last = 0;
    Rig rig([&](const SeenRequest& request) { return second_is_not_answered(request, last); });
    EXPECT_EQ(rig.get(rig.server.url()).status, 200);
    EXPECT_EQ(rig.get(rig.server.url()).status, 200);
    EXPECT_EQ(rig.run(rig.server.seen()).size(), 3u);
    EXPECT_EQ(rig.run(rig.server.connections()), 2u);
    // A webhook may be repeated: its receiver knows its id.
    EXPECT_EQ(rig.post("again", true).status, 200);
    EXPECT_EQ(rig.run(rig.server.connections()), 3u);
}

TEST(HttpTransport, APostThatMayHaveBeenSeenIsNotSentTwice) {
    std::size_t last = 0;
    Rig rig([&](const SeenRequest& request) { return second_is_not_answered(request, last); });
    EXPECT_EQ(rig.post("one").status, 200);
    EXPECT_EQ(rig.failure_of([&] { rig.post("two"); }), "not_ready receive");
    EXPECT_EQ(rig.run(rig.server.seen()).size(), 2u);
}

TEST(HttpTransport, AFreshConnectionThatDiesIsNotTriedAgain) {
    Rig rig([](const SeenRequest&) { return Script{"", false, true}; });
    EXPECT_EQ(rig.failure_of_get(rig.server.url()), "not_ready receive");
    EXPECT_EQ(rig.run(rig.server.connections()), 1u);
}

TEST(HttpTransport, NoMoreConnectionsAreOpenThanAllowed) {
    AsioHttpOptions options;
    options.connections_per_host = 2;
    Rig rig(
        [](const SeenRequest& request) {
            return request.target == "/wait"
                       ? Script{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", false, false, true}
                       : ok();
        },
        options);
    HttpRequest request;
    request.url = rig.server.url("/wait");
    auto first = rig.run(rig.transport->open(request, rig.within(20s)));
    auto second = rig.run(rig.transport->open(request, rig.within(20s)));
    EXPECT_EQ(rig.failure_of_get(rig.server.url(), 30ms), "timeout");
    EXPECT_THAT(rig.message, HasSubstr("waiting"));
    first.reset();
    EXPECT_EQ(rig.get(rig.server.url()).status, 200);
}

TEST(HttpTransport, TrustsAGivenAuthorityAndAsksForTheName) {
    Rig rig([](const SeenRequest&) { return ok("secret talk"); }, trusting(Certificates::shared().ca()), tls_server());
    EXPECT_EQ(rig.get(rig.server.url("/", "localhost")).body, "secret talk");
    EXPECT_EQ(rig.get(rig.server.url()).body, "secret talk");
    EXPECT_EQ(rig.get(rig.server.url()).body, "secret talk");
    auto seen = rig.run(rig.server.seen());
    ASSERT_EQ(seen.size(), 3u);
    EXPECT_EQ(seen[0].server_name, "localhost");
    // An address is no name to ask for.
    EXPECT_EQ(seen[1].server_name, "");
    EXPECT_EQ(seen[2].connection, seen[1].connection);
}

TEST(HttpTransport, RefusesACertificateOfAnotherAuthority) {
    for (const auto& options : {trusting(Certificates::shared().other_ca()), AsioHttpOptions{}}) {
        Rig rig([](const SeenRequest&) { return ok(); }, options, tls_server());
        EXPECT_EQ(rig.failure_of_get(rig.server.url("/", "localhost")), "authentication tls");
        EXPECT_THAT(rig.run(rig.server.seen()), IsEmpty());
    }
}

TEST(HttpTransport, RefusesACertificateOfAnotherName) {
    auto options = trusting(Certificates::shared().ca());
    options.tls.server_name = "bank.example";
    Rig rig([](const SeenRequest&) { return ok(); }, options, tls_server());
    EXPECT_EQ(rig.failure_of_get(rig.server.url()), "authentication tls");
    EXPECT_THAT(rig.message, HasSubstr("ostname"));
    EXPECT_THAT(rig.run(rig.server.seen()), IsEmpty());
}

TEST(HttpTransport, AcceptsAnyCertificateOnlyWhenTold) {
    AsioHttpOptions options;
    options.tls.verify = false;
    Rig rig([](const SeenRequest&) { return ok(); }, options, tls_server());
    EXPECT_EQ(rig.get(rig.server.url()).status, 200);
}

TEST(HttpTransport, ShowsAClientCertificate) {
    const auto& made = Certificates::shared();
    auto options = trusting(made.ca());
    {
        Rig rig([](const SeenRequest&) { return ok(); }, options, tls_server(true));
        EXPECT_THAT(rig.failure_of_get(rig.server.url()), testing::StartsWith("not_ready"));
    }
    options.tls.certificate_file = made.client();
    options.tls.key_file = made.client_key();
    Rig rig([](const SeenRequest&) { return ok(); }, options, tls_server(true));
    EXPECT_EQ(rig.get(rig.server.url()).status, 200);
}

TEST(HttpTransport, CertificateFilesThatCannotBeUsedAreNamed) {
    const auto& made = Certificates::shared();
    auto field_of = [](TlsOptions tls) {
        AsioHttpOptions options;
        options.tls = tls;
        Rig rig([](const SeenRequest&) { return ok(); }, options, tls_server());
        try {
            rig.get(rig.server.url());
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::configuration);
            return error.context().at("field");
        }
        return std::string("none");
    };
    TlsOptions tls;
    tls.ca_file = "/no/such/file";
    EXPECT_EQ(field_of(tls), "tls.ca_file");
    tls.ca_file = made.server_key();
    EXPECT_EQ(field_of(tls), "tls.ca_file");
    tls = {};
    tls.certificate_file = made.client();
    EXPECT_EQ(field_of(tls), "tls.key_file");
    tls.key_file = made.server_key();
    EXPECT_EQ(field_of(tls), "tls.key_file");
}

TEST(HttpTransport, ABodyUntilTheEndMustBeEndedByTls) {
    Rig rig(
        [](const SeenRequest& request) {
            bool orderly = request.target == "/orderly";
            return Script{"HTTP/1.1 200 OK\r\n\r\nall of it", orderly, !orderly};
        },
        trusting(Certificates::shared().ca()), tls_server());
    EXPECT_EQ(rig.get(rig.server.url("/orderly")).body, "all of it");
    EXPECT_EQ(rig.failure_of_get(rig.server.url("/cut")), "not_ready receive");
}

TEST(HttpTransport, AnAnswerToARequestThatIsTooLargeIsHeard) {
    Rig rig([](const SeenRequest&) { return ok(); });
    // The server answers only after all of it; a large one crosses many writes.
    EXPECT_EQ(rig.post(std::string(5'000'000, 'x')).status, 200);
    EXPECT_EQ(rig.run(rig.server.seen())[0].body.size(), 5'000'000u);
}

TEST(HttpTransport, SecretsStayOutOfTheLog) {
    Rig rig([](const SeenRequest&) { return ok("hunter2"); });
    HttpRequest request;
    request.url = rig.server.url("/hook?token=hunter2");
    request.headers.add("Authorization", "Bearer hunter2");
    request.body = "hunter2";
    EXPECT_EQ(rig.run(rig.transport->send(request, rig.within(20s))).status, 200);
    EXPECT_THAT(rig.log(), HasSubstr("request answered"));
    EXPECT_THAT(rig.log(), HasSubstr("request-7"));
    EXPECT_THAT(rig.log(), Not(HasSubstr("hunter2")));
}

TEST(HttpTransport, LimitsOfZeroAreRefused) {
    Runtime runtime(make_null_sink());
    AsioHttpOptions options;
    options.connections_per_host = 0;
    try {
        make_asio_http_transport(runtime.environment(), options);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.context().at("field"), "connections_per_host");
    }
}

}  // namespace
}  // namespace infrastructure_sdk
