#pragma once
// What /proc says, in two steps: reading (thin, blocking) and parsing (pure). A parser gives nullopt for anything that
// it does not understand: that is "could not look".

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace infrastructure_sdk::isolation {

struct ThreadStatus {
    std::vector<std::uint64_t> uids;  ///< real, effective, saved, file system
    std::uint64_t effective_capabilities = 0;
    std::uint64_t bounding_capabilities = 0;
    bool no_new_privileges = false;
    int seccomp = 0;  ///< 0 off, 1 strict, 2 filter
};
std::optional<ThreadStatus> parse_thread_status(std::string_view text);

struct KsmStat {
    bool merge_any = false;
    bool mergeable = false;
    std::uint64_t merging_pages = 0;
};
std::optional<KsmStat> parse_ksm_stat(std::string_view text);

/// Soft limit of core files; nullopt of the inner = unlimited.
std::optional<std::optional<std::uint64_t>> parse_core_limit(std::string_view limits);

/// Inodes that /proc/locks shows with open-file-description locks.
std::optional<std::vector<std::uint64_t>> parse_locked_inodes(std::string_view locks);

/// Inodes of listening sockets in /proc/PID/net/tcp or tcp6.
std::optional<std::vector<std::uint64_t>> parse_listening_inodes(std::string_view table);

struct OpenFile {
    int number = 0;
    std::string target;  ///< as readlink shows it
    std::uint64_t inode = 0;
    bool writable = false;
    bool regular = false;
};

struct FileStatus {
    std::string name;
    unsigned mode = 0;  ///< permission bits
    std::uint64_t uid = 0;
    bool is_directory = false;
    bool has_acl = false;
};

/// nullopt when the file cannot be read.
std::optional<std::string> read_text(const std::string& path);
/// The status files of every thread; nullopt when any cannot be read.
std::optional<std::vector<std::string>> read_thread_statuses(std::int64_t pid);
std::optional<std::vector<OpenFile>> read_open_files(std::int64_t pid);
/// The directory itself (name ".") and what is in it.
std::optional<std::vector<FileStatus>> read_directory(const std::string& path);

}  // namespace infrastructure_sdk::isolation
