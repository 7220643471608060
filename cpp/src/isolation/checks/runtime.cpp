// Checks on the hypervisor's process and on who controls it.

#include <algorithm>
#include <array>
#include <set>

#include "isolation/checks/judges.hpp"
#include "isolation/look.hpp"
#include "isolation/probes/verdict.hpp"
#include "isolation/readings.hpp"

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

struct Chardev {
    std::string label, filename;
};
std::optional<std::vector<Chardev>> read_chardevs(const Json& value) {
    // It lists at least the monitor that answers.
    if (!value.is_array() || value.empty()) return std::nullopt;
    std::vector<Chardev> list;
    for (const auto& item : value) {
        auto label = text_at(item, "label"), filename = text_at(item, "filename");
        if (!label || !filename) return std::nullopt;
        list.push_back({*label, *filename});
    }
    return list;
}

struct Vnc {
    bool enabled = false;
    std::string family, auth;
};
std::optional<Vnc> read_vnc(const Json& value) {
    auto enabled = value.is_object() && value.contains("enabled") ? read_flag(value["enabled"]) : std::nullopt;
    if (!enabled) return std::nullopt;
    return Vnc{*enabled, text_at(value, "family").value_or("?"), text_at(value, "auth").value_or("?")};
}

std::string count(std::size_t bad, std::size_t all) {
    return std::to_string(bad) + " of " + std::to_string(all) + " threads";
}

/// Character devices, VNC and TCP.
void judge_remote_channels(Look& look) {
    auto chardevs = look.need("qmp:query-chardev", read_chardevs);
    auto vnc = look.need("qmp:query-vnc", read_vnc);
    auto forwards = look.need("hmp:info usernet", read_forwards);
    auto sockets = look.need("proc.sockets", read_sockets);
    for (const auto& device : chardevs ? *chardevs : std::vector<Chardev>()) {
        auto reach = reach_of(device.filename);
        if (reach == Reach::network)
            look.fault("character device " + device.label + " is on the network: " + device.filename);
        if (reach == Reach::unknown)
            look.blind("it is not known who can reach character device " + device.label + ": " + device.filename);
    }
    if (vnc && vnc->enabled && vnc->family != "unix") look.fault("VNC is on the network, authentication " + vnc->auth);
    // Ports that lead into the guest are no control channels: NET-13 looks at them.
    for (const auto& socket : sockets&& forwards ? sockets->tcp : std::vector<Sockets::Tcp>())
        if (std::none_of(forwards->begin(), forwards->end(), [&](const auto& f) { return f.port == socket.port; }))
            look.fault("it listens on TCP " + socket.address + ":" + std::to_string(socket.port));
    if (sockets && sockets->strange > 0)
        look.blind("could not look at proc.sockets: " + std::to_string(sockets->strange) +
                   " sockets are of no known kind");
    look.saw("qmp:query-chardev", chardevs ? std::to_string(chardevs->size()) + " character devices" : "");
    look.saw("qmp:query-vnc", vnc && vnc->enabled ? "VNC on " + vnc->family : "no VNC");
    look.saw("hmp:info usernet", forwards ? std::to_string(forwards->size()) + " forwarded ports" : "");
}

bool is_secret_name(std::string name) {
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::toupper(c); });
    for (const char* word : {"TOKEN", "SECRET", "PASSWORD", "KUBECONFIG", "CREDENTIAL", "PRIVATE_KEY", "ACCESS_KEY"})
        if (name.find(word) != std::string::npos) return true;
    return name.starts_with("AWS_") || name.starts_with("AZURE_") || name.starts_with("KUBERNETES_");
}

bool is_secret_file(const std::string& path) {
    for (const char* part : {"/.kube/", "kubeconfig", "/serviceaccount/", "/.aws/", "/.ssh/", "/.config/gcloud/"})
        if (path.find(part) != std::string::npos) return true;
    return false;
}

/// What a guest needs: VirtIO, a serial line to the agent, a plain display, and the chips of the two machines.
bool is_expected_device(std::string type) {
    static const std::set<std::string> others{"virtserialport", "virtconsole", "pvpanic", "pvpanic-pci", "VGA",
                                              "bochs-display",  "ramfb",       "vmgenid", "scsi-hd",     "scsi-cd",
                                              "pcie-root-port", "isa-serial",  "tpm-crb", "tpm-tis",     "usb-tablet",
                                              "i6300esb",       "qemu-xhci",   "usb-kbd"};
    static const std::set<std::string> shares{"virtio-9p-pci", "virtio-9p-device", "vhost-user-fs-pci",
                                              "vhost-vsock-pci", "vhost-vsock-device"};
    return !shares.contains(type) && (type.starts_with("virtio-") || others.contains(type));
}
bool is_expected_function(const std::string& id) {
    static const std::set<std::string> known{"8086:1237", "8086:7000", "8086:7010", "8086:7113", "8086:29c0",
                                             "8086:2918", "8086:2922", "8086:2930", "1b36:000c", "1b36:000d",
                                             "1234:1111", "1b36:0011", "8086:25ab"};
    return known.contains(id) || (id.starts_with("1af4:") && id != "1af4:1009" && id != "1af4:1053");
}

