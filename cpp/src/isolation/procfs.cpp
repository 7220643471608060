#include "isolation/procfs.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <sstream>

#include <arpa/inet.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "isolation/collectors/reading.hpp"

namespace infrastructure_sdk::isolation {
namespace fs = std::filesystem;
namespace {

std::optional<std::uint64_t> number(std::string_view word, int base) {
    std::uint64_t value = 0;
    auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, base);
    if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
    return value;
}

constexpr const char* blanks = " \t";

/// Off the front of the line.
std::string_view next_word(std::string_view& line) {
    line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size()));
    auto word = line.substr(0, line.find_first_of(blanks));
    line.remove_prefix(word.size());
    return word;
}

/// Off the front of the text.
std::string_view next_line(std::string_view& text) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    return line;
}

/// The words after "Name:" on its line.
std::optional<std::vector<std::string>> line_of(std::string_view text, const std::string& name) {
    while (!text.empty()) {
        auto line = next_line(text);
        if (!line.starts_with(name)) continue;
        line.remove_prefix(name.size());
        std::vector<std::string> words;
        for (auto word = next_word(line); !word.empty(); word = next_word(line)) words.emplace_back(word);
        return words;
    }
    return std::nullopt;
}

std::optional<std::uint64_t> single(std::string_view text, const std::string& name, int base) {
    auto words = line_of(text, name);
    if (!words || words->size() != 1) return std::nullopt;
    return number(words->front(), base);
}

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
    std::vector<std::string_view> parts;
    while (!text.empty()) {
        auto end = std::min(text.find_first_of(separators), text.size());
        if (end > 0) parts.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return parts;
}

/// "0100007F" and the like of /proc/net/tcp: words of 32 bits in the order of this machine.
std::optional<std::string> address_of(std::string_view hex) {
    if (hex.size() != 8 && hex.size() != 32) return std::nullopt;
    std::uint32_t words[4] = {};
    for (std::size_t i = 0; i < hex.size() / 8; ++i) {
        auto word = number(hex.substr(i * 8, 8), 16);
        if (!word) return std::nullopt;
        words[i] = static_cast<std::uint32_t>(*word);
    }
    char text[INET6_ADDRSTRLEN] = {};
    if (!::inet_ntop(hex.size() == 8 ? AF_INET : AF_INET6, words, text, sizeof text)) return std::nullopt;
    return text;
}

/// What is in a directory; nullopt when the list cannot be read to its end, e.g. because the process ended meanwhile.
std::optional<std::vector<fs::path>> entries_of(const std::string& directory) {
    std::vector<fs::path> entries;
    std::error_code error;
    fs::directory_iterator at(directory, error);
    // The iterator of a range-for throws when a later step fails.
    for (; !error && at != fs::directory_iterator(); at.increment(error)) entries.push_back(at->path());
    if (error) return std::nullopt;
    return entries;
}

}  // namespace

std::optional<bool> has_acl(const std::string& path) {
    auto size = ::getxattr(path.c_str(), "system.posix_acl_access", nullptr, 0);
    if (size < 0 && errno != ENODATA && errno != ENOTSUP) return std::nullopt;
    return size > 0;
}

std::optional<ThreadStatus> parse_thread_status(std::string_view text) {
    ThreadStatus status;
    auto uids = line_of(text, "Uid:");
    auto effective = single(text, "CapEff:", 16), bounding = single(text, "CapBnd:", 16);
    auto privileges = single(text, "NoNewPrivs:", 10), seccomp = single(text, "Seccomp:", 10);
    if (!uids || uids->size() != 4 || !effective || !bounding || !privileges || !seccomp || *seccomp > 2)
        return std::nullopt;
    for (const auto& word : *uids) {
        auto uid = number(word, 10);
        if (!uid) return std::nullopt;
        status.uids.push_back(*uid);
    }
    status.effective_capabilities = *effective;
    status.bounding_capabilities = *bounding;
    status.no_new_privileges = *privileges == 1;
    status.seccomp = static_cast<int>(*seccomp);
    status.swap_kb = status_kilobytes(text, "VmSwap:");
    status.huge_kb = status_kilobytes(text, "HugetlbPages:");
    // A line that was cut off could name fewer processors.
    auto start = text.find("\nCpus_allowed_list:");
    auto end = start == std::string_view::npos ? start : text.find('\n', start + 1);
    auto cpus = end == std::string_view::npos ? std::nullopt : line_of(text, "Cpus_allowed_list:");
    if (cpus && cpus->size() == 1) status.cpus = parse_cpu_list(cpus->front()).value_or(status.cpus);
    return status;
}

