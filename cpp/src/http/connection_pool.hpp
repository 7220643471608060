#pragma once
// Connections that wait for their next request, and how many there may be. Pure: times are given.

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "http/byte_stream.hpp"
#include <infrastructure_sdk/http/url.hpp>

namespace infrastructure_sdk {

struct Connection {
    std::unique_ptr<ByteStream> bytes;
    std::string unread;          ///< received, and not yet parsed
    std::uint64_t received = 0;  ///< of the present response
    std::uint64_t sent = 0;      ///< of the present request
    bool reused = false;
};

/// Scheme, host and port.
using Origin = std::pair<bool, std::string>;
inline Origin origin_of(const HttpUrl& url) { return {url.tls, url.host + " " + std::to_string(url.port)}; }

class ConnectionPool {
public:
    explicit ConnectionPool(const AsioHttpOptions& options) : options_(options) {}

    /// A place among the open ones; false = all are taken.
    bool enter(const Origin& origin) {
        auto& open = open_[origin];
        if (open >= options_.connections_per_host) return false;
        ++open;
        return true;
    }
    void leave(const Origin& origin) {
        auto it = open_.find(origin);
        if (--it->second == 0) open_.erase(it);
    }

    /// The one that was used last, if it is still good; null when there is none.
    std::unique_ptr<Connection> take(const Origin& origin, MonotonicTime now);
    void put_back(const Origin& origin, std::unique_ptr<Connection> connection, MonotonicTime now);
    void clear() { idle_.clear(); }
    std::size_t idle() const { return idle_.size(); }

private:
    struct Idle {
        Origin origin;
        MonotonicTime since;
        std::unique_ptr<Connection> connection;
    };
    AsioHttpOptions options_;
    std::map<Origin, std::size_t> open_;
    std::list<Idle> idle_;  // the oldest first
};

}  // namespace infrastructure_sdk
