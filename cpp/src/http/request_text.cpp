#include "http/request_text.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

bool same(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

/// RFC 9110's token.
bool is_token(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
        return std::isalnum(c) || (c != 0 && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos);
    });
}

bool is_value(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c == '\t' || (c >= 0x20 && c != 0x7f); });
}

[[noreturn]] void refuse(const std::string& field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, field + ": '" + value + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

std::string printable(std::string text) {
    for (auto& c : text)
        if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
    return text.substr(0, 100);
}

void check_header(const HttpHeader& header) {
    if (!is_token(header.name)) refuse("headers", printable(header.name), "a header's name of letters, digits and -");
    for (const char* ours : {"Host", "Content-Length", "Transfer-Encoding", "Connection"})
        if (same(header.name, ours)) refuse("headers." + header.name, "***", "the transport sets it itself");
    if (!is_value(header.value)) refuse("headers." + header.name, "***", "one line without control characters");
}

}  // namespace

std::optional<std::string> HttpHeaders::find(std::string_view name) const {
    for (const auto& header : list_)
        if (same(header.name, name)) return header.value;
    return std::nullopt;
}

bool is_repeatable(const HttpRequest& request) {
    constexpr std::array always{"GET", "HEAD", "OPTIONS", "PUT", "DELETE"};
    return request.repeatable || std::find(always.begin(), always.end(), request.method) != always.end();
}

std::string request_text(const HttpRequest& request, const HttpUrl& url) {
    if (!is_token(request.method)) refuse("method", printable(request.method), "a method such as GET or POST");
    std::string text = request.method + " " + url.target + " HTTP/1.1\r\nHost: " + url.authority() + "\r\n";
    for (const auto& header : request.headers) {
        check_header(header);
        text += header.name + ": " + header.value + "\r\n";
    }
    bool carries_body =
        !request.body.empty() || request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
    if (carries_body) text += "Content-Length: " + std::to_string(request.body.size()) + "\r\n";
    return text + "\r\n" + request.body;
}

}  // namespace infrastructure_sdk