std::optional<KsmStat> parse_ksm_stat(std::string_view text) {
    auto pages = line_of(text, "ksm_merging_pages");
    auto merge_any = line_of(text, "ksm_merge_any:"), mergeable = line_of(text, "ksm_mergeable:");
    auto answer = [](const auto& words) {
        return words && words->size() == 1 && (words->front() == "yes" || words->front() == "no");
    };
    if (!pages || pages->size() != 1 || !answer(merge_any) || !answer(mergeable)) return std::nullopt;
    auto count = number(pages->front(), 10);
    if (!count) return std::nullopt;
    return KsmStat{merge_any->front() == "yes", mergeable->front() == "yes", *count};
}

std::optional<std::optional<std::uint64_t>> parse_core_limit(std::string_view limits) {
    auto words = line_of(limits, "Max core file size");
    if (!words || words->size() < 2) return std::nullopt;
    if (words->front() == "unlimited") return std::optional<std::uint64_t>();
    auto value = number(words->front(), 10);
    if (!value) return std::nullopt;
    return std::optional<std::uint64_t>(*value);
}

std::optional<std::uint64_t> status_kilobytes(std::string_view status, const std::string& name) {
    auto start = status.find("\n" + name);
    if (start == std::string_view::npos) return std::nullopt;
    auto line = status.substr(start + 1 + name.size());
    auto end = line.find('\n');
    if (end == std::string_view::npos) return std::nullopt;
    auto words = split(line.substr(0, end), " \t");
    return words.size() == 2 && words[1] == "kB" ? number(words[0], 10) : std::nullopt;
}

std::optional<std::vector<std::uint64_t>> parse_cpu_list(std::string_view text) {
    std::vector<std::uint64_t> cpus;
    for (const auto& part : split(text, ",\n")) {
        auto dash = part.find('-');
        auto first = number(part.substr(0, dash), 10);
        auto last = dash == std::string::npos ? first : number(part.substr(dash + 1), 10);
        if (!first || !last || *last < *first || *last > 65535) return std::nullopt;
        for (auto cpu = *first; cpu <= *last; ++cpu) cpus.push_back(cpu);
    }
    return cpus.empty() ? std::nullopt : std::optional(cpus);
}

std::optional<std::vector<std::uint64_t>> parse_socket_inodes(std::string_view table, std::size_t column) {
    std::vector<std::uint64_t> inodes;
    if (table.empty()) return std::nullopt;
    next_line(table);
    while (!table.empty()) {
        auto line = next_line(table);
        auto fields = split(line, " \t");
        auto inode = fields.size() > column ? number(fields[column], 10) : std::nullopt;
        if (!inode) return std::nullopt;
        inodes.push_back(*inode);
    }
    return inodes;
}

std::optional<std::vector<TcpListener>> parse_tcp_listeners(std::string_view table) {
    std::vector<TcpListener> listeners;
    if (next_line(table).find("local_address") == std::string_view::npos) return std::nullopt;
    while (!table.empty()) {
        auto line = next_line(table);
        auto fields = split(line, " \t");
        if (fields.size() < 10) return std::nullopt;
        if (fields[3] != "0A") continue;  // TCP_LISTEN
        auto colon = fields[1].find(':');
        auto inode = number(fields[9], 10);
        auto port = colon == std::string::npos ? std::nullopt : number(fields[1].substr(colon + 1), 16);
        auto address = address_of(fields[1].substr(0, colon));
        if (!inode || !port || !address) return std::nullopt;
        listeners.push_back({*inode, *address, *port});
    }
    return listeners;
}

std::optional<std::vector<UnixListener>> parse_unix_listeners(std::string_view table) {
    std::vector<UnixListener> listeners;
    if (next_line(table).find("RefCount") == std::string_view::npos) return std::nullopt;
    while (!table.empty()) {
        auto line = next_line(table);
        auto fields = split(line, " ");
        auto flags = fields.size() > 6 ? number(fields[3], 16) : std::nullopt;
        auto inode = fields.size() > 6 ? number(fields[6], 10) : std::nullopt;
        if (!flags || !inode) return std::nullopt;
        // __SO_ACCEPTON, include/uapi/linux/net.h
        if ((*flags & 0x10000) == 0) continue;
        // The path may hold blanks: it is the rest of the line.
        std::size_t at = 0;
        for (int field = 0; field < 7; ++field) at = line.find_first_of(' ', line.find_first_not_of(' ', at));
        listeners.push_back({*inode, std::string(at == std::string_view::npos ? "" : line.substr(at + 1))});
    }
    return listeners;
}

