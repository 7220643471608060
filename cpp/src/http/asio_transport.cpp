// The shell: connects, writes, reads; the parts that decide are request_text, response_parser and connection_pool.
#include <infrastructure_sdk/http/http.hpp>

#include <array>
#include <functional>

#include "core/async_tools.hpp"
#include "http/byte_stream.hpp"
#include "http/connection_pool.hpp"
#include "http/request_text.hpp"
#include "http/resolver.hpp"
#include "http/response_parser.hpp"

namespace infrastructure_sdk {
namespace {

using asio::ip::tcp;

/// Aborts a stream at the deadline or when the caller stops, unless it is gone by then. The stream must outlive it.
class Watchdog {
public:
    Watchdog(const Environment& environment, TaskGroup& tasks, const Call& call, ByteStream& stream)
        : state_(std::make_shared<State>()),
          forward_(call.stop, [wake = state_->wake]() mutable { wake.request_stop(); }),
          forward_close_(tasks.stop_source().get_token(), [wake = state_->wake]() mutable { wake.request_stop(); }) {
        state_->stream = &stream;
        tasks.spawn(environment.logger, "watching a connection", watch(state_, environment.clock, call.deadline));
    }
    ~Watchdog() {
        state_->stream = nullptr;
        state_->wake.request_stop();
    }
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

private:
    struct State {
        ByteStream* stream = nullptr;
        std::stop_source wake;
    };
    static Task<void> watch(std::shared_ptr<State> state, std::shared_ptr<Clock> clock, Deadline deadline) {
        if (deadline.is_never()) co_await until_stopped(state->wake.get_token());
        else co_await clock->sleep_until(deadline.when(), state->wake.get_token());
        if (state->stream) state->stream->abort();
    }

    using Callback = std::function<void()>;
    std::shared_ptr<State> state_;
    std::stop_callback<Callback> forward_;
    std::stop_callback<Callback> forward_close_;
};

struct Core {
    Core(const Environment& e, AsioHttpOptions o)
        : environment(e),
          options(std::move(o)),
          pool(options),
          place_free(e.executor),
          tls_lock(e.executor),
          resolver(e),
          tasks(e.executor) {}

    Environment environment;
    AsioHttpOptions options;
    ConnectionPool pool;
    Signal place_free;
    AsyncMutex tls_lock;
    std::shared_ptr<TlsContext> tls;
    Resolver resolver;
    TaskGroup tasks;
    bool closed = false;

