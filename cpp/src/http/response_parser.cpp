#include "http/response_parser.hpp"

#include <limits>

#include <boost/beast/http/basic_parser.hpp>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace http = boost::beast::http;
using boost::system::error_code;

/// Beast's parser, with the parts put where we want them.
struct ResponseParser::Impl final : http::basic_parser<false> {
    HttpResponse response;
    std::string body;

    void on_request_impl(http::verb, boost::beast::string_view, boost::beast::string_view, int, error_code&) override {}
    void on_response_impl(int status, boost::beast::string_view, int, error_code& error) override {
        response.status = status;
        error = {};
    }
    void on_field_impl(http::field, boost::beast::string_view name, boost::beast::string_view value,
                       error_code& error) override {
        response.headers.add(std::string(name), std::string(value));
        error = {};
    }
    void on_header_impl(error_code& error) override { error = {}; }
    void on_body_init_impl(const boost::optional<std::uint64_t>&, error_code& error) override { error = {}; }
    std::size_t on_body_impl(boost::beast::string_view bytes, error_code& error) override {
        body.append(bytes.data(), bytes.size());
        error = {};
        return bytes.size();
    }
    void on_chunk_header_impl(std::uint64_t, boost::beast::string_view, error_code& error) override { error = {}; }
    std::size_t on_chunk_body_impl(std::uint64_t, boost::beast::string_view bytes, error_code& error) override {
        return on_body_impl(bytes, error);
    }
    void on_finish_impl(error_code& error) override { error = {}; }
};

namespace {

[[noreturn]] void not_http(const std::string& why) {
    throw Error(Errc::provider, "the server's answer is not HTTP: " + why, {{"channel", "http"}, {"stage", "receive"}});
}

}  // namespace

ResponseParser::ResponseParser(bool to_head, std::size_t header_limit)
    : to_head_(to_head), header_limit_(header_limit) {
    start();
}
ResponseParser::~ResponseParser() = default;

void ResponseParser::start() {
    impl_ = std::make_unique<Impl>();
    impl_->eager(true);
    impl_->header_limit(static_cast<std::uint32_t>(header_limit_));
    // The caller counts. None would do, but Beast 1.74 compares with it all the same.
    impl_->body_limit(std::numeric_limits<std::uint64_t>::max());
    if (to_head_) impl_->skip(true);
}

std::size_t ResponseParser::put(std::string_view bytes) {
    std::size_t used = 0;
    begun_ = begun_ || !bytes.empty();
    while (used < bytes.size() && !impl_->is_done()) {
        error_code error;
        used += impl_->put(boost::asio::const_buffer(bytes.data() + used, bytes.size() - used), error);
        if (error == http::error::need_more) {
            // A line without an end, of the head or between chunks.
            if (bytes.size() - used > header_limit_) too_long();
            break;
        }
        if (error == http::error::header_limit) too_long();
        if (error) not_http(error.message());
        auto status = impl_->response.status;
        if (impl_->is_header_done() && status / 100 == 1 && status != 101) {
            if (++interim_ > 10) not_http("it sent more than 10 interim answers");
            start();
        }
    }
    return used;
}

void ResponseParser::too_long() const {
    throw Error(Errc::provider,
                "the head of the server's answer is larger than " + std::to_string(header_limit_) + " bytes",
                {{"channel", "http"}, {"stage", "receive"}});
}

void ResponseParser::put_end(bool orderly) {
    error_code error;
    if (impl_->is_done()) return;
    // Of a body that lasts until the end, TLS says whether this is the end.
    if (has_head() && impl_->need_eof() && orderly) {
        impl_->put_eof(error);
        if (!error) return;
    }
    throw Error(Errc::not_ready, begun_ ? "the server's answer was cut off" : "the server closed the connection",
                {{"channel", "http"}, {"stage", "receive"}});
}

bool ResponseParser::has_head() const { return impl_->is_header_done(); }
bool ResponseParser::is_done() const { return impl_->is_done(); }
bool ResponseParser::keep_alive() const { return impl_->response.status != 101 && impl_->keep_alive(); }
const HttpResponse& ResponseParser::head() const { return impl_->response; }
std::string ResponseParser::take_body() { return std::exchange(impl_->body, {}); }

}  // namespace infrastructure_sdk
