#include "providers/qemu/guest_process.hpp"

#include <algorithm>
#include <array>

#include "core/base64.hpp"
#include "providers/qemu/guest_files.hpp"

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;

// "$1" nonce, "$2" folder, "$3" user, then the command. Words are handed on as words, never pasted into a script.
// setpriv becomes the command; util-linux's su would stay as its parent in another process group. busybox has no such
// setpriv, and its su becomes the command.
const char* const run_script = R"(nonce=$1 cwd=$2 user=$3; shift 3
inner='nonce=$1 cwd=$2; shift 2
if [ -n "$cwd" ]; then cd -- "$cwd" 2>/dev/null || { echo "$nonce directory" >&2; exit 125; }; fi
command -v -- "$1" >/dev/null 2>&1 || { echo "$nonce command" >&2; exit 125; }
command -v setsid >/dev/null 2>&1 && exec setsid "$@"
exec "$@"'
if [ -z "$user" ]; then exec sh -c "$inner" isdk "$nonce" "$cwd" "$@"; fi
group=$(id -g -- "$user" 2>/dev/null) || { echo "$nonce user" >&2; exit 125; }
case $(setpriv --help 2>&1) in *--reuid*)
  entry=$(getent passwd "$user"); rest=${entry%:*}
  export HOME="${rest##*:}" SHELL="${entry##*:}" USER="$user" LOGNAME="$user"
  exec setpriv --reuid="$user" --regid="$group" --init-groups sh -c "$inner" isdk "$nonce" "$cwd" "$@" ;;
esac
exec su -s /bin/sh -c "$inner" -- "$user" isdk "$nonce" "$cwd" "$@")";

// "$1" the folder for the output, then as above.
const char* const follow_script = R"(dir=$1; shift
before=$(umask); umask 077
mkdir "$dir" || exit 125
exec >"$dir/out" 2>"$dir/err"
umask "$before"
)";

std::vector<std::string> words_of(const std::string& script, std::vector<std::string> before,
                                  const ExecRequest& request, const std::string& nonce) {
    std::vector<std::string> words{"sh", "-c", script, "isdk"};
    words.insert(words.end(), before.begin(), before.end());
    words.insert(words.end(), {nonce, request.working_directory, request.user});
    words.insert(words.end(), request.arguments.begin(), request.arguments.end());
    return words;
}

class FollowedProcess final : public GuestProcess {
public:
    FollowedProcess(std::shared_ptr<AgentChannel> channel, ExecRequest request, std::int64_t pid, std::string nonce)
        : channel_(std::move(channel)), request_(std::move(request)), pid_(pid), nonce_(std::move(nonce)) {}

    /// Opens the files and removes their folder: what a dead owner leaves goes with the command.
    Task<void> open(std::string directory, Call call) {
        out_ = co_await open_when_there(directory + "/out", call);
        err_ = co_await open_when_there(directory + "/err", call);
        ExecRequest remove;
        remove.arguments = {"rm", "-rf", "--", directory};
        auto arguments = exec_arguments(remove, remove.arguments, false);
        remover_ = co_await spawn_in_guest(*channel_, arguments, call);
    }

    Task<ExecProgress> follow(Call call) override {
        Duration pause = std::chrono::milliseconds(2);
        const auto& clock = *channel_->environment().clock;
        for (;;) {
            auto progress = co_await look(call);
            if (progress.exit_code || !progress.stdout_data.empty() || !progress.stderr_data.empty())
                co_return progress;
            check(call, clock);
            auto next = Deadline::after(clock, pause).earlier(call.deadline);
            co_await channel_->environment().clock->sleep_until(next.when(), call.stop);
            pause = std::min<Duration>(pause * 3 / 2, std::chrono::milliseconds(50));
        }
    }

    Task<void> signal(std::string name, Call call) override {
        if (exit_code_) co_return;
        co_await signal_in_guest(*channel_, pid_, std::move(name), call);
    }

    Task<void> close(Call call) override {
        if (closed_) co_return;
        closed_ = true;
        std::exception_ptr failure;
        try {
            if (!exit_code_) co_await signal_in_guest(*channel_, pid_, "KILL", call);
        } catch (const Error&) {
            failure = std::current_exception();
        }
        if (out_) co_await close_guest_file(*channel_, *out_);
        if (err_) co_await close_guest_file(*channel_, *err_);
        if (remover_) co_await forget(*remover_);
        if (failure) std::rethrow_exception(failure);
    }

private:
    static void check(const Call& call, const Clock& clock) {
        if (call.stop.stop_requested()) throw Error(Errc::cancelled, "cancelled: following a command in the guest");
        if (call.deadline.expired(clock)) throw Error(Errc::timeout, "the command gave nothing in time");
    }

