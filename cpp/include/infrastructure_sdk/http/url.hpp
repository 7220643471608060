#pragma once
// The address of an HTTP resource, taken apart.

#include <cstdint>
#include <string>
#include <string_view>

namespace infrastructure_sdk {

struct HttpUrl {
    bool tls = false;          ///< https
    std::string host;          ///< lower case; an IPv6 address without its brackets
    std::uint16_t port = 0;    ///< 80 or 443 when the text has none
    std::string target = "/";  ///< path and query, as they go over the wire

    bool is_ipv6() const { return host.find(':') != std::string::npos; }
    /// "example.org", "[::1]:8443": what the Host header says. The scheme's own port is left out.
    std::string authority() const;
    /// "https://example.org/hook", the query as "?***": paths name things, queries carry tokens.
    std::string shown() const;
    friend bool operator==(const HttpUrl&, const HttpUrl&) = default;
};

/// http and https; no user name or password (a header carries those), no fragment, ASCII only.
/// @param field what the text is called in the error.
/// @throws Error(validation) with `field`, `value` (nothing secret) and `allowed`
HttpUrl parse_http_url(std::string_view text, const std::string& field = "url");

}  // namespace infrastructure_sdk
