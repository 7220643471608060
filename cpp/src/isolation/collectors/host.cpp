#include <filesystem>
#include <set>
#include <sstream>

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "isolation/collectors/reading.hpp"

namespace infrastructure_sdk::isolation {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

std::string trimmed(std::string text) {
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

/// {file: text} of a directory.
Reading read_all_of(const std::string& directory) {
    auto files = json::object();
    std::error_code error;
    fs::directory_iterator at(directory, error);
    for (; !error && at != fs::directory_iterator(); at.increment(error)) {
        auto text = read_file(at->path()).text;
        if (!text) return could_not(at->path().string() + " cannot be read");
        files[at->path().filename().string()] = trimmed(*text);
    }
    if (error) return could_not(error.message());
    return {files, {}};
}

Reading read_siblings() {
    std::set<std::string> lists;
    std::error_code error;
    fs::directory_iterator at("/sys/devices/system/cpu", error);
    for (; !error && at != fs::directory_iterator(); at.increment(error)) {
        auto name = at->path().filename().string();
        if (!name.starts_with("cpu") || name.find_first_not_of("0123456789", 3) != std::string::npos || name.size() < 4)
            continue;
        // An offline processor has none.
        if (auto text = read_file(at->path() / "topology/thread_siblings_list").text) lists.insert(trimmed(*text));
    }
    if (error) return could_not(error.message());
    return {json(lists), {}};
}

Reading read_swap_areas() {
    auto table = read_file("/proc/swaps").text;
    if (!table || !table->starts_with("Filename")) return could_not("/proc/swaps cannot be read");
    auto areas = json::array();
    std::istringstream lines(*table);
    std::string line;
    std::getline(lines, line);
    while (std::getline(lines, line)) {
        std::string name;
        std::istringstream(line) >> name;
        struct stat status{};
        std::string encryption;
        if (::stat(name.c_str(), &status) == 0) {
            auto device = S_ISBLK(status.st_mode) ? status.st_rdev : status.st_dev;
            auto path = "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
            encryption = trimmed(read_file(path + "/dm/uuid").text.value_or(""));
        }
        areas.push_back({{"name", name}, {"encryption", encryption}});
    }
    return {areas, {}};
}

Reading read_scope() {
    auto file = read_file("/proc/sys/kernel/yama/ptrace_scope");
    // Without Yama there is no such file: classic ptrace.
    if (file.error == ENOENT) return {json("absent"), {}};
    if (!file.text) return could_not("it cannot be read");
    return {json(*file.text), {}};
}

Reading read_groups() {
    auto groups = json::object();
    std::error_code error;
    fs::directory_iterator at("/sys/kernel/iommu_groups", error);
    for (; !error && at != fs::directory_iterator(); at.increment(error)) {
        std::uint64_t devices = 0;
        std::error_code inner;
        for (fs::directory_iterator device(at->path() / "devices", inner); !inner && device != fs::directory_iterator();
             device.increment(inner))
            ++devices;
        if (inner) return could_not(inner.message());
        groups[at->path().filename().string()] = devices;
    }
    if (error) return could_not(error.message());
    return {groups, {}};
}

struct Row {
    const char* name;
    const char* source;
    const char* locator;
    Reading (*read)();
};

const Row rows[] = {
    {"sys.ksm_run", "sysfs", "/sys/kernel/mm/ksm/run", [] { return reading_of_file("/sys/kernel/mm/ksm/run"); }},
    {"sys.core_pattern", "procfs", "/proc/sys/kernel/core_pattern",
     [] { return reading_of_file("/proc/sys/kernel/core_pattern"); }},
    {"sys.vulnerabilities", "sysfs", "/sys/devices/system/cpu/vulnerabilities/*",
     [] { return read_all_of("/sys/devices/system/cpu/vulnerabilities"); }},
    {"sys.smt", "sysfs", "/sys/devices/system/cpu/smt/active",
     [] { return reading_of_file("/sys/devices/system/cpu/smt/active"); }},
    {"sys.siblings", "sysfs", "/sys/devices/system/cpu/cpu*/topology/thread_siblings_list", read_siblings},
    {"sys.swaps", "procfs", "/proc/swaps", read_swap_areas},
    {"sys.ptrace_scope", "procfs", "/proc/sys/kernel/yama/ptrace_scope", read_scope},
    {"sys.iommu_groups", "sysfs", "/sys/kernel/iommu_groups/*/devices", read_groups},
};

}  // namespace

HeldFacts collect_host(const std::set<std::string>& wanted, WallTime now, RoundReadings& round) {
    HeldFacts facts;
    for (const auto& row : rows)
        if (wanted.contains(row.name))
            facts.push_back(
                *round.once(row.name, [&] { return held_fact(row.name, row.source, row.locator, row.read(), now); }));
    return facts;
}

}  // namespace infrastructure_sdk::isolation
