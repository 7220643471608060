// Addresses, requests and responses as texts: no socket.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/seeded_random.hpp"
#include "http/connection_pool.hpp"
#include "http/request_text.hpp"
#include "http/response_parser.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/http/url.hpp>

namespace infrastructure_sdk {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(HttpUrl, IsTakenApart) {
    struct Row {
        const char* text;
        bool tls;
        const char* host;
        int port;
        const char* target;
        const char* authority;
    };
    const Row rows[] = {
        {"http://example.org", false, "example.org", 80, "/", "example.org"},
        {"HTTPS://Example.ORG/", true, "example.org", 443, "/", "example.org"},
        {"https://example.org:443/a?b=%20c", true, "example.org", 443, "/a?b=%20c", "example.org"},
        {"https://example.org:8443?x", true, "example.org", 8443, "/?x", "example.org:8443"},
        {"http://127.0.0.1:80/a//b/", false, "127.0.0.1", 80, "/a//b/", "127.0.0.1"},
        {"http://[::1]:8080/x", false, "::1", 8080, "/x", "[::1]:8080"},
        {"https://[FE80::1]", true, "fe80::1", 443, "/", "[fe80::1]"},
        {"http://a_b-c.d:65535/~x;y=1,2@z", false, "a_b-c.d", 65535, "/~x;y=1,2@z", "a_b-c.d:65535"},
    };
    for (const auto& row : rows) {
        auto url = parse_http_url(row.text);
        HttpUrl expected{row.tls, row.host, static_cast<std::uint16_t>(row.port), row.target};
        EXPECT_EQ(url, expected) << row.text;
        EXPECT_EQ(url.authority(), row.authority) << row.text;
    }
}

TEST(HttpUrl, OneThatIsWrongIsNamedWithItsField) {
    for (const char* text : {"",
                             "example.org",
                             "ftp://example.org",
                             "http://",
                             "http:///x",
                             "http://:80",
                             "http://h:",
                             "http://h:0",
                             "http://h:65536",
                             "http://h:8o",
                             "http://h:+1",
                             "http://h:1:2",
                             "http://[::1",
                             "http://[::1]x",
                             "http://[::1]:",
                             "http://[1.2.3.4]",
                             "http://[]",
                             "http://h/a b",
                             "http://h/\r\nX: y",
                             "http://h/%2",
                             "http://h/%zz",
                             "http://h/\xc3\xa4",
                             "http://h/#f",
                             "http://h\\x",
                             "http://a\x01",
                             "http://h\x7f/"}) {
        try {
            parse_http_url(text, "webhooks[0].url");
            ADD_FAILURE() << text;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation);
            EXPECT_EQ(error.context().at("field"), "webhooks[0].url");
            EXPECT_TRUE(error.context().contains("allowed"));
        }
    }
    EXPECT_THROW(parse_http_url("http://h/" + std::string(9000, 'a')), Error);
}

TEST(HttpUrl, NeitherErrorsNorWhatIsShownHoldSecrets) {
    for (const char* text : {"https://user:hunter2@host/x", "https://host/a#hunter2", "https://host/hunter2 x",
                             "https://host?k=hunter2 x", "https://host:x/?k=hunter2"})
        try {
            parse_http_url(text);
            ADD_FAILURE() << text;
        } catch (const Error& error) {
            EXPECT_THAT(error.message(), Not(HasSubstr("hunter2")));
            EXPECT_THAT(error.context().at("value"), Not(HasSubstr("hunter2")));
        }
    EXPECT_EQ(parse_http_url("https://h/hook?token=hunter2").shown(), "https://h/hook?***");
}

