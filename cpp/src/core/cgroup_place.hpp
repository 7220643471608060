#pragma once
// Where a process's control group lies. Pure.

#include <optional>
#include <string>
#include <vector>

namespace infrastructure_sdk {

struct CgroupMount {
    std::string point;
    std::string root;  ///< which group is seen at the mount point
    int version = 2;
    std::string options;  ///< of version 1: its controllers
};
std::vector<CgroupMount> parse_cgroup_mounts(const std::string& mountinfo);

struct CgroupPlace {
    std::string mount;
    std::string path;  ///< below the mount, empty for its root
    int version = 2;
};
/// A controller is in one version only. nullopt when the kernel does not have it.
std::optional<CgroupPlace> place_of(const std::string& groups, const std::vector<CgroupMount>& mounts,
                                    const std::string& controller);

}  // namespace infrastructure_sdk
