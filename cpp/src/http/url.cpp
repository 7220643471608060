#include <infrastructure_sdk/http/url.hpp>

#include <algorithm>
#include <cctype>
#include <charconv>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr const char* allowed = "an address such as https://example.org:8443/path";

std::string lower(std::string_view text) {
    std::string result(text);
    std::transform(result.begin(), result.end(), result.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}

bool all(std::string_view text, bool (*good)(unsigned char)) { return std::all_of(text.begin(), text.end(), good); }

bool in_name(unsigned char c) { return std::isalnum(c) || c == '-' || c == '.' || c == '_'; }
bool in_ipv6(unsigned char c) { return std::isxdigit(c) || c == ':' || c == '.'; }
/// RFC 3986: what a path or a query may hold.
bool in_target(unsigned char c) {
    return std::isalnum(c) || std::string_view("-._~!$&'()*+,;=:@/?%").find(c) != std::string_view::npos;
}

bool escapes_are_good(std::string_view text) {
    for (std::size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%', at + 1))
        if (at + 2 >= text.size() || !std::isxdigit(static_cast<unsigned char>(text[at + 1])) ||
            !std::isxdigit(static_cast<unsigned char>(text[at + 2])))
            return false;
    return true;
}

/// Nothing that may be a secret: no user name, no password, no path, no query.
std::string harmless(std::string_view text) {
    auto rest = text.find("://");
    rest = rest == std::string_view::npos ? 0 : rest + 3;
    auto end = std::min(text.find_first_of("/?#", rest), text.size());
    auto at = text.substr(0, end).rfind('@');
    std::string shown(text.substr(0, rest));
    if (at != std::string_view::npos && at >= rest) {
        shown += "***@";
        rest = at + 1;
    }
    shown += text.substr(rest, end - rest);
    if (end < text.size()) shown += "/***";
    for (auto& c : shown)
        if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
    return shown.substr(0, 200);
}

}  // namespace

std::string HttpUrl::authority() const {
    std::string text = host;
    if (is_ipv6()) text = std::string("[").append(host).append("]");
    return port == (tls ? 443 : 80) ? text : text + ":" + std::to_string(port);
}

std::string HttpUrl::shown() const {
    auto query = target.find('?');
    return (tls ? "https://" : "http://") + authority() +
           (query == std::string::npos ? target : target.substr(0, query) + "?***");
}

HttpUrl parse_http_url(std::string_view text, const std::string& field) {
    auto refuse = [&](const std::string& why) {
        auto value = harmless(text);
        throw Error(Errc::validation, field + ": '" + value + "': " + why + "; " + allowed,
                    {{"field", field}, {"value", value}, {"allowed", allowed}});
    };
    HttpUrl url;
    if (text.size() > 8000) refuse("it is longer than 8000 characters");
    auto scheme_end = text.find("://");
    if (scheme_end == std::string_view::npos) refuse("it does not begin with http:// or https://");
    auto scheme = lower(text.substr(0, scheme_end));
    if (scheme != "http" && scheme != "https") refuse("the scheme must be http or https");
    url.tls = scheme == "https";
    auto rest = text.substr(scheme_end + 3);
    auto authority = rest.substr(0, rest.find_first_of("/?#"));
    auto target = rest.substr(authority.size());
    if (authority.find('@') != std::string_view::npos)
        refuse("a user name or password does not belong into an address; send a header");
    if (target.find('#') != std::string_view::npos) refuse("a fragment (#) is not sent to a server");
    if (!all(target, in_target) || !escapes_are_good(target))
        refuse("the path or query holds a character that must be escaped with %");

    std::string_view port;
    if (authority.starts_with('[')) {
        auto close = authority.find(']');
        if (close == std::string_view::npos) refuse("the bracket of the IPv6 address is not closed");
        url.host = lower(authority.substr(1, close - 1));
        if (url.host.find(':') == std::string::npos || !all(url.host, in_ipv6))
            refuse("what stands in brackets is not an IPv6 address");
        auto after = authority.substr(close + 1);
        if (!after.empty() && after[0] != ':') refuse("only a port may follow the IPv6 address");
        port = after.empty() ? after : after.substr(1);
        if (!after.empty() && port.empty()) refuse("the port is missing after ':'");
    } else {
        auto colon = authority.find(':');
        url.host = lower(authority.substr(0, colon));
        if (url.host.empty()) refuse("the host is missing");
        if (url.host.size() > 253 || !all(url.host, in_name)) refuse("the host is not a name or an address");
        if (colon != std::string_view::npos) {
            port = authority.substr(colon + 1);
            if (port.empty()) refuse("the port is missing after ':'");
        }
    }
    url.port = url.tls ? 443 : 80;
    if (!port.empty()) {
        unsigned number = 0;
        auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
        if (error != std::errc() || end != port.data() + port.size() || number < 1 || number > 65535)
            refuse("the port must be a number from 1 to 65535");
        url.port = static_cast<std::uint16_t>(number);
    }
    url.target = target.empty() ? "/" : std::string(target[0] == '?' ? "/" : "").append(target);
    return url;
}

}  // namespace infrastructure_sdk
