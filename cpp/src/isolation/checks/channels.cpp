// Checks on what can be reached from outside: RUN-07, NET-12.

#include <algorithm>
#include <set>

#include "isolation/facts.hpp"

namespace infrastructure_sdk::isolation {

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
    if (chardevs.empty()) return Finding::unknown(check, "could not look at qmp:query-chardev: it lists nothing, not even itself");
    for (const auto& item : chardevs) {
        if (!item.is_object() || !item.contains("filename") || !item["filename"].is_string())
            return Finding::unknown(check, "could not look at qmp:query-chardev: what was read makes no sense");
        auto name = item["filename"].get<std::string>();
        for (const char* kind : {"tcp", "telnet", "tn3270", "websocket", "disconnected:tcp", "disconnected:telnet", "udp"})
            if (name.starts_with(kind)) faults.push_back("character device " + item.value("label", "") + " is on the network: " + name);
    }
    const auto& listeners = *facts.value("proc.listeners");
    for (const auto& item : listeners) faults.push_back("it listens on TCP: " + (item.is_string() ? item.get<std::string>() : item.dump()));
    if ((*vnc)["enabled"].get<bool>() && vnc->value("family", "") != "unix") faults.push_back("VNC is on the network, authentication " + vnc->value("auth", "?"));
    bool private_directory = false;
    for (const auto& file : *facts.value("file.directory"))
        if (file.is_object() && file.value("name", "") == "." && file.contains("mode") && file["mode"].is_number_unsigned())
            private_directory = (file["mode"].get<unsigned>() & 0077) == 0;
    if (!private_directory) faults.push_back("the directory of its sockets is open to others");
    std::vector<Evidence> seen{
        facts.evidence(check, "qmp:query-chardev", std::to_string(chardevs.size()) + " character devices"),
        facts.evidence(check, "qmp:query-vnc", vnc->dump()),
        facts.evidence(check, "proc.listeners", std::to_string(listeners.size()) + " listening TCP sockets"),
        facts.evidence(check, "file.directory", private_directory ? "directory 0700" : "directory open to others")};
    if (!faults.empty()) return Finding::fail(check, seen, faults.front());
    return Finding::pass(check, seen, "QMP and agent are unix sockets in a private directory; nothing listens on TCP");
}

Finding judge_net_12(const CheckDefinition& check, const Facts& facts) {
    auto own = facts.value("qmp:query-rx-filter");
    if (!own || !own->is_array()) return Finding::unknown(check, facts.why("qmp:query-rx-filter"));
    std::set<std::string> macs;
    for (const auto& item : *own) {
        if (!item.is_object() || !item.contains("main-mac") || !item["main-mac"].is_string())
            return Finding::unknown(check, "could not look at qmp:query-rx-filter: what was read makes no sense");
        macs.insert(item["main-mac"].get<std::string>());
    }
    auto listed = macs.empty() ? std::string("no network device") : *macs.begin();
    auto seen = facts.evidence(check, "qmp:query-rx-filter", listed);
    if (macs.empty()) return Finding::not_applicable(check, {seen}, "the VM has no network device");
    // QEMU's default, the same for everybody who sets none.
    if (macs.contains("52:54:00:12:34:56")) return Finding::fail(check, {seen}, "it has QEMU's default address 52:54:00:12:34:56");
    auto others = facts.value("neighbours.macs");
    if (!others || !others->is_array()) return Finding::unknown(check, facts.why("neighbours.macs"), {seen});
    auto compared = facts.evidence(check, "neighbours.macs", "compared with " + std::to_string(others->size()) + " other sessions");
    std::string blind;
    for (const auto& other : *others) {
        if (!other.is_object()) return Finding::unknown(check, "could not look at neighbours.macs: what was read makes no sense", {seen});
        if (other.contains("could_not_look")) blind = other.value("session", "?") + ": " + other.value("could_not_look", "");
        for (const auto& mac : other.value("macs", nlohmann::json::array()))
            if (mac.is_string() && macs.contains(mac.get<std::string>()))
                return Finding::fail(check, {seen, compared}, "session " + other.value("session", "?") + " has the same address");
    }
    if (!blind.empty()) return Finding::unknown(check, "a neighbour could not be looked at: " + blind, {seen});
    return Finding::pass(check, {seen, compared}, listed + " is not used by any of " + std::to_string(others->size()) + " other sessions");
}

}  // namespace infrastructure_sdk::isolation
