#include "providers/qemu/guest_files.hpp"

#include <algorithm>
#include <cstdint>
#include <sstream>

#include "core/base64.hpp"

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;

Error of_part(const char* field, std::size_t value) {
    return Error(Errc::validation, std::string(field) + ": " + std::to_string(value) + " bytes; at most 1 MiB",
                 {{"field", field}, {"value", std::to_string(value)}, {"allowed", "at most 1 MiB"}});
}

void check_offset(std::uint64_t offset) {
    if (offset > static_cast<std::uint64_t>(INT64_MAX))
        throw Error(Errc::validation, "offset: " + std::to_string(offset) + " is not allowed; below 2^63",
                    {{"field", "offset"}, {"value", std::to_string(offset)}});
}

AgentRequest seek(std::int64_t handle, std::uint64_t offset) {
    return {"guest-file-seek", json{{"handle", handle}, {"offset", offset}, {"whence", "set"}}};
}

std::string bytes_of(const json& part, bool& end) {
    auto bytes = part.is_object() ? base64_decode(part.value("buf-b64", "")) : std::nullopt;
    if (!bytes) throw Error(Errc::provider, "the guest agent's file data is not base64");
    end = part.value("eof", false) || bytes->empty();
    return std::move(*bytes);
}

void raise_first(const std::vector<AgentAnswer>& answers) {
    for (const auto& answer : answers)
        if (answer.error) throw *answer.error;
}

const char* type_of(std::uint32_t mode) {
    // The values of <linux/stat.h>: the guest's, whatever the host is.
    switch (mode & 0170000) {
        case 0100000: return "file";
        case 0040000: return "directory";
        case 0120000: return "link";
        default: return "other";
    }
}

}  // namespace

void check_guest_path(const std::string& path) {
    if (path.empty() || path.front() != '/' || path.find('\0') != std::string::npos)
        throw Error(Errc::validation, "path: '" + path + "' is not an absolute path in the guest",
                    {{"field", "path"}, {"value", path}, {"allowed", "an absolute path"}});
}

Task<std::int64_t> open_guest_file(AgentChannel& channel, std::string path, std::string mode, Call call) {
    check_guest_path(path);
    json arguments{{"path", path}, {"mode", mode}};
    try {
        auto answer = co_await channel.request("guest-file-open", arguments, call);
        if (!answer.is_number_integer()) throw Error(Errc::provider, "the guest agent gave no file handle");
        co_return answer.get<std::int64_t>();
    } catch (const Error& error) {
        // The agent's words are the C library's; there is no code beside them.
        if (error.errc() == Errc::provider && error.remote_message().find("No such file") != std::string::npos)
            throw Error(Errc::not_found, "the guest has no file " + path, {{"field", "path"}, {"value", path}});
        throw;
    }
}

Task<void> close_guest_file(AgentChannel& channel, std::int64_t handle) {
    try {
        json arguments{{"handle", handle}};
        co_await channel.request("guest-file-close", arguments, channel.grace());
    } catch (const Error&) {
        // The handle dies with the agent.
    }
}

Task<std::string> read_on(AgentChannel& channel, std::int64_t handle, std::size_t limit, Call call) {
    std::string bytes;
    for (bool end = false; !end && bytes.size() < limit;) {
        json arguments{{"handle", handle}, {"count", std::min(file_chunk, limit - bytes.size())}};
        auto part = co_await channel.request("guest-file-read", arguments, call);
        bytes += bytes_of(part, end);
    }
    co_return bytes;
}

Task<std::string> read_guest_part(AgentChannel& channel, std::string path, std::uint64_t offset, std::size_t limit,
                                  Call call) {
    check_offset(offset);
    if (limit == 0 || limit > part_limit) throw of_part("limit_bytes", limit);
    auto handle = co_await open_guest_file(channel, std::move(path), "r", call);
    std::string bytes;
    std::exception_ptr failure;
    try {
        std::vector<AgentRequest> requests{seek(handle, offset)};
        for (std::size_t at = 0; at < limit; at += file_chunk)
            requests.push_back(
                {"guest-file-read", json{{"handle", handle}, {"count", std::min(file_chunk, limit - at)}}});
        auto answers = co_await channel.request_all(std::move(requests), call);
        raise_first(answers);
        bool end = false;
        for (std::size_t i = 1; i < answers.size() && !end; ++i) bytes += bytes_of(answers[i].value, end);
    } catch (...) {
        failure = std::current_exception();
    }
    co_await close_guest_file(channel, handle);
    if (failure) std::rethrow_exception(failure);
    co_return bytes;
}

