#include "http/byte_stream.hpp"

#include <fstream>
#include <iterator>

#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using asio::ip::tcp;
namespace ssl = asio::ssl;
using boost::system::error_code;

bool is_address(const std::string& name) {
    error_code error;
    asio::ip::make_address(name, error);
    return !error;
}

class TlsStream final : public ByteStream {
public:
    TlsStream(const Executor& executor, std::shared_ptr<ssl::context> context, std::string name, bool verify)
        : context_(std::move(context)), stream_(executor, *context_), name_(std::move(name)), verify_(verify) {}

    Task<void> connect(tcp::endpoint endpoint) override {
        error_code error;
        co_await stream_.next_layer().async_connect(endpoint, asio::redirect_error(asio::use_awaitable, error));
        if (error) fail_stage("connect", error.message());
        tune(stream_.next_layer());
    }

    Task<void> start() override {
        auto* native = stream_.native_handle();
        bool address = is_address(name_);
        // Server Name Indication is for names only (RFC 6066).
        if (!address) SSL_set_tlsext_host_name(native, name_.c_str());
        auto* wanted = SSL_get0_param(native);
        bool set = address ? X509_VERIFY_PARAM_set1_ip_asc(wanted, name_.c_str()) == 1
                           : SSL_set1_host(native, name_.c_str()) == 1;
        X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (!set) fail_stage("tls", "'" + name_ + "' is no name that a certificate can have");
        SSL_set_verify(native, verify_ ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
        error_code error;
        co_await stream_.async_handshake(ssl::stream_base::client, asio::redirect_error(asio::use_awaitable, error));
        if (!error) co_return;
        auto verdict = SSL_get_verify_result(native);
        if (verify_ && verdict != X509_V_OK)
            throw Error(
                Errc::authentication,
                std::string("the server's certificate is not accepted: ") + X509_verify_cert_error_string(verdict),
                {{"channel", "http"}, {"stage", "tls"}});
        fail_stage("tls", error.message());
    }

    Task<std::size_t> read_some(std::span<char> room) override {
        error_code error;
        auto buffer = asio::buffer(room.data(), room.size());
        auto got = co_await stream_.async_read_some(buffer, asio::redirect_error(asio::use_awaitable, error));
        if (error == ssl::error::stream_truncated) orderly_ = false;
        else if (error && error != asio::error::eof) fail_stage("receive", error.message());
        co_return got;
    }

    Task<std::size_t> write_some(std::string_view bytes) override {
        error_code error;
        auto buffer = asio::buffer(bytes.data(), bytes.size());
        auto sent = co_await stream_.async_write_some(buffer, asio::redirect_error(asio::use_awaitable, error));
        if (error) fail_stage("send", error.message());
        co_return sent;
    }

    bool ended_orderly() const override { return orderly_; }
    bool is_stale() override { return is_stale_socket(stream_.next_layer().native_handle()); }
    void abort() noexcept override {
        error_code ignored;
        stream_.next_layer().close(ignored);
    }

private:
    std::shared_ptr<ssl::context> context_;
    ssl::stream<tcp::socket> stream_;
    std::string name_;
    bool verify_;
    bool orderly_ = true;
};

class Context final : public TlsContext {
public:
    explicit Context(const TlsOptions& options)
        : context_(std::make_shared<ssl::context>(ssl::context::tls_client)), verify_(options.verify) {
        SSL_CTX_set_min_proto_version(context_->native_handle(), TLS1_2_VERSION);
        if (!options.ca_file.empty())
            load("ca_file", options.ca_file, [&](const std::string& pem, error_code& error) {
                context_->add_certificate_authority(asio::buffer(pem), error);
            });
        if (!options.ca_pem.empty())
            use("ca_pem", options.ca_pem, [&](const std::string& pem, error_code& error) {
                context_->add_certificate_authority(asio::buffer(pem), error);
            });
        if (options.ca_file.empty() && options.ca_pem.empty()) context_->set_default_verify_paths();
        auto chain = [&](const std::string& pem, error_code& error) {
            context_->use_certificate_chain(asio::buffer(pem), error);
        };
        auto key = [&](const std::string& pem, error_code& error) {
            context_->use_private_key(asio::buffer(pem), ssl::context::pem, error);
        };
        if (!options.certificate_file.empty()) load("certificate_file", options.certificate_file, chain);
        if (!options.certificate_pem.empty()) use("certificate_pem", options.certificate_pem, chain);
        if (!options.key_file.empty()) load("key_file", options.key_file, key);
        if (!options.key_pem.empty()) use("key_pem", options.key_pem.reveal(), key);
        bool certificate = !options.certificate_file.empty() || !options.certificate_pem.empty();
        bool has_key = !options.key_file.empty() || !options.key_pem.empty();
        if (certificate != has_key) refuse("key_file", "***", "a client certificate and its key belong together");
        if (certificate && SSL_CTX_check_private_key(context_->native_handle()) != 1)
            refuse("key_file", "***", "the key does not belong to the certificate");
    }

    std::unique_ptr<ByteStream> stream(const Executor& executor, std::string name) override {
        return std::make_unique<TlsStream>(executor, context_, std::move(name), verify_);
    }

private:
    [[noreturn]] static void refuse(const std::string& field, const std::string& value, const std::string& why) {
        throw Error(Errc::configuration, "tls." + field + ": '" + value + "': " + why,
                    {{"field", "tls." + field}, {"value", value}});
    }

    template <class F>
    static void use(const std::string& field, const std::string& pem, F take, const std::string& shown = "***") {
        error_code error;
        take(pem, error);
        if (error) refuse(field, shown, "it cannot be used: " + error.message());
    }

    template <class F>
    static void load(const std::string& field, const std::string& path, F take) {
        std::ifstream file(path, std::ios::binary);
        std::string pem((std::istreambuf_iterator<char>(file)), {});
        if (!file || pem.empty()) refuse(field, path, "the file is empty or cannot be read");
        use(field, pem, take, path);
    }

    std::shared_ptr<ssl::context> context_;
    bool verify_;
};

}  // namespace

std::shared_ptr<TlsContext> TlsContext::make(const TlsOptions& options) { return std::make_shared<Context>(options); }

}  // namespace infrastructure_sdk
