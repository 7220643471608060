#include "isolation/readings.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "isolation/facts.hpp"

namespace infrastructure_sdk::isolation {
namespace {

const Json* at(const Json& object, const char* key) {
    if (!object.is_object()) return nullptr;
    auto it = object.find(key);
    return it == object.end() ? nullptr : &*it;
}

bool get(const Json& object, const char* key, std::string& into) {
    auto value = at(object, key);
    if (!value || !value->is_string()) return false;
    into = value->get<std::string>();
    return true;
}
bool get(const Json& object, const char* key, bool& into) {
    auto value = at(object, key);
    if (!value || !value->is_boolean()) return false;
    into = value->get<bool>();
    return true;
}
bool get(const Json& object, const char* key, std::uint64_t& into) {
    auto value = at(object, key);
    if (!value || !value->is_number_unsigned()) return false;
    into = value->get<std::uint64_t>();
    return true;
}
bool get(const Json& object, const char* key, unsigned& into) {
    std::uint64_t wide = 0;
    if (!get(object, key, wide) || wide > 07777) return false;
    into = static_cast<unsigned>(wide);
    return true;
}
/// null is a value: "there is none".
template <class T>
bool get(const Json& object, const char* key, std::optional<T>& into) {
    auto value = at(object, key);
    if (value && value->is_null()) return into.reset(), true;
    T inner{};
    if (!get(object, key, inner)) return false;
    into = inner;
    return true;
}

/// Every element by `read`, or nothing.
template <class T, class F>
std::optional<std::vector<T>> each(const Json& list, F read) {
    if (!list.is_array()) return std::nullopt;
    std::vector<T> found;
    for (const auto& item : list) {
        T element{};
        if (!read(item, element)) return std::nullopt;
        found.push_back(std::move(element));
    }
    return found;
}

template <class T>
std::optional<std::map<std::string, T>> each_value(const Json& object) {
    if (!object.is_object()) return std::nullopt;
    std::map<std::string, T> found;
    for (const auto& [key, value] : object.items())
        if (!get(object, key.c_str(), found[key])) return std::nullopt;
    return found;
}

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

/// In lower case; nullopt for what is no MAC address.
std::optional<std::string> mac_of(std::string text) {
    if (text.size() != 17) return std::nullopt;
    for (std::size_t i = 0; i < text.size(); ++i) {
        auto c = static_cast<unsigned char>(text[i]);
        if (i % 3 == 2 ? c != ':' : !std::isxdigit(c)) return std::nullopt;
        text[i] = static_cast<char>(std::tolower(c));
    }
    return text;
}

std::optional<std::uint64_t> number_of(std::string_view text) {
    std::uint64_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::vector<std::string> split(std::string_view text, std::string_view separators) {
    std::vector<std::string> parts;
    while (!text.empty()) {
        auto end = std::min(text.find_first_of(separators), text.size());
        if (end > 0) parts.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return parts;
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
        if (!item.is_number_unsigned()) return false;
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

bool Network::Backend::restricted() const {
    auto words = split(options, ",");
    return type == "user" && std::find(words.begin(), words.end(), "restrict=on") != words.end();
}

std::optional<Network> read_network(const Json& value) {
    if (!value.is_string()) return std::nullopt;
    Network network;
    bool in_hub = false;
    for (auto line : split(value.get_ref<const std::string&>(), "\r\n")) {
        // " \ net0: index=0,type=user,...": the peer of the line above.
        auto start = line.find_first_not_of(" \\");
        auto colon = line.find(": ");
        if (line.starts_with("hub ")) {
            network.backends.push_back({line, "hubport", {}});
            in_hub = true;
            continue;
        }
        if (line.front() != ' ') in_hub = false;
        // A port of a hub to which nothing is connected.
        if (in_hub && colon == std::string::npos) continue;
        if (start == std::string::npos || colon == std::string::npos || colon < start) return std::nullopt;
        Network::Backend back{line.substr(start, colon - start), {}, line.substr(colon + 2)};
        std::string mac;
        for (const auto& word : split(back.options, ",")) {
            if (word.starts_with("type=")) back.type = word.substr(5);
            if (word.starts_with("macaddr=")) mac = word.substr(8);
        }
        if (back.type.empty()) return std::nullopt;
        if (back.type != "nic") {
            network.backends.push_back(std::move(back));
            continue;
        }
        auto address = mac_of(mac);
        if (!address) return std::nullopt;
        network.macs.push_back(*address);
    }
    return network;
}

std::optional<std::vector<Forward>> read_forwards(const Json& value) {
    if (!value.is_string()) return std::nullopt;
    std::vector<Forward> forwards;
    for (const auto& line : split(value.get_ref<const std::string&>(), "\r\n")) {
        auto words = split(line, " ");
        if (words.empty() || words[0].find("[HOST_FORWARD]") == std::string::npos) continue;
        // Protocol[State] FD source-address port ...
        auto port = words.size() > 3 ? number_of(words[3]) : std::nullopt;
        if (!port) return std::nullopt;
        forwards.push_back({words[2], *port});
    }
    return forwards;
}

std::optional<std::vector<std::string>> read_filters(const Json& value) {
    return each<std::string>(value, [](const Json& item, std::string& mac) {
        auto address = get(item, "main-mac", mac) ? mac_of(mac) : std::nullopt;
        if (address) mac = *address;
        return address.has_value();
    });
}

std::optional<std::vector<BlockNode>> read_blocks(const Json& value) {
    return each<BlockNode>(value, [](const Json& item, BlockNode& node) {
        auto image = at(item, "image");
        if (!get(item, "drv", node.driver) || !get(item, "ro", node.read_only) ||
            !get(item, "encrypted", node.encrypted) || !image || !get(*image, "filename", node.filename))
            return false;
        if (at(*image, "backing-filename") && !get(*image, "backing-filename", node.backing)) return false;
        auto specific = at(*image, "format-specific");
        auto data = specific ? at(*specific, "data") : nullptr;
        return !data || !at(*data, "data-file") || get(*data, "data-file", node.data_file);
    });
}

std::optional<std::vector<std::string>> read_children(const Json& value) {
    auto types = each<std::string>(value, [](const Json& item, std::string& type) { return get(item, "type", type); });
    // The list always holds the property "type" of the container itself.
    if (!types || types->empty()) return std::nullopt;
    std::vector<std::string> children;
    for (const auto& type : *types)
        if (type.starts_with("child<") && type.ends_with(">")) children.push_back(type.substr(6, type.size() - 7));
    return children;
}

namespace {
bool add_functions(const Json& devices, std::vector<std::string>& found) {
    if (!devices.is_array()) return false;
    for (const auto& device : devices) {
        auto id = at(device, "id");
        std::uint64_t vendor = 0, model = 0;
        if (!id || !get(*id, "vendor", vendor) || !get(*id, "device", model)) return false;
        char text[32];
        std::snprintf(text, sizeof text, "%04x:%04x", static_cast<unsigned>(vendor), static_cast<unsigned>(model));
        found.emplace_back(text);
        auto bridge = at(device, "pci_bridge");
        auto below = bridge ? at(*bridge, "devices") : nullptr;
        if (below && !add_functions(*below, found)) return false;
    }
    return true;
}
}  // namespace

std::optional<std::vector<std::string>> read_pci(const Json& value) {
    std::vector<std::string> found;
    if (!value.is_array()) return std::nullopt;
    for (const auto& bus : value) {
        auto devices = at(bus, "devices");
        if (!devices || !add_functions(*devices, found)) return std::nullopt;
    }
    return found.empty() ? std::nullopt : std::optional(found);
}

std::optional<std::vector<Vcpu>> read_vcpus(const Json& value) {
    auto cpus = each<Vcpu>(value, [](const Json& item, Vcpu& cpu) {
        return get(item, "thread-id", cpu.thread) && get(item, "qom-path", cpu.path);
    });
    return cpus && !cpus->empty() ? cpus : std::nullopt;
}

std::optional<std::array<std::uint64_t, 3>> read_version(const Json& value) {
    std::array<std::uint64_t, 3> version{};
    auto qemu = at(value, "qemu");
    if (!qemu || !get(*qemu, "major", version[0]) || !get(*qemu, "minor", version[1]) ||
        !get(*qemu, "micro", version[2]))
        return std::nullopt;
    return version;
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
