#include "support/http_server.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <list>
#include <stdexcept>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>

namespace infrastructure_sdk::test {
namespace ssl = asio::ssl;
using asio::ip::tcp;
using boost::system::error_code;

Script ok(const std::string& body, const std::string& more_headers) {
    return {"HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + more_headers + "\r\n" +
            body};
}

Certificates::Certificates() {
    auto run = [&](const std::string& command) {
        auto line = "cd " + directory_.path() + " && " + command + " >log 2>&1";
        if (std::system(line.c_str()) != 0) throw std::runtime_error("failed: " + command);
    };
    std::string key = " -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    for (std::string ca : {"ca", "other"})
        run("openssl req -x509" + key + " -keyout " + ca + ".key -out " + ca + ".pem -subj /CN=" + ca);
    run("openssl req" + key + " -keyout server.key -out server.csr -subj /CN=server");
    std::ofstream(directory_ / "san") << "subjectAltName=DNS:localhost,IP:127.0.0.1";
    run("openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out "
        "server.pem");
    run("openssl req" + key + " -keyout client.key -out client.csr -subj /CN=client");
    run("openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out client.pem");
}

const Certificates& Certificates::shared() {
    static const Certificates certificates;
    return certificates;
}

namespace {

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

/// True when `bytes` begin with a whole request; it is cut off there.
bool take_request(std::string& bytes, SeenRequest& request) {
    auto end = bytes.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    auto head = bytes.substr(0, end + 2);
    auto line_end = head.find("\r\n");
    auto line = head.substr(0, line_end);
    request.method = line.substr(0, line.find(' '));
    request.target = line.substr(request.method.size() + 1, line.rfind(' ') - request.method.size() - 1);
    for (auto at = line_end + 2; at < head.size();) {
        auto next = head.find("\r\n", at);
        auto colon = head.find(": ", at);
        request.headers[lower(head.substr(at, colon - at))] = head.substr(colon + 2, next - colon - 2);
        at = next + 2;
    }
    auto length = request.headers.count("content-length") ? std::stoul(request.headers["content-length"]) : 0;
    if (bytes.size() < end + 4 + length) return false;
    request.body = bytes.substr(end + 4, length);
    bytes.erase(0, end + 4 + length);
    return true;
}

/// TCP or TLS.
class Peer {
public:
    Peer(tcp::socket socket, ssl::context* context)
        : socket_(std::move(socket)),
          tls_(context ? std::make_unique<ssl::stream<tcp::socket&>>(socket_, *context) : nullptr) {}

    Task<bool> start() {
        error_code error;
        if (tls_)
            co_await tls_->async_handshake(ssl::stream_base::server, asio::redirect_error(asio::use_awaitable, error));
        co_return !error;
    }
    /// False at the end.
    Task<bool> read(std::string* bytes) {
        char room[4096];
        error_code error;
        auto buffer = asio::buffer(room);
        std::size_t got = 0;
        auto token = asio::redirect_error(asio::use_awaitable, error);
        if (tls_) got = co_await tls_->async_read_some(buffer, token);
        else got = co_await socket_.async_read_some(buffer, token);
        bytes->append(room, got);
        co_return !error;
    }
    Task<bool> write(const std::string* bytes) {
        error_code error;
        auto buffer = asio::buffer(*bytes);
        auto token = asio::redirect_error(asio::use_awaitable, error);
        if (tls_) co_await asio::async_write(*tls_, buffer, token);
        else co_await asio::async_write(socket_, buffer, token);
        co_return !error;
    }
    Task<void> say_goodbye() {
        error_code error;
        // Completes when the client has gone.
        if (tls_) co_await tls_->async_shutdown(asio::redirect_error(asio::use_awaitable, error));
        socket_.shutdown(tcp::socket::shutdown_send, error);
    }
    void close() {
        error_code ignored;
        socket_.close(ignored);
    }
    std::string server_name() const {
        const char* name = tls_ ? SSL_get_servername(tls_->native_handle(), TLSEXT_NAMETYPE_host_name) : nullptr;
        return name ? name : "";
    }

private:
    tcp::socket socket_;
    std::unique_ptr<ssl::stream<tcp::socket&>> tls_;
};

}  // namespace

struct HttpServer::Impl {
    Impl(const Environment& e, Answer a, HttpServerOptions o)
        : environment(e),
          answer(std::move(a)),
          options(o),
          acceptor(e.executor, tcp::endpoint(asio::ip::address_v4::loopback(), 0)),
          changed(e.executor),
          tasks(e.executor) {
        port = acceptor.local_endpoint().port();
        if (!options.tls) return;
        context = std::make_unique<ssl::context>(ssl::context::tls_server);
        const auto& made = Certificates::shared();
        context->use_certificate_chain_file(made.server());
        context->use_private_key_file(made.server_key(), ssl::context::pem);
        context->load_verify_file(made.ca());
        if (options.demand_client_certificate)
            context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
    }

