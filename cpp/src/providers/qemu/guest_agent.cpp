#include "providers/qemu/guest_agent.hpp"

#include <cerrno>
#include <cstring>
#include <deque>

#include <nlohmann/json.hpp>

#include "core/async_tools.hpp"
#include "core/base64.hpp"
#include "core/unix_socket.hpp"
#include "providers/qemu/agent_answers.hpp"
#include "providers/qemu/guest_files.hpp"
#include "providers/qemu/guest_process.hpp"
#include "providers/qemu/line_connection.hpp"

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;
// guest-exec-status may carry two streams of 16 MiB in base64.
constexpr std::size_t line_limit = 64u << 20;

Error silent(const std::string& why) {
    return Error(Errc::not_ready, "the guest agent did not answer: " + why, {{"channel", "agent"}});
}

std::string output_of(const json& status, const char* key, std::size_t limit, bool& truncated) {
    auto it = status.find(key);
    if (it == status.end() || !it->is_string()) return {};
    auto bytes = base64_decode(it->get_ref<const std::string&>());
    if (!bytes) throw Error(Errc::provider, std::string("the guest agent's ") + key + " is not base64");
    if (bytes->size() > limit) {
        bytes->resize(limit);
        truncated = true;
    }
    return std::move(*bytes);
}

class Agent final : public QemuGuestAgent, public AgentChannel, public std::enable_shared_from_this<Agent> {
public:
    Agent(Environment environment, std::string socket_path)
        : environment_(std::move(environment)),
          socket_path_(std::move(socket_path)),
          one_at_a_time_(environment_.executor),
          changed_(environment_.executor) {}
    ~Agent() override { disconnect(); }

    Task<void> ping(Call call) override {
        auto self = shared_from_this();
        json none = json::object();
        co_await request("guest-ping", none, call);
    }

    Task<ExecResult> exec(ExecRequest wanted, Call call) override {
        auto self = shared_from_this();
        auto started = environment_.clock->monotonic_now();
        const auto nonce = random_name(environment_);
        auto words = run_words(wanted, nonce);
        auto arguments = exec_arguments(wanted, std::move(words), true);
        auto pid = co_await spawn_in_guest(*this, arguments, call);
        json status;
        std::exception_ptr failure;
        try {
            status = co_await wait_exit(pid, call);
        } catch (const Error& error) {
            if (error.errc() == Errc::provider) throw;
            failure = std::current_exception();
        }
        if (failure) {
            co_await kill(pid);
            if (call.stop.stop_requested()) std::rethrow_exception(failure);
            throw Error(Errc::timeout, "'" + wanted.arguments.front() + "' did not end in time and was killed",
                        {{"field", "timeout"}, {"command", wanted.arguments.front()}});
        }
        ExecResult result;
        result.exit_code = exit_code_of(status).value();
        result.stdout_truncated = status.value("out-truncated", false);
        result.stderr_truncated = status.value("err-truncated", false);
        result.stdout_data = output_of(status, "out-data", wanted.output_limit_bytes, result.stdout_truncated);
        result.stderr_data = output_of(status, "err-data", wanted.output_limit_bytes, result.stderr_truncated);
        if (result.exit_code == 125) raise_refusal(result.stderr_data, nonce, wanted);
        result.elapsed = environment_.clock->monotonic_now() - started;
        co_return result;
    }

    Task<std::shared_ptr<GuestProcess>> start(ExecRequest wanted, Call call) override {
        return start_in_guest(shared_from_this(), std::move(wanted), call);
    }

    Task<std::string> read_file_part(std::string path, std::uint64_t offset, std::size_t limit, Call call) override {
        auto self = shared_from_this();
        co_return co_await read_guest_part(*this, std::move(path), offset, limit, call);
    }

    Task<void> write_file_part(std::string path, std::uint64_t offset, std::string bytes, Call call) override {
        auto self = shared_from_this();
        co_await write_guest_part(*this, std::move(path), offset, std::move(bytes), call);
    }

    Task<std::vector<GuestFileEntry>> list_files(std::string path, Call call) override {
        auto self = shared_from_this();
        check_guest_path(path);
        for (int attempt = 0; attempt < 5; ++attempt) {
            ExecRequest request;
            request.arguments = {"sh", "-c", list_script, "isdk", path};
            auto result = co_await exec(request, call);
            if (result.exit_code == 3)
                throw Error(Errc::not_found, "the guest has no folder " + path, {{"field", "path"}, {"value", path}});
            if (result.exit_code == 4)
                throw Error(Errc::validation, "path: '" + path + "' is not a folder that can be read",
                            {{"field", "path"}, {"value", path}, {"allowed", "a folder"}});
            if (result.stdout_truncated) throw Error(Errc::provider, path + " has too many entries to be listed");
            if (auto entries = parse_listing(result.stdout_data)) co_return std::move(*entries);
        }
        throw Error(Errc::conflict, path + " changes faster than it can be listed", {{"field", "path"}});
    }

