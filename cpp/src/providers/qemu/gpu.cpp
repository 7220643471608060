#include "providers/qemu/gpu.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <unistd.h>

namespace infrastructure_sdk::qemu {
namespace fs = std::filesystem;
namespace {

std::string why_not(const PciDevice& gpu, const GpuFacts& facts) {
    if (!gpu.group)
        return facts.iommu ? "it is in no IOMMU group"
                           : "the host has no IOMMU, or it is off (kernel arguments intel_iommu=on, amd_iommu=on)";
    const auto group = "IOMMU group " + *gpu.group;
    if (gpu.driver != "vfio-pci")
        return "its driver is " + (gpu.driver.empty() ? "none" : gpu.driver) + ", not vfio-pci";
    for (const auto* others : {&facts.gpus, &facts.companions})
        for (const auto& other : *others)
            if (other.group == gpu.group && !other.bridge && !other.driver.empty() && other.driver != "vfio-pci")
                return group + " also holds " + other.address + " with driver " + other.driver +
                       "; all of a group go to one VM";
    if (!facts.vfio) return "/dev/vfio/vfio is not there: modprobe vfio-pci";
    if (std::find(facts.open_groups.begin(), facts.open_groups.end(), *gpu.group) == facts.open_groups.end())
        return "/dev/vfio/" + *gpu.group + " may not be opened by this user";
    return {};
}

std::string first_line(const fs::path& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line.starts_with("0x") ? line.substr(2) : line;
}

std::string name_of_link(const fs::path& link) {
    std::error_code error;
    auto target = fs::read_symlink(link, error);
    return error ? std::string() : target.filename().string();
}

}  // namespace

GpuVerdict judge_gpus(const GpuFacts& facts) {
    GpuVerdict verdict;
    for (const auto& gpu : facts.gpus) {
        verdict.found.emplace_back(gpu.address, why_not(gpu, facts));
        const auto& [address, why] = verdict.found.back();
        if (!why.empty()) verdict.reason += (verdict.reason.empty() ? "" : "; ") + address + ": " + why;
    }
    if (verdict.found.empty()) verdict.reason = "this host has no PCI graphics device";
    else if (verdict.reason.empty()) verdict.reason = "passing a GPU to a VM is not supported by this version";
    return verdict;
}

GpuFacts look_at_gpus(const std::string& root) {
    GpuFacts facts;
    std::error_code error;
    std::vector<std::pair<bool, PciDevice>> devices;
    for (const auto& entry : fs::directory_iterator(root + "/sys/bus/pci/devices", error)) {
        const auto& path = entry.path();
        PciDevice device{path.filename().string(), first_line(path / "vendor") + ":" + first_line(path / "device"),
                         name_of_link(path / "driver"), false, std::nullopt};
        const auto kind = first_line(path / "class");
        device.bridge = kind.starts_with("06");
        if (auto group = name_of_link(path / "iommu_group"); !group.empty()) device.group = group;
        devices.emplace_back(kind.starts_with("03"), std::move(device));
    }
    for (auto& [gpu, device] : devices)
        if (gpu) facts.gpus.push_back(device);
    for (auto& [gpu, device] : devices) {
        auto shares = [&](const PciDevice& other) { return device.group && other.group == device.group; };
        if (!gpu && std::any_of(facts.gpus.begin(), facts.gpus.end(), shares)) facts.companions.push_back(device);
    }
    auto by_address = [](const PciDevice& a, const PciDevice& b) { return a.address < b.address; };
    std::sort(facts.gpus.begin(), facts.gpus.end(), by_address);
    std::sort(facts.companions.begin(), facts.companions.end(), by_address);
    facts.iommu = !fs::is_empty(root + "/sys/kernel/iommu_groups", error) && !error;
    facts.vfio = fs::exists(root + "/dev/vfio/vfio", error);
    for (const auto& gpu : facts.gpus)
        if (gpu.group && ::access((root + "/dev/vfio/" + *gpu.group).c_str(), R_OK | W_OK) == 0)
            facts.open_groups.push_back(*gpu.group);
    return facts;
}

}  // namespace infrastructure_sdk::qemu
