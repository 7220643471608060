#include "providers/qemu/probe_port.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include <sys/socket.h>

#include "core/async_tools.hpp"
#include "providers/qemu/descriptors.hpp"

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;
using LocalSocket = asio::local::stream_protocol::socket;

constexpr const char* card = "net0";
constexpr std::size_t longest_frame = 256u << 10;
constexpr std::size_t longest_header = 64;
constexpr std::size_t most_frames = 4096;
// A guest sends what it likes: what is kept of it has an end, and a nonce stands at the beginning of a frame.
constexpr std::size_t most_bytes = 4u << 20;
constexpr std::size_t kept_of_frame = 2048;
/// A VM that does not answer must not keep what belongs to the probe.
constexpr Duration patience = std::chrono::seconds(2);

std::string number(std::size_t value) {
    std::string bytes(4, '\0');
    for (int i = 0; i < 4; ++i) bytes[static_cast<std::size_t>(i)] = static_cast<char>(value >> (24 - 8 * i) & 255);
    return bytes;
}

std::size_t number_at(const std::string& bytes, std::size_t at) {
    std::size_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    return value;
}

struct Channel {
    const char* id;
    const char* filter;
    const char* queue;  ///< "rx": what the card sent
    const char* side;   ///< of the filter that the channel is
};
// From the card, filters are passed in the opposite order: the mirror stands behind what is put in.
const Channel channels[] = {{"probe-sent", "filter-mirror", "rx", "outdev"},
                            {"probe-delivered", "filter-mirror", "tx", "outdev"},
                            {"probe-put", "filter-redirector", "rx", "indev"}};

Task<void> try_to(std::shared_ptr<QmpClient> client, std::string command, json arguments, Call call) {
    try {
        co_await client->execute(command, arguments, call);
    } catch (const Error&) {
        // It was not there.
    }
}

class QemuProbePort final : public ProbePort, public std::enable_shared_from_this<QemuProbePort> {
public:
    QemuProbePort(Environment environment, std::shared_ptr<QmpClient> client)
        : environment_(environment), client_(std::move(client)), readers_(environment.executor) {}

    Task<void> open(Call call) {
        auto self = shared_from_this();
        co_await clear_probe_port(environment_, client_);
        for (std::size_t i = 0; i < std::size(channels); ++i) {
            co_await add(channels[i], call);
            // At once: a mirror that nobody reads stops the VM.
            if (i < 2) readers_.spawn(environment_.logger, "probe port", read(*sockets_[i], i == 0));
        }
    }

