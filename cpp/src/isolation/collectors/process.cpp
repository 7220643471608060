// What /proc tells of one process.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sstream>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "isolation/collectors/reading.hpp"

namespace infrastructure_sdk::isolation {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

std::string base_of(const ProcessSubject& subject) { return "/proc/" + std::to_string(subject.pid); }

/// What several facts are made of, read once.
class Process {
public:
    explicit Process(const ProcessSubject& subject) : subject_(subject) {}
    const ProcessSubject& subject() const { return subject_; }
    const Reading& uplinks() {
        if (!uplinks_) uplinks_ = read_uplinks(subject_);
        return *uplinks_;
    }
    const std::optional<std::vector<MappedFile>>& maps() {
        if (!read_maps_) {
            read_maps_ = true;
            auto text = read_file(base_of(subject_) + "/maps").text;
            if (text) maps_ = parse_maps(*text);
        }
        return maps_;
    }
    const std::optional<std::vector<OpenFile>>& files();

private:
    std::optional<OpenFile> open_file(const std::string& number);

    const ProcessSubject& subject_;
    std::optional<Reading> uplinks_;
    bool read_maps_ = false, read_files_ = false;
    std::optional<std::vector<MappedFile>> maps_;
    std::optional<std::vector<OpenFile>> files_;
    std::string failed_;
};

/// The uuid of the device mapper below a device, e.g. "CRYPT-LUKS2-..."; empty without.
std::string mapper_uuid(dev_t device) {
    auto path = "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device)) + "/dm/uuid";
    auto text = read_file(path).text.value_or("");
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

void look_at_folder(OpenFile& file, const std::string& root) {
    auto target = file.target;
    if (target.ends_with(" (deleted)")) target.resize(target.size() - 10);
    // The process may see other mounts.
    auto folder = root + fs::path(target).parent_path().string();
    struct stat status{};
    auto acl = has_acl(folder);
    if (::stat(folder.c_str(), &status) != 0 || !acl) return;
    file.folder_mode = status.st_mode & 07777u;
    file.folder_uid = status.st_uid;
    file.folder_has_acl = *acl;
    file.folder_seen = true;
}

std::optional<OpenFile> Process::open_file(const std::string& number) {
    auto base = base_of(subject_), path = base + "/fd/" + number;
    OpenFile file;
    file.number = std::atoi(number.c_str());
    auto info = read_file(base + "/fdinfo/" + number);
    char target[4096];
    struct stat status{};
    auto size = ::readlink(path.c_str(), target, sizeof target);
    if (size < 0 || ::stat(path.c_str(), &status) != 0 || !info.text) {
        if (errno != ENOENT && info.error != ENOENT) failed_ = "descriptor " + number + " cannot be read";
        return std::nullopt;
    }
    auto details = parse_descriptor_info(*info.text);
    if (!details.flags) {
        failed_ = "descriptor " + number + " does not tell its flags";
        return std::nullopt;
    }
    file.target.assign(target, static_cast<std::size_t>(size));
    file.regular = S_ISREG(status.st_mode);
    file.block = S_ISBLK(status.st_mode);
    file.socket = S_ISSOCK(status.st_mode);
    file.device = file.block ? status.st_rdev : status.st_dev;
    // All descriptors of one block device are one disk, whatever node was opened.
    file.inode = file.block ? 0 : status.st_ino;
    auto access = *details.flags & O_ACCMODE;
    file.readable = access != O_WRONLY;
    file.writable = access != O_RDONLY;
    file.interface = details.interface;
    if (!file.regular && !file.block) return file;
    file.locks = details.locks;
    file.mode = status.st_mode & 07777u;
    file.uid = status.st_uid;
    auto acl = has_acl(path);
    if (!acl) {
        failed_ = "the ACL of descriptor " + number + " cannot be read";
        return std::nullopt;
    }
    file.has_acl = *acl;
    file.encryption =
        *subject_.round->once("mapper " + std::to_string(file.device), [&] { return mapper_uuid(file.device); });
    look_at_folder(file, base + "/root");
    return file;
}

const std::optional<std::vector<OpenFile>>& Process::files() {
    if (read_files_) return files_;
    read_files_ = true;
    std::error_code error;
    std::vector<OpenFile> files;
    fs::directory_iterator at(base_of(subject_) + "/fd", error);
    for (; !error && at != fs::directory_iterator(); at.increment(error))
        // One may be closed between the listing and the look.
        if (auto file = open_file(at->path().filename().string())) files.push_back(std::move(*file));
    if (error || !failed_.empty() || !maps()) return files_;
    for (auto& file : files)
        file.mapped = file.regular && std::any_of(maps_->begin(), maps_->end(), [&](const MappedFile& map) {
                          return map.inode == file.inode && (map.device == file.device || map.path == file.target);
                      });
    files_ = std::move(files);
    return files_;
}

json shown(const OpenFile& file) {
    const char* kind = file.regular ? "file" : file.block ? "block" : file.socket ? "socket" : "other";
    const char* access = !file.writable ? "r" : file.readable ? "rw" : "w";
    json item{{"fd", file.number},   {"target", file.target}, {"kind", kind},          {"device", file.device},
              {"inode", file.inode}, {"access", access},      {"mapped", file.mapped}, {"interface", file.interface}};
    if (!file.regular && !file.block) return item;
    item["mode"] = file.mode;
    item["uid"] = file.uid;
    item["has_acl"] = file.has_acl;
    item["locks"] = file.locks;
    item["encryption"] = file.encryption;
    item["folder"] = nullptr;
    if (file.folder_seen)
        item["folder"] = {{"mode", file.folder_mode}, {"uid", file.folder_uid}, {"has_acl", file.folder_has_acl}};
    return item;
}

Reading files_of(Process& process) {
    const auto& files = process.files();
    if (!files) return could_not("its descriptors cannot be read");
    auto list = json::array();
    for (const auto& file : *files) list.push_back(shown(file));
    return {list, {}};
}

Reading sockets_of(Process& process) {
    if (!process.files()) return could_not("its descriptors cannot be read");
    auto reading = read_sockets_of(process.subject(), *process.files(), Freshness::none);
    // A socket that is opened or closed meanwhile is in one of the two lists only: look again, at both.
    for (auto freshness : {Freshness::local, Freshness::all}) {
        if (!reading.value || (*reading.value)["strange"] == 0u) break;
        Process again(process.subject());
        if (!again.files()) break;
        reading = read_sockets_of(process.subject(), *again.files(), freshness);
    }
    return reading;
}

/// How paths of memory on huge pages begin.
std::vector<std::string> read_huge_places() {
    std::vector<std::string> places;
    auto mounts = read_file("/proc/self/mountinfo").text;
    if (!mounts) return places;
    places.emplace_back("/anon_hugepage");
    std::istringstream lines(*mounts);
    for (std::string line; std::getline(lines, line);) {
        if (line.find(" - hugetlbfs ") == std::string::npos) continue;
        std::istringstream words(line);
        std::string id, parent, device, root, point;
        words >> id >> parent >> device >> root >> point;
        places.push_back(point + "/");
    }
    return places;
}

Reading maps_of(Process& process) {
    const auto& maps = process.maps();
    const auto huge = process.subject().round->once("huge places", read_huge_places);
    if (!maps || huge->empty()) return could_not("its memory map cannot be read");
    auto list = json::array();
    std::set<std::string> seen;
    for (const auto& map : *maps) {
        bool large =
            std::any_of(huge->begin(), huge->end(), [&](const auto& point) { return map.path.starts_with(point); });
        // All of the anonymous kind share one inode, and are no memory of a file.
        if (!map.writable || (!map.shared && !large) || map.path.starts_with("anon_inode:")) continue;
        json item{
            {"device", map.device}, {"inode", map.inode}, {"path", map.path}, {"shared", map.shared}, {"huge", large}};
        if (seen.insert(item.dump(-1, ' ', false, json::error_handler_t::replace)).second) list.push_back(item);
    }
    return {list, {}};
}

Reading namespaces_of(const std::string& directory) {
    auto inodes = json::object();
    for (const char* name : {"net", "pid", "mnt", "ipc", "user", "uts", "cgroup"}) {
        char target[128];
        auto size = ::readlink((directory + "/" + name).c_str(), target, sizeof target);
        if (size < 0) return could_not(std::strerror(errno));
        std::string text(target, static_cast<std::size_t>(size));
        auto open = text.find('[');
        if (open == std::string::npos) return could_not("what was read makes no sense");
        inodes[name] = std::strtoull(text.c_str() + open + 1, nullptr, 10);
    }
    return {inodes, {}};
}

Reading variables_of(Process& process) {
    auto file = read_file(base_of(process.subject()) + "/environ");
    if (!file.text) return could_not(std::strerror(file.error));
    auto names = json::array();
    std::istringstream words(*file.text);
    // Names only: values may be secrets.
    for (std::string word; std::getline(words, word, '\0');) names.push_back(word.substr(0, word.find('=')));
    return {names, {}};
}

Reading label_of(Process& process) {
    auto file = read_file(base_of(process.subject()) + "/attr/current");
    // What a kernel answers whose security modules give no labels.
    if (file.error == EINVAL) return {json(""), {}};
    if (!file.text) return could_not(std::strerror(file.error));
    return {json(*file.text), {}};
}

Reading cookies_of(Process& process) {
    auto cookies = json::array();
    std::error_code error;
    fs::directory_iterator at(base_of(process.subject()) + "/task", error);
    for (; !error && at != fs::directory_iterator(); at.increment(error)) {
        constexpr int sched_core = 62, get = 0, of_thread = 0;  // linux/prctl.h
        std::uint64_t cookie = 0;
        if (::prctl(sched_core, get, std::atoi(at->path().filename().c_str()), of_thread, &cookie) != 0) {
            if (errno == ESRCH) continue;
            return could_not(std::string("the kernel tells no core cookies: ") + std::strerror(errno));
        }
        cookies.push_back(cookie);
    }
    if (error) return could_not(error.message());
    return {cookies, {}};
}

std::set<std::string> interfaces_of(Process& process) {
    std::set<std::string> names;
    if (process.files())
        for (const auto& file : *process.files())
            if (!file.interface.empty()) names.insert(file.interface);
    return names;
}

Reading taps_of(Process& process) {
    if (!process.files()) return could_not("its descriptors cannot be read");
    auto taps = json::array();
    for (const auto& name : interfaces_of(process)) {
        auto path = "/sys/class/net/" + name;
        if (!fs::exists(path)) return could_not(name + " is not in this network namespace");
        std::error_code error;
        auto master = fs::read_symlink(path + "/master", error);
        auto flag = [&](const char* file) {
            return read_file(path + "/brport/" + file).text.value_or("0").starts_with("1");
        };
        taps.push_back({{"name", name},
                        {"master", error ? "" : master.filename().string()},
                        {"isolated", flag("isolated")},
                        {"hairpin", flag("hairpin_mode")}});
    }
    return {taps, {}};
}

/// The rules of the host do not matter to everybody.
const char* rules_unneeded(Process& process) {
    bool has_way = !interfaces_of(process).empty() || (process.uplinks().value && !process.uplinks().value->empty());
    return has_way ? nullptr
                   : "not needed: it holds no interface of the host, and none leads into its network namespace";
}

Reading folder_of(Process& process) {
    const auto& subject = process.subject();
    if (!subject.folder_declared) return {json{{"declared", false}}, {}};
    auto entries = subject.vm_directory.empty() ? std::nullopt : read_directory(subject.vm_directory);
    if (!entries) return could_not("it cannot be read");
    auto list = json::array();
    for (const auto& entry : *entries)
        list.push_back({{"name", entry.name},
                        {"kind", entry.kind},
                        {"mode", entry.mode},
                        {"uid", entry.uid},
                        {"has_acl", entry.has_acl}});
    return {list, {}};
}

/// The digest in the manifest beside an image.
std::optional<std::string> registered_digest(const fs::path& image) {
    auto text = read_file(image.parent_path() / "manifest.json").text;
    auto manifest = json::parse(text.value_or(""), nullptr, false);
    if (!manifest.is_object() || !manifest.contains("files") || !manifest["files"].is_object()) return std::nullopt;
    for (const auto& [name, file] : manifest["files"].items()) {
        if (!file.is_object() || !file.contains("path") || !file.contains("sha256")) continue;
        if (file["path"] == image.filename().string() && file["sha256"].is_string())
            return file["sha256"].get<std::string>();
    }
    return std::nullopt;
}

Reading digests_of(Process& process) {
    if (!process.files() || !process.subject().digests) return could_not("its descriptors cannot be read");
    auto list = json::array();
    for (const auto& file : *process.files()) {
        if (!file.regular || file.writable || file.mapped || file.number <= 2) continue;
        auto registered = registered_digest(base_of(process.subject()) + "/root" + file.target);
        if (!registered) return could_not("no digest is registered for " + file.target);
        auto actual =
            process.subject().digests->digest(base_of(process.subject()) + "/fd/" + std::to_string(file.number));
        if (!actual) return could_not(file.target + " cannot be read");
        list.push_back({{"path", file.target}, {"actual", *actual}, {"registered", *registered}});
    }
    return {list, {}};
}

struct Row {
    const char* name;
    const char* source;
    const char* locator;  ///< '*' at the start: /proc/PID
    Reading (*read)(Process&);
    bool of_all = false;                          ///< the same for every process: read once in a round
    const char* (*unneeded)(Process&) = nullptr;  ///< why this process is not asked; nullptr = it is
};

const Row rows[] = {
    {"proc.threads", "procfs", "*/task/*/status",
     [](Process& p) { return reading_of(read_thread_statuses(p.subject().pid)); }},
    {"proc.ksm", "procfs", "*/ksm_stat",
     [](Process& p) { return reading_of_file(base_of(p.subject()) + "/ksm_stat"); }},
    {"proc.limits", "procfs", "*/limits", [](Process& p) { return reading_of_file(base_of(p.subject()) + "/limits"); }},
    {"proc.files", "procfs", "*/fd, fdinfo and maps", files_of},
    {"proc.sockets", "procfs", "*/fd and net/*", sockets_of},
    {"proc.maps", "procfs", "*/maps", maps_of},
    {"proc.namespaces", "procfs", "*/ns/*", [](Process& p) { return namespaces_of(base_of(p.subject()) + "/ns"); }},
    {"proc.environ", "procfs", "*/environ (names only)", variables_of},
    {"proc.label", "procfs", "*/attr/current", label_of},
    {"proc.core_cookies", "procfs", "prctl(PR_SCHED_CORE_GET) of */task/*", cookies_of},
    {"cgroup.cpu", "cgroup", "*/cgroup: cpu", [](Process& p) { return read_cgroup(p.subject(), "cpu"); }},
    {"cgroup.pids", "cgroup", "*/cgroup: pids", [](Process& p) { return read_cgroup(p.subject(), "pids"); }},
    {"cgroup.memory", "cgroup", "*/cgroup: memory", [](Process& p) { return read_cgroup(p.subject(), "memory"); }},
    {"cgroup.swap", "cgroup", "*/cgroup: swap", [](Process& p) { return read_cgroup(p.subject(), "swap"); }},
    {"cgroup.hugetlb", "cgroup", "*/cgroup: hugetlb", [](Process& p) { return read_cgroup(p.subject(), "hugetlb"); }},
    {"file.directory", "file-stat", "the VM's folder", folder_of},
    {"file.digests", "file-stat", "sha256 of base images and their manifest", digests_of},
    {"sys.init_namespaces", "procfs", "/proc/1/ns/*", [](Process&) { return namespaces_of("/proc/1/ns"); }, true},
    {"sys.our_namespaces", "procfs", "/proc/self/ns/*", [](Process&) { return namespaces_of("/proc/self/ns"); }, true},
    {"sys.taps", "sysfs", "/sys/class/net/TAP", taps_of},
    {"sys.uplinks", "netlink", "links of its network namespace", [](Process& p) { return p.uplinks(); }},
    {"nft.ruleset", "nft", "nft -j list ruleset", [](Process&) { return read_nft(); }, true, rules_unneeded},
    {"iptables.rules", "iptables", "iptables-save and ip6tables-save", [](Process&) { return read_iptables(); }, true,
     rules_unneeded},
};

}  // namespace

HeldFacts collect_process(const ProcessSubject& subject, const std::set<std::string>& wanted) {
    HeldFacts facts;
    Process process(subject);
    for (const auto& row : rows) {
        if (!wanted.contains(row.name)) continue;
        std::string locator = row.locator;
        if (auto star = locator.find('*'); star != std::string::npos && !locator.starts_with('/'))
            locator.replace(star, 1, base_of(subject));
        auto held = [&](Reading reading) {
            return held_fact(row.name, row.source, locator, std::move(reading), subject.now);
        };
        if (const char* why = row.unneeded ? row.unneeded(process) : nullptr) facts.push_back(held(could_not(why)));
        else if (row.of_all) facts.push_back(*subject.round->once(row.name, [&] { return held(row.read(process)); }));
        else facts.push_back(held(row.read(process)));
    }
    return facts;
}

}  // namespace infrastructure_sdk::isolation
