#pragma once
// Somewhere a VM can be put.

#include <cstdint>
#include <map>
#include <string>

namespace infrastructure_sdk {

struct VmPlace {
    std::string name;
    double free_cpu_cores = 0;
    std::int64_t free_memory_bytes = 0;
    bool spot = false;  ///< may be taken away
    double price_per_hour = 0;
    std::map<std::string, std::string> labels;
    friend bool operator==(const VmPlace&, const VmPlace&) = default;
};

}  // namespace infrastructure_sdk