    Environment environment;
    Answer answer;
    HttpServerOptions options;
    std::unique_ptr<ssl::context> context;
    tcp::acceptor acceptor;
    unsigned short port = 0;
    Signal changed;
    TaskGroup tasks;
    std::list<Peer*> peers;
    std::vector<SeenRequest> seen;
    std::size_t accepted = 0, over = 0;

    static Task<void> accept(std::shared_ptr<Impl> self) {
        for (;;) {
            error_code error;
            auto socket = co_await self->acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
            if (error) co_return;
            self->tasks.spawn(self->environment.logger, "serving", serve(self, std::move(socket), ++self->accepted));
        }
    }

    static Task<void> serve(std::shared_ptr<Impl> self, tcp::socket socket, std::size_t number) {
        Peer peer(std::move(socket), self->context.get());
        auto place = self->peers.insert(self->peers.end(), &peer);
        co_await converse(self, &peer, number);
        peer.close();
        self->peers.erase(place);
        ++self->over;
        self->changed.notify_all();
    }

    static Task<void> converse(std::shared_ptr<Impl> self, Peer* peer, std::size_t number) {
        if (!co_await peer->start()) co_return;
        std::string bytes;
        for (;;) {
            SeenRequest request;
            while (!take_request(bytes, request))
                if (!co_await peer->read(&bytes)) co_return;
            request.connection = number;
            request.server_name = peer->server_name();
            self->seen.push_back(request);
            self->changed.notify_all();
            auto script = self->answer(request);
            do {
                if (!co_await peer->write(&script.bytes)) co_return;
            } while (script.repeat);
            if (script.close) co_await peer->say_goodbye();
            if (script.close || script.reset) co_return;
            while (script.hang)
                if (!co_await peer->read(&bytes)) co_return;
        }
    }
};

HttpServer::HttpServer(const Environment& environment, Answer answer, HttpServerOptions options)
    : impl_(std::make_shared<Impl>(environment, std::move(answer), options)) {
    impl_->tasks.spawn(environment.logger, "accepting", Impl::accept(impl_));
}

std::string HttpServer::url(const std::string& path, const std::string& host) const {
    return (impl_->options.tls ? "https://" : "http://") + host + ":" + std::to_string(impl_->port) + path;
}

Task<std::vector<SeenRequest>> HttpServer::seen() { co_return impl_->seen; }
Task<std::size_t> HttpServer::connections() { co_return impl_->accepted; }

Task<void> HttpServer::until_seen(std::size_t requests) {
    auto impl = impl_;
    while (impl->seen.size() < requests) co_await impl->changed.wait();
}

Task<void> HttpServer::until_closed(std::size_t connections) {
    auto impl = impl_;
    while (impl->over < connections) co_await impl->changed.wait();
}

Task<void> HttpServer::close() {
    auto impl = impl_;
    error_code ignored;
    impl->acceptor.close(ignored);
    for (auto* peer : impl->peers) peer->close();
    co_await impl->tasks.join();
}

}  // namespace infrastructure_sdk::test