    Task<std::int64_t> open_when_there(std::string path, Call call) {
        Duration pause = std::chrono::milliseconds(1);
        auto clock = channel_->environment().clock;
        for (;;) {
            try {
                co_return co_await open_guest_file(*channel_, path, "r", call);
            } catch (const Error& error) {
                if (error.errc() != Errc::not_found) throw;
            }
            json arguments{{"pid", pid_}};
            auto status = co_await channel_->request("guest-exec-status", arguments, call);
            if (exit_code_of(status)) throw Error(Errc::provider, "the guest has no place for a command's output");
            check(call, *clock);
            auto next = Deadline::after(*clock, pause).earlier(call.deadline);
            co_await clock->sleep_until(next.when(), call.stop);
            pause = std::min<Duration>(pause * 2, std::chrono::milliseconds(20));
        }
    }

    /// What is there now. The end is looked for first: what was written before it is read after.
    Task<ExecProgress> look(Call call) {
        if (!exit_code_) {
            json arguments{{"pid", pid_}};
            auto status = co_await channel_->request("guest-exec-status", arguments, call);
            exit_code_ = exit_code_of(status);
        }
        ExecProgress progress;
        progress.stdout_data = co_await read_on(*channel_, out_.value(), part_limit, call);
        progress.stderr_data = co_await read_on(*channel_, err_.value(), part_limit, call);
        if (progress.stdout_data.size() < part_limit && progress.stderr_data.size() < part_limit)
            progress.exit_code = exit_code_;
        if (first_ && !progress.stderr_data.empty()) raise_refusal(progress.stderr_data, nonce_, request_);
        first_ = first_ && progress.stderr_data.empty();
        co_return progress;
    }

    /// The agent keeps what ended until it was asked about it.
    Task<void> forget(std::int64_t pid) {
        try {
            json arguments{{"pid", pid}};
            co_await channel_->request("guest-exec-status", arguments, channel_->grace());
        } catch (const Error&) {
            // It goes with the agent.
        }
    }

    std::shared_ptr<AgentChannel> channel_;
    ExecRequest request_;
    std::int64_t pid_;
    std::string nonce_;
    std::optional<std::int64_t> out_;
    std::optional<std::int64_t> err_;
    std::optional<std::int64_t> remover_;
    std::optional<int> exit_code_;
    bool first_ = true;
    bool closed_ = false;
};

}  // namespace

std::vector<std::string> run_words(const ExecRequest& request, const std::string& nonce) {
    if (request.user.empty() && request.working_directory.empty()) return request.arguments;
    return words_of(run_script, {}, request, nonce);
}

std::vector<std::string> follow_words(const ExecRequest& request, const std::string& nonce,
                                      const std::string& directory) {
    return words_of(std::string(follow_script) + run_script, {directory}, request, nonce);
}

void raise_refusal(const std::string& stderr_data, const std::string& nonce, const ExecRequest& request) {
    if (nonce.empty() || !stderr_data.starts_with(nonce + " ")) return;
    auto what = stderr_data.substr(nonce.size() + 1);
    what.erase(std::min(what.find('\n'), what.size()));
    const bool user = what == "user", folder = what == "directory";
    const auto value = user ? request.user : folder ? request.working_directory : request.arguments.front();
    throw Error(Errc::not_found,
                std::string("the guest has no ") +
                    (user     ? "user"
                     : folder ? "folder"
                              : "command") +
                    " '" + value + "'",
                {{"field", user     ? "user"
                           : folder ? "cwd"
                                    : "arguments"},
                 {"value", value}});
}

json exec_arguments(const ExecRequest& request, std::vector<std::string> words, bool capture) {
    auto refuse = [](const std::string& field, const std::string& value, const std::string& allowed) {
        throw Error(Errc::validation, "exec: " + field + ": '" + value + "' is not allowed; " + allowed,
                    {{"field", field}, {"value", value}, {"allowed", allowed}});
    };
    if (request.arguments.empty() || request.arguments.front().empty())
        throw Error(Errc::validation, "exec: a command is needed",
                    {{"field", "arguments"}, {"allowed", "at least one word"}});
    const auto& folder = request.working_directory;
    if (!folder.empty() && (folder.front() != '/' || folder.find('\0') != std::string::npos))
        refuse("cwd", folder, "an absolute path in the guest");
    const auto& user = request.user;
    // What is special to a shell or to an option has no place in a name that reaches su.
    constexpr const char* allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (user.find_first_not_of(allowed) != std::string::npos || user.size() > 64 || user.starts_with("-"))
        refuse("user", user.substr(0, 100), "letters, digits, '.', '_' and '-', at most 64");
    json arguments{{"path", words.front()},
                   {"arg", std::vector<std::string>(words.begin() + 1, words.end())},
                   {"capture-output", capture}};
    if (!request.stdin_data.empty()) arguments["input-data"] = base64_encode(request.stdin_data);
    if (!request.environment.empty()) {
        auto list = json::array();
        for (const auto& entry : request.environment) list.push_back(entry.first + "=" + entry.second);
        arguments["env"] = std::move(list);
    }
    return arguments;
}

