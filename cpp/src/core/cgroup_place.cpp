#include "core/cgroup_place.hpp"

#include <algorithm>
#include <sstream>

namespace infrastructure_sdk {
namespace {

bool has_word(const std::string& list, const std::string& word) {
    std::istringstream words(list);
    for (std::string part; std::getline(words, part, ',');)
        if (part == word) return true;
    return false;
}

}  // namespace

std::vector<CgroupMount> parse_cgroup_mounts(const std::string& mountinfo) {
    std::vector<CgroupMount> mounts;
    std::istringstream lines(mountinfo);
    for (std::string line; std::getline(lines, line);) {
        auto separator = line.find(" - ");
        if (separator == std::string::npos) continue;
        std::istringstream before(line.substr(0, separator)), after(line.substr(separator + 3));
        std::string id, parent, device, root, point, type, source, options;
        before >> id >> parent >> device >> root >> point;
        after >> type >> source >> options;
        if (type == "cgroup2") mounts.push_back({point, root, 2, {}});
        if (type == "cgroup") mounts.push_back({point, root, 1, options});
    }
    return mounts;
}

std::optional<CgroupPlace> place_of(const std::string& groups, const std::vector<CgroupMount>& mounts,
                                    const std::string& controller) {
    auto mount = std::find_if(mounts.begin(), mounts.end(),
                              [&](const CgroupMount& m) { return m.version == 1 && has_word(m.options, controller); });
    if (mount == mounts.end())
        mount = std::find_if(mounts.begin(), mounts.end(), [](const CgroupMount& m) { return m.version == 2; });
    if (mount == mounts.end()) return std::nullopt;
    std::istringstream lines(groups);
    for (std::string line; std::getline(lines, line);) {
        auto first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        auto list = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
        if (mount->version == 2 ? !line.starts_with("0:") : !has_word(list, controller)) continue;
        if (mount->root != "/" && path.starts_with(mount->root)) path = path.substr(mount->root.size());
        return CgroupPlace{mount->point, path == "/" ? "" : path, mount->version};
    }
    return std::nullopt;
}

}  // namespace infrastructure_sdk
