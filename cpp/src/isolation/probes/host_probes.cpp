#include "isolation/probes/host_probes.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "isolation/readings.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/vm/template.hpp>

namespace infrastructure_sdk::isolation {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr unsigned nobody = 65534;

json attempt_of(std::string target, bool control, bool left, bool received) {
    return {{"target", std::move(target)},
            {"control", control},
            {"left_port", left},
            {"received", received},
            {"answer", received || !left ? "none" : "enforcement"},
            {"attempts", 1u},
            {"drops", nullptr}};
}

struct Owned {
    explicit Owned(int descriptor) : fd(descriptor) {}
    ~Owned() {
        if (fd >= 0) ::close(fd);
    }
    Owned(const Owned&) = delete;
    int fd;
};

/// A socket and a file that everybody may use, in a folder of their own; gone with it.
class Commons {
public:
    Commons() {
        auto pattern = (fs::temp_directory_path() / "isdk-probe-XXXXXX").string();
        if (!::mkdtemp(pattern.data())) throw Error(Errc::provider, "no folder for a probe's control can be made");
        folder_ = pattern;
        ::chmod(folder_.c_str(), 0711);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        socket().copy(address.sun_path, sizeof address.sun_path - 1);
        listener_.fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        Owned made(::open(file().c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
        (void)(::bind(listener_.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
               ::listen(listener_.fd, 8) == 0 && ::chmod(socket().c_str(), 0666) == 0 && ::fchmod(made.fd, 0644) == 0);
    }
    ~Commons() {
        std::error_code ignored;
        fs::remove_all(folder_, ignored);
    }
    std::string socket() const { return folder_ + "/socket"; }
    std::string file() const { return folder_ + "/file"; }
    /// Somebody has connected.
    bool was_used() const {
        Owned guest(::accept4(listener_.fd, nullptr, nullptr, SOCK_CLOEXEC));
        return guest.fd >= 0;
    }

private:
    std::string folder_;
    Owned listener_{-1};
};

/// What of the VM another user might open, absolute.
struct Belongings {
    std::vector<std::string> sockets, disks;
};

Belongings belongings_of(const Facts& facts) {
    Belongings found;
    auto paths = facts.as("process.paths", read_paths);
    auto folder = facts.as("file.directory", read_folder);
    if (paths && *paths && folder && *folder) {
        for (const auto& file : **folder)
            if (file.kind == "socket") found.sockets.push_back((*paths)->vm_directory + "/" + file.name);
    } else if (auto sockets = facts.as("proc.sockets", read_sockets)) {
        for (const auto& socket : sockets->local)
            if (socket.path.starts_with('/')) found.sockets.push_back(socket.path);
    }
    auto files = facts.as("proc.files", read_files);
    for (const auto& file : files ? *files : std::vector<OpenFile>())
        if (is_writable_disk(file) && file.target.starts_with('/') && !file.target.ends_with(" (deleted)"))
            found.disks.push_back(file.target);
    return found;
}

/// The folder two above the first path: what the VM's own folders and files allow decides, not what lies above them.
std::string ground_of(const Belongings& belongings) {
    const auto& some = belongings.sockets.empty() ? belongings.disks : belongings.sockets;
    return some.empty() ? std::string() : fs::path(some.front()).parent_path().parent_path().string();
}

std::vector<std::string> below(const std::vector<std::string>& paths, const std::string& folder) {
    std::vector<std::string> relative;
    for (const auto& path : paths) relative.push_back(fs::path(path).lexically_relative(folder).string());
    return relative;
}

/// That of another session, so that it is tried as who would try it; else nobody's.
unsigned foreign_uid(const Facts& facts, const std::set<std::uint64_t>& own) {
    for (const auto& other : facts.neighbours ? *facts.neighbours : std::vector<std::shared_ptr<const Facts>>()) {
        auto threads = other->as("proc.threads", read_threads);
        if (threads && !threads->empty() && threads->front().uids.front() != 0 &&
            !own.contains(threads->front().uids.front()))
            return static_cast<unsigned>(threads->front().uids.front());
    }
    return nobody;
}

void try_belongings(const Facts& facts, ProbeOutcomes& outcomes) {
    auto refuse = [&](const std::string& why) {
        for (const char* name : {"probe.sockets", "probe.disks", "probe.memory"}) outcomes[name] = {nullptr, why, name};
    };
    auto belongings = belongings_of(facts);
    auto threads = facts.as("proc.threads", read_threads);
    auto identity = facts.value("process.identity");
    auto ground = ground_of(belongings);
    if (!threads || !identity || ground.empty()) return refuse("its sockets and disks are not known");
    std::set<std::uint64_t> own;
    for (const auto& thread : *threads) own.insert(thread.uids.begin(), thread.uids.end());
    Commons commons;
    ForeignTrial trial{foreign_uid(facts, own),
                       ground,
                       below(belongings.sockets, ground),
                       below(belongings.disks, ground),
                       identity->value("pid", std::int64_t()),
                       commons.socket(),
                       commons.file()};
    if (own.contains(trial.uid)) return refuse("no user id is at hand that the VM has not");
    std::string why;
    auto result = try_as_foreigner(trial, why);
    if (!result) return refuse(why);
    auto as = "as uid " + std::to_string(trial.uid) + ": ";
    bool connects = result->open_socket == 0 && commons.was_used();
    if (!belongings.sockets.empty())
        outcomes["probe.sockets"] = {
            judge_foreigner(belongings.sockets, result->sockets, connects), {}, as + "connect"};
    else outcomes["probe.sockets"] = {nullptr, "no socket of it is known", as + "connect"};
    if (!belongings.disks.empty())
        outcomes["probe.disks"] = {
            judge_foreigner(belongings.disks, result->files, result->open_file == 0), {}, as + "open"};
    else outcomes["probe.disks"] = {nullptr, "no disk of it is known", as + "open"};
    // A wrong address is told only to those who may read.
    outcomes["probe.memory"] = {judge_foreigner({"the memory of process " + std::to_string(trial.pid)},
                                                {result->memory}, result->own_memory == 0),
                                {},
                                as + "process_vm_readv"};
}

bool is_zeros(int fd, off_t size, const std::string& nonce, bool& found) {
    std::string bytes(static_cast<std::size_t>(size), '\1');
    if (::pread(fd, bytes.data(), bytes.size(), 0) != size) return false;
    found = bytes.find(nonce) != std::string::npos;
    return bytes.find_first_not_of('\0') == std::string::npos;
}

/// Files that are gone from the folder of VMs, whose VM is gone too, and that somebody still holds.
std::vector<std::string> held_remains(const std::string& folder) {
    std::vector<std::string> remains;
    std::error_code error;
    for (const auto& process : fs::directory_iterator("/proc", error)) {
        if (process.path().filename().string().find_first_not_of("0123456789") != std::string::npos) continue;
        std::error_code gone;
        for (fs::directory_iterator at(process.path() / "fd", gone); !gone && at != fs::directory_iterator();
             at.increment(gone)) {
            auto target = fs::read_symlink(at->path(), gone).string();
            if (!target.starts_with(folder + "/") || !target.ends_with(" (deleted)")) continue;
            auto vm = fs::path(folder) / *fs::path(target).lexically_relative(folder).begin();
            std::error_code ignored;
            if (target.find("/#") == std::string::npos && !fs::exists(vm, ignored)) remains.push_back(target);
        }
        if (remains.size() > 8) break;
    }
    return remains;
}

/// Two unnamed files, one after the other: what the first held must not be in the second.
ProbeOutcome probe_leftovers(const Facts& facts, const std::string& nonce) {
    constexpr off_t size = 4 << 20;
    auto paths = facts.as("process.paths", read_paths);
    if (!paths || !*paths) return {nullptr, "nobody declared where its disks lie", "a fresh disk"};
    auto folder = fs::path((*paths)->vm_directory).parent_path().parent_path().string();
    bool fresh_is_empty = false, seen_when_there = false, next_is_empty = false, found = false;
    for (bool first : {true, false}) {
        Owned disk(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
        if (disk.fd < 0 || ::posix_fallocate(disk.fd, 0, size) != 0)
            return {nullptr, std::string("no fresh disk can be made: ") + std::strerror(errno), folder};
        bool empty = is_zeros(disk.fd, size, nonce, found);
        (first ? fresh_is_empty : next_is_empty) = empty;
        if (!first) break;
        if (::pwrite(disk.fd, nonce.data(), nonce.size(), size / 2) == static_cast<ssize_t>(nonce.size()))
            (void)is_zeros(disk.fd, size, nonce, seen_when_there);
    }
    json attempts = json::array();
    attempts.push_back(attempt_of("a fresh disk", seen_when_there, true, !fresh_is_empty || !next_is_empty));
    for (const auto& path : held_remains(folder)) attempts.push_back(attempt_of(path, seen_when_there, true, true));
    return {json{{"attempts", attempts}}, {}, "fresh disks in " + folder};
}

bool is_accepted(const std::string& line) {
    std::string yaml;
    for (const char* other : {"name: probe", "image: linux-tiny", "memory: 128Mi"}) {
        auto key = std::string(other).substr(0, std::string(other).find(':') + 1);
        if (!line.starts_with(key)) yaml += std::string(other) + "\n";
    }
    try {
        (void)parse_template(yaml + line + "\n", "probe");
    } catch (const Error&) {
        return false;
    }
    return true;
}

}  // namespace

json judge_foreigner(const std::vector<std::string>& names, const std::vector<int>& errors, bool control) {
    json attempts = json::array();
    for (std::size_t i = 0; i < names.size(); ++i) {
        int error = i < errors.size() ? errors[i] : ENOENT;
        bool refused = error == EACCES || error == EPERM;
        // It was not there, or the child could not try: nothing is known.
        bool tried = error != ENOENT && error != ENOTDIR && error != ESRCH && error != EBADF && error != EMFILE;
        attempts.push_back(attempt_of(names[i], control, tried, tried && !refused));
    }
    return {{"attempts", attempts}};
}

json probe_admission() {
    const std::pair<const char*, const char*> twins[] = {
        {"network: host", "network: isolated"},      {"machine: pc-q35-7.2,mem-merge=on", "machine: pc-q35-7.2"},
        {"name: probe,restrict=off", "name: probe"}, {"image: ../linux-tiny", "image: linux-tiny"},
        {"isolation: none", "isolation: isolated"},  {"on_drift: ignore", "on_drift: suspend"},
        {"sandbox: 'off'", "display: false"},
    };
    json attempts = json::array();
    for (const auto& [bad, good] : twins)
        attempts.push_back(
            attempt_of(std::string("a template with ") + bad, is_accepted(good), true, is_accepted(bad)));
    return {{"attempts", attempts}};
}

ProbeOutcomes probe_host(const Facts& facts, const std::string& nonce) {
    ProbeOutcomes outcomes;
    try {
        try_belongings(facts, outcomes);
        outcomes["probe.leftovers"] = probe_leftovers(facts, nonce);
        outcomes["probe.admission"] = {probe_admission(), {}, "the rules for templates"};
    } catch (const std::exception& error) {
        for (const char* name : {"probe.sockets", "probe.disks", "probe.memory", "probe.leftovers", "probe.admission"})
            if (!outcomes.contains(name)) outcomes[name] = {nullptr, error.what(), name};
    }
    return outcomes;
}

}  // namespace infrastructure_sdk::isolation
