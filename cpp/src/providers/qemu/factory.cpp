#include <filesystem>
#include <fstream>
#include <iterator>

#include <sys/statvfs.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/async_tools.hpp"
#include "providers/qemu/accelerator.hpp"
#include "providers/qemu/network.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/provider.hpp"
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/quantity.hpp>
#include <infrastructure_sdk/vm/image.hpp>

namespace infrastructure_sdk {
namespace fs = std::filesystem;
namespace {

std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

std::string version_of(const std::string& program) {
    auto text = qemu::tool_output({program, "--version"});
    return text.substr(0, text.find('\n'));
}

DoctorLine program_line(const std::string& name, const std::string& wanted, const std::string& package) {
    auto path = qemu::find_program(wanted);
    if (path.empty())
        return {name, "error", wanted + " is not there", "no virtual machine can be made",
                "apt-get install " + package};
    try {
        return {name, "ok", version_of(path), "virtual machines can be made", ""};
    } catch (const Error& error) {
        return {name, "error", error.message(), "no virtual machine can be made",
                "apt-get install --reinstall " + package};
    }
}

DoctorLine windows_line(const QemuOptions& options) {
    auto host = qemu::look_at_host(options.firmware_directory, options.tpm_binary);
    std::string missing = host.secure_boot ? "" : " ovmf";
    if (host.tpm_program.empty()) missing += " swtpm";
    if (missing.empty())
        return {"secure-boot", "ok", host.secure_boot->code + ", " + host.tpm_program,
                "VMs can have UEFI with secure boot and a TPM", ""};
    return {"secure-boot", "warning", "not there:" + missing,
            "templates with secure boot or a TPM (Windows) are refused", "apt-get install" + missing};
}

DoctorLine network_line() {
    const auto host = qemu::look_at_network();
    std::string given = "none, isolated", refused, causes;
    for (auto mode : {NetworkMode::internet, NetworkMode::bridge}) {
        const std::string name = name_of(mode);
        const auto why = qemu::refusal_of(mode, "", host);
        if (why.empty()) {
            given += ", " + name;
            continue;
        }
        refused += (refused.empty() ? "" : ", ") + name;
        causes += (causes.empty() ? "" : "; ") + name + ": " + why;
    }
    if (refused.empty()) return {"network", "ok", given, "guests can be given every kind of network", ""};
    return {"network", "warning", given, "a session that asks for " + refused + " is refused", causes};
}

DoctorLine state_line(const std::string& directory) {
    fs::path existing = directory;
    while (!existing.empty() && !fs::exists(existing)) existing = existing.parent_path();
    struct statvfs space{};
    if (::access(existing.c_str(), W_OK) != 0 || ::statvfs(existing.c_str(), &space) != 0)
        return {"state-directory", "error", directory + " cannot be written", "no session can be kept",
                "choose another with store.state_directory or --state-dir"};
    auto free = static_cast<std::int64_t>(space.f_bavail * space.f_frsize);
    auto shown = std::to_string(free >> 30) + " GiB free in " + directory;
    if (free < (std::int64_t{2} << 30))
        return {"state-directory", "warning", shown, "a suspend may fail for want of space", "free some disk space"};
    return {"state-directory", "ok", shown, "sessions, disks and memory files have room", ""};
}

}  // namespace

Task<std::shared_ptr<VmProvider>> make_qemu_provider(Environment environment, QemuOptions options, Call call) {
    auto program = qemu::find_program(options.qemu_binary);
    if (program.empty())
        throw Error(Errc::provider, options.qemu_binary + " is not there; install it: apt-get install qemu-system-x86",
                    {{"field", "providers.qemu_binary"}, {"value", options.qemu_binary}});
    auto image_tool = qemu::find_program(options.qemu_img_binary);
    if (image_tool.empty())
        throw Error(Errc::provider, options.qemu_img_binary + " is not there; install it: apt-get install qemu-utils",
                    {{"field", "providers.qemu_img_binary"}, {"value", options.qemu_img_binary}});
    // The version is part of the key of the accelerator's verdict only; reading it is worth 30 ms only then.
    std::string version;
    if (options.accelerator == AcceleratorChoice::automatic && ::access("/dev/kvm", F_OK) == 0) {
        auto work = [program] { return version_of(program); };
        version = co_await run_blocking(environment.blocking, work);
    }
    auto accelerator = co_await qemu::choose_accelerator(environment, options, program, version, call);
    auto provider = std::make_shared<qemu::QemuProvider>(environment, options, program, image_tool, accelerator);
    co_await provider->sweep_debris();
    co_return provider;
}

Task<std::vector<DoctorLine>> qemu_doctor(Environment environment, QemuOptions options, Call call) {
    std::vector<DoctorLine> lines;
    lines.push_back(program_line("qemu", options.qemu_binary, "qemu-system-x86"));
    lines.push_back(program_line("qemu-img", options.qemu_img_binary, "qemu-utils"));
    auto program = qemu::find_program(options.qemu_binary);
    if (!program.empty()) {
        auto accelerator = co_await qemu::choose_accelerator(environment, options, program, version_of(program), call);
        bool kvm = accelerator.name == "kvm";
        lines.push_back({"accelerator", kvm ? "ok" : "warning", accelerator.name + ": " + accelerator.reason,
                         kvm ? "guests run at the speed of the host"
                             : "guests run about 10 times slower, timeouts are 6 times longer, and emulation is no "
                               "security boundary",
                         kvm ? "" : "use a host with hardware virtualization"});
    }
    lines.push_back(windows_line(options));
    lines.push_back(network_line());
    lines.push_back(state_line(options.state_directory));
    try {
        auto image = load_image(options.probe_image_directory, "linux-tiny");
        lines.push_back({"image", "ok", "linux-tiny " + image.version, "sessions can be started", ""});
    } catch (const Error& error) {
        lines.push_back({"image", "warning", error.message(), "no session can be started from linux-tiny",
                         "infra-sdk image build linux-tiny"});
    }
    bool root = ::geteuid() == 0;
    lines.push_back({"uid-separation", root ? "ok" : "warning",
                     root ? "running as root" : "running as an ordinary user",
                     root ? "every VM gets a uid of its own" : "all VMs run under your uid and are not separated by it",
                     root ? "" : "run as root for a uid per VM"});
    auto ksm = first_line("/sys/kernel/mm/ksm/run");
    lines.push_back({"ksm", ksm == "1" ? "warning" : "ok",
                     ksm.empty() ? "this kernel has none" : "/sys/kernel/mm/ksm/run is " + ksm,
                     ksm == "1" ? "the kernel merges equal pages; ours opt out, others on this host do not"
                                : "pages of VMs are not merged",
                     ksm == "1" ? "echo 0 > /sys/kernel/mm/ksm/run" : ""});
    std::ifstream swaps("/proc/swaps");
    std::string header, swap;
    std::getline(swaps, header);
    std::getline(swaps, swap);
    lines.push_back({"swap", swap.empty() ? "ok" : "warning", swap.empty() ? "there is none" : swap,
                     swap.empty() ? "memory of guests stays in RAM" : "memory of guests may be written to disk",
                     swap.empty() ? "" : "swapoff -a, or encrypt the swap"});
    co_return lines;
}

void to_json(nlohmann::json& document, const DoctorLine& line) {
    document = {{"name", line.name},
                {"status", line.status},
                {"detail", line.detail},
                {"meaning", line.meaning},
                {"advice", line.advice}};
}

}  // namespace infrastructure_sdk