    Task<std::string> read_file(std::string path, std::size_t limit_bytes, Call call) override {
        auto self = shared_from_this();
        auto handle = co_await open_guest_file(*this, path, "r", call);
        std::string bytes;
        std::exception_ptr failure;
        try {
            for (bool end = false; !end;) {
                json arguments{{"handle", handle}, {"count", file_chunk}};
                auto part = co_await request("guest-file-read", arguments, call);
                auto chunk = part.is_object() ? base64_decode(part.value("buf-b64", "")) : std::nullopt;
                if (!chunk) throw Error(Errc::provider, "the guest agent's file data is not base64");
                bytes += *chunk;
                end = part.value("eof", false) || chunk->empty();
                if (bytes.size() > limit_bytes)
                    throw Error(Errc::validation, path + " is larger than " + std::to_string(limit_bytes) + " bytes",
                                {{"field", "limit_bytes"}, {"value", path}});
            }
        } catch (...) {
            failure = std::current_exception();
        }
        co_await close_guest_file(*this, handle);
        if (failure) std::rethrow_exception(failure);
        co_return bytes;
    }

    Task<void> write_file(std::string path, std::string bytes, Call call) override {
        auto self = shared_from_this();
        auto handle = co_await open_guest_file(*this, path, "w", call);
        std::exception_ptr failure;
        try {
            for (std::size_t at = 0; at < bytes.size();) {
                json arguments{{"handle", handle},
                               {"buf-b64", base64_encode(std::string_view(bytes).substr(at, file_chunk))}};
                auto part = co_await request("guest-file-write", arguments, call);
                auto count = part.is_object() ? part.value("count", std::int64_t{0}) : 0;
                if (count <= 0)
                    throw Error(Errc::provider, "the guest wrote nothing to " + path + ": its disk may be full");
                at += static_cast<std::size_t>(count);
            }
            json arguments{{"handle", handle}};
            co_await request("guest-file-flush", arguments, call);
        } catch (...) {
            failure = std::current_exception();
        }
        co_await close_guest_file(*this, handle);
        if (failure) std::rethrow_exception(failure);
    }

    /// Two round trips: all are opened, then each is written and closed.
    Task<void> write_files(std::vector<GuestFile> files, Call call) override {
        auto self = shared_from_this();
        std::vector<AgentRequest> requests;
        for (const auto& file : files) {
            check_guest_path(file.path);
            if (file.bytes.size() > file_chunk)
                throw Error(Errc::validation, file.path + " is larger than " + std::to_string(file_chunk) + " bytes",
                            {{"field", "bytes"}, {"value", file.path}});
            requests.push_back({"guest-file-open", json{{"path", file.path}, {"mode", "w"}}});
        }
        auto opened = co_await request_all(std::move(requests), call);
        requests.clear();
        for (std::size_t i = 0; i < files.size(); ++i) {
            if (opened[i].error || !opened[i].value.is_number_integer()) continue;
            requests.push_back(
                {"guest-file-write", json{{"handle", opened[i].value}, {"buf-b64", base64_encode(files[i].bytes)}}});
            requests.push_back({"guest-file-close", json{{"handle", opened[i].value}}});
        }
        auto done = co_await request_all(std::move(requests), call);
        for (const auto* answers : {&opened, &done})
            for (const auto& answer : *answers)
                if (answer.error) throw *answer.error;
        if (done.size() != 2 * files.size()) throw Error(Errc::provider, "the guest agent gave no file handle");
        for (std::size_t i = 0; i < files.size(); ++i) {
            const auto& written = done[2 * i].value;
            auto count = written.is_object() ? written.value("count", std::int64_t{0}) : 0;
            if (count != static_cast<std::int64_t>(files[i].bytes.size()))
                throw Error(Errc::provider,
                            "the guest wrote only a part of " + files[i].path + ": its disk may be full");
        }
    }

    Task<void> set_time(WallTime time, Call call) override {
        auto self = shared_from_this();
        json arguments{{"time", time.time_since_epoch().count()}};
        co_await request("guest-set-time", arguments, call);
    }

    Task<WallTime> time(Call call) override {
        auto self = shared_from_this();
        json none = json::object();
        auto answer = co_await request("guest-get-time", none, call);
        if (!answer.is_number_integer())
            throw Error(Errc::provider, "the guest does not say what time it is", {{"channel", "agent"}});
        co_return WallTime(std::chrono::nanoseconds(answer.get<std::int64_t>()));
    }

