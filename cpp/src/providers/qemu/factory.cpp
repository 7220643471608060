#include <unistd.h>

#include "core/async_tools.hpp"
#include "providers/qemu/accelerator.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/provider.hpp"

namespace infrastructure_sdk {
namespace {

std::string version_of(const std::string& program) {
    auto text = qemu::tool_output({program, "--version"});
    return text.substr(0, text.find('\n'));
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
    std::exception_ptr failure;
    try {
        co_await provider->sweep_debris();
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        co_await provider->close();
        std::rethrow_exception(failure);
    }
    co_return provider;
}

}  // namespace infrastructure_sdk
