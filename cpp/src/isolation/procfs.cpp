#include "isolation/procfs.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
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

}  // namespace

std::optional<ThreadStatus> parse_thread_status(std::string_view text) {
    ThreadStatus status;
    auto uids = line_of(text, "Uid:");
    auto effective = single(text, "CapEff:", 16), bounding = single(text, "CapBnd:", 16);
    auto privileges = single(text, "NoNewPrivs:", 10), seccomp = single(text, "Seccomp:", 10);
    if (!uids || uids->size() != 4 || !effective || !bounding || !privileges || !seccomp || *seccomp > 2) return std::nullopt;
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
    auto answer = [](const auto& words) { return words && words->size() == 1 && (words->front() == "yes" || words->front() == "no"); };
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
    std::string text((std::istreambuf_iterator<char>(file)), {});
    if (file.bad()) return std::nullopt;
    return text;
}

std::optional<std::vector<std::string>> read_thread_statuses(std::int64_t pid) {
    std::vector<std::string> statuses;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/task", error)) {
        auto text = read_text(entry.path() / "status");
        if (!text) {
            // A thread may end between the listing and the look.
            if (!fs::exists(entry.path())) continue;
            return std::nullopt;
        }
        if (!text->empty()) statuses.push_back(std::move(*text));
    }
    if (error || statuses.empty()) return std::nullopt;
    return statuses;
}

std::optional<std::vector<OpenFile>> read_open_files(std::int64_t pid) {
    std::vector<OpenFile> files;
    std::error_code error;
    auto base = "/proc/" + std::to_string(pid);
    for (const auto& entry : fs::directory_iterator(base + "/fd", error)) {
        OpenFile file;
        file.number = std::atoi(entry.path().filename().c_str());
        char target[4096];
        auto size = ::readlink(entry.path().c_str(), target, sizeof target);
        struct stat status {};
        auto info = read_text(base + "/fdinfo/" + entry.path().filename().string());
        if (size < 0 || ::stat(entry.path().c_str(), &status) != 0 || !info) continue;
        file.target.assign(target, static_cast<std::size_t>(size));
        file.inode = status.st_ino;
        file.regular = S_ISREG(status.st_mode);
        auto flags = single(*info, "flags:", 8);
        if (!flags) return std::nullopt;
        file.writable = (*flags & O_ACCMODE) != O_RDONLY;
        files.push_back(std::move(file));
    }
    if (error) return std::nullopt;
    return files;
}

std::optional<std::vector<FileStatus>> read_directory(const std::string& path) {
    std::vector<FileStatus> files;
    auto add = [&](const fs::path& at, std::string name) {
        struct stat status {};
        if (::lstat(at.c_str(), &status) != 0) return false;
        bool acl = ::lgetxattr(at.c_str(), "system.posix_acl_access", nullptr, 0) > 0;
        files.push_back({std::move(name), status.st_mode & 07777u, status.st_uid, S_ISDIR(status.st_mode), acl});
        return true;
    };
    if (!add(path, ".")) return std::nullopt;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(path, error)) add(entry.path(), entry.path().filename().string());
    if (error) return std::nullopt;
    return files;
}

}  // namespace infrastructure_sdk::isolation
