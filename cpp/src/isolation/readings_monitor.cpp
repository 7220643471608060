// What QEMU's monitor says.

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>

#include "isolation/json_fields.hpp"
#include "isolation/readings.hpp"

namespace infrastructure_sdk::isolation {
namespace {

using fields::at, fields::each, fields::get;

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

bool Network::Backend::restricted() const {
    auto words = split(options, ",");
    return type == "user" && std::find(words.begin(), words.end(), "restrict=on") != words.end();
}

std::optional<Network> read_network(const Json& value) {
    if (!value.is_string()) return std::nullopt;
    Network network;
    bool in_hub = false;
    for (auto line : split(value.get_ref<const std::string&>(), "\r\n")) {
        // " \ net0: index=0,type=user,...": the peer of the line above; "  - name: type=...": a filter of it.
        auto start = line.find_first_not_of(" \\");
        auto colon = line.find(": ");
        if (line == "filters:") continue;
        const bool filter = line.starts_with("  - ");
        if (filter) start = 4;
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
        if (filter) {
            network.filters.push_back(std::move(back));
            continue;
        }
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

}  // namespace infrastructure_sdk::isolation
