#include "isolation/readings.hpp"

#include <algorithm>

#include "isolation/facts.hpp"
#include "isolation/json_fields.hpp"

namespace infrastructure_sdk::isolation {
namespace {

using fields::at, fields::each, fields::each_value, fields::get;

bool declared(const Json& value) {
    bool said = true;
    return !(value.is_object() && value.size() == 1 && get(value, "declared", said) && !said);
}

bool get_file_status(const Json& item, unsigned& mode, std::uint64_t& uid, bool& has_acl) {
    return get(item, "mode", mode) && get(item, "uid", uid) && get(item, "has_acl", has_acl);
}

bool get_file(const Json& item, OpenFile& file) {
    std::string kind, access;
    std::uint64_t fd = 0;
    bool plain = get(item, "fd", fd) && get(item, "target", file.target) && get(item, "kind", kind) &&
                 get(item, "device", file.device) && get(item, "inode", file.inode) && get(item, "access", access) &&
                 get(item, "mapped", file.mapped) && get(item, "interface", file.interface);
    if (!plain || (access != "r" && access != "w" && access != "rw")) return false;
    file.number = static_cast<int>(fd);
    file.readable = access != "w";
    file.writable = access != "r";
    file.regular = kind == "file";
    file.block = kind == "block";
    if (!file.regular && !file.block) return kind == "socket" || kind == "other";
    auto folder = at(item, "folder");
    file.folder_seen = folder && !folder->is_null();
    return folder && get_file_status(item, file.mode, file.uid, file.has_acl) && get(item, "locks", file.locks) &&
           get(item, "encryption", file.encryption) &&
           (!file.folder_seen || get_file_status(*folder, file.folder_mode, file.folder_uid, file.folder_has_acl));
}

}  // namespace

std::optional<std::string> read_string(const Json& value) {
    return value.is_string() ? std::optional(value.get<std::string>()) : std::nullopt;
}
std::optional<std::string> read_word(const Json& value) {
    auto text = read_string(value);
    while (text && !text->empty() && (text->back() == '\n' || text->back() == '\0')) text->pop_back();
    return text && !text->empty() ? text : std::nullopt;
}
std::optional<bool> read_flag(const Json& value) {
    return value.is_boolean() ? std::optional(value.get<bool>()) : std::nullopt;
}
std::optional<Json> read_object(const Json& value) { return value.is_object() ? std::optional(value) : std::nullopt; }

std::optional<std::vector<ThreadStatus>> read_threads(const Json& value) {
    auto threads = each<ThreadStatus>(value, [](const Json& item, ThreadStatus& thread) {
        auto status = item.is_string() ? parse_thread_status(item.get_ref<const std::string&>()) : std::nullopt;
        if (status) thread = std::move(*status);
        return status.has_value();
    });
    return threads && !threads->empty() ? threads : std::nullopt;
}

std::optional<std::vector<OpenFile>> read_files(const Json& value) {
    auto files = each<OpenFile>(value, get_file);
    return files && !files->empty() ? files : std::nullopt;
}

std::optional<Sockets> read_sockets(const Json& value) {
    Sockets sockets;
    auto tcp = at(value, "tcp"), local = at(value, "unix");
    if (!tcp || !local || !get(value, "strange", sockets.strange)) return std::nullopt;
    auto listening = each<Sockets::Tcp>(*tcp, [](const Json& item, Sockets::Tcp& socket) {
        return get(item, "address", socket.address) && get(item, "port", socket.port);
    });
    auto files = each<Sockets::Unix>(*local, [](const Json& item, Sockets::Unix& socket) {
        return get(item, "path", socket.path) && get(item, "mode", socket.mode) &&
               get(item, "folder_mode", socket.folder_mode);
    });
    if (!listening || !files) return std::nullopt;
    sockets.tcp = std::move(*listening);
    sockets.local = std::move(*files);
    return sockets;
}

std::optional<std::map<std::string, std::uint64_t>> read_namespaces(const Json& value) {
    auto inodes = each_value<std::uint64_t>(value);
    if (!inodes) return std::nullopt;
    for (const char* name : {"net", "pid", "mnt", "ipc", "user"})
        if (!inodes->contains(name)) return std::nullopt;
    return inodes;
}

std::optional<std::vector<Mapping>> read_maps(const Json& value) {
    return each<Mapping>(value, [](const Json& item, Mapping& map) {
        return get(item, "device", map.device) && get(item, "inode", map.inode) && get(item, "path", map.path) &&
               get(item, "shared", map.shared) && get(item, "huge", map.huge);
    });
}

std::optional<Limit> read_limit(const Json& value) {
    auto levels = each<std::optional<std::uint64_t>>(value, [](const Json& item, std::optional<std::uint64_t>& limit) {
        std::string path;
        return get(item, "path", path) && get(item, "limit", limit);
    });
    if (!levels) return std::nullopt;
    Limit limit;
    for (const auto& level : *levels)
        if (level) limit.smallest = std::min(limit.smallest.value_or(*level), *level);
    return limit;
}

std::optional<std::optional<double>> read_cpu_limit(const Json& value) {
    std::optional<double> smallest;
    if (!value.is_array()) return std::nullopt;
    for (const auto& item : value) {
        std::string path;
        std::optional<std::uint64_t> quota;
        std::uint64_t period = 0;
        if (!get(item, "path", path) || !get(item, "quota_us", quota) || !get(item, "period_us", period) || period == 0)
            return std::nullopt;
        if (!quota) continue;
        auto cores = static_cast<double>(*quota) / static_cast<double>(period);
        smallest = std::min(smallest.value_or(cores), cores);
    }
    return std::optional(smallest);
}

std::optional<std::vector<std::string>> read_strings(const Json& value) {
    return each<std::string>(value, [](const Json& item, std::string& text) {
        if (!item.is_string()) return false;
        text = item.get<std::string>();
        return true;
    });
}
std::optional<std::vector<std::uint64_t>> read_numbers(const Json& value) {
    return each<std::uint64_t>(value, [](const Json& item, std::uint64_t& number) {
        if (!fields::is_count(item)) return false;
        number = item.get<std::uint64_t>();
        return true;
    });
}
std::optional<std::map<std::string, std::string>> read_texts(const Json& value) {
    auto texts = each_value<std::string>(value);
    return texts && !texts->empty() ? texts : std::nullopt;
}
std::optional<std::map<std::string, std::uint64_t>> read_counts(const Json& value) {
    return each_value<std::uint64_t>(value);
}

std::optional<std::vector<Swap>> read_swaps(const Json& value) {
    return each<Swap>(value, [](const Json& item, Swap& swap) {
        return get(item, "name", swap.name) && get(item, "encryption", swap.encryption);
    });
}

std::optional<std::vector<Tap>> read_taps(const Json& value) {
    return each<Tap>(value, [](const Json& item, Tap& tap) {
        return get(item, "name", tap.name) && get(item, "master", tap.master) && get(item, "isolated", tap.isolated) &&
               get(item, "hairpin", tap.hairpin);
    });
}

std::optional<std::optional<std::vector<FileStatus>>> read_folder(const Json& value) {
    if (!declared(value)) return std::optional<std::vector<FileStatus>>();
    auto files = each<FileStatus>(value, [](const Json& item, FileStatus& file) {
        return get(item, "name", file.name) && get(item, "kind", file.kind) &&
               get_file_status(item, file.mode, file.uid, file.has_acl);
    });
    bool itself = files && std::any_of(files->begin(), files->end(), [](const auto& f) { return f.name == "."; });
    if (!itself) return std::nullopt;
    return files;
}

std::optional<Promises> read_promises(const Json& value) {
    Promises promises;
    auto ports = at(value, "ports");
    auto numbers = ports ? read_numbers(*ports) : std::nullopt;
    if (!numbers || !get(value, "exclusive", promises.exclusive) || !get(value, "encrypted", promises.encrypted) ||
        !get(value, "confidential", promises.confidential))
        return std::nullopt;
    promises.ports = std::move(*numbers);
    promises.network = text_at(value, "network").value_or("");
    return promises;
}

std::optional<std::optional<Paths>> read_paths(const Json& value) {
    if (!declared(value)) return std::optional<Paths>();
    Paths paths;
    if (!get(value, "vm_directory", paths.vm_directory) || !get(value, "image_directory", paths.image_directory) ||
        !paths.vm_directory.starts_with('/'))
        return std::nullopt;
    return std::optional(paths);
}

std::optional<std::vector<Attempt>> read_probe(const Json& value) {
    auto list = at(value, "attempts");
    if (!list) return std::nullopt;
    auto attempts = each<Attempt>(*list, [](const Json& item, Attempt& attempt) {
        if (!get(item, "target", attempt.target) || !get(item, "control", attempt.control) ||
            !get(item, "left_port", attempt.left_port) || !get(item, "received", attempt.received) ||
            !get(item, "answer", attempt.answer) || !get(item, "attempts", attempt.attempts) ||
            !get(item, "drops", attempt.drops))
            return false;
        return attempt.answer == "none" || attempt.answer == "target" || attempt.answer == "enforcement";
    });
    return attempts && !attempts->empty() ? attempts : std::nullopt;
}

bool is_stored(const OpenFile& file) { return file.regular || file.block; }

bool is_writable_disk(const OpenFile& file) {
    return is_stored(file) && file.writable && file.readable && !file.mapped && file.number > 2;
}

}  // namespace infrastructure_sdk::isolation
