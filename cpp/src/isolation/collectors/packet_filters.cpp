#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <net/if.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/network_visit.hpp"
#include "isolation/collectors/reading.hpp"

namespace infrastructure_sdk::isolation {

std::optional<std::string> output_of(std::vector<std::string> command) {
    std::vector<char*> arguments;
    for (auto& word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    std::string path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", locale = "LC_ALL=C";
    std::array<char*, 3> environment{path.data(), locale.data(), nullptr};
    int out[2];
    if (::pipe2(out, O_CLOEXEC) != 0) return std::nullopt;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    pid_t pid = 0;
    int code = ::posix_spawn(&pid, command[0].c_str(), &actions, nullptr, arguments.data(), environment.data());
    posix_spawn_file_actions_destroy(&actions);
    ::close(out[1]);
    std::string text;
    char part[16384];
    for (ssize_t got = 1; code == 0 && got != 0;) {
        got = ::read(out[0], part, sizeof part);
        if (got < 0 && errno != EINTR) break;
        if (got > 0 && text.size() < (16u << 20)) text.append(part, static_cast<std::size_t>(got));
    }
    ::close(out[0]);
    if (code != 0) return std::nullopt;
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? std::optional(std::move(text)) : std::nullopt;
}

std::string program(const char* name) {
    for (const char* folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"})
        if (auto path = std::string(folder) + name; ::access(path.c_str(), X_OK) == 0) return path;
    return {};
}

Reading read_nft() {
    auto path = program("nft");
    if (path.empty()) return could_not("nft is not installed");
    auto text = output_of({path, "-j", "list", "ruleset"});
    auto value = nlohmann::json::parse(text.value_or(""), nullptr, false);
    if (value.is_discarded()) return could_not("nft does not list its ruleset");
    return {value, {}};
}

Reading read_iptables() {
    auto path = program("iptables-save");
    if (path.empty()) return could_not("iptables-save is not installed");
    auto text = output_of({path});
    if (!text) return could_not("iptables-save does not list its rules");
    return {nlohmann::json(*text), {}};
}

Reading read_uplinks(std::int64_t pid) {
    auto path = program("ip");
    if (path.empty()) return could_not("ip is not installed");
    std::optional<std::string> text;
    try {
        NetworkVisit visit(pid, [] { return true; });
        if (!visit.is_away()) return {nlohmann::json::array(), {}};
        text = output_of({path, "-j", "link", "show", "type", "veth"});
    } catch (const std::exception& error) {
        return could_not(std::string("its network namespace cannot be entered: ") + error.what());
    }
    auto links = nlohmann::json::parse(text.value_or("?"), nullptr, false);
    if (!links.is_array()) return could_not("ip does not list its links");
    auto names = nlohmann::json::array();
    for (const auto& link : links) {
        // An empty list is written as a list of one empty object.
        if (!link.is_object() || !link.contains("link_index") || !link["link_index"].is_number_unsigned()) continue;
        char name[IF_NAMESIZE];
        if (!::if_indextoname(link["link_index"].get<unsigned>(), name))
            return could_not("the other end of one of its links is not in this network namespace");
        names.push_back(name);
    }
    return {names, {}};
}

}  // namespace infrastructure_sdk::isolation
