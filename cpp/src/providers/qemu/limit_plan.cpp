#include "providers/qemu/limit_plan.hpp"

#include <algorithm>

namespace infrastructure_sdk::qemu {
namespace {

constexpr std::int64_t period_us = 100'000;
// QEMU's block layer alone may have 64 worker threads.
constexpr std::uint64_t most_processes = 256;

bool contains(const std::vector<std::string>& list, const std::string& word) {
    return std::find(list.begin(), list.end(), word) != list.end();
}

struct Wanted {
    const char* controller;
    const char* resource;
    std::uint64_t limit;
};

std::vector<GroupWrite> writes_of(const Wanted& wanted, int version) {
    const auto value = std::to_string(wanted.limit);
    const std::string controller = wanted.controller;
    if (controller == "pids") return {{"pids.max", value}};
    if (controller == "cpu") {
        const auto period = std::to_string(period_us);
        const auto quota = std::to_string(wanted.limit * period_us / 1000);
        if (version == 2) return {{"cpu.max", quota + " " + period}};
        return {{"cpu.cfs_period_us", period}, {"cpu.cfs_quota_us", quota}};
    }
    // A guest's memory stays out of the host's swap.
    if (version == 2) return {{"memory.max", value}, {"memory.swap.max", "0", true}};
    return {{"memory.limit_in_bytes", value},
            {"memory.memsw.limit_in_bytes", value, true},
            {"memory.swappiness", "0", true}};
}

void add_to_group(std::vector<PlannedGroup>& groups, const GroupOffer& offer, const Wanted& wanted,
                  const std::string& folder) {
    auto same = std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group.folder == folder; });
    if (same == groups.end()) {
        groups.push_back({offer.folder, folder, offer.version, {}, {}, {}});
        same = groups.end() - 1;
    }
    same->resources.push_back(wanted.resource);
    if (offer.version == 2)
        same->controllers += (same->controllers.empty() ? "+" : " +") + std::string(wanted.controller);
    for (auto& write : writes_of(wanted, offer.version)) same->writes.push_back(std::move(write));
}

GroupOffer offer_of(const GroupOffers& offers, const std::string& controller) {
    auto found = offers.find(controller);
    if (found != offers.end()) return found->second;
    return {0, {}, "the kernel has no control group controller '" + controller + "'"};
}

std::string enforcer(const GroupOffer& offer) {
    return offer.version == 0 ? std::string() : "cgroup v" + std::to_string(offer.version);
}

constexpr const char* no_network_limit =
    "QEMU's own network has no rate limit; only the modes internet and bridge have an interface on the host that could "
    "be limited";

/// Rules count what passes the interface that a VM has on the host.
LimitStatus network_limit(const VmSpec& spec, const LimitBasis& basis) {
    const bool has_interface = spec.network == NetworkMode::internet || spec.network == NetworkMode::bridge;
    const std::string reason = has_interface ? basis.network_refusal : no_network_limit;
    return {"network_bandwidth", spec.limits.network_bytes_per_second, reason.empty() ? "nftables" : "", reason};
}

}  // namespace

GroupOffer choose_parent(const std::vector<GroupLevel>& levels, const std::string& controller) {
    std::string reason = "no control group of version 2 has the controller '" + controller + "'";
    for (const auto& level : levels) {
        if (!contains(level.controllers, controller)) continue;
        const bool gives = contains(level.given, controller) || level.is_root || !level.has_processes;
        if (gives && level.writable) return {2, level.folder, {}};
        reason = gives ? level.folder + " cannot be written" : level.folder + " has processes of its own";
    }
    return {0, {}, reason};
}

std::string installation_group(const std::string& parent, const std::string& installation) {
    return parent + "/infra-sdk-" + installation;
}

std::int64_t cpu_ceiling(const VmSpec& spec) {
    const auto guest = spec.limits.cpu_milli > 0 ? spec.limits.cpu_milli : std::int64_t{1000} * spec.cpu_count;
    return guest + std::min<std::int64_t>(guest / 4, 1000);
}

LimitPlan plan_limits(const VmSpec& spec, const LimitBasis& basis) {
    LimitPlan plan;
    const Wanted wanted[] = {{"cpu", "cpu", static_cast<std::uint64_t>(cpu_ceiling(spec))},
                             {"memory", "memory", basis.memory_ceiling},
                             {"pids", "processes", most_processes + static_cast<std::uint64_t>(spec.cpu_count)}};
    for (const auto& one : wanted) {
        const auto offer = offer_of(basis.offers, one.controller);
        plan.limits.push_back({one.resource, one.limit, enforcer(offer), offer.reason});
        if (offer.version == 0) continue;
        const auto folder = installation_group(offer.folder, basis.installation) + "/" + spec.id.value;
        add_to_group(plan.groups, offer, one, folder);
    }
    auto by_qemu = [&](const char* resource, std::uint64_t limit) {
        if (limit > 0) plan.limits.push_back({resource, limit, "qemu", {}});
    };
    if (!spec.image.disk.empty()) {
        by_qemu("disk", std::max(spec.disk_size_bytes, spec.image.disk_size_bytes));
        by_qemu("disk_iops", spec.limits.disk_iops);
        by_qemu("disk_bandwidth", spec.limits.disk_bytes_per_second);
    }
    if (spec.limits.network_bytes_per_second > 0 && spec.network != NetworkMode::none)
        plan.limits.push_back(network_limit(spec, basis));
    return plan;
}

void note_not_joined(std::vector<LimitStatus>& limits, const std::string& reason) {
    if (reason.empty()) return;
    for (auto& limit : limits)
        if (limit.enforced_by.starts_with("cgroup"))
            limit = {limit.resource, limit.limit, {}, "the process cannot be put into its control group: " + reason};
}

std::vector<LimitStatus> limits_on_offer(const LimitBasis& basis) {
    std::vector<LimitStatus> limits;
    constexpr std::pair<const char*, const char*> groups[] = {
        {"cpu", "cpu"}, {"memory", "memory"}, {"pids", "processes"}};
    for (const auto& [controller, resource] : groups) {
        const auto offer = offer_of(basis.offers, controller);
        limits.push_back({resource, 0, enforcer(offer), offer.reason});
    }
    for (const char* resource : {"disk", "disk_iops", "disk_bandwidth"}) limits.push_back({resource, 0, "qemu", {}});
    VmSpec outward;
    outward.network = NetworkMode::internet;
    limits.push_back(network_limit(outward, basis));
    return limits;
}

}  // namespace infrastructure_sdk::qemu
