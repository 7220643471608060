#pragma once
// The contract of VmProvider as tests. Every provider passes the same suite.

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>

#include <gtest/gtest.h>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/vm/vm_provider.hpp>

namespace infrastructure_sdk {

/// A place where providers are made: a real host with a state directory, or a simulated one.
class ProviderBench {
public:
    virtual ~ProviderBench() = default;
    virtual const Environment& environment() = 0;
    /// A provider over everything that is there, as a new owner would make it.
    virtual std::shared_ptr<VmProvider> make() = 0;
    /// A VM that boots here.
    virtual VmSpec spec() = 0;
    /// The VM's process dies, unasked.
    virtual void kill(const VmStatus& status) = 0;
    virtual void run(Task<void> task) = 0;
};

struct ProviderKind {
    const char* name;
    std::function<std::unique_ptr<ProviderBench>()> make;
    friend void PrintTo(const ProviderKind& kind, std::ostream* out) { *out << kind.name; }
};

class ProviderSuite : public ::testing::TestWithParam<ProviderKind> {
protected:
    void SetUp() override;
    void TearDown() override;

    Call call() const;
    /// Runs a task to its value.
    template <class T>
    T get(Task<T> task) {
        std::optional<T> value;
        auto keep = [](std::optional<T>* place, Task<T> inner) -> Task<void> { *place = co_await std::move(inner); };
        bench_->run(keep(&value, std::move(task)));
        return std::move(*value);
    }
    void run(Task<void> task) { bench_->run(std::move(task)); }
    /// The code that a task throws; Errc{} when it does not.
    Errc errc_of(Task<void> task);
    VmState state_of(const VmId& id) { return get(provider_->inspect(id, call())).state; }
    /// Created, started and ready.
    VmSpec boot();
    bool is_snapshot_refused(const VmId& id);
    void expect_promised_limits(const VmStatus& status);
    std::string cat(const VmId& id, const std::string& path);

    std::unique_ptr<ProviderBench> bench_;
    std::shared_ptr<VmProvider> provider_;
    Error last_error_{Errc::internal, ""};
};

}  // namespace infrastructure_sdk
