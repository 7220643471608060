#include "providers/qemu/snapshot_files.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/luks_disk.hpp"
#include "core/sha256.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/qcow2_header.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* scratch_prefix = ".new-";
constexpr const char* record_name = "snapshot.json";

[[noreturn]] void refuse(const std::string& what, const std::string& path) {
    throw Error(Errc::store, what + ": " + path + ": " + std::strerror(errno), {{"path", path}});
}

/// An open file that is closed when the block ends.
class File {
public:
    File(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600)) {
        if (fd_ < 0) refuse("a snapshot's file cannot be opened", path);
    }
    ~File() { ::close(fd_); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    int fd() const { return fd_; }

private:
    int fd_;
};

void to_disk(const std::string& path, int flags) {
    File file(path, flags);
    if (::fsync(file.fd()) != 0) refuse("a snapshot cannot be brought to disk", path);
}

/// The same bytes in a file that nobody else has open.
void make_own(const std::string& path) {
    auto own = path + ".own";
    std::error_code error;
    fs::copy_file(path, own, error);
    if (!error) fs::rename(own, path, error);
    if (error) throw Error(Errc::store, "a snapshot's disk cannot be copied: " + error.message(), {{"path", path}});
}

void check_disk(const std::string& path, bool encrypted) {
    File file(path, O_RDONLY);
    std::string head(qcow2_header_bytes, '\0');
    auto got = ::pread(file.fd(), head.data(), head.size(), 0);
    parse_qcow2_header(std::string_view(head).substr(0, static_cast<std::size_t>(std::max<ssize_t>(got, 0))),
                       encrypted);
}

/// Secrets of a command by name, each read from the descriptor that `run_tool` gives it.
class Secrets {
public:
    void add(std::vector<std::string>& command, const char* name, const Secret& secret) {
        auto number = std::to_string(3 + values_.size());
        command.insert(command.end(), {"--object", std::string("secret,id=") + name + ",file=/dev/fd/" + number});
        values_.push_back(secret);
    }
    const std::vector<Secret>& values() const { return values_; }

private:
    std::vector<Secret> values_;
};

/// As a value of one of QEMU's option lists.
std::string doubled_commas(const std::string& text) {
    std::string out;
    for (char c : text) out += c == ',' ? std::string(",,") : std::string(1, c);
    return out;
}

json with_key(json node, const char* name, const Secret& secret) {
    if (!secret.empty()) node["encrypt"] = {{"format", "luks"}, {"key-secret", name}};
    return node;
}

void amend(const std::string& image_tool, const std::string& path, const Secret& opens, const Secret& other,
           const std::string& options) {
    check_disk(path, true);
    Secrets secrets;
    std::vector<std::string> command{image_tool, "amend", "-q"};
    secrets.add(command, "opens", opens);
    secrets.add(command, "other", other);
    json node{{"driver", "qcow2"}, {"backing", nullptr}, {"file", {{"driver", "file"}, {"filename", path}}}};
    command.insert(command.end(), {"-o", options, "json:" + with_key(node, "opens", opens).dump()});
    run_tool(command, secrets.values());
}

/// Every layer by its name and format: nothing is probed, nothing is believed of a header.
std::string layers(const DiskSource& source) {
    json base;
    if (!source.base_format.empty()) {
        base = {{"driver", source.base_format}, {"file", {{"driver", "file"}, {"filename", source.base}}}};
        if (source.base_format == "qcow2") base["backing"] = nullptr;
        base = with_key(base, "base", source.base_key);
    }
    json disk{{"driver", "qcow2"}, {"file", {{"driver", "file"}, {"filename", source.disk}}}, {"backing", base}};
    return "json:" + with_key(disk, "disk", source.disk_key).dump();
}

json memory_document(const std::optional<SnapshotMemory>& memory) {
    if (!memory) return nullptr;
    return {{"sha256", memory->sha256},
            {"size_bytes", memory->size_bytes},
            {"origin", memory->origin},
            {"terms", memory->terms}};
}

