#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/network_visit.hpp"
#include "isolation/collectors/reading.hpp"
#include "isolation/packet_rules.hpp"

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
    auto second = program("ip6tables-save");
    auto rules = second.empty() ? std::nullopt : output_of({second});
    if (rules) *text += std::string("\n") + ipv6_part + "\n" + *rules;
    return {nlohmann::json(*text), {}};
}

namespace {

/// The index of the other end when the message is about a veth; 0 otherwise.
unsigned other_end(const nlmsghdr& message) {
    const auto* about = static_cast<const ifinfomsg*>(NLMSG_DATA(&message));
    auto left = static_cast<int>(message.nlmsg_len - NLMSG_LENGTH(sizeof *about));
    unsigned end = 0;
    bool veth = false;
    for (const auto* part = IFLA_RTA(about); RTA_OK(part, left); part = RTA_NEXT(part, left)) {
        if (part->rta_type == IFLA_LINK && RTA_PAYLOAD(part) == sizeof end)
            std::memcpy(&end, RTA_DATA(part), sizeof end);
        if ((part->rta_type & NLA_TYPE_MASK) != IFLA_LINKINFO) continue;
        auto inner = static_cast<int>(RTA_PAYLOAD(part));
        for (const auto* kind = static_cast<const rtattr*>(RTA_DATA(part)); RTA_OK(kind, inner);
             kind = RTA_NEXT(kind, inner))
            if (kind->rta_type == IFLA_INFO_KIND)
                veth = std::string(static_cast<const char*>(RTA_DATA(kind)), RTA_PAYLOAD(kind)).starts_with("veth");
    }
    return veth ? end : 0;
}

/// Of every veth of the network namespace that this thread is in; nullopt when the kernel does not tell.
std::optional<std::vector<unsigned>> other_ends() {
    const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) return std::nullopt;
    struct {
        nlmsghdr header;
        ifinfomsg about;
    } request{};
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = RTM_GETLINK;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    std::vector<unsigned> ends;
    bool whole = false;
    alignas(nlmsghdr) std::array<char, 32768> bytes;
    for (ssize_t size = ::send(fd, &request, sizeof request, 0); size > 0 && !whole;) {
        size = ::recv(fd, bytes.data(), bytes.size(), 0);
        auto left = static_cast<unsigned>(std::max<ssize_t>(size, 0));
        for (auto* at = reinterpret_cast<nlmsghdr*>(bytes.data()); size > 0 && NLMSG_OK(at, left);
             at = NLMSG_NEXT(at, left)) {
            if (at->nlmsg_type == NLMSG_ERROR || (at->nlmsg_flags & NLM_F_DUMP_INTR) != 0) size = 0;
            if (at->nlmsg_type == NLMSG_DONE) whole = true;
            if (at->nlmsg_type != RTM_NEWLINK) continue;
            if (auto end = other_end(*at); end != 0) ends.push_back(end);
        }
    }
    ::close(fd);
    return whole ? std::optional(std::move(ends)) : std::nullopt;
}

}  // namespace

bool is_process(std::int64_t pid, std::uint64_t start_time_ticks) {
    auto stat = read_file("/proc/" + std::to_string(pid) + "/stat").text;
    return stat && parse_start_time(*stat) == start_time_ticks;
}

Reading read_uplinks(const ProcessSubject& subject) {
    std::optional<std::vector<unsigned>> ends;
    try {
        NetworkVisit visit(subject.pid, [&] { return is_process(subject.pid, subject.start_time_ticks); });
        if (!visit.is_away()) return {nlohmann::json::array(), {}};
        ends = other_ends();
    } catch (const std::exception& error) {
        return could_not(std::string("its network namespace cannot be entered: ") + error.what());
    }
    if (!ends) return could_not("the kernel does not list its links");
    auto names = nlohmann::json::array();
    for (auto end : *ends) {
        char name[IF_NAMESIZE];
        if (!::if_indextoname(end, name))
            return could_not("the other end of one of its links is not in this network namespace");
        names.push_back(name);
    }
    return {names, {}};
}

}  // namespace infrastructure_sdk::isolation
