#pragma once
// HTTP/1.1 for clients: one request and its response, or the response as a stream of chunks.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <infrastructure_sdk/deadline.hpp>
#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/secret.hpp>

namespace infrastructure_sdk {

struct HttpHeader {
    std::string name;
    std::string value;
};

/// In the order in which they came; names are compared without case.
class HttpHeaders {
public:
    HttpHeaders() = default;
    HttpHeaders(std::initializer_list<HttpHeader> list) : list_(list) {}
    void add(std::string name, std::string value) { list_.push_back({std::move(name), std::move(value)}); }
    /// The first of that name.
    std::optional<std::string> find(std::string_view name) const;
    auto begin() const { return list_.begin(); }
    auto end() const { return list_.end(); }
    std::size_t size() const { return list_.size(); }

private:
    std::vector<HttpHeader> list_;
};

struct HttpRequest {
    std::string method = "GET";
    std::string url;
    /// Host, Content-Length, Transfer-Encoding and Connection are the transport's own.
    HttpHeaders headers;
    std::string body;
    /// Whether the server may safely see it twice. GET, HEAD, OPTIONS, PUT and DELETE are repeatable in any case.
    bool repeatable = false;
};

struct HttpResponse {
    int status = 0;
    HttpHeaders headers;
    std::string body;  ///< empty in the head of a stream
};

/// The body of one response, as it arrives. Used by one coroutine at a time, on the Environment's executor. Dropping it
/// early closes its connection.
class HttpStream {
public:
    virtual ~HttpStream() = default;
    virtual const HttpResponse& head() const = 0;
    /// The next bytes, 16 KiB at most, split anywhere; empty at the end. After an error there is nothing more to read.
    /// @throws as `HttpTransport::send`
    virtual Task<std::string> next(Call call) = 0;
};

/// Every method must be awaited on the Environment's executor (any number at once). Any status is a response, not an
/// error; redirects are not followed. A request that fails may have reached the server.
class HttpTransport {
public:
    virtual ~HttpTransport() = default;
    /// Completes with the whole response. @throws Error(validation) when the request is not one; Error(timeout),
    /// Error(cancelled); Error(not_ready) when the server cannot be reached or goes away (context: `channel` = "http",
    /// `stage` = resolve, connect, tls, send or receive, `host`); Error(authentication) when its certificate is not
    /// the right one; Error(provider) when what it says is not HTTP or is above a limit.
    virtual Task<HttpResponse> send(HttpRequest request, Call call) = 0;
    /// Completes when the head is there. @throws as `send`
    virtual Task<std::shared_ptr<HttpStream>> open(HttpRequest request, Call call) = 0;
    /// Ends what is under way with Error(cancelled); completes when nothing of it is left.
    virtual Task<void> close() = 0;
};

struct TlsOptions {
    /// PEM. When either is set nothing else is trusted; else what the system trusts.
    std::string ca_file;
    std::string ca_pem;
    /// The client's certificate chain and key, PEM: as files or as texts.
    std::string certificate_file;
    std::string key_file;
    std::string certificate_pem;
    Secret key_pem;
    /// The name that the certificate must have, and that is asked for; empty = the URL's host.
    std::string server_name;
    /// False accepts any certificate: then anybody on the way can read and change everything.
    bool verify = true;
};

struct AsioHttpOptions {
    TlsOptions tls;
    /// Of one response.
    std::size_t header_bytes = 64 << 10;
    /// Of one response to `send`; a stream has no limit.
    std::size_t body_bytes = 16 << 20;
    /// Open at once to one host and port; further requests wait.
    std::size_t connections_per_host = 64;
    /// Kept open for the next request: to one host and port, and in all.
    std::size_t idle_per_host = 4;
    std::size_t idle_in_all = 64;
    /// An unused connection older than this is not used again.
    Duration idle_time = std::chrono::seconds(50);
};

/// TCP and TLS 1.2 or newer (OpenSSL); no proxy is used. A request on a kept connection that the server had closed
/// meanwhile is sent once more on a fresh one, if no byte of it was accepted or it may be repeated. Log lines (`http`,
/// debug) name method, host and status, never headers, queries or bodies. Close it before it is destroyed.
/// @throws Error(validation) when a limit is zero. A certificate file that cannot be used is told by the first https
/// request: Error(configuration).
std::shared_ptr<HttpTransport> make_asio_http_transport(const Environment& environment, AsioHttpOptions options = {});

}  // namespace infrastructure_sdk