    MonotonicTime now() const { return environment.clock->monotonic_now(); }
    void check_open(const Call& call, const char* doing) const {
        if (closed) throw Error(Errc::cancelled, std::string("the HTTP transport is closed: ") + doing);
        check(call, *environment.clock, doing);
    }
};
using CorePtr = std::shared_ptr<Core>;

/// A place among the open connections to an origin.
class Place {
public:
    Place(CorePtr core, Origin origin) : core_(std::move(core)), origin_(std::move(origin)) {}
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() {
        core_->pool.leave(origin_);
        core_->place_free.notify_all();
    }

private:
    CorePtr core_;
    Origin origin_;
};

struct Exchange {
    HttpRequest request;
    HttpUrl url;
    std::string text;
};

Task<std::shared_ptr<Place>> take_place(CorePtr core, Origin origin, Call call) {
    for (;;) {
        core->check_open(call, "waiting for a free connection");
        if (core->pool.enter(origin)) co_return std::make_shared<Place>(core, origin);
        co_await core->place_free.wait(*core->environment.clock, call);
    }
}

Task<std::shared_ptr<TlsContext>> tls_context(CorePtr core, Call call) {
    auto held = co_await core->tls_lock.lock(*core->environment.clock, call, "reading certificates");
    if (!core->tls) {
        // What the system trusts is a file of hundreds of certificates.
        auto work = [options = core->options.tls] { return TlsContext::make(options); };
        core->tls = co_await run_blocking(core->environment.blocking, work);
    }
    co_return core->tls;
}

Task<std::unique_ptr<ByteStream>> new_stream(CorePtr core, HttpUrl url, Call call) {
    if (!url.tls) co_return make_tcp_stream(core->environment.executor);
    auto context = co_await tls_context(core, call);
    const auto& name = core->options.tls.server_name;
    co_return context->stream(core->environment.executor, name.empty() ? url.host : name);
}

/// The addresses one after the other, each with its share of the time that is left.
Task<std::unique_ptr<Connection>> connect(CorePtr core, HttpUrl url, Call call) {
    auto endpoints = co_await core->resolver.resolve(url.host, url.port, call);
    std::exception_ptr problem;
    for (std::size_t i = 0; i < endpoints.size(); ++i) {
        core->check_open(call, "connecting");
        Call share = call;
        if (auto left = call.deadline.remaining(*core->environment.clock); !call.deadline.is_never())
            share = call.within(Deadline(core->now() + left / static_cast<std::int64_t>(endpoints.size() - i)));
        try {
            auto connection = std::make_unique<Connection>();
            connection->bytes = co_await new_stream(core, url, call);
            Watchdog watchdog(core->environment, core->tasks, share, *connection->bytes);
            co_await connection->bytes->connect(endpoints[i]);
            co_await connection->bytes->start();
            co_return connection;
        } catch (const Error& error) {
            if (error.errc() != Errc::not_ready) throw;
            problem = std::current_exception();
        }
    }
    core->check_open(call, "connecting");
    std::rethrow_exception(problem);
}

/// Reads once and parses. The stream's end is the response's end.
Task<void> read_more(Connection* connection, ResponseParser* parser) {
    std::array<char, 16384> room;
    std::span<char> span(room);
    auto got = co_await connection->bytes->read_some(span);
    connection->received += got;
    if (got == 0) {
        parser->put_end(connection->bytes->ended_orderly());
        co_return;
    }
    connection->unread.append(room.data(), got);
    connection->unread.erase(0, parser->put(connection->unread));
}

/// Writes the request and reads the head.
Task<std::unique_ptr<ResponseParser>> exchange(CorePtr core, Connection* connection, const Exchange* what, Call call) {
    connection->received = connection->sent = 0;
    Watchdog watchdog(core->environment, core->tasks, call, *connection->bytes);
    auto parser = std::make_unique<ResponseParser>(what->request.method == "HEAD", core->options.header_bytes);
    std::string_view rest = what->text;
    std::exception_ptr unsent;
    try {
        while (!rest.empty()) {
            auto sent = co_await connection->bytes->write_some(rest);
            connection->sent += sent;
            rest.remove_prefix(sent);
        }
    } catch (const Error&) {
        unsent = std::current_exception();
    }
    // A server that refuses a large body answers and closes before it has read all of it.
    if (unsent && connection->sent == 0) std::rethrow_exception(unsent);
    try {
        while (!parser->has_head()) co_await read_more(connection, parser.get());
        co_return parser;
    } catch (const Error&) {
        if (unsent && connection->received == 0) std::rethrow_exception(unsent);
        throw;
    }
}

/// Whatever went wrong, it says whom it was about; a deadline and a stop are told as such.
[[noreturn]] void explain(const Core& core, const HttpUrl& url, std::exception_ptr problem, const Call& call,
                          const char* doing) {
    try {
        std::rethrow_exception(problem);
    } catch (const Error& error) {
        if (error.errc() == Errc::not_ready) core.check_open(call, doing);
        Error told(error.errc(), url.authority() + ": " + error.message(), error.context());
        told.with("host", url.authority());
        throw told;
    }
}

class AsioHttpStream final : public HttpStream {
public:
    AsioHttpStream(CorePtr core, HttpUrl url, std::shared_ptr<Place> place, std::unique_ptr<Connection> connection,
                   std::unique_ptr<ResponseParser> parser, bool unsent)
        : core_(std::move(core)),
          url_(std::move(url)),
          place_(std::move(place)),
          connection_(std::move(connection)),
          parser_(std::move(parser)),
          head_(parser_->head()),
          unsent_(unsent) {
        if (parser_->is_done()) let_go();
    }

    const HttpResponse& head() const override { return head_; }

    Task<std::string> next(Call call) override {
        for (;;) {
            if (auto bytes = parser_->take_body(); !bytes.empty()) co_return bytes;
            if (parser_->is_done()) {
                let_go();
                co_return std::string();
            }
            if (!connection_) throw Error(Errc::cancelled, "the response ended with an error before");
            core_->check_open(call, "reading a response");
            bool good = false;
            std::exception_ptr problem;
            {
                Watchdog watchdog(core_->environment, core_->tasks, call, *connection_->bytes);
                try {
                    co_await read_more(connection_.get(), parser_.get());
                    good = true;
                } catch (...) {
                    problem = std::current_exception();
                }
            }
            if (good) continue;
            connection_.reset();
            place_.reset();
            explain(*core_, url_, problem, call, "reading a response");
        }
    }

private:
    /// The whole response was read: the connection may carry another.
    void let_go() {
        if (!connection_) return;
        bool good = parser_->keep_alive() && connection_->unread.empty() && !unsent_ && !core_->closed;
        if (good) core_->pool.put_back(origin_of(url_), std::move(connection_), core_->now());
        connection_.reset();
        place_.reset();
    }