TEST(HttpRequestText, IsOneRequest) {
    HttpRequest request;
    request.method = "POST";
    request.headers = {{"Accept", "*/*"}};
    request.body = "{}";
    EXPECT_EQ(request_text(request, parse_http_url("http://h:81/x?y")),
              "POST /x?y HTTP/1.1\r\nHost: h:81\r\nAccept: */*\r\nContent-Length: 2\r\n\r\n{}");
    EXPECT_EQ(request_text({}, parse_http_url("https://h")), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    request.body.clear();
    EXPECT_THAT(request_text(request, parse_http_url("http://h")), HasSubstr("Content-Length: 0\r\n"));
}

TEST(HttpRequestText, NothingIsSmuggledIn) {
    auto refused = [](const char* method, HttpHeader header) {
        HttpRequest request;
        request.method = method;
        request.headers = {header};
        try {
            request_text(request, parse_http_url("http://h"));
            return false;
        } catch (const Error& error) {
            EXPECT_THAT(error.message(), Not(HasSubstr("hunter2")));
            return error.errc() == Errc::validation;
        }
    };
    EXPECT_TRUE(refused("GET /x HTTP/1.1\r\n", {"A", "b"}));
    EXPECT_TRUE(refused("", {"A", "b"}));
    EXPECT_TRUE(refused("GET", {"A\r\nB", "c"}));
    EXPECT_TRUE(refused("GET", {"", "c"}));
    EXPECT_TRUE(refused("GET", {"A", "hunter2\r\nB: c"}));
    EXPECT_TRUE(refused("GET", {"A", std::string("hunter2\0x", 9)}));
    EXPECT_TRUE(refused("GET", {"content-length", "5"}));
    EXPECT_TRUE(refused("GET", {"Host", "other"}));
    EXPECT_TRUE(refused("GET", {"Transfer-Encoding", "chunked"}));
    EXPECT_FALSE(refused("GET", {"X-A", "b\tc \xc3\xa4"}));
}

TEST(HttpHeaders, AreFoundWhateverTheirCase) {
    HttpHeaders headers{{"Retry-After", "3"}, {"retry-after", "4"}};
    EXPECT_EQ(headers.find("RETRY-AFTER"), "3");
    EXPECT_EQ(headers.find("Retry"), std::nullopt);
}

/// The whole response, put in pieces of `size`.
struct Parsed {
    HttpResponse response;
    bool done = false;
    bool keep_alive = false;
    std::size_t used = 0;
};
Parsed parse(const std::string& text, std::size_t size, bool to_head = false) {
    ResponseParser parser(to_head, 1000);
    std::string waiting;
    Parsed parsed;
    for (std::size_t at = 0; at < text.size() && !parser.is_done(); at += size) {
        waiting += text.substr(at, size);
        auto used = parser.put(waiting);
        parsed.used += used;
        waiting.erase(0, used);
        parsed.response.body += parser.take_body();
    }
    if (!parser.is_done()) parser.put_end(true);
    parsed.response.body += parser.take_body();
    parsed.response.status = parser.head().status;
    parsed.response.headers = parser.head().headers;
    parsed.done = parser.is_done();
    parsed.keep_alive = parser.keep_alive();
    return parsed;
}

TEST(ResponseParser, ReadsEveryKindOfBodyHoweverItIsCut) {
    struct Row {
        const char* text;
        const char* body;
        bool keep_alive;
    };
    const Row rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", "hello", false},
        {"HTTP/1.1 204 No Content\r\n\r\n", "", true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nA: b\r\n\r\n", "hello",
         true},
        {"HTTP/1.1 200 OK\r\n\r\nhello", "hello", false},
        {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", false},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
         "5\r\n\r\n"
         "hello",
         "hello", true},
    };
    for (const auto& row : rows)
        for (std::size_t size : {1, 2, 7, 1000}) {
            auto parsed = parse(row.text, size);
            EXPECT_EQ(parsed.response.body, row.body) << row.text << size;
            EXPECT_EQ(parsed.keep_alive, row.keep_alive) << row.text << size;
            EXPECT_TRUE(parsed.done) << row.text << size;
            EXPECT_EQ(parsed.response.headers.find("Link"), std::nullopt);
        }
}

TEST(ResponseParser, LeavesWhatIsNotPartOfTheResponse) {
    std::string text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    EXPECT_EQ(parse(text + "HTTP/1.1 200 OK\r\n", 1000).used, text.size());
    std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    EXPECT_EQ(parse(head, 1000, true).response.status, 200);
}

TEST(ResponseParser, RefusesWhatIsNotHttp) {
    for (const char* text :
         {"SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/3.0 200 OK\r\n\r\n",
          "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
          "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"})
        try {
            parse(text, 1000);
            ADD_FAILURE() << text;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::provider) << text << error.message();
        }
    try {
        parse("HTTP/1.1 200 OK\r\nA: " + std::string(2000, 'a') + "\r\n\r\n", 100);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::provider);
        EXPECT_THAT(error.message(), HasSubstr("1000 bytes"));
    }
    std::string interim;
    for (int i = 0; i < 11; ++i) interim += "HTTP/1.1 100 Continue\r\n\r\n";
    EXPECT_THROW(parse(interim, 1000), Error);
}