void write_record(const std::string& path, const VmSnapshot& snapshot, const SnapshotKey& key,
                  const std::optional<SnapshotMemory>& memory) {
    json document{{"schema", 1},
                  {"id", snapshot.id},
                  {"consistent", snapshot.consistent},
                  {"size_bytes", snapshot.size_bytes},
                  {"virtual_size_bytes", snapshot.virtual_size_bytes},
                  {"sha256", snapshot.sha256},
                  {"key_user", key.user},
                  {"key", key.wrapped},
                  {"memory_key", key.memory},
                  {"memory", memory_document(memory)}};
    auto text = document.dump(1) + "\n";
    File file(path, O_WRONLY | O_CREAT | O_EXCL);
    if (::write(file.fd(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(file.fd()) != 0)
        refuse("a snapshot's record cannot be written", path);
}

}  // namespace

bool is_snapshot_name(const std::string& id) {
    auto good = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
    return id.starts_with("snap-") && id.size() > 5 && id.size() <= 64 && std::all_of(id.begin() + 5, id.end(), good);
}

SnapshotFolder::SnapshotFolder(std::string path) : path_(std::move(path)) {
    std::error_code error;
    fs::create_directories(path_, error);
    if (error || ::chmod(path_.c_str(), 0700) != 0)
        throw Error(Errc::store, "the folder " + path_ + " cannot be made: " + error.message(), {{"path", path_}});
}

void SnapshotFolder::begin(const std::string& id) const {
    auto scratch = scratch_of(id);
    std::error_code ignored;
    fs::remove_all(scratch, ignored);
    if (::mkdir(scratch.c_str(), 0700) != 0) refuse("a snapshot's folder cannot be made", scratch);
}

VmSnapshot SnapshotFolder::finish(VmSnapshot snapshot, const DiskSource& source, const Secret& passphrase,
                                  const SnapshotKey& key, const std::optional<SnapshotMemory>& memory,
                                  const std::string& image_tool, Random& random) const {
    auto scratch = scratch_of(snapshot.id);
    auto disk = scratch + "/disk.qcow2";
    bool from_raw = source.disk.empty();
    // The QEMU that filled it may still hold it open; what is read from here on is ours alone.
    if (source.disk == sealed_of(snapshot.id)) make_own(source.disk);
    if (!from_raw) check_disk(source.disk, !source.disk_key.empty());
    Secrets secrets;
    std::vector<std::string> command{image_tool, "convert", "-q"};
    if (passphrase.empty()) command.insert(command.end(), {"-O", "qcow2"});
    if (!source.disk_key.empty()) secrets.add(command, "disk", source.disk_key);
    if (!source.base_key.empty()) secrets.add(command, "base", source.base_key);
    if (!passphrase.empty()) {
        make_encrypted_disk(disk, source.virtual_size_bytes, passphrase, random);
        secrets.add(command, "copy", passphrase);
        command.insert(command.end(), {"-n", "--target-image-opts"});
    }
    if (from_raw) command.insert(command.end(), {"-f", "raw", raw_of(snapshot.id)});
    else command.push_back(layers(source));
    command.push_back(passphrase.empty() ? disk
                                         : "driver=qcow2,encrypt.format=luks,encrypt.key-secret=copy,file.driver=file,"
                                           "file.filename=" +
                                               doubled_commas(disk));
    run_tool(command, secrets.values());
    for (const auto& used : {raw_of(snapshot.id), sealed_of(snapshot.id), copy_of(snapshot.id)}) ::unlink(used.c_str());
    ::chmod(disk.c_str(), 0400);
    {
        File file(disk, O_RDONLY);
        std::string head(qcow2_header_bytes, '\0');
        if (::pread(file.fd(), head.data(), head.size(), 0) != static_cast<ssize_t>(head.size()))
            refuse("a snapshot cannot be read", disk);
        snapshot.virtual_size_bytes = parse_qcow2_header(head, !passphrase.empty()).virtual_size_bytes;
        snapshot.sha256 = sha256_hex_of_file(file.fd());
        struct stat status{};
        if (::fstat(file.fd(), &status) != 0 || ::fsync(file.fd()) != 0)
            refuse("a snapshot cannot be brought to disk", disk);
        snapshot.size_bytes = static_cast<std::uint64_t>(status.st_size);
    }
    snapshot.encrypted = !passphrase.empty();
    if (memory) {
        to_disk(new_memory_of(snapshot.id), O_RDONLY);
        ::chmod(new_memory_of(snapshot.id).c_str(), 0400);
    }
    write_record(scratch + "/" + record_name, snapshot, key, memory);
    to_disk(scratch, O_RDONLY | O_DIRECTORY);
    auto target = path_ + "/" + snapshot.id;
    if (::rename(scratch.c_str(), target.c_str()) != 0) refuse("a snapshot's folder cannot be named", target);
    to_disk(path_, O_RDONLY | O_DIRECTORY);
    return snapshot;
}

void SnapshotFolder::remove(const std::string& id) const {
    for (const auto& folder : {path_ + "/" + id, scratch_of(id)}) {
        // Half of one is none: the record goes first.
        ::unlink((folder + "/" + record_name).c_str());
        std::error_code error;
        fs::remove_all(folder, error);
        if (error) throw Error(Errc::store, "a snapshot cannot be removed: " + error.message(), {{"path", folder}});
    }
}

std::optional<VmSnapshot> SnapshotFolder::find(const std::string& id) const {
    std::ifstream file(path_ + "/" + id + "/" + record_name, std::ios::binary);
    if (!file) return std::nullopt;
    try {
        auto document = json::parse(file);
        VmSnapshot snapshot;
        snapshot.id = document.at("id");
        snapshot.consistent = document.at("consistent");
        snapshot.size_bytes = document.at("size_bytes");
        snapshot.virtual_size_bytes = document.at("virtual_size_bytes");
        snapshot.sha256 = document.at("sha256");
        snapshot.encrypted = !document.value("key", "").empty();
        if (auto memory = document.value("memory", json(nullptr)); !memory.is_null()) {
            snapshot.mode = SnapshotMode::memory;
            snapshot.memory_size_bytes = memory.at("size_bytes");
        }
        return snapshot;
    } catch (const json::exception& error) {
        throw Error(Errc::provider, "the record of snapshot " + id + " cannot be read: " + error.what());
    }
}

SnapshotKey SnapshotFolder::key_of(const std::string& id) const {
    std::ifstream file(path_ + "/" + id + "/" + record_name, std::ios::binary);
    auto document = json::parse(file, nullptr, false);
    if (!document.is_object()) return {};
    return {document.value("key_user", ""), document.value("key", ""), document.value("memory_key", "")};
}

std::optional<SnapshotMemory> SnapshotFolder::memory_of(const std::string& id) const {
    std::ifstream file(path_ + "/" + id + "/" + record_name, std::ios::binary);
    auto document = json::parse(file, nullptr, false);
    auto memory = document.is_object() ? document.value("memory", json(nullptr)) : json(nullptr);
    if (memory.is_null()) return std::nullopt;
    try {
        return SnapshotMemory{memory.at("sha256").get<std::string>(), memory.at("size_bytes").get<std::uint64_t>(),
                              memory.at("origin").get<MemoryOrigin>(), memory.at("terms").get<MemoryTerms>()};
    } catch (const json::exception& error) {
        throw Error(Errc::provider, "the record of snapshot " + id + " cannot be read: " + error.what());
    }
}

void SnapshotFolder::set_key(const std::string& id, const SnapshotKey& key) const {
    auto found = find(id);
    if (!found) return;
    auto folder = path_ + "/" + id, scratch = folder + "/.new-" + record_name;
    ::unlink(scratch.c_str());
    write_record(scratch, *found, key, memory_of(id));
    if (::rename(scratch.c_str(), (folder + "/" + record_name).c_str()) != 0)
        refuse("a snapshot's record cannot be named", folder);
    to_disk(folder, O_RDONLY | O_DIRECTORY);
}

void SnapshotFolder::verify(const std::string& id) const {
    auto found = find(id);
    if (!found) return;
    File file(disk_of(id), O_RDONLY);
    if (sha256_hex_of_file(file.fd()) == found->sha256) return;
    throw Error(Errc::provider, "the disk of snapshot " + id + " is not what was saved",
                {{"reason", "SnapshotCorrupted"}, {"field", "snapshot"}, {"value", id}});
}

std::vector<std::string> SnapshotFolder::ids() const {
    std::vector<std::string> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(path_, error)) {
        auto name = entry.path().filename().string();
        if (name.starts_with(scratch_prefix)) name = name.substr(std::strlen(scratch_prefix));
        if (is_snapshot_name(name)) found.push_back(name);
    }
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

void make_encrypted_disk(const std::string& path, std::uint64_t size, const Secret& passphrase, Random& random) {
    auto disk = encrypted_disk(size, passphrase, random);
    File file(path, O_WRONLY | O_CREAT | O_EXCL);
    bool good = ::ftruncate(file.fd(), static_cast<off_t>(disk.size)) == 0;
    for (const auto& part : disk.parts)
        good = good && ::pwrite(file.fd(), part.bytes.data(), part.bytes.size(), static_cast<off_t>(part.offset)) ==
                           static_cast<ssize_t>(part.bytes.size());
    if (!good) refuse("an encrypted disk cannot be written", path);
}

void add_passphrase(const std::string& image_tool, const std::string& path, const Secret& opens, const Secret& added) {
    amend(image_tool, path, opens, added, "encrypt.state=active,encrypt.iter-time=10,encrypt.new-secret=other");
}

void remove_passphrase(const std::string& image_tool, const std::string& path, const Secret& opens,
                       const Secret& removed) {
    amend(image_tool, path, opens, removed, "encrypt.state=inactive,encrypt.old-secret=other");
}

void link_or_copy(const std::string& from, const std::string& to) {
    if (::link(from.c_str(), to.c_str()) == 0) return;
    std::error_code error;
    fs::copy_file(from, to, error);
    if (error) throw Error(Errc::store, "a snapshot's disk cannot be used: " + error.message(), {{"path", from}});
    ::chmod(to.c_str(), 0400);
}

}  // namespace infrastructure_sdk::qemu
