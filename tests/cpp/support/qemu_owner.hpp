#pragma once
// A provider over a state directory, without sessions, for tests that look at what it leaves on disk.

#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

#include <infrastructure_sdk/detail/run.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/providers/qemu.hpp>

namespace infrastructure_sdk::test {

inline std::string image_directory() {
    const char* directory = std::getenv("INFRA_SDK_TEST_IMAGE_DIR");
    return directory ? directory : "/var/lib/infrastructure-sdk/images";
}

inline std::string reason_of(const Error& error) {
    for (const auto& [name, value] : error.context())
        if (name == "reason") return value;
    return {};
}

/// A provider over a state directory, which another one may own later.
class QemuOwner {
public:
    explicit QemuOwner(const std::string& state, std::string master = {}, std::function<void(const char*)> hook = {},
                       bool fast_launch = false)
        : runtime_(make_null_sink()) {
        QemuOptions options;
        options.state_directory = state;
        options.probe_image_directory = image_directory();
        options.accelerator = AcceleratorChoice::tcg;
        options.master_key = Secret(std::move(master));
        options.fast_launch = fast_launch;
        options.after_effect = std::move(hook);
        provider = run(make_qemu_provider(runtime_.environment(), options, {}));
    }
    ~QemuOwner() { run(provider->close()); }
    template <class T>
    T run(Task<T> task) {
        return infrastructure_sdk::run(runtime_, std::move(task));
    }
    Call call() { return {Deadline::after(*runtime_.environment().clock, std::chrono::minutes(3)), {}, "test"}; }
    /// The reason of a refused resume; empty when it went well.
    std::string resume(const VmId& id) {
        try {
            run(provider->resume(id, "e-2", call()));
        } catch (const Error& error) {
            return reason_of(error);
        }
        return {};
    }
    std::string shell(const VmId& id, const std::string& command) {
        ExecRequest request;
        request.arguments = {"sh", "-c", command};
        auto agent = provider->agent(id);
        return run(agent->exec(request, call())).stdout_data;
    }
    VmState state(const VmId& id) { return run(provider->inspect(id, call())).state; }
    Environment environment() { return runtime_.environment(); }

private:
    Runtime runtime_;

public:
    std::shared_ptr<VmProvider> provider;
};

}  // namespace infrastructure_sdk::test