/// Without what ends it; empty when there is none.
std::optional<std::string> read_label(const Json& value) {
    auto label = read_string(value);
    while (label && !label->empty() && (label->back() == '\n' || label->back() == '\0')) label->pop_back();
    return label;
}

std::optional<std::string> read_uuid(const Json& value) { return text_at(value, "UUID"); }

/// agent.identity: what tells guests apart; nullopt unless all of it was told.
std::optional<std::set<std::string>> read_guest_marks(const Json& value) {
    auto machine = text_at(value, "machine_id");
    auto keys = machine && value.contains("host_keys") ? read_strings(value["host_keys"]) : std::nullopt;
    if (!keys) return std::nullopt;
    std::set<std::string> marks(keys->begin(), keys->end());
    marks.insert(*machine);
    return marks;
}

}  // namespace

Finding judge_run_01(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto threads = look.need("proc.threads", read_threads);
    if (!threads) return look.conclude({});
    constexpr std::uint64_t net_bind_service = 1u << 10;  // tolerated: it reaches nothing of other sessions
    std::size_t root = 0, capable = 0;
    for (const auto& thread : *threads) {
        root += std::count(thread.uids.begin(), thread.uids.end(), 0u) > 0;
        capable += (thread.effective_capabilities & ~net_bind_service) != 0;
    }
    auto uid = std::to_string(threads->front().uids.front());
    look.saw("proc.threads", "Uid " + uid + ", CapEff " + std::to_string(threads->front().effective_capabilities) +
                                 " on " + std::to_string(threads->size()) + " threads");
    if (root > 0) look.fault("it runs as root on " + count(root, threads->size()));
    if (capable > 0) look.fault("it has capabilities on " + count(capable, threads->size()));
    return look.conclude("it runs as uid " + uid + " without capabilities");
}

Finding judge_run_02(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto threads = look.need("proc.threads", read_threads);
    if (!threads) return look.conclude({});
    std::size_t open = 0;
    for (const auto& thread : *threads) open += thread.seccomp != 2;
    look.saw("proc.threads", "Seccomp 2 on " + count(threads->size() - open, threads->size()));
    if (open > 0) look.fault("no filter on " + count(open, threads->size()));
    return look.conclude("seccomp filters all " + std::to_string(threads->size()) + " threads");
}

Finding judge_run_03(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto threads = look.need("proc.threads", read_threads);
    if (!threads) return look.conclude({});
    std::size_t open = 0;
    for (const auto& thread : *threads) open += !thread.no_new_privileges;
    look.saw("proc.threads", "NoNewPrivs 1 on " + count(threads->size() - open, threads->size()));
    if (open > 0) look.fault("privileges may be gained on " + count(open, threads->size()));
    return look.conclude("no_new_privs is set on all " + std::to_string(threads->size()) + " threads");
}

Finding judge_run_04(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto label = look.need("proc.label", read_label);
    if (!label) return look.conclude({});
    look.saw("proc.label", label->empty() ? "no label" : *label);
    // SELinux: "system_u:system_r:svirt_t:s0:c1,c2"; AppArmor: "libvirt-<uuid> (enforce)".
    bool enforced = label->ends_with("(enforce)") || std::count(label->begin(), label->end(), ':') >= 3;
    if (!enforced || label->find("unconfined") != std::string::npos)
        look.fault(label->empty() ? "no security module confines it" : "its label confines nothing: " + *label);
    for (const auto& [session, theirs] : look.neighbours("proc.label", read_word))
        if (theirs == *label) look.fault("session " + session + " has the same label");
    return look.conclude("the security module gives it a label of its own");
}

Finding judge_run_05(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto own = look.need("proc.namespaces", read_namespaces);
    auto first = look.need("sys.init_namespaces", read_namespaces);
    // What it shares with whoever looks is not its own either, also where process 1 may not be looked at.
    auto ours = look.may("sys.our_namespaces", read_namespaces);
    if (!own) return look.conclude({});
    auto is_shared = [&](const char* name) {
        return (first && own->at(name) == first->at(name)) || (ours && own->at(name) == ours->at(name));
    };
    std::string shared;
    for (const char* name : {"mnt", "pid", "ipc", "user"})
        if (is_shared(name)) shared += std::string(shared.empty() ? "" : ", ") + name;
    look.saw("proc.namespaces", shared.empty() ? "all its own" : "shared with the host: " + shared);
    look.saw("sys.init_namespaces", "of process 1");
    look.saw("sys.our_namespaces", "of the process that looks");
    // A user namespace is not asked for: a distinct uid without capabilities does what it would do.
    for (const char* name : {"mnt", "pid", "ipc"})
        if (is_shared(name)) look.fault("it shares namespaces with the host: " + shared);
    return look.conclude("it sees its own processes, mounts and messages only");
}