Task<std::int64_t> spawn_in_guest(AgentChannel& channel, json arguments, Call call) {
    const auto program = arguments["path"].get<std::string>();
    json answer;
    try {
        answer = co_await channel.request("guest-exec", std::move(arguments), call);
    } catch (const Error& error) {
        if (error.errc() == Errc::provider && error.remote_message().find("No such file") != std::string::npos)
            throw Error(Errc::not_found, "the guest has no command '" + program + "'",
                        {{"field", "arguments"}, {"value", program}});
        throw;
    }
    if (!answer.is_object() || !answer.contains("pid") || !answer["pid"].is_number_integer())
        throw Error(Errc::provider, "the guest agent gave no process id");
    co_return answer["pid"].get<std::int64_t>();
}

std::optional<int> exit_code_of(const json& status) {
    if (!status.is_object()) throw Error(Errc::provider, "the guest agent described a command wrongly");
    if (!status.value("exited", false)) return std::nullopt;
    if (auto code = status.find("exitcode"); code != status.end() && code->is_number_integer()) return code->get<int>();
    if (auto signal = status.find("signal"); signal != status.end() && signal->is_number_integer())
        return 128 + signal->get<int>();
    return 0;
}

Task<void> signal_in_guest(AgentChannel& channel, std::int64_t pid, std::string signal, Call call) {
    constexpr std::array<const char*, 9> known{"TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT"};
    if (std::find(known.begin(), known.end(), signal) == known.end())
        throw Error(Errc::validation,
                    "signal: '" + signal + "' is not allowed; TERM, KILL, INT, HUP, QUIT, USR1, USR2, STOP, CONT",
                    {{"field", "signal"}, {"value", signal}});
    // The whole group where the command leads one.
    ExecRequest request;
    request.arguments = {"sh",   "-c",   R"(kill "-$1" "-$2" 2>/dev/null || kill "-$1" "$2" 2>/dev/null)",
                         "isdk", signal, std::to_string(pid)};
    auto arguments = exec_arguments(request, request.arguments, false);
    auto killer = co_await spawn_in_guest(channel, arguments, call);
    Duration pause = std::chrono::milliseconds(2);
    for (;;) {
        json question{{"pid", killer}};
        auto status = co_await channel.request("guest-exec-status", question, call);
        if (exit_code_of(status)) co_return;
        auto clock = channel.environment().clock;
        if (call.stop.stop_requested()) throw Error(Errc::cancelled, "cancelled: signalling a command in the guest");
        if (call.deadline.expired(*clock)) throw Error(Errc::timeout, "signalling a command took too long");
        auto next = Deadline::after(*clock, pause).earlier(call.deadline);
        co_await clock->sleep_until(next.when(), call.stop);
        pause = std::min<Duration>(pause * 2, std::chrono::milliseconds(20));
    }
}

std::string random_name(const Environment& environment) {
    std::array<std::uint8_t, 16> bytes{};
    environment.random->fill(bytes);
    std::string text;
    for (auto byte : bytes)
        for (auto half : {byte >> 4, byte & 0xf}) text += "0123456789abcdef"[half];
    return text;
}

Task<std::shared_ptr<GuestProcess>> start_in_guest(std::shared_ptr<AgentChannel> channel, ExecRequest request,
                                                   Call call) {
    auto nonce = random_name(channel->environment());
    auto directory = "/tmp/.isdk-" + random_name(channel->environment());
    auto words = follow_words(request, nonce, directory);
    auto arguments = exec_arguments(request, words, false);
    auto pid = co_await spawn_in_guest(*channel, arguments, call);
    auto process = std::make_shared<FollowedProcess>(channel, std::move(request), pid, nonce);
    std::exception_ptr failure;
    try {
        co_await process->open(directory, call);
    } catch (const Error&) {
        failure = std::current_exception();
    }
    if (!failure) co_return process;
    try {
        co_await process->close(channel->grace());
    } catch (const Error&) {
        // What went wrong first is told.
    }
    std::rethrow_exception(failure);
}

}  // namespace infrastructure_sdk::qemu