    Task<std::vector<GuestInterface>> interfaces(Call call) override {
        auto self = shared_from_this();
        json none = json::object();
        auto answer = co_await request("guest-network-get-interfaces", none, call);
        std::vector<GuestInterface> result;
        try {
            for (const auto& item : answer) {
                GuestInterface found{item.value("name", ""), item.value("hardware-address", ""), {}, {}, {}};
                for (const auto& address : item.value("ip-addresses", json::array()))
                    found.addresses.push_back(address.value("ip-address", "") + "/" +
                                              std::to_string(address.value("prefix", 0)));
                if (auto counted = item.find("statistics"); counted != item.end()) {
                    found.rx_bytes = counted->at("rx-bytes").get<std::uint64_t>();
                    found.tx_bytes = counted->at("tx-bytes").get<std::uint64_t>();
                }
                result.push_back(std::move(found));
            }
        } catch (const json::exception& error) {
            throw Error(Errc::provider, "the guest agent described its interfaces wrongly")
                .with_remote_message(error.what());
        }
        co_return result;
    }

    Task<std::uint32_t> logged_in_users(Call call) override {
        auto self = shared_from_this();
        json none = json::object();
        auto answer = co_await request("guest-get-users", none, call);
        if (!answer.is_array()) throw Error(Errc::provider, "the guest agent gave no list of users");
        co_return static_cast<std::uint32_t>(answer.size());
    }

    Task<Freeze> while_frozen(std::function<Task<void>()> work, Call call) override {
        auto self = shared_from_this();
        auto guard = co_await take_turn(call);
        Freeze result;
        bool answers = co_await is_answered("guest-ping", call.within(soon(std::chrono::seconds(5))), nullptr);
        json count;
        if (answers) {
            bool done =
                co_await is_answered("guest-fsfreeze-freeze", call.within(soon(std::chrono::seconds(10))), &count);
            result.frozen = done && count.is_number_integer() && count.get<std::int64_t>() > 0;
        }
        std::exception_ptr failure;
        try {
            co_await work();
        } catch (...) {
            failure = std::current_exception();
        }
        // Also after a freeze that seemed to fail: it may take effect late. Not to be stopped by the caller.
        Call last{soon(std::chrono::seconds(30)), {}, call.correlation_id};
        if (answers) result.thawed = co_await is_answered("guest-fsfreeze-thaw", last, nullptr);
        if (failure) std::rethrow_exception(failure);
        co_return result;
    }

    Task<void> thaw(Call call) override {
        auto self = shared_from_this();
        json none = json::object();
        co_await request("guest-fsfreeze-thaw", none, call);
    }

    void disconnect() override {
        forget_lines();
        if (connection_) connection_->close();
        connection_.reset();
        changed_.notify_all();
    }

    Task<json> request(std::string command, json arguments, Call call) override {
        auto guard = co_await take_turn(call);
        co_return co_await exchange(std::move(command), std::move(arguments), call);
    }

    Task<std::vector<AgentAnswer>> request_all(std::vector<AgentRequest> requests, Call call) override {
        auto guard = co_await take_turn(call);
        co_return co_await exchange_all(std::move(requests), call);
    }

    const Environment& environment() const override { return environment_; }

private:
    Task<json> wait_exit(std::int64_t pid, Call call) {
        Duration pause = std::chrono::milliseconds(2);
        for (;;) {
            json arguments{{"pid", pid}};
            auto status = co_await request("guest-exec-status", arguments, call);
            if (status.is_object() && status.value("exited", false)) co_return status;
            check(call, *environment_.clock, "a command in the guest");
            auto next = Deadline::after(*environment_.clock, pause).earlier(call.deadline);
            co_await environment_.clock->sleep_until(next.when(), call.stop);
            pause = std::min<Duration>(pause * 3 / 2, std::chrono::milliseconds(50));
        }
    }

    Task<void> kill(std::int64_t pid) {
        try {
            co_await signal_in_guest(*this, pid, "KILL", grace());
        } catch (const Error&) {
            // The guest does not answer: there is nobody to kill for us.
        }
    }

    Deadline soon(Duration budget) const { return Deadline::after(*environment_.clock, budget); }

    /// A request within a turn. False when there was no answer; a refusal is an answer, but no success for who asks
    /// for a value.
    Task<bool> is_answered(std::string command, Call call, json* value) {
        bool refused = false;
        try {
            json none = json::object();
            auto answer = co_await exchange(command, none, call);
            if (value) *value = answer;
            co_return true;
        } catch (const Error& error) {
            refused = error.errc() == Errc::provider;
        }
        co_return refused && !value;
    }