Task<void> write_guest_part(AgentChannel& channel, std::string path, std::uint64_t offset, std::string bytes,
                            Call call) {
    check_offset(offset);
    if (bytes.size() > part_limit) throw of_part("bytes", bytes.size());
    auto handle = co_await open_guest_file(channel, path, offset == 0 ? "w" : "r+", call);
    std::exception_ptr failure;
    try {
        if (offset > 0) {
            json arguments{{"handle", handle}, {"offset", 0}, {"whence", "end"}};
            auto end = co_await channel.request("guest-file-seek", arguments, call);
            const auto there = end.is_object() ? end.value("position", std::uint64_t{0}) : 0;
            if (there < offset)
                throw Error(Errc::conflict,
                            path + " has " + std::to_string(there) + " bytes: it cannot be gone on with at " +
                                std::to_string(offset),
                            {{"field", "offset"}, {"value", std::to_string(offset)}, {"size", std::to_string(there)}});
        }
        if (offset > 0) {
            auto back = seek(handle, offset);
            co_await channel.request(back.command, back.arguments, call);
        }
        // One after the other: the port stalls when much more than a chunk is on its way to the guest.
        for (std::size_t at = 0; at < bytes.size();) {
            json arguments{{"handle", handle},
                           {"buf-b64", base64_encode(std::string_view(bytes).substr(at, file_chunk))}};
            auto part = co_await channel.request("guest-file-write", arguments, call);
            auto count = part.is_object() ? part.value("count", std::int64_t{0}) : 0;
            if (count <= 0)
                throw Error(Errc::provider, "the guest wrote only a part of " + path + ": its disk may be full");
            at += static_cast<std::size_t>(count);
        }
        json flush{{"handle", handle}};
        co_await channel.request("guest-file-flush", flush, call);
    } catch (...) {
        failure = std::current_exception();
    }
    co_await close_guest_file(channel, handle);
    if (failure) std::rethrow_exception(failure);
}

// Names come from the shell's patterns, because a line feed in a name would forge a line of any listing; xargs keeps
// long lists off one command line.
const char* const list_script = R"(cd -- "$1" 2>/dev/null || { [ -e "$1" ] && exit 4; exit 3; }
set -- .[!.]* ..?* *
names() { for name in "$@"; do if [ -e "$name" ] || [ -L "$name" ]; then printf "$form" "$name"; fi; done; }
form='%s\0'; names "$@"; printf '\0'
form='./%s\0'; names "$@" | xargs -0 -r stat -c '%f %s %Y'
exit 0)";

std::optional<std::vector<GuestFileEntry>> parse_listing(const std::string& output) {
    std::vector<GuestFileEntry> entries;
    std::size_t at = 0;
    for (;;) {
        auto end = output.find('\0', at);
        if (end == std::string::npos) return std::nullopt;
        if (end == at) break;
        auto name = output.substr(at, end - at);
        if (name.find('/') != std::string::npos || name == "." || name == "..") return std::nullopt;
        entries.push_back({std::move(name), "", 0, 0, 0});
        at = end + 1;
    }
    std::istringstream lines(output.substr(at + 1));
    for (auto& entry : entries) {
        std::uint32_t mode = 0;
        lines >> std::hex >> mode >> std::dec >> entry.size_bytes >> entry.modified_at;
        if (!lines) return std::nullopt;
        entry.type = type_of(mode);
        entry.mode = mode & 07777;
    }
    std::string more;
    if (lines >> more) return std::nullopt;
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    return entries;
}

}  // namespace infrastructure_sdk::qemu