std::optional<std::vector<MappedFile>> parse_maps(std::string_view text) {
    std::vector<MappedFile> maps;
    while (!text.empty()) {
        auto line = next_line(text);
        const auto range = next_word(line), rights = next_word(line), offset = next_word(line),
                   device = next_word(line), inode = next_word(line);
        auto colon = device.find(':');
        auto node = number(inode, 10), high = number(device.substr(0, colon), 16);
        auto low = colon == std::string_view::npos ? std::nullopt : number(device.substr(colon + 1), 16);
        if (range.empty() || offset.empty() || rights.size() != 4 || !node || !high || !low) return std::nullopt;
        if (*node == 0) continue;
        MappedFile map;
        map.path = line.substr(std::min(line.find_first_not_of(blanks), line.size()));
        map.device = makedev(static_cast<unsigned>(*high), static_cast<unsigned>(*low));
        map.inode = *node;
        map.writable = rights[1] == 'w';
        map.shared = rights[3] == 's';
        maps.push_back(std::move(map));
    }
    return maps.empty() ? std::nullopt : std::optional(maps);
}

DescriptorInfo parse_descriptor_info(std::string_view text) {
    DescriptorInfo info;
    while (!text.empty()) {
        auto fields = split(next_line(text), blanks);
        if (fields.size() == 2 && fields[0] == "flags:") info.flags = number(fields[1], 8);
        if (fields.size() == 2 && fields[0] == "iff:") info.interface = std::string(fields[1]);
        // "lock: 1: OFDLCK ADVISORY READ -1 fe:00:9994248 100 101"
        if (fields.size() != 9 || fields[0] != "lock:" || fields[2] != "OFDLCK") continue;
        auto first = number(fields[7], 10);
        // The bytes of QEMU's image locking (block/file-posix.c: RAW_LOCK_PERM_BASE, RAW_LOCK_SHARED_BASE).
        if (first && ((*first >= 100 && *first < 200) || (*first >= 200 && *first < 300))) ++info.locks;
    }
    return info;
}

std::optional<std::vector<std::string>> read_thread_statuses(std::int64_t pid) {
    std::vector<std::string> statuses;
    auto threads = entries_of("/proc/" + std::to_string(pid) + "/task");
    if (!threads) return std::nullopt;
    for (const auto& thread : *threads) {
        auto text = read_file(thread / "status").text;
        // A thread may end between the listing and the look.
        std::error_code ignored;
        if (!text && fs::exists(thread, ignored)) return std::nullopt;
        if (text && !text->empty()) statuses.push_back(std::move(*text));
    }
    if (statuses.empty()) return std::nullopt;
    return statuses;
}

std::optional<std::vector<FileStatus>> read_directory(const std::string& path) {
    std::vector<FileStatus> files;
    auto add = [&](const fs::path& at, std::string name) {
        struct stat status{};
        if (::lstat(at.c_str(), &status) != 0) return false;
        auto acl = has_acl(at);
        if (!acl) return false;
        auto kind = S_ISREG(status.st_mode)    ? "file"
                    : S_ISDIR(status.st_mode)  ? "folder"
                    : S_ISSOCK(status.st_mode) ? "socket"
                                               : "other";
        files.push_back({std::move(name), kind, status.st_mode & 07777u, status.st_uid, *acl});
        return true;
    };
    auto entries = entries_of(path);
    if (!entries || !add(path, ".")) return std::nullopt;
    for (const auto& entry : *entries)
        // It may be removed between the listing and the look.
        if (!add(entry, entry.filename().string()) && errno != ENOENT) return std::nullopt;
    return files;
}

std::optional<std::uint64_t> parse_start_time(const std::string& stat) {
    // The name before it may hold anything.
    const auto name_end = stat.rfind(')');
    if (name_end == std::string::npos) return std::nullopt;
    std::istringstream rest(stat.substr(name_end + 1));
    std::string word;
    for (int field = 3; field < 22; ++field)
        if (!(rest >> word)) return std::nullopt;
    std::uint64_t ticks = 0;
    if (!(rest >> ticks)) return std::nullopt;
    return ticks;
}

}  // namespace infrastructure_sdk::isolation
