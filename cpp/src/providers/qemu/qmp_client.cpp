#include "providers/qemu/qmp_client.hpp"

#include <cerrno>
#include <cstring>
#include <map>

#include "core/async_tools.hpp"
#include "core/unix_socket.hpp"
#include "providers/qemu/line_connection.hpp"

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;
constexpr std::size_t line_limit = 16u << 20;
const ErrorContext channel{{"channel", "qmp"}};

}  // namespace

struct QmpClient::Impl {
    explicit Impl(Environment e) : environment(std::move(e)), changed(environment.executor) {}
    Environment environment;
    std::shared_ptr<LineConnection> connection;
    Signal changed;
    bool greeted = false;
    std::uint64_t next_id = 1;
    /// Each waits for its own answer: of many that are asked at once, one wakes one.
    struct Pending {
        explicit Pending(const Executor& executor) : changed(executor) {}
        Signal changed;
        json answer;  // null until it came
    };
    std::map<std::uint64_t, std::shared_ptr<Pending>> pending;
    std::function<void(const json&)> on_event;

    void wake_all() {
        changed.notify_all();
        for (const auto& [id, waiting] : pending) waiting->changed.notify_all();
    }
    void take(const std::string& line) {
        auto message = json::parse(line, nullptr, false);
        if (!message.is_object()) {
            connection->close();
            wake_all();
        } else if (message.contains("QMP")) {
            greeted = true;
            changed.notify_all();
        } else if (message.contains("event")) {
            if (on_event) on_event(message);
        } else if (auto id = message.find("id"); id != message.end() && id->is_number_unsigned()) {
            // An answer that nobody waits for any more (its caller ran out of time) is dropped.
            auto it = pending.find(id->get<std::uint64_t>());
            if (it == pending.end()) return;
            it->second->answer = std::move(message);
            it->second->changed.notify_all();
        }
    }
};

QmpClient::QmpClient(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

QmpClient::~QmpClient() { close(); }

Task<std::shared_ptr<QmpClient>> QmpClient::connect(Environment environment, std::string socket_path, Call call) {
    auto impl = std::make_shared<Impl>(environment);
    Duration pause = std::chrono::milliseconds(1);
    int fd = -1;
    while ((fd = connect_unix(socket_path)) < 0) {
        auto why = std::string(std::strerror(errno));
        if (call.stop.stop_requested()) throw Error(Errc::cancelled, "cancelled: connecting to QMP");
        if (call.deadline.expired(*environment.clock))
            throw Error(Errc::not_ready, "QMP did not answer at " + socket_path + ": " + why, channel);
        auto next = Deadline::after(*environment.clock, pause).earlier(call.deadline);
        co_await environment.clock->sleep_until(next.when(), call.stop);
        pause = std::min<Duration>(pause * 2, std::chrono::milliseconds(50));
    }
    impl->connection = std::make_shared<LineConnection>(environment, fd, line_limit);
    auto client = std::shared_ptr<QmpClient>(new QmpClient(impl));
    std::weak_ptr<Impl> weak = impl;
    LineConnection::Handlers handlers;
    handlers.on_line = [weak](std::string line) {
        if (auto self = weak.lock()) self->take(line);
    };
    handlers.on_close = [weak] {
        if (auto self = weak.lock()) self->wake_all();
    };
    impl->connection->start(std::move(handlers));
    while (!impl->greeted) {
        if (!impl->connection->is_open()) throw Error(Errc::not_ready, "QMP closed the connection at once", channel);
        if (call.stop.stop_requested()) throw Error(Errc::cancelled, "cancelled: connecting to QMP");
        if (call.deadline.expired(*environment.clock))
            throw Error(Errc::not_ready, "QMP sent no greeting in time", channel);
        co_await impl->changed.wait(*environment.clock, call);
    }
    json none = json::object();
    co_await client->execute("qmp_capabilities", none, call);
    co_return client;
}

Task<json> QmpClient::execute(std::string command, json arguments, Call call, int fd) {
    auto impl = impl_;
    auto id = impl->next_id++;
    json message{{"execute", command}, {"id", id}};
    if (!arguments.empty()) message["arguments"] = std::move(arguments);
    auto pending = impl->pending[id] = std::make_shared<Impl::Pending>(impl->environment.executor);
    struct Forget {
        Impl& impl;
        std::uint64_t id;
        ~Forget() { impl.pending.erase(id); }
    } forget{*impl, id};
    auto text = message.dump() + "\n";
    co_await impl->connection->write(text, call, fd);
    while (pending->answer.is_null()) {
        if (!impl->connection->is_open())
            throw Error(Errc::not_ready, "the QMP connection ended during " + command,
                        {{"channel", "qmp"}, {"command", command}});
        check(call, *impl->environment.clock, ("QMP " + command).c_str());
        co_await pending->changed.wait(*impl->environment.clock, call);
    }
    json answer = std::move(pending->answer);
    if (auto error = answer.find("error"); error != answer.end()) {
        auto kind = error->is_object() ? error->value("class", "") : std::string();
        auto text_of = error->is_object() ? error->value("desc", "") : error->dump();
        throw Error(Errc::provider, "QEMU refused " + command, {{"command", command}, {"class", kind}})
            .with_remote_message(text_of);
    }
    auto value = answer.find("return");
    if (value == answer.end())
        throw Error(Errc::provider, "QEMU's answer to " + command + " has no return value", {{"command", command}});
    co_return std::move(*value);
}

void QmpClient::on_event(std::function<void(const json&)> handler) { impl_->on_event = std::move(handler); }
bool QmpClient::connected() const noexcept { return impl_->connection && impl_->connection->is_open(); }

void QmpClient::close() {
    if (impl_->connection) impl_->connection->close();
    impl_->wake_all();
}

Task<void> QmpClient::join() {
    auto impl = impl_;
    co_await impl->connection->join();
}

}  // namespace infrastructure_sdk::qemu
