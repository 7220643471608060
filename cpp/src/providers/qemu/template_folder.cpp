// Templates on disk, and their RAM in memory that nobody can write to.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "providers/qemu/descriptors.hpp"
#include "providers/qemu/disk_copy.hpp"
#include "providers/qemu/qcow2_header.hpp"
#include "providers/qemu/ram_template.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace fs = std::filesystem;
namespace {

constexpr const char* scratch_prefix = ".new-";
constexpr const char* record_name = "template.json";
constexpr const char* ram_name = "ram";
constexpr const char* state_name = "devices.state";
constexpr std::size_t most_kept = 8;
constexpr off_t copied_at_once = 8 << 20;

[[noreturn]] void refuse_file(const std::string& what, const std::string& path) {
    throw Error(Errc::store, what + ": " + path + ": " + std::strerror(errno), {{"path", path}});
}

int open_or_refuse(const std::string& path, int flags) {
    int fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) refuse_file("a template's file cannot be opened", path);
    return fd;
}

void write_all(int file, const char* bytes, std::size_t size, const std::string& path) {
    while (size > 0) {
        auto put = ::write(file, bytes, size);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) refuse_file("a disk cannot be copied", path);
        bytes += put;
        size -= static_cast<std::size_t>(put);
    }
}

void to_disk(const std::string& path, int flags) {
    Descriptors files;
    if (::fsync(files.add(open_or_refuse(path, flags))) != 0) refuse_file("a template cannot be brought to disk", path);
}

/// A file's bytes as memory, unmapped when the block ends.
class Mapping {
public:
    /// What is sealed can be mapped privately only.
    Mapping(int fd, std::size_t size, bool writes)
        : size_(size),
          start_(::mmap(nullptr, size, writes ? PROT_READ | PROT_WRITE : PROT_READ, writes ? MAP_SHARED : MAP_PRIVATE,
                        fd, 0)) {
        if (start_ == MAP_FAILED)
            throw Error(Errc::capacity, std::string("a template's RAM cannot be mapped: ") + std::strerror(errno));
    }
    ~Mapping() { ::munmap(start_, size_); }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    char* at(std::size_t offset) const { return static_cast<char*>(start_) + offset; }

private:
    std::size_t size_;
    void* start_;
};

/// Calls `take(offset, size)` for each run of bytes that a sparse file holds.
template <class F>
void each_extent(int fd, std::uint64_t size, F take) {
    constexpr std::uint64_t most = 1u << 20;
    for (off_t at = ::lseek(fd, 0, SEEK_DATA); at >= 0 && static_cast<std::uint64_t>(at) < size;
         at = ::lseek(fd, at, SEEK_DATA)) {
        auto end = std::min(static_cast<std::uint64_t>(::lseek(fd, at, SEEK_HOLE)), size);
        for (auto from = static_cast<std::uint64_t>(at); from < end; from += most)
            take(from, std::min(most, end - from));
        at = static_cast<off_t>(end);
    }
}

bool is_zero(const char* bytes, std::size_t size) {
    return bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0;
}

/// Pages of zeros become holes.
void write_ram(int memory, std::uint64_t size, const std::string& path) {
    constexpr std::size_t block = 64u << 10;
    Descriptors files;
    int file = files.add(open_or_refuse(path, O_WRONLY | O_CREAT | O_EXCL));
    if (::ftruncate(file, static_cast<off_t>(size)) != 0) refuse_file("a template's RAM cannot be written", path);
    Mapping ram(memory, size, false);
    each_extent(memory, size, [&](std::uint64_t from, std::uint64_t length) {
        for (std::uint64_t at = from; at < from + length; at += block) {
            auto part = std::min<std::uint64_t>(block, from + length - at);
            if (is_zero(ram.at(at), part)) continue;
            if (::pwrite(file, ram.at(at), part, static_cast<off_t>(at)) != static_cast<ssize_t>(part))
                refuse_file("a template's RAM cannot be written", path);
        }
    });
    if (::fsync(file) != 0) refuse_file("a template's RAM cannot be brought to disk", path);
}

/// @returns whether it all could be read.
bool read_ram(int file, std::uint64_t size, int memory) {
    Mapping ram(memory, size, true);
    bool good = true;
    each_extent(file, size, [&](std::uint64_t from, std::uint64_t length) {
        good = good && ::pread(file, ram.at(from), length, static_cast<off_t>(from)) == static_cast<ssize_t>(length);
    });
    return good;
}