    CorePtr core_;
    HttpUrl url_;
    std::shared_ptr<Place> place_;
    std::unique_ptr<Connection> connection_;
    std::unique_ptr<ResponseParser> parser_;
    HttpResponse head_;
    bool unsent_;
};

class AsioHttpTransport final : public HttpTransport {
public:
    AsioHttpTransport(const Environment& environment, AsioHttpOptions options)
        : core_(std::make_shared<Core>(environment, std::move(options))) {}

    Task<std::shared_ptr<HttpStream>> open(HttpRequest request, Call call) override {
        auto core = core_;
        Exchange what;
        what.url = parse_http_url(request.url);
        what.text = request_text(request, what.url);
        what.request = std::move(request);
        auto started = core->now();
        std::exception_ptr problem;
        std::shared_ptr<HttpStream> stream;
        try {
            stream = co_await attempt(core, &what, call);
        } catch (...) {
            problem = std::current_exception();
        }
        log(*core, what, stream.get(), started, call);
        if (problem) explain(*core, what.url, problem, call, "waiting for an HTTP server");
        co_return stream;
    }

    Task<HttpResponse> send(HttpRequest request, Call call) override {
        auto core = core_;
        auto limit = core->options.body_bytes;
        auto stream = co_await open(std::move(request), call);
        auto response = stream->head();
        for (;;) {
            auto bytes = co_await stream->next(call);
            if (bytes.empty()) co_return response;
            if (bytes.size() > limit - response.body.size())
                throw Error(Errc::provider, "the server's answer is larger than " + std::to_string(limit) + " bytes",
                            {{"channel", "http"}, {"stage", "receive"}});
            response.body += bytes;
        }
    }

    Task<void> close() override {
        auto core = core_;
        core->closed = true;
        core->pool.clear();
        core->tasks.stop_source().request_stop();
        core->place_free.notify_all();
        co_await core->tasks.join();
        co_await core->resolver.join();
    }

private:
    static Task<std::shared_ptr<HttpStream>> attempt(CorePtr core, const Exchange* what, Call call) {
        auto origin = origin_of(what->url);
        auto place = co_await take_place(core, origin, call);
        auto connection = core->pool.take(origin, core->now());
        if (connection) connection->reused = true;
        std::unique_ptr<ResponseParser> parser;
        for (;;) {
            core->check_open(call, "sending a request");
            if (!connection) connection = co_await connect(core, what->url, call);
            try {
                parser = co_await exchange(core, connection.get(), what, call);
                break;
            } catch (const Error& error) {
                core->check_open(call, "waiting for an answer");
                bool gone = error.errc() == Errc::not_ready && connection->reused && connection->received == 0;
                if (!gone || (connection->sent > 0 && !is_repeatable(what->request))) throw;
                connection.reset();
            }
        }
        bool unsent = connection->sent < what->text.size();
        co_return std::make_shared<AsioHttpStream>(core, what->url, std::move(place), std::move(connection),
                                                   std::move(parser), unsent);
    }

    static void log(const Core& core, const Exchange& what, const HttpStream* stream, MonotonicTime started,
                    const Call& call) {
        if (!core.environment.logger || !core.environment.logger->enabled(LogLevel::debug)) return;
        auto spent = std::chrono::duration_cast<std::chrono::milliseconds>(core.now() - started).count();
        core.environment.logger->log(LogLevel::debug, "http", stream ? "request answered" : "request failed",
                                     {{"method", what.request.method},
                                      {"host", what.url.authority()},
                                      {"status", std::int64_t{stream ? stream->head().status : 0}},
                                      {"milliseconds", std::int64_t{spent}}},
                                     call.correlation_id);
    }

    CorePtr core_;
};

}  // namespace

std::shared_ptr<HttpTransport> make_asio_http_transport(const Environment& environment, AsioHttpOptions options) {
    auto positive = [](const char* field, std::size_t value) {
        if (value > 0) return;
        throw Error(Errc::validation, std::string(field) + ": '0' is not allowed; 1 or more",
                    {{"field", field}, {"value", "0"}, {"allowed", "1 or more"}});
    };
    positive("header_bytes", options.header_bytes);
    positive("body_bytes", options.body_bytes);
    positive("connections_per_host", options.connections_per_host);
    return std::make_shared<AsioHttpTransport>(environment, std::move(options));
}

}  // namespace infrastructure_sdk
