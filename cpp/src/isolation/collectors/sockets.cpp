// The sockets that a process holds, by the tables of its own network namespace and of ours: a descriptor may come from
// either.

#include <filesystem>

#include <sys/stat.h>

#include "isolation/collectors/reading.hpp"

namespace infrastructure_sdk::isolation {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

struct Tables {
    std::set<std::uint64_t> known;
    std::vector<TcpListener> tcp;
    std::vector<UnixListener> local;
    std::string why;
};

void read_tables(const std::string& directory, Tables& tables) {
    struct Table {
        const char* name;
        std::size_t column;
    };
    for (auto table :
         {Table{"tcp", 9}, Table{"tcp6", 9}, Table{"udp", 9}, Table{"udp6", 9}, Table{"raw", 9}, Table{"raw6", 9},
          Table{"icmp", 9}, Table{"icmp6", 9}, Table{"netlink", 9}, Table{"packet", 8}, Table{"unix", 6}}) {
        auto file = read_file(directory + "/" + table.name);
        // A kernel without the protocol has no such table.
        if (file.error == ENOENT && table.name != std::string("tcp") && table.name != std::string("unix")) continue;
        auto inodes = file.text ? parse_socket_inodes(*file.text, table.column) : std::nullopt;
        if (!inodes) {
            tables.why = directory + "/" + table.name + " cannot be read";
            return;
        }
        tables.known.insert(inodes->begin(), inodes->end());
        bool understood = true;
        if (std::string(table.name).starts_with("tcp")) {
            auto listeners = parse_tcp_listeners(*file.text);
            understood = listeners.has_value();
            if (listeners) tables.tcp.insert(tables.tcp.end(), listeners->begin(), listeners->end());
        } else if (table.name == std::string("unix")) {
            auto listeners = parse_unix_listeners(*file.text);
            understood = listeners.has_value();
            if (listeners) tables.local.insert(tables.local.end(), listeners->begin(), listeners->end());
        }
        if (!understood) tables.why = directory + "/" + table.name + " makes no sense";
    }
}

/// Where the file of a socket may be: its path as the process sees it; or, when whoever made it did so through a
/// descriptor of the folder ("/proc/self/fd/N/name"), the VM's folder and the one around it.
std::vector<fs::path> places(const ProcessSubject& subject, const fs::path& path) {
    auto base = "/proc/" + std::to_string(subject.pid);
    if (path.string().starts_with("/proc/")) {
        if (subject.vm_directory.empty()) return {};
        fs::path folder = subject.vm_directory;
        return {folder / path.filename(), folder.parent_path() / path.filename()};
    }
    if (path.is_absolute()) return {fs::path(base + "/root") += path, path};
    return {fs::path(base) / "cwd" / path};
}

json shown(const ProcessSubject& subject, const std::string& path) {
    json item{{"path", path}, {"mode", nullptr}, {"folder_mode", nullptr}};
    if (path.starts_with("@")) return item;
    for (const auto& place : places(subject, path)) {
        struct stat file{}, folder{};
        if (::stat(place.c_str(), &file) != 0 || !S_ISSOCK(file.st_mode)) continue;
        if (::stat(place.parent_path().c_str(), &folder) != 0) continue;
        item["mode"] = file.st_mode & 07777u;
        item["folder_mode"] = folder.st_mode & 07777u;
        break;
    }
    return item;
}

}  // namespace

Reading read_sockets_of(const ProcessSubject& subject, const std::vector<OpenFile>& files) {
    Tables tables;
    read_tables("/proc/" + std::to_string(subject.pid) + "/net", tables);
    if (tables.why.empty()) read_tables("/proc/self/net", tables);
    if (!tables.why.empty()) return could_not(tables.why);
    std::set<std::uint64_t> held;
    for (const auto& file : files)
        if (file.target.starts_with("socket:[")) held.insert(std::strtoull(file.target.c_str() + 8, nullptr, 10));
    json value{{"tcp", json::array()}, {"unix", json::array()}, {"strange", 0u}};
    std::uint64_t strange = 0;
    for (auto inode : held) strange += !tables.known.contains(inode);
    value["strange"] = strange;
    std::set<std::uint64_t> shown_already;
    for (const auto& listener : tables.tcp)
        if (held.contains(listener.inode) && shown_already.insert(listener.inode).second)
            value["tcp"].push_back({{"address", listener.address}, {"port", listener.port}});
    for (const auto& listener : tables.local)
        if (held.contains(listener.inode) && shown_already.insert(listener.inode).second)
            value["unix"].push_back(shown(subject, listener.path));
    return {value, {}};
}

}  // namespace infrastructure_sdk::isolation
