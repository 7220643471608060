// Real QEMU against the provider contract.

#include "support/provider_suite.hpp"

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include <sys/stat.h>

#include <infrastructure_sdk/detail/run.hpp>
#include <infrastructure_sdk/sdk.hpp>
#include <infrastructure_sdk/vm/image.hpp>

namespace infrastructure_sdk {
namespace {

class QemuBench final : public ProviderBench {
public:
    QemuBench() {
        char name[] = "/tmp/qemu-provider-XXXXXX";
        if (!::mkdtemp(name)) throw std::runtime_error("mkdtemp");
        ::chmod(name, 0711);
        state_ = name;
    }
    ~QemuBench() override { std::filesystem::remove_all(state_); }
    const Environment& environment() override { return runtime_.environment(); }
    std::shared_ptr<VmProvider> make() override {
        QemuOptions options;
        options.state_directory = state_;
        options.probe_image_directory = images();
        return infrastructure_sdk::run(runtime_, make_qemu_provider(runtime_.environment(), options, {}));
    }
    VmSpec spec() override {
        VmSpec spec;
        spec.id.value = make_uuid(*runtime_.environment().random);
        spec.name = "suite";
        spec.owner_session = "s-1";
        spec.image = load_image(images(), "linux-tiny");
        spec.mac_address = "02:00:00:00:00:01";
        spec.channels = {"agent", "display"};
        return spec;
    }
    void kill(const VmStatus& status) override { ::kill(static_cast<pid_t>(status.process.value().pid), SIGKILL); }
    void run(Task<void> task) override { infrastructure_sdk::run(runtime_, std::move(task)); }

private:
    static std::string images() {
        const char* directory = std::getenv("INFRA_SDK_TEST_IMAGE_DIR");
        return directory ? directory : default_image_directory();
    }
    std::string state_;
    Runtime runtime_{make_null_sink()};
};

INSTANTIATE_TEST_SUITE_P(Qemu, ProviderSuite,
                         ::testing::Values(ProviderKind{"qemu", [] { return std::make_unique<QemuBench>(); }}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace infrastructure_sdk
