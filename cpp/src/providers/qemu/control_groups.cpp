#include "providers/qemu/control_groups.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cgroup_place.hpp"
#include "core/sha256.hpp"
#include "providers/qemu/debris.hpp"

namespace infrastructure_sdk::qemu {
namespace fs = std::filesystem;
namespace {

constexpr const char* controllers[] = {"cpu", "memory", "pids"};

std::string read_all(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> words_of(const std::string& text) {
    std::istringstream words(text);
    return {std::istream_iterator<std::string>(words), {}};
}

GroupLevel look_at_level(const std::string& folder, bool is_root) {
    GroupLevel level;
    level.folder = folder;
    level.controllers = words_of(read_all(folder + "/cgroup.controllers"));
    level.given = words_of(read_all(folder + "/cgroup.subtree_control"));
    level.writable = ::access(folder.c_str(), W_OK) == 0 && ::access((folder + "/cgroup.procs").c_str(), W_OK) == 0 &&
                     ::access((folder + "/cgroup.subtree_control").c_str(), W_OK) == 0;
    level.has_processes = !words_of(read_all(folder + "/cgroup.procs")).empty();
    level.is_root = is_root;
    return level;
}

std::vector<GroupLevel> levels_from(const CgroupPlace& place) {
    std::vector<GroupLevel> levels;
    for (auto path = place.path;; path.resize(path.rfind('/'))) {
        levels.push_back(look_at_level(place.mount + path, path.empty()));
        if (path.empty() || path.rfind('/') == std::string::npos) return levels;
    }
}

GroupOffer look_at_controller(const std::string& groups, const std::vector<CgroupMount>& mounts,
                              const std::string& controller) {
    const auto place = place_of(groups, mounts, controller);
    if (!place) return {0, {}, "the kernel has no control group controller '" + controller + "'"};
    if (place->version == 2) return choose_parent(levels_from(*place), controller);
    const auto folder = place->mount + place->path;
    if (::access(folder.c_str(), W_OK) == 0) return {1, folder, {}};
    return {0, {}, folder + " cannot be written: " + std::strerror(errno)};
}

/// Empty, or why not.
std::string write_file(const std::string& path, const std::string& value) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return path + ": " + std::strerror(errno);
    const bool good = ::write(fd, value.data(), value.size()) == static_cast<ssize_t>(value.size());
    const auto why = good ? std::string() : path + ": " + std::strerror(errno);
    ::close(fd);
    return why;
}

std::string make_folder(const std::string& folder) {
    if (::mkdir(folder.c_str(), 0755) == 0 || errno == EEXIST) return {};
    return folder + ": " + std::strerror(errno);
}

std::string make_group(const PlannedGroup& group) {
    const auto above = fs::path(group.folder).parent_path().string();
    auto give = [&](const std::string& folder) {
        return group.version == 2 ? write_file(folder + "/cgroup.subtree_control", group.controllers) : std::string();
    };
    // The one above goes with its last VM: it may go between the two.
    constexpr int tries = 5;
    std::string why;
    for (int left = tries; left > 0; --left) {
        why = give(group.parent);
        if (why.empty()) why = make_folder(above);
        if (why.empty()) why = give(above);
        if (why.empty()) why = make_folder(group.folder);
        if (why.empty()) break;
    }
    if (!why.empty()) return why;
    for (const auto& write : group.writes) {
        why = write_file(group.folder + "/" + write.file, write.value);
        if (!why.empty() && !write.optional) return why;
    }
    return {};
}

}  // namespace

std::string installation_name(const std::string& state_directory) {
    std::error_code error;
    return sha256_hex(fs::weakly_canonical(state_directory, error).string()).substr(0, 12);
}

GroupOffers look_at_groups() {
    const auto groups = read_all("/proc/self/cgroup");
    const auto mounts = parse_cgroup_mounts(read_all("/proc/self/mountinfo"));
    GroupOffers offers;
    for (const char* controller : controllers) offers[controller] = look_at_controller(groups, mounts, controller);
    return offers;
}

void make_groups(LimitPlan& plan) {
    std::vector<PlannedGroup> made;
    for (auto& group : plan.groups) {
        const auto why = make_group(group);
        if (why.empty()) {
            made.push_back(std::move(group));
            continue;
        }
        remove_groups({group.folder});
        for (auto& limit : plan.limits) {
            const auto& lost = group.resources;
            if (std::find(lost.begin(), lost.end(), limit.resource) == lost.end()) continue;
            limit.enforced_by.clear();
            limit.reason = "the control group cannot be made: " + why;
        }
    }
    plan.groups = std::move(made);
}

std::string join_groups(const std::vector<std::string>& folders, std::int64_t pid) {
    std::string reason;
    for (const auto& folder : folders)
        if (auto why = write_file(folder + "/cgroup.procs", std::to_string(pid)); !why.empty()) reason = why;
    return reason;
}

std::uint64_t killed_for_memory(const std::vector<std::string>& folders) {
    std::uint64_t killed = 0;
    for (const auto& folder : folders)
        for (const char* file : {"/memory.events", "/memory.oom_control"}) {
            const auto words = words_of(read_all(folder + file));
            for (std::size_t i = 0; i + 1 < words.size(); ++i)
                if (words[i] == "oom_kill") killed += std::strtoull(words[i + 1].c_str(), nullptr, 10);
        }
    return killed;
}

std::vector<std::string> remove_groups(const std::vector<std::string>& folders) {
    std::vector<std::string> stayed;
    for (const auto& folder : folders) {
        if (::rmdir(folder.c_str()) != 0 && errno != ENOENT) {
            stayed.push_back(folder);
            continue;
        }
        // That of the installation goes with its last VM.
        (void)::rmdir(fs::path(folder).parent_path().c_str());
    }
    return stayed;
}

void sweep_groups(const GroupOffers& offers, const std::string& installation, const std::string& vms) {
    std::set<std::string> places;
    for (const auto& [controller, offer] : offers)
        if (offer.version != 0) places.insert(installation_group(offer.folder, installation));
    for (const auto& place : places) {
        std::vector<std::string> left;
        std::error_code error;
        for (const auto& entry : fs::directory_iterator(place, error)) {
            const auto name = entry.path().filename().string();
            std::error_code unseen;
            if (is_uuid(name) && !fs::exists(fs::path(vms) / name, unseen)) left.push_back(entry.path().string());
        }
        remove_groups(left);
    }
}

}  // namespace infrastructure_sdk::qemu