TEST(ResponseParser, ACutOffResponseIsAnError) {
    for (const char* text : {"", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
                             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"})
        try {
            parse(text, 1000);
            ADD_FAILURE() << text;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::not_ready) << text << error.message();
        }
    // Until the end, but TLS did not say that this is the end.
    ResponseParser parser(false, 1000);
    parser.put("HTTP/1.1 200 OK\r\n\r\nhello");
    EXPECT_THROW(parser.put_end(false), Error);
}

TEST(ResponseParser, TakesAnyBytesWithoutHarm) {
    const std::string good[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n\r\nhello",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: "
        "chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n"
        "A: b\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nuntil the end",
    };
    SeededRandom random(7);
    std::size_t whole = 0, refused = 0;
    for (int round = 0; round < 20'000; ++round) {
        auto text = good[random.below(3)];
        for (auto changes = random.below(4); changes > 0; --changes) {
            auto at = random.below(text.size());
            switch (random.below(4)) {
                case 0: text[at] = static_cast<char>(random.below(256)); break;
                case 1: text.insert(at, std::string(random.below(300), static_cast<char>(random.below(256)))); break;
                case 2: text.erase(at, 1 + random.below(10)); break;
                default: text.insert(at, text.substr(at, random.below(30)));
            }
        }
        try {
            auto parsed = parse(text, 1 + random.below(40));
            EXPECT_LE(parsed.used, text.size());
            EXPECT_LE(parsed.response.body.size(), text.size());
            ++whole;
        } catch (const Error& error) {
            EXPECT_TRUE(error.errc() == Errc::provider || error.errc() == Errc::not_ready) << error.message();
            ++refused;
        }
    }
    EXPECT_GT(whole, 5000u);
    EXPECT_GT(refused, 2000u);
}

/// A stream that only knows whether it is still good.
class StubStream final : public ByteStream {
public:
    explicit StubStream(std::shared_ptr<bool> stale) : stale_(std::move(stale)) {}
    Task<void> connect(asio::ip::tcp::endpoint) override { co_return; }
    Task<void> start() override { co_return; }
    Task<std::size_t> read_some(std::span<char>) override { co_return 0; }
    Task<std::size_t> write_some(std::string_view bytes) override { co_return bytes.size(); }
    bool ended_orderly() const override { return true; }
    bool is_stale() override { return *stale_; }
    void abort() noexcept override {}

private:
    std::shared_ptr<bool> stale_;
};

class Pool : public testing::Test {
protected:
    Pool() {
        options.connections_per_host = 2;
        options.idle_per_host = 2;
        options.idle_in_all = 3;
        options.idle_time = std::chrono::seconds(10);
    }
    std::unique_ptr<Connection> connection(const std::string& name) {
        auto made = std::make_unique<Connection>();
        made->bytes = std::make_unique<StubStream>(stale);
        made->unread = name;
        return made;
    }
    static MonotonicTime at(int seconds) { return MonotonicTime(std::chrono::seconds(seconds)); }
    static std::string name_of(const std::unique_ptr<Connection>& taken) { return taken ? taken->unread : "none"; }

    AsioHttpOptions options;
    std::shared_ptr<bool> stale = std::make_shared<bool>(false);
    const Origin a = origin_of(parse_http_url("http://a/")), b = origin_of(parse_http_url("https://a:80/")),
                 c = origin_of(parse_http_url("http://c/"));
};

TEST_F(Pool, GivesTheOneThatWasUsedLastToItsOriginOnly) {
    ConnectionPool pool(options);
    pool.put_back(a, connection("first"), at(0));
    pool.put_back(a, connection("second"), at(1));
    EXPECT_EQ(name_of(pool.take(b, at(2))), "none");
    EXPECT_EQ(name_of(pool.take(a, at(2))), "second");
    EXPECT_EQ(name_of(pool.take(a, at(2))), "first");
    EXPECT_EQ(name_of(pool.take(a, at(2))), "none");
}

TEST_F(Pool, KeepsSoManyAndTheOldestGo) {
    ConnectionPool pool(options);
    for (const char* name : {"1", "2", "3"}) pool.put_back(a, connection(name), at(0));
    EXPECT_EQ(pool.idle(), 2u);
    pool.put_back(b, connection("4"), at(1));
    pool.put_back(c, connection("5"), at(1));
    EXPECT_EQ(pool.idle(), 3u);
    EXPECT_EQ(name_of(pool.take(a, at(1))), "3");
    EXPECT_EQ(name_of(pool.take(a, at(1))), "none");
}

TEST_F(Pool, DropsWhatIsOldOrStale) {
    ConnectionPool pool(options);
    pool.put_back(a, connection("1"), at(0));
    EXPECT_EQ(name_of(pool.take(a, at(10))), "none");
    EXPECT_EQ(pool.idle(), 0u);
    pool.put_back(a, connection("2"), at(10));
    *stale = true;
    EXPECT_EQ(name_of(pool.take(a, at(11))), "none");
    EXPECT_EQ(pool.idle(), 0u);
}

TEST_F(Pool, CountsWhatIsOpen) {
    ConnectionPool pool(options);
    EXPECT_TRUE(pool.enter(a) && pool.enter(a));
    EXPECT_FALSE(pool.enter(a));
    EXPECT_TRUE(pool.enter(c));
    pool.leave(a);
    EXPECT_TRUE(pool.enter(a));
}

}  // namespace
}  // namespace infrastructure_sdk
