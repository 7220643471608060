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
    /// The rest is not in every status; nullopt or empty when the line is not there in full.
    std::vector<std::uint64_t> cpus;  ///< where it may run
    std::optional<std::uint64_t> swap_kb, huge_kb;
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

/// Kilobytes of e.g. "VmSwap:" in a status text.
std::optional<std::uint64_t> status_kilobytes(std::string_view status, const std::string& name);
/// "0-3,8" as numbers.
std::optional<std::vector<std::uint64_t>> parse_cpu_list(std::string_view text);

/// The inodes in a column (from 0) of a table in /proc/PID/net.
std::optional<std::vector<std::uint64_t>> parse_socket_inodes(std::string_view table, std::size_t column);

struct TcpListener {
    std::uint64_t inode = 0;
    std::string address;
    std::uint64_t port = 0;
};
/// Of /proc/PID/net/tcp or tcp6.
std::optional<std::vector<TcpListener>> parse_tcp_listeners(std::string_view table);

struct UnixListener {
    std::uint64_t inode = 0;
    std::string path;  ///< "@name" is abstract
};
std::optional<std::vector<UnixListener>> parse_unix_listeners(std::string_view table);

struct MappedFile {
    std::uint64_t device = 0, inode = 0;
    std::string path;
    bool writable = false, shared = false;
};
/// Of /proc/PID/maps, those with an inode.
std::optional<std::vector<MappedFile>> parse_maps(std::string_view text);

struct DescriptorInfo {
    std::optional<std::uint64_t> flags;  ///< of open(2)
    std::string interface;               ///< of a tap
    std::uint64_t locks = 0;             ///< see OpenFile
};
DescriptorInfo parse_descriptor_info(std::string_view text);

struct OpenFile {
    int number = 0;
    std::string target;  ///< as readlink shows it
    std::uint64_t device = 0, inode = 0;
    bool readable = false, writable = false;
    bool regular = false, block = false, socket = false;
    bool mapped = false;    ///< into its memory
    std::string interface;  ///< of the host, when it is a tap
    /// The rest is of regular files and block devices only.
    std::uint64_t locks = 0;  ///< ranges that QEMU's image locking holds through this descriptor
    unsigned mode = 0;
    std::uint64_t uid = 0;
    bool has_acl = false;
    std::string encryption;  ///< device mapper uuid of the device below, e.g. "CRYPT-LUKS2-..."; empty without
    bool folder_seen = false;
    unsigned folder_mode = 0;
    std::uint64_t folder_uid = 0;
    bool folder_has_acl = false;
};

struct FileStatus {
    std::string name;
    std::string kind;   ///< "file", "folder", "socket" or "other"
    unsigned mode = 0;  ///< permission bits
    std::uint64_t uid = 0;
    bool has_acl = false;
};

/// The status files of every thread; nullopt when any cannot be read.
std::optional<std::vector<std::string>> read_thread_statuses(std::int64_t pid);
/// The directory itself (name ".") and what is in it.
std::optional<std::vector<FileStatus>> read_directory(const std::string& path);
/// nullopt when it cannot be told.
std::optional<bool> has_acl(const std::string& path);

/// When a process was started, in clock ticks since the boot: field 22 of /proc/PID/stat.
std::optional<std::uint64_t> parse_start_time(const std::string& stat);

}  // namespace infrastructure_sdk::isolation