    /// Within a turn.
    Task<json> exchange(std::string command, json arguments, Call call) {
        std::vector<AgentRequest> one{{std::move(command), std::move(arguments)}};
        auto answers = co_await exchange_all(std::move(one), call);
        if (answers.front().error) throw *answers.front().error;
        co_return std::move(answers.front().value);
    }

    /// Within a turn; sent at once, the agent answers in order. A refusal of one does not keep the others from being
    /// done.
    Task<std::vector<AgentAnswer>> exchange_all(std::vector<AgentRequest> requests, Call call) {
        std::vector<AgentAnswer> answers;
        if (requests.empty()) co_return answers;
        co_await synchronise(call);
        std::string text;
        for (auto& item : requests) {
            json message{{"execute", item.command}};
            if (!item.arguments.empty()) message["arguments"] = std::move(item.arguments);
            text += message.dump() + "\n";
        }
        // Until the last answer is here the stream is out of step.
        in_step_ = false;
        co_await connection_->write(text, call);
        for (const auto& item : requests) {
            auto line = co_await next_line(call);
            auto answer = parse_answer(line);
            if (!answer.is_object()) {
                disconnect();
                throw Error(Errc::provider, "the guest agent sent something that is no answer");
            }
            answers.push_back(answer_of(item.command, std::move(answer)));
        }
        in_step_ = true;
        co_return answers;
    }

    Task<AsyncMutex::Guard> take_turn(Call call) {
        try {
            co_return co_await one_at_a_time_.lock(*environment_.clock, call, "the guest agent");
        } catch (const Error& error) {
            if (error.errc() == Errc::timeout) throw silent("other requests were not answered either");
            throw;
        }
    }

    /// Connected, and the next line will be the answer to the next request.
    Task<void> synchronise(Call call) {
        if (!connection_ || !connection_->is_open()) connect();
        if (in_step_) co_return;
        auto id = next_id_++;
        json message{{"execute", "guest-sync-delimited"}, {"arguments", {{"id", id}}}};
        forget_lines();
        auto text = "\xff" + message.dump() + "\n";
        co_await connection_->write(text, call);
        for (;;) {
            auto line = co_await next_line(call);
            auto answer = parse_answer(line);
            if (answer.is_object() && answer.contains("return") && answer["return"] == id) break;
        }
        in_step_ = true;
    }

    void connect() {
        int fd = connect_unix(socket_path_);
        if (fd < 0) throw silent(std::strerror(errno));
        in_step_ = false;
        forget_lines();
        connection_ = std::make_shared<LineConnection>(environment_, fd, line_limit);
        std::weak_ptr<Agent> weak = weak_from_this();
        LineConnection::Handlers handlers;
        handlers.on_line = [weak](std::string line) {
            if (auto self = weak.lock()) self->take_line(std::move(line));
        };
        handlers.on_close = [weak] {
            if (auto self = weak.lock()) self->changed_.notify_all();
        };
        connection_->start(std::move(handlers));
    }

    /// A guest that talks without end is not listened to: the next request begins anew.
    void take_line(std::string line) {
        waiting_bytes_ += line.size() + 1;
        if (waiting_bytes_ > line_limit) disconnect();
        else lines_.push_back(std::move(line));
        changed_.notify_all();
    }

    void forget_lines() {
        lines_.clear();
        waiting_bytes_ = 0;
    }

    Task<std::string> next_line(Call call) {
        while (lines_.empty()) {
            if (!connection_ || !connection_->is_open()) throw silent("the connection ended");
            if (call.stop.stop_requested()) throw Error(Errc::cancelled, "cancelled: waiting for the guest agent");
            if (call.deadline.expired(*environment_.clock)) throw silent("out of time");
            co_await changed_.wait(*environment_.clock, call);
        }
        auto line = std::move(lines_.front());
        lines_.pop_front();
        waiting_bytes_ -= line.size() + 1;
        co_return line;
    }

    Environment environment_;
    std::string socket_path_;
    AsyncMutex one_at_a_time_;
    Signal changed_;
    std::shared_ptr<LineConnection> connection_;
    std::deque<std::string> lines_;
    std::size_t waiting_bytes_ = 0;  ///< of `lines_`
    bool in_step_ = false;
    std::int64_t next_id_ = 1;
};

}  // namespace

std::shared_ptr<QemuGuestAgent> make_guest_agent(Environment environment, std::string socket_path) {
    return std::make_shared<Agent>(std::move(environment), std::move(socket_path));
}

}  // namespace infrastructure_sdk::qemu