void seal(int memory) {
    // Fails as long as somebody maps it for writing.
    if (::fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
        throw Error(Errc::store, std::string("a template's RAM cannot be sealed: ") + std::strerror(errno));
}

void write_record(const std::string& path, const TemplateRecord& record) {
    Descriptors files;
    auto text = to_text(record);
    int file = files.add(open_or_refuse(path, O_WRONLY | O_CREAT | O_EXCL));
    if (::write(file, text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(file) != 0)
        refuse_file("a template's record cannot be written", path);
}

std::optional<TemplateRecord> read_record(const std::string& folder) {
    std::ifstream file(folder + "/" + record_name, std::ios::binary);
    if (!file) return std::nullopt;
    return template_from_text({std::istreambuf_iterator<char>(file), {}});
}

/// Half of one is none: the record goes first.
void remove_template(const std::string& folder) {
    std::error_code ignored;
    fs::remove(folder + "/" + record_name, ignored);
    fs::remove_all(folder, ignored);
}

/// Anything else in the folder is not ours.
bool is_own_name(std::string name) {
    if (name.starts_with(scratch_prefix)) name.erase(0, std::strlen(scratch_prefix));
    return name.size() == 32 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::uint64_t available_memory() {
    std::ifstream file("/proc/meminfo");
    std::string name, unit;
    for (std::uint64_t amount = 0; file >> name >> amount; std::getline(file, unit))
        if (name == "MemAvailable:") return amount << 10;
    return 0;
}

}  // namespace

RamTemplate::~RamTemplate() { ::close(memory_); }
std::string RamTemplate::state_path() const { return folder_ + "/" + state_name; }
std::string RamTemplate::disk_path() const { return folder_ + "/" + file_name::disk; }

int make_guest_memory(std::uint64_t bytes) {
    // Of the mode 0777: the VM's own uid opens it again, by its descriptor's path in /proc.
    int fd = ::memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && ::ftruncate(fd, static_cast<off_t>(bytes)) == 0) return fd;
    auto why = std::string(std::strerror(errno));
    if (fd >= 0) ::close(fd);
    throw Error(Errc::capacity, "there is no memory for a template: " + why);
}

std::optional<TemplateRecord> TemplateFolder::find(const std::string& digest) const {
    auto record = read_record(folder_of(digest));
    if (!record || record->key.digest != digest) return std::nullopt;
    return record;
}

RamTemplatePtr TemplateFolder::load(const TemplateRecord& record) const {
    const auto folder = folder_of(record.key.digest);
    const auto path = folder + "/" + ram_name;
    Descriptors files;
    int file = files.add(open_or_refuse(path, O_RDONLY));
    struct stat status{};
    bool whole = ::fstat(file, &status) == 0 && static_cast<std::uint64_t>(status.st_size) == record.memory_bytes;
    int memory = files.add(make_guest_memory(record.memory_bytes));
    if (!whole || !read_ram(file, record.memory_bytes, memory))
        throw Error(Errc::store, "a template's RAM is not whole: " + path, {{"path", path}});
    seal(memory);
    // The time of change of the record tells when it was used last.
    ::utimensat(AT_FDCWD, (folder + "/" + record_name).c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
    return std::make_shared<RamTemplate>(record, folder, files.release(memory));
}

std::string TemplateFolder::why_no_room(std::uint64_t memory_bytes) const {
    // Twice: the guest's own disk grows in its boot as well, and something has to be left for the others.
    auto wanted = 2 * memory_bytes;
    auto short_of = [&](const char* what, std::uint64_t there) {
        return std::string("a template needs ") + std::to_string(wanted >> 20) + " MiB of " + what + ", and " +
               std::to_string(there >> 20) + " MiB are free";
    };
    struct statvfs space{};
    auto parent = fs::path(path_).parent_path();
    auto free = ::statvfs(parent.c_str(), &space) == 0 ? space.f_bavail * space.f_frsize : 0;
    if (free < wanted) return short_of("disk space", free);
    auto memory = available_memory();
    return memory < wanted ? short_of("memory", memory) : std::string();
}

int TemplateFolder::begin(const std::string& digest) const {
    std::error_code error;
    fs::create_directories(path_, error);
    if (error || ::chmod(path_.c_str(), 0700) != 0) refuse_file("the folder of templates cannot be made", path_);
    abandon(digest);
    auto scratch = scratch_of(digest);
    if (::mkdir(scratch.c_str(), 0700) != 0) refuse_file("a template's folder cannot be made", scratch);
    return open_or_refuse(scratch + "/" + state_name, O_RDWR | O_CREAT | O_EXCL);
}

/// Complete, by one rename.
void TemplateFolder::place(const std::string& digest, const TemplateRecord& record) const {
    auto scratch = scratch_of(digest), target = folder_of(digest);
    write_record(scratch + "/" + record_name, record);
    to_disk(scratch, O_RDONLY | O_DIRECTORY);
    remove_template(target);
    if (::rename(scratch.c_str(), target.c_str()) != 0) refuse_file("a template's folder cannot be named", target);
    to_disk(path_, O_RDONLY | O_DIRECTORY);
}

RamTemplatePtr TemplateFolder::finish(const TemplateRecord& record, int memory, const std::string& disk) const {
    const auto& digest = record.key.digest;
    auto scratch = scratch_of(digest);
    Descriptors files;
    int own = files.add(::fcntl(memory, F_DUPFD_CLOEXEC, 0));
    seal(own);
    write_ram(own, record.memory_bytes, scratch + "/" + ram_name);
    to_disk(scratch + "/" + state_name, O_RDONLY);
    if (!disk.empty()) {
        // The guest's process wrote it: nothing that its header may name is used.
        auto copy = scratch + "/" + file_name::disk;
        copy_file(disk, copy);
        std::array<char, qcow2_header_bytes> head{};
        int file = files.add(open_or_refuse(copy, O_RDONLY));
        auto got = ::pread(file, head.data(), head.size(), 0);
        parse_qcow2_header({head.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0))});
        if (::fsync(file) != 0) refuse_file("a template's disk cannot be brought to disk", copy);
    }
    place(digest, record);
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(path_, error)) {
        auto other = read_record(entry.path());
        if (other && other->key.kind == record.key.kind && other->key.digest != digest) remove_template(entry.path());
    }
    return std::make_shared<RamTemplate>(record, folder_of(digest), files.release(own));
}