    Task<void> send(std::string frame, Call call) override {
        auto self = shared_from_this();
        check(call, *environment_.clock, "a probe");
        auto bytes = framed(frame, header_bytes_);
        boost::system::error_code error;
        // A frame is far smaller than the socket's buffer: this waits for nothing but a stopped VM.
        co_await asio::async_write(*sockets_[2], asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
        if (error) throw Error(Errc::not_ready, "the port was closed: " + error.message());
    }

    const std::vector<PortFrame>& seen() const override { return frames_; }
    bool sees_all() const override { return sees_all_ && !closed_; }

    Task<void> close() override {
        auto self = shared_from_this();
        closed_ = true;
        // First of all: QEMU waits for whoever does not read, and meanwhile does nothing that it is told.
        boost::system::error_code ignored;
        for (auto& socket : sockets_) socket->close(ignored);
        co_await clear_probe_port(environment_, client_);
        co_await readers_.join();
    }

private:
    Task<void> add(const Channel& channel, Call call) {
        int ends[2];
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
            throw Error(Errc::provider, std::string("no socket: ") + std::strerror(errno));
        Descriptors theirs;
        theirs.add(ends[1]);
        sockets_.push_back(
            std::make_unique<LocalSocket>(environment_.executor, asio::local::stream_protocol(), ends[0]));
        json name{{"fdname", channel.id}};
        co_await client_->execute("getfd", name, call, ends[1]);
        json address{{"type", "fd"}, {"data", {{"str", channel.id}}}};
        json socket{{"addr", address}, {"server", false}};
        json device{{"id", channel.id}, {"backend", {{"type", "socket"}, {"data", socket}}}};
        co_await client_->execute("chardev-add", device, call);
        json filter{{"qom-type", channel.filter},
                    {"id", std::string(channel.id) + "-filter"},
                    {"netdev", card},
                    {"queue", channel.queue},
                    {channel.side, channel.id},
                    {"vnet_hdr_support", true}};
        co_await client_->execute("object-add", filter, call);
    }

    Task<void> read(LocalSocket& socket, bool from_guest) {
        auto self = shared_from_this();
        FrameSplitter splitter;
        std::string buffer(64 << 10, '\0');
        while (!closed_) {
            boost::system::error_code error;
            auto got =
                co_await socket.async_read_some(asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
            if (error) break;
            bool room = true;
            for (const auto& frame : splitter.feed(buffer.substr(0, got))) room = room && keep(frame, from_guest);
            if (splitter.broken() || !room) break;
            header_bytes_ = splitter.header_bytes().value_or(header_bytes_);
        }
        sees_all_ = sees_all_ && closed_;
        // A socket that nobody reads would stop the VM.
        boost::system::error_code ignored;
        socket.close(ignored);
    }

    /// False when there is no room for more.
    bool keep(const std::string& frame, bool from_guest) {
        const auto size = std::min(frame.size(), kept_of_frame);
        if (frames_.size() == most_frames || bytes_ + size > most_bytes) return false;
        bytes_ += size;
        frames_.push_back({from_guest, frame.substr(0, size)});
        return true;
    }

    Environment environment_;
    std::shared_ptr<QmpClient> client_;
    TaskGroup readers_;
    std::vector<std::unique_ptr<LocalSocket>> sockets_;
    std::vector<PortFrame> frames_;
    std::size_t header_bytes_ = 0, bytes_ = 0;
    bool sees_all_ = true, closed_ = false;
};

}  // namespace

std::vector<std::string> FrameSplitter::feed(const std::string& bytes) {
    std::vector<std::string> frames;
    rest_ += bytes;
    std::size_t at = 0;
    while (!broken_ && rest_.size() - at >= 8) {
        auto size = number_at(rest_, at), header = number_at(rest_, at + 4);
        broken_ = size > longest_frame || header > longest_header || header > size;
        if (broken_ || rest_.size() - at - 8 < size) break;
        header_ = header;
        frames.push_back(rest_.substr(at + 8 + header, size - header));
        at += 8 + size;
    }
    rest_.erase(0, at);
    return frames;
}

std::string framed(const std::string& frame, std::size_t header_bytes) {
    return number(header_bytes + frame.size()) + number(header_bytes) + std::string(header_bytes, '\0') + frame;
}

Task<void> clear_probe_port(Environment environment, std::shared_ptr<QmpClient> client) {
    Call within{Deadline::after(*environment.clock, patience), {}, {}};
    for (auto channel = std::rbegin(channels); channel != std::rend(channels); ++channel) {
        json filter{{"id", std::string(channel->id) + "-filter"}}, device{{"id", channel->id}};
        co_await try_to(client, "object-del", filter, within);
        co_await try_to(client, "chardev-remove", device, within);
    }
}

Task<std::shared_ptr<ProbePort>> open_probe_port(Environment environment, std::shared_ptr<QmpClient> client,
                                                 Call call) {
    auto port = std::make_shared<QemuProbePort>(environment, std::move(client));
    std::exception_ptr trouble;
    try {
        co_await port->open(call);
    } catch (...) {
        trouble = std::current_exception();
    }
    if (trouble) {
        co_await port->close();
        std::rethrow_exception(trouble);
    }
    co_return port;
}

}  // namespace infrastructure_sdk::qemu
