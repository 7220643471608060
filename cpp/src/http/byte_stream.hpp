#pragma once
// Bytes to and from one server, over TCP or TLS. The only interface that both share with the transport.

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "http/net.hpp"
#include <infrastructure_sdk/http/http.hpp>

namespace infrastructure_sdk {

/// Used by one coroutine at a time, on the executor; `abort` by another on the same executor.
/// Errors are Error(not_ready) and Error(authentication) with `stage`.
class ByteStream {
public:
    virtual ~ByteStream() = default;
    virtual Task<void> connect(asio::ip::tcp::endpoint endpoint) = 0;
    /// The TLS handshake; nothing over TCP.
    virtual Task<void> start() = 0;
    /// Up to the size of `room`; 0 = the end.
    virtual Task<std::size_t> read_some(std::span<char> room) = 0;
    /// How much was taken, at least one byte.
    virtual Task<std::size_t> write_some(std::string_view bytes) = 0;
    /// Whether the end, if there was one, was announced as TLS wants it.
    virtual bool ended_orderly() const = 0;
    /// Closed by the server, or bytes that nobody asked for: not to be used again.
    virtual bool is_stale() = 0;
    /// What is under way ends with an error.
    virtual void abort() noexcept = 0;
};

std::unique_ptr<ByteStream> make_tcp_stream(const Executor& executor);

/// Certificates, read once.
class TlsContext {
public:
    /// Blocking: reads files. @throws Error(configuration) that names the field.
    static std::shared_ptr<TlsContext> make(const TlsOptions& options);
    virtual ~TlsContext() = default;
    /// @param name what the certificate must be for: a host name or an address.
    virtual std::unique_ptr<ByteStream> stream(const Executor& executor, std::string name) = 0;
};

/// For both: keepalive, no delay, and a limit on how long sent bytes may stay unacknowledged.
void tune(asio::ip::tcp::socket& socket);
bool is_stale_socket(int descriptor);
[[noreturn]] void fail_stage(const char* stage, const std::string& why);

}  // namespace infrastructure_sdk