void TemplateFolder::abandon(const std::string& digest) const { remove_template(scratch_of(digest)); }

void TemplateFolder::refuse(const TemplateRecord& record) const {
    ::close(begin(record.key.digest));
    place(record.key.digest, record);
}

void TemplateFolder::sweep() const {
    std::vector<std::pair<fs::file_time_type, std::string>> kept;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(path_, error)) {
        auto name = entry.path().filename().string();
        if (!is_own_name(name)) continue;
        auto record = read_record(entry.path());
        std::error_code unreadable;
        if (!name.starts_with(scratch_prefix) && record && record->key.digest == name)
            kept.emplace_back(fs::last_write_time(entry.path() / record_name, unreadable), entry.path());
        else remove_template(entry.path());
    }
    std::sort(kept.rbegin(), kept.rend());
    for (std::size_t i = most_kept; i < kept.size(); ++i) remove_template(kept[i].second);
}

void copy_file(const std::string& from, const std::string& to) { copy_disk(from, to, std::nullopt, {}); }

void copy_disk(const std::string& from, const std::string& to, std::optional<unsigned> owner, std::stop_token stop) {
    Descriptors files;
    // A pipe would be waited for without end.
    int source = files.add(open_or_refuse(from, O_RDONLY | O_NONBLOCK));
    struct stat seen{};
    if (::fstat(source, &seen) != 0) refuse_file("a disk cannot be looked at", from);
    if (!S_ISREG(seen.st_mode) || (owner && seen.st_uid != *owner))
        throw Error(Errc::store, "a disk is not the file that it was: " + from, {{"path", from}});
    int target = files.add(open_or_refuse(to, O_WRONLY | O_CREAT | O_TRUNC));
    auto go_on = [&stop] {
        if (stop.stop_requested()) throw Error(Errc::cancelled, "cancelled: copying a disk");
    };
    go_on();
    if (::ioctl(target, FICLONE, source) == 0) return;
    bool in_kernel = true;
    std::vector<char> buffer;
    for (off_t left = seen.st_size; left > 0;) {
        go_on();
        auto size = static_cast<std::size_t>(std::min<off_t>(left, copied_at_once));
        ssize_t got = in_kernel ? ::copy_file_range(source, nullptr, target, nullptr, size, 0) : -1;
        if (got <= 0) {
            in_kernel = false;
            buffer.resize(copied_at_once);
            got = ::read(source, buffer.data(), size);
            if (got < 0 && errno == EINTR) continue;
            if (got == 0) throw Error(Errc::store, "a disk became shorter: " + from, {{"path", from}});
            if (got < 0) refuse_file("a disk cannot be read", from);
            write_all(target, buffer.data(), static_cast<std::size_t>(got), to);
        }
        left -= got;
    }
}

}  // namespace infrastructure_sdk::qemu
