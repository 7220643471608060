// Checks on what can be reached from outside: RUN-07, NET-12.

#include <cctype>
#include <set>
#include <string_view>

#include "isolation/facts.hpp"

namespace infrastructure_sdk::isolation {
namespace {

enum class Reach { host, network, unknown };

/// `filename` of query-chardev is the transport, or the kind of the device, before the first colon; sockets that wait
/// for a peer say so first (QEMU, chardev/char-socket.c).
Reach reach_of(std::string_view filename) {
    constexpr std::string_view waiting = "disconnected:";
    if (filename.starts_with(waiting)) filename.remove_prefix(waiting.size());
    auto kind = filename.substr(0, filename.find(':'));
    for (const char* name : {"tcp", "telnet", "tn3270", "websocket", "udp", "vsock"})
        if (kind == name) return Reach::network;
    for (const char* name : {"unix", "file", "pipe", "pty", "stdio", "null", "mux", "ringbuf", "memory", "vc"})
        if (kind == name) return Reach::host;
    return Reach::unknown;
}

/// In lower case; nullopt for what is no MAC address.
std::optional<std::string> mac_of(const nlohmann::json& value) {
    if (!value.is_string()) return std::nullopt;
    auto text = value.get<std::string>();
    if (text.size() != 17) return std::nullopt;
    for (std::size_t i = 0; i < text.size(); ++i) {
        auto c = static_cast<unsigned char>(text[i]);
        if (i % 3 == 2 ? c != ':' : !std::isxdigit(c)) return std::nullopt;
        text[i] = static_cast<char>(std::tolower(c));
    }
    return text;
}

/// Whether others may enter the directory; nullopt when it was not looked at.
std::optional<bool> is_private(const nlohmann::json& directory) {
    for (const auto& file : directory) {
        if (text_at(file, "name") != ".") continue;
        auto mode = file.find("mode");
        if (mode == file.end() || !mode->is_number_unsigned()) return std::nullopt;
        return (mode->get<unsigned>() & 0077) == 0;
    }
    return std::nullopt;
}

}  // namespace

Finding judge_run_07(const CheckDefinition& check, const Facts& facts) {
    for (const char* name : {"qmp:query-chardev", "proc.listeners", "file.directory"}) {
        auto value = facts.value(name);
        if (!value || !value->is_array()) return Finding::unknown(check, facts.why(name));
    }
    auto vnc = facts.value("qmp:query-vnc");
    if (!vnc || !vnc->is_object() || !vnc->contains("enabled") || !(*vnc)["enabled"].is_boolean())
        return Finding::unknown(check, facts.why("qmp:query-vnc"));
    std::vector<std::string> faults;
    const auto& chardevs = *facts.value("qmp:query-chardev");
    if (chardevs.empty())
        return Finding::unknown(check, "could not look at qmp:query-chardev: it lists nothing, not even itself");
    std::string strange;
    for (const auto& item : chardevs) {
        auto name = text_at(item, "filename");
        if (!name) return Finding::unknown(check, facts.why("qmp:query-chardev"));
        auto label = text_at(item, "label").value_or("?");
        auto reach = reach_of(*name);
        if (reach == Reach::network) faults.push_back("character device " + label + " is on the network: " + *name);
        if (reach == Reach::unknown) strange = "it is not known who can reach character device " + label + ": " + *name;
    }
    const auto& listeners = *facts.value("proc.listeners");
    for (const auto& item : listeners)
        faults.push_back("it listens on TCP: " + (item.is_string() ? item.get<std::string>() : item.dump()));
    if ((*vnc)["enabled"].get<bool>() && text_at(*vnc, "family") != "unix")
        faults.push_back("VNC is on the network, authentication " + text_at(*vnc, "auth").value_or("?"));
    auto directory = is_private(*facts.value("file.directory"));
    if (!directory) return Finding::unknown(check, "could not look at file.directory: the directory itself is missing");
    if (!*directory) faults.push_back("the directory of its sockets is open to others");
    std::vector<Evidence> seen{
        facts.evidence(check, "qmp:query-chardev", std::to_string(chardevs.size()) + " character devices"),
        facts.evidence(check, "qmp:query-vnc", vnc->dump()),
        facts.evidence(check, "proc.listeners", std::to_string(listeners.size()) + " listening TCP sockets"),
        facts.evidence(check, "file.directory", *directory ? "directory 0700" : "directory open to others")};
    if (!faults.empty()) return Finding::fail(check, seen, faults.front());
    if (!strange.empty()) return Finding::unknown(check, strange, seen);
    return Finding::pass(check, seen, "QMP and agent are unix sockets in a private directory; nothing listens on TCP");
}

Finding judge_net_12(const CheckDefinition& check, const Facts& facts) {
    auto own = facts.value("qmp:query-rx-filter");
    if (!own || !own->is_array()) return Finding::unknown(check, facts.why("qmp:query-rx-filter"));
    std::set<std::string> macs;
    for (const auto& item : *own) {
        auto mac = item.is_object() && item.contains("main-mac") ? mac_of(item["main-mac"]) : std::nullopt;
        if (!mac) return Finding::unknown(check, facts.why("qmp:query-rx-filter"));
        macs.insert(*mac);
    }
    auto listed = macs.empty() ? std::string("no network device") : *macs.begin();
    auto seen = facts.evidence(check, "qmp:query-rx-filter", listed);
    if (macs.empty()) return Finding::not_applicable(check, {seen}, "the VM has no network device");
    // QEMU's default, the same for everybody who sets none.
    if (macs.contains("52:54:00:12:34:56"))
        return Finding::fail(check, {seen}, "it has QEMU's default address 52:54:00:12:34:56");
    auto others = facts.value("neighbours.macs");
    if (!others || !others->is_array()) return Finding::unknown(check, facts.why("neighbours.macs"), {seen});
    auto compared =
        facts.evidence(check, "neighbours.macs", "compared with " + std::to_string(others->size()) + " other sessions");
    std::string blind;
    for (const auto& other : *others) {
        auto session = text_at(other, "session").value_or("?");
        if (!other.is_object() || !other.contains("macs") || !other["macs"].is_array()) {
            blind = session + ": " + text_at(other, "could_not_look").value_or("what was read makes no sense");
            continue;
        }
        for (const auto& value : other["macs"]) {
            auto mac = mac_of(value);
            if (!mac) blind = session + ": what was read makes no sense";
            if (mac && macs.contains(*mac))
                return Finding::fail(check, {seen, compared}, "session " + session + " has the same address");
        }
    }
    if (!blind.empty()) return Finding::unknown(check, "a neighbour could not be looked at: " + blind, {seen});
    return Finding::pass(check, {seen, compared},
                         listed + " is not used by any of " + std::to_string(others->size()) + " other sessions");
}

}  // namespace infrastructure_sdk::isolation
