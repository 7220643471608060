// The sockets that a process holds, by the tables of its own network namespace and of ours: a descriptor may come from
// either.

#include <algorithm>
#include <filesystem>
#include <span>

#include <sys/stat.h>
#include <unistd.h>

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

struct Table {
    const char* name;
    std::size_t column;  ///< of the inode
    bool needed = false;
};
/// Those of the internet are long to read, and those of other protocols change seldom.
constexpr Table others[] = {{"tcp", 9, true}, {"tcp6", 9}, {"udp", 9},   {"udp6", 9},    {"raw", 9},
                            {"raw6", 9},      {"icmp", 9}, {"icmp6", 9}, {"netlink", 9}, {"packet", 8}};
constexpr Table local[] = {{"unix", 6, true}};

Tables read_tables(const std::string& directory, std::span<const Table> list) {
    Tables tables;
    for (const auto& table : list) {
        const std::string name = table.name, path = directory + "/" + name;
        auto file = read_file(path);
        // A kernel without the protocol has no such table.
        if (file.error == ENOENT && !table.needed) continue;
        auto inodes = file.text ? parse_socket_inodes(*file.text, table.column) : std::nullopt;
        if (!inodes) {
            tables.why = path + " cannot be read";
            return tables;
        }
        tables.known.insert(inodes->begin(), inodes->end());
        bool understood = true;
        if (name.starts_with("tcp")) {
            auto listeners = parse_tcp_listeners(*file.text);
            understood = listeners.has_value();
            if (listeners) tables.tcp.insert(tables.tcp.end(), listeners->begin(), listeners->end());
        } else if (name == "unix") {
            auto listeners = parse_unix_listeners(*file.text);
            understood = listeners.has_value();
            if (listeners) tables.local = std::move(*listeners);
        }
        if (!understood) tables.why = path + " makes no sense";
    }
    return tables;
}

using TablesPtr = std::shared_ptr<const Tables>;

/// Empty when it cannot be told.
std::string network_of(const std::string& process) {
    char space[64];
    auto size = ::readlink((process + "/ns/net").c_str(), space, sizeof space);
    return std::string(space, static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
}

/// Of the network namespace of `process`: once for all who are in it, or anew.
TablesPtr tables_of(RoundReadings& round, const std::string& process, std::span<const Table> list, bool anew) {
    auto read = [&] { return read_tables(process + "/net", list); };
    if (auto space = network_of(process); !anew && !space.empty()) {
        auto shared = round.once(list.front().name + (" and more of " + space), read);
        // What another process would not tell this one may.
        if (shared->why.empty()) return shared;
    }
    return std::make_shared<const Tables>(read());
}

/// Of its own network namespace and of ours.
std::vector<TablesPtr> all_tables(const ProcessSubject& subject, Freshness freshness) {
    const auto own = "/proc/" + std::to_string(subject.pid), ours = std::string("/proc/self");
    std::vector<std::string> processes{own};
    if (auto space = network_of(own); space.empty() || space != network_of(ours)) processes.push_back(ours);
    std::vector<TablesPtr> all;
    for (const auto& process : processes) {
        all.push_back(tables_of(*subject.round, process, others, freshness == Freshness::all));
        all.push_back(tables_of(*subject.round, process, local, freshness != Freshness::none));
    }
    return all;
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

Reading read_sockets_of(const ProcessSubject& subject, const std::vector<OpenFile>& files, Freshness freshness) {
    const auto all = all_tables(subject, freshness);
    for (const auto& tables : all)
        if (!tables->why.empty()) return could_not(tables->why);
    std::set<std::uint64_t> held;
    for (const auto& file : files)
        if (file.target.starts_with("socket:[")) held.insert(std::strtoull(file.target.c_str() + 8, nullptr, 10));
    json value{{"tcp", json::array()}, {"unix", json::array()}, {"strange", 0u}};
    std::uint64_t strange = 0;
    for (auto inode : held)
        strange += std::none_of(all.begin(), all.end(), [&](const auto& each) { return each->known.contains(inode); });
    value["strange"] = strange;
    std::set<std::uint64_t> shown_already;
    for (const auto& tables : all) {
        for (const auto& listener : tables->tcp)
            if (held.contains(listener.inode) && shown_already.insert(listener.inode).second)
                value["tcp"].push_back({{"address", listener.address}, {"port", listener.port}});
        for (const auto& listener : tables->local)
            if (held.contains(listener.inode) && shown_already.insert(listener.inode).second)
                value["unix"].push_back(shown(subject, listener.path));
    }
    return {value, {}};
}

}  // namespace infrastructure_sdk::isolation
