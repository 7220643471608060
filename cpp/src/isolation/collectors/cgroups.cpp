// Limits of control groups, version 1 and 2, from the process's own group up to the root.

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <sstream>

#include "core/cgroup_place.hpp"
#include "isolation/collectors/reading.hpp"

namespace infrastructure_sdk::isolation {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

/// nullopt: not a number. null: no limit; version 1 says that with the greatest page-aligned number.
std::optional<json> limit_of(const std::string& text) {
    if (text.starts_with("max") || text.starts_with("-1")) return json();
    std::uint64_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end == text.data()) return std::nullopt;
    return value >= 0x7ffffffffffff000u ? json() : json(value);
}

/// One level as the facts show it, or nullopt without such a limit there.
struct Level {
    std::optional<json> entry;
    std::string why;
};

Level read_simple(const std::string& folder, const std::string& file) {
    auto content = read_file(folder + "/" + file);
    // The root of version 2 has no limits, and a group without the controller has none either.
    if (content.error == ENOENT) return {};
    auto limit = content.text ? limit_of(*content.text) : std::nullopt;
    if (!limit) return {{}, folder + "/" + file + " cannot be read"};
    return {json{{"path", folder}, {"limit", *limit}}, {}};
}

Level read_cpu(const std::string& folder, int version) {
    std::string quota, period;
    if (version == 2) {
        auto content = read_file(folder + "/cpu.max");
        if (content.error == ENOENT) return {};
        std::istringstream(content.text.value_or("")) >> quota >> period;
    } else {
        auto first = read_file(folder + "/cpu.cfs_quota_us"), second = read_file(folder + "/cpu.cfs_period_us");
        if (first.error == ENOENT) return {};
        quota = first.text.value_or("");
        period = second.text.value_or("");
    }
    auto most = limit_of(quota), every = limit_of(period);
    if (!most || !every || !every->is_number()) return {{}, "the processor limit of " + folder + " cannot be read"};
    return {json{{"path", folder}, {"quota_us", *most}, {"period_us", *every}}, {}};
}

/// Version 1 limits memory and swap together.
Level read_swap(const std::string& folder, int version) {
    if (version == 2) return read_simple(folder, "memory.swap.max");
    auto both = read_simple(folder, "memory.memsw.limit_in_bytes");
    auto memory = read_simple(folder, "memory.limit_in_bytes");
    if (!both.why.empty() || !memory.why.empty() || !memory.entry) return {{}, both.why + memory.why};
    if (!both.entry) return {{}, "swap is not accounted for in " + folder};
    auto entry = *both.entry;
    const auto& limit = (*memory.entry)["limit"];
    if (entry["limit"].is_number() && limit.is_number())
        entry["limit"] = entry["limit"].get<std::uint64_t>() -
                         std::min(entry["limit"].get<std::uint64_t>(), limit.get<std::uint64_t>());
    return {entry, {}};
}

/// The smallest over the sizes of huge pages.
Level read_huge(const std::string& folder, int version) {
    std::error_code error;
    std::optional<json> entry;
    for (fs::directory_iterator at(folder, error); !error && at != fs::directory_iterator(); at.increment(error)) {
        auto name = at->path().filename().string();
        if (!name.starts_with("hugetlb.") || name.find("rsvd") != std::string::npos ||
            !name.ends_with(version == 2 ? ".max" : ".limit_in_bytes") || name.ends_with("max_usage_in_bytes"))
            continue;
        auto level = read_simple(folder, name);
        if (!level.why.empty()) return level;
        if (!level.entry) continue;
        bool less = entry && (*entry)["limit"].is_number() && (*level.entry)["limit"].is_number() &&
                    (*entry)["limit"] < (*level.entry)["limit"];
        // A size without a limit leaves huge pages open.
        if (!entry || (!less && !(*entry)["limit"].is_null()) || (*level.entry)["limit"].is_null()) entry = level.entry;
    }
    if (error) return {{}, error.message()};
    return {entry, {}};
}

Level read_level(const std::string& folder, int version, const std::string& controller) {
    if (controller == "cpu") return read_cpu(folder, version);
    if (controller == "swap") return read_swap(folder, version);
    if (controller == "hugetlb") return read_huge(folder, version);
    if (controller == "pids") return read_simple(folder, "pids.max");
    return read_simple(folder, version == 2 ? "memory.max" : "memory.limit_in_bytes");
}

}  // namespace

Reading read_cgroup(const ProcessSubject& subject, const std::string& controller) {
    auto& round = *subject.round;
    const auto file = "/proc/" + std::to_string(subject.pid) + "/cgroup";
    // The number alone may be another process's in the same round.
    auto groups = round.once(file + " since " + std::to_string(subject.start_time_ticks),
                             [&] { return read_file(file).text.value_or(""); });
    auto mounts = round.once("cgroup mounts",
                             [] { return parse_cgroup_mounts(read_file("/proc/self/mountinfo").text.value_or("")); });
    if (groups->empty() || mounts->empty()) return could_not("it is not known in which group the process is");
    auto place = place_of(*groups, *mounts, controller == "swap" ? "memory" : controller);
    auto levels = json::array();
    // A kernel without the controller limits nothing.
    if (!place) return {levels, {}};
    auto path = place->path;
    if (!path.empty() && !fs::exists(place->mount + path)) return could_not(place->mount + path + " cannot be seen");
    for (;; path = path.substr(0, path.rfind('/'))) {
        const auto folder = place->mount + path;
        auto level =
            round.once(controller + " of " + folder, [&] { return read_level(folder, place->version, controller); });
        if (!level->why.empty()) return could_not(level->why);
        if (level->entry) levels.push_back(*level->entry);
        if (path.empty() || path.rfind('/') == std::string::npos) break;
    }
    return {levels, {}};
}

}  // namespace infrastructure_sdk::isolation
