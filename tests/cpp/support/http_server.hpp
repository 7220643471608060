#pragma once
// A server for tests of HTTP clients, on a real socket: it does what a script says, and remembers what it was asked.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/async_tools.hpp"
#include "support/temporary_directory.hpp"

namespace infrastructure_sdk::test {

struct SeenRequest {
    std::size_t connection = 0;  ///< which one, from 1
    std::string method;
    std::string target;
    std::map<std::string, std::string> headers;  ///< names in lower case
    std::string body;
    std::string server_name;  ///< what TLS asked for
};

/// What is done about one request.
struct Script {
    std::string bytes;    ///< sent as they are
    bool close = false;   ///< afterwards
    bool reset = false;   ///< afterwards, without the end that TLS wants
    bool hang = false;    ///< afterwards; nothing more is read or sent
    bool repeat = false;  ///< `bytes` again and again, until the client is gone
};
/// 200 and a body, with its length.
Script ok(const std::string& body = "fine", const std::string& more_headers = "");

/// A certificate authority and what it signed, made by openssl.
class Certificates {
public:
    Certificates();
    std::string ca() const { return directory_ / "ca.pem"; }
    std::string other_ca() const { return directory_ / "other.pem"; }
    /// Good for localhost and 127.0.0.1.
    std::string server() const { return directory_ / "server.pem"; }
    std::string server_key() const { return directory_ / "server.key"; }
    std::string client() const { return directory_ / "client.pem"; }
    std::string client_key() const { return directory_ / "client.key"; }
    static const Certificates& shared();

private:
    TemporaryDirectory directory_;
};

struct HttpServerOptions {
    bool tls = false;
    bool demand_client_certificate = false;
};

/// Lives on the executor of the environment; made and destroyed while no client uses it.
class HttpServer {
public:
    using Answer = std::function<Script(const SeenRequest&)>;
    HttpServer(const Environment& environment, Answer answer, HttpServerOptions options = {});

    /// "http://127.0.0.1:<port>", or with https and another host.
    std::string url(const std::string& path = "/", const std::string& host = "127.0.0.1") const;
    /// To be awaited on the executor, as all below.
    Task<std::vector<SeenRequest>> seen();
    Task<std::size_t> connections();
    /// Completes when so many requests were seen, or connections are over.
    Task<void> until_seen(std::size_t requests);
    Task<void> until_closed(std::size_t connections);
    /// Ends every connection; completes when nothing is left.
    Task<void> close();

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace infrastructure_sdk::test
