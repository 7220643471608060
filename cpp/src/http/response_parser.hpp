#pragma once
// From bytes to a response. Pure: no socket, no clock.

#include <memory>
#include <string>
#include <string_view>

#include <infrastructure_sdk/http/http.hpp>

namespace infrastructure_sdk {

/// One response. Interim ones (1xx) are skipped.
class ResponseParser {
public:
    /// @param to_head the request was HEAD: no body follows, whatever the headers say.
    ResponseParser(bool to_head, std::size_t header_limit);
    ~ResponseParser();

    /// Takes what it can from the front and says how much. @throws Error(provider) when it is not HTTP, or the head is
    /// above the limit.
    std::size_t put(std::string_view bytes);
    /// No more bytes come. @throws Error(not_ready) when the response was cut off.
    void put_end(bool orderly);

    bool has_head() const;
    bool is_done() const;
    /// Whether a byte was seen at all.
    bool has_begun() const { return begun_; }
    /// Whether the connection may carry another request.
    bool keep_alive() const;
    const HttpResponse& head() const;
    /// What of the body was put since the last call.
    std::string take_body();

private:
    struct Impl;
    void start();
    [[noreturn]] void too_long() const;
    bool to_head_;
    std::size_t header_limit_;
    bool begun_ = false;
    int interim_ = 0;
    std::unique_ptr<Impl> impl_;
};

}  // namespace infrastructure_sdk
