#include "providers/qemu/accelerator.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/async_tools.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/provider.hpp"
#include <infrastructure_sdk/vm/image.hpp>

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;
constexpr const char* probe_image = "linux-tiny";
constexpr auto probe_budget = std::chrono::seconds(15);

std::optional<Accelerator> remembered(const std::string& path, const std::string& version) {
    std::ifstream file(path);
    auto document = json::parse(std::string((std::istreambuf_iterator<char>(file)), {}), nullptr, false);
    if (!document.is_object() || document.value("boot_id", "") != boot_id() || document.value("qemu", "") != version)
        return std::nullopt;
    return Accelerator{document.value("accelerator", "tcg"), document.value("reason", "")};
}

/// Boots the probe image under KVM. Empty = it works; else why not.
Task<std::string> try_kvm(Environment environment, QemuOptions options, std::string program, Call call) {
    ImageFiles image;
    try {
        image = load_image(options.probe_image_directory, probe_image);
    } catch (const Error&) {
        co_return "it was not tried: image linux-tiny is missing";
    }
    options.state_directory += "/kvm-probe";
    options.fast_launch = false;
    Accelerator kvm{"kvm", "probe"};
    auto provider =
        std::make_shared<QemuProvider>(environment, options, program, find_program(options.qemu_img_binary), kvm);
    VmSpec spec;
    spec.id.value = make_uuid(*environment.random);
    spec.name = "kvm-probe";
    spec.image = std::move(image);
    spec.network = NetworkMode::none;
    spec.channels = {"agent"};
    Call within = call.within(Deadline::after(*environment.clock, probe_budget));
    std::string why;
    try {
        co_await provider->create(spec, within);
        co_await provider->start(spec.id, "probe", within);
        co_await provider->wait_ready(spec.id, within);
    } catch (const Error& error) {
        if (error.errc() == Errc::cancelled) throw;
        auto said = error.remote_message().substr(0, error.remote_message().find('\n'));
        why = "a guest did not boot under it: " + error.message() + (said.empty() ? "" : " (" + said + ")");
    }
    Call clean{Deadline::after(*environment.clock, probe_budget), {}, {}};
    co_await provider->destroy(spec.id, clean);
    co_await provider->close();
    std::error_code ignored;
    std::filesystem::remove_all(options.state_directory, ignored);
    co_return why;
}

}  // namespace

Task<Accelerator> choose_accelerator(Environment environment, QemuOptions options, std::string program,
                                     std::string version, Call call) {
    if (options.accelerator == AcceleratorChoice::tcg)
        co_return Accelerator{"tcg", "emulation, as configured (vm.accelerator)"};
    if (options.accelerator == AcceleratorChoice::kvm)
        co_return Accelerator{"kvm", "KVM, as configured (vm.accelerator)"};
    if (::access("/dev/kvm", F_OK) != 0) co_return Accelerator{"tcg", "emulation: this host has no /dev/kvm"};
    if (::access("/dev/kvm", R_OK | W_OK) != 0)
        co_return Accelerator{"tcg", "emulation: /dev/kvm may not be opened; add yourself to the group kvm"};
    // Beside the images: the verdict is of the host, not of one installation.
    bool shared = ::access(options.probe_image_directory.c_str(), W_OK) == 0;
    auto path = (shared ? options.probe_image_directory : options.state_directory) + "/.accelerator.json";
    if (auto found = remembered(path, version)) co_return *found;
    if (options.probe_image_directory.empty()) co_return Accelerator{"tcg", "emulation: KVM was not tried"};
    auto why = co_await try_kvm(environment, options, program, call);
    Accelerator chosen = why.empty() ? Accelerator{"kvm", "KVM: a guest booted under it"}
                                     : Accelerator{"tcg", "emulation: /dev/kvm is there, but " + why};
    if (!why.starts_with("it was not tried")) {
        std::ofstream file(path);
        file << json{{"boot_id", boot_id()}, {"qemu", version}, {"accelerator", chosen.name}, {"reason", chosen.reason}}
                    .dump()
             << "\n";
    }
    co_return chosen;
}

}  // namespace infrastructure_sdk::qemu