Finding judge_run_06(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto names = look.need("proc.environ", read_strings);
    auto files = look.need("proc.files", read_files);
    for (const auto& name : names ? *names : std::vector<std::string>())
        if (is_secret_name(name)) look.fault("its environment has " + name);
    for (const auto& file : files ? *files : std::vector<OpenFile>())
        if (is_secret_file(file.target)) look.fault("it holds " + file.target);
    look.saw("proc.environ", names ? std::to_string(names->size()) + " variables" : "");
    look.saw("proc.files", files ? std::to_string(files->size()) + " descriptors" : "");
    return look.conclude("no credentials are in its environment or among its files");
}

Finding judge_run_07(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    judge_remote_channels(look);
    auto sockets = look.may("proc.sockets", read_sockets);
    for (const auto& socket : sockets ? sockets->local : std::vector<Sockets::Unix>()) {
        if (socket.path.starts_with("@")) look.fault("socket " + socket.path + " has no owner: everybody may connect");
        else if (!socket.mode || !socket.folder_mode)
            look.blind("could not look at proc.sockets: the file of " + socket.path + " was not found");
        else if ((*socket.mode & 0077) != 0 && (*socket.folder_mode & 0077) != 0)
            look.fault("socket " + socket.path + " is open to others");
    }
    look.saw("proc.sockets", sockets ? std::to_string(sockets->local.size()) + " unix and " +
                                           std::to_string(sockets->tcp.size()) + " TCP sockets listen"
                                     : "");
    return look.conclude("its control channels are unix sockets that only its owner may open");
}

Finding judge_run_08(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    judge_probe(look, "probe.sockets");
    return look.conclude("another session's uid was refused at every control channel");
}

Finding judge_run_09(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    judge_probe(look, "probe.admission");
    return look.conclude("a start that would weaken isolation is refused");
}

Finding judge_run_10(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto version = look.need("qmp:query-version", read_version);
    if (!version) return look.conclude({});
    // The oldest stable release of each series that is accepted; series in between had no late one.
    static const std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> floors{{{7, 2}, 11}, {{8, 2}, 3}};
    auto [major, minor, micro] = *version;
    auto text = std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(micro);
    look.saw("qmp:query-version", text);
    auto floor = floors.find({major, minor});
    if (major < 9 && (floor == floors.end() || micro < floor->second))
        look.fault("QEMU " + text + " is older than what is accepted: 7.2.11, 8.2.3, or 9.0 and later");
    return look.conclude("QEMU " + text + " is recent enough");
}

Finding judge_run_11(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto uuid = look.need("qmp:query-uuid", read_uuid);
    auto guest = look.need("agent.identity", read_guest_marks);
    if (uuid) look.saw("qmp:query-uuid", *uuid);
    if (guest) look.saw("agent.identity", "machine id and host keys, as digests");
    std::set<std::string> mine = guest ? *guest : std::set<std::string>();
    if (uuid) mine.insert(*uuid);
    auto compare = [&](const std::string& session, const std::string& mark) {
        if (mine.contains(mark)) look.fault("session " + session + " has the same identity or keys");
    };
    for (const auto& [session, theirs] : look.neighbours("qmp:query-uuid", read_uuid)) compare(session, theirs);
    for (const auto& [session, theirs] : look.neighbours("agent.identity", read_guest_marks))
        for (const auto& mark : theirs) compare(session, mark);
    return look.conclude("its identity and host keys are its own");
}

Finding judge_run_12(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    std::size_t seen = 0;
    for (const char* name : {"qomlist:/machine/peripheral", "qomlist:/machine/peripheral-anon"}) {
        auto types = look.need(name, read_children);
        for (const auto& type : types ? *types : std::vector<std::string>()) {
            ++seen;
            if (!is_expected_device(type)) look.fault("device " + type + " is more than a guest needs");
        }
        look.saw(name, types ? std::to_string(types->size()) + " devices" : "");
    }
    auto functions = look.need("qmp:query-pci", read_pci);
    for (const auto& id : functions ? *functions : std::vector<std::string>())
        if (!is_expected_function(id)) look.fault("PCI device " + id + " is more than a guest needs");
    auto files = look.need("proc.files", read_files);
    for (const auto& file : files ? *files : std::vector<OpenFile>())
        if (file.target == "/dev/vhost-vsock") look.fault("a socket between guest and host is open");
    look.saw("qmp:query-pci", functions ? std::to_string(functions->size()) + " PCI functions" : "");
    look.saw("proc.files", files ? std::to_string(files->size()) + " descriptors" : "");
    return look.conclude("its " + std::to_string(seen) + " devices are those that a guest needs");
}

}  // namespace infrastructure_sdk::isolation
