#pragma once
// Whether a GPU of the host could be given to a VM by VFIO. The verdict is pure; the look reads sysfs.
// Source: the kernel's Documentation/driver-api/vfio.rst: a device is usable when its IOMMU group exists, every device
// of the group (bridges apart) is bound to vfio-pci or to nothing, and /dev/vfio/GROUP may be opened.

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace infrastructure_sdk::qemu {

struct PciDevice {
    std::string address;  ///< "0000:01:00.0"
    std::string type;     ///< "vendor:device" in hex, e.g. "10de:2204"
    std::string driver;   ///< empty = none
    bool bridge = false;
    std::optional<std::string> group;  ///< of the IOMMU
};

struct GpuFacts {
    std::vector<PciDevice> gpus;           ///< of PCI class 03
    std::vector<PciDevice> companions;     ///< every other device that shares a group with one of them
    bool iommu = false;                    ///< the kernel has any IOMMU group
    bool vfio = false;                     ///< /dev/vfio/vfio is there
    std::vector<std::string> open_groups;  ///< that this process may open
};

struct GpuVerdict {
    /// Of each GPU its address, and why it cannot be given away; empty = it could.
    std::vector<std::pair<std::string, std::string>> found;
    std::string reason;  ///< in one sentence why no GPU can be given to a VM
};
GpuVerdict judge_gpus(const GpuFacts& facts);

/// @param root of the file system, "" but in tests
GpuFacts look_at_gpus(const std::string& root = "");

}  // namespace infrastructure_sdk::qemu
