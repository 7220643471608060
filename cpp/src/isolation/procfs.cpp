#include "isolation/procfs.hpp"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace infrastructure_sdk::isolation {
namespace fs = std::filesystem;
namespace {

std::optional<std::uint64_t> number(const std::string& word, int base) {
    if (word.empty() || word.front() == '-') return std::nullopt;
    char* end = nullptr;
    auto value = std::strtoull(word.c_str(), &end, base);
    if (*end != '\0') return std::nullopt;
    return value;
}

/// The words after "Name:" on its line.
std::optional<std::vector<std::string>> line_of(std::string_view text, const std::string& name) {
    std::istringstream lines{std::string(text)};
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with(name)) continue;
        std::istringstream words(line.substr(name.size()));
        std::vector<std::string> result;
        for (std::string word; words >> word;) result.push_back(word);
        return result;
    }
    return std::nullopt;
}

std::optional<std::uint64_t> single(std::string_view text, const std::string& name, int base) {
    auto words = line_of(text, name);
    if (!words || words->size() != 1) return std::nullopt;
    return number(words->front(), base);
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

std::optional<std::vector<std::uint64_t>> parse_locked_inodes(std::string_view locks) {
    std::vector<std::uint64_t> inodes;
    std::istringstream lines{std::string(locks)};
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string index, kind, advisory, access, pid, file;
        if (!(words >> index >> kind)) return std::nullopt;
        if (kind == "->") continue;  // somebody who waits
        if (!(words >> advisory >> access >> pid >> file)) return std::nullopt;
        if (kind != "OFDLCK") continue;
        auto inode = number(file.substr(file.rfind(':') + 1), 10);
        if (!inode) return std::nullopt;
        inodes.push_back(*inode);
    }
    return inodes;
}

std::optional<std::vector<std::uint64_t>> parse_listening_inodes(std::string_view table) {
    std::vector<std::uint64_t> inodes;
    std::istringstream lines{std::string(table)};
    std::string line;
    if (!std::getline(lines, line) || line.find("local_address") == std::string::npos) return std::nullopt;
    while (std::getline(lines, line)) {
        std::istringstream words(line);
        std::vector<std::string> fields;
        for (std::string word; words >> word;) fields.push_back(word);
        if (fields.size() < 10) return std::nullopt;
        if (fields[3] != "0A") continue;  // TCP_LISTEN
        auto inode = number(fields[9], 10);
        if (!inode) return std::nullopt;
        inodes.push_back(*inode);
    }
    return inodes;
}

std::optional<std::string> read_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return std::nullopt;
    std::string text;
    char part[4096];
    // read() turns the exception of a failing stream buffer into badbit; an iterator lets it out.
    while (file.read(part, sizeof part) || file.gcount() > 0)
        text.append(part, static_cast<std::size_t>(file.gcount()));
    if (file.bad()) return std::nullopt;
    return text;
}

std::optional<std::vector<std::string>> read_thread_statuses(std::int64_t pid) {
    std::vector<std::string> statuses;
    auto threads = entries_of("/proc/" + std::to_string(pid) + "/task");
    if (!threads) return std::nullopt;
    for (const auto& thread : *threads) {
        auto text = read_text(thread / "status");
        // A thread may end between the listing and the look.
        std::error_code ignored;
        if (!text && fs::exists(thread, ignored)) return std::nullopt;
        if (text && !text->empty()) statuses.push_back(std::move(*text));
    }
    if (statuses.empty()) return std::nullopt;
    return statuses;
}

std::optional<std::vector<OpenFile>> read_open_files(std::int64_t pid) {
    std::vector<OpenFile> files;
    auto base = "/proc/" + std::to_string(pid);
    auto descriptors = entries_of(base + "/fd");
    if (!descriptors) return std::nullopt;
    for (const auto& descriptor : *descriptors) {
        OpenFile file;
        file.number = std::atoi(descriptor.filename().c_str());
        auto info = read_text(base + "/fdinfo/" + descriptor.filename().string());
        char target[4096];
        struct stat status{};
        auto size = ::readlink(descriptor.c_str(), target, sizeof target);
        if (size < 0 || ::stat(descriptor.c_str(), &status) != 0) {
            // It may be closed between the listing and the look.
            if (errno == ENOENT) continue;
            return std::nullopt;
        }
        if (!info) return std::nullopt;
        file.target.assign(target, static_cast<std::size_t>(size));
        file.inode = status.st_ino;
        file.regular = S_ISREG(status.st_mode);
        auto flags = single(*info, "flags:", 8);
        if (!flags) return std::nullopt;
        file.writable = (*flags & O_ACCMODE) != O_RDONLY;
        files.push_back(std::move(file));
    }
    return files;
}

std::optional<std::vector<FileStatus>> read_directory(const std::string& path) {
    std::vector<FileStatus> files;
    auto add = [&](const fs::path& at, std::string name) {
        struct stat status{};
        if (::lstat(at.c_str(), &status) != 0) return false;
        auto size = ::lgetxattr(at.c_str(), "system.posix_acl_access", nullptr, 0);
        if (size < 0 && errno != ENODATA && errno != ENOTSUP) return false;
        files.push_back({std::move(name), status.st_mode & 07777u, status.st_uid, S_ISDIR(status.st_mode), size > 0});
        return true;
    };
    auto entries = entries_of(path);
    if (!entries || !add(path, ".")) return std::nullopt;
    for (const auto& entry : *entries)
        // It may be removed between the listing and the look.
        if (!add(entry, entry.filename().string()) && errno != ENOENT) return std::nullopt;
    return files;
}

}  // namespace infrastructure_sdk::isolation
