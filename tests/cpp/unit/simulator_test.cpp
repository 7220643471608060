// The simulator: the provider contract, its faults, and that a seed decides everything.

#include "support/provider_suite.hpp"

#include <infrastructure_sdk/providers/simulator.hpp>
#include <infrastructure_sdk/virtual_runtime.hpp>

namespace infrastructure_sdk {
namespace {

class SimulatorBench final : public ProviderBench {
public:
    explicit SimulatorBench(SimulatorOptions options = {}) : host_(std::move(options)) {}
    const Environment& environment() override { return runtime_.environment(); }
    std::shared_ptr<VmProvider> make() override { return make_simulator_provider(runtime_.environment(), host_); }
    VmSpec spec() override {
        VmSpec spec;
        spec.id.value = make_uuid(*runtime_.environment().random);
        spec.name = "simulated";
        spec.owner_session = "s-1";
        spec.channels = {"agent", "display"};
        return spec;
    }
    void kill(const VmStatus& status) override { host_.kill(status.id); }
    void run(Task<void> task) override { runtime_.run(std::move(task)); }

private:
    VirtualRuntime runtime_;
    SimulatedHost host_;
};

std::unique_ptr<ProviderBench> without_snapshots() {
    SimulatorOptions options;
    options.snapshots = false;
    return std::make_unique<SimulatorBench>(options);
}

INSTANTIATE_TEST_SUITE_P(Simulator, ProviderSuite,
                         ::testing::Values(ProviderKind{"simulator", [] { return std::make_unique<SimulatorBench>(); }},
                                           ProviderKind{"simulator_without_snapshots", without_snapshots}),
                         [](const auto& info) { return std::string(info.param.name); });

SimulatorOptions always(std::uint32_t SimulatorFaults::* fault) {
    SimulatorOptions options;
    options.keep_history = true;
    options.faults.*fault = 1'000'000;
    return options;
}

VmSpec some_vm() {
    VmSpec spec;
    spec.id.value = "00000000-0000-4000-8000-000000000001";
    spec.channels = {"agent"};
    return spec;
}

struct Trial {
    explicit Trial(SimulatorOptions options)
        : host(std::move(options)), provider(make_simulator_provider(runtime.environment(), host)) {}
    ~Trial() { runtime.run(provider->close()); }
    Errc create() {
        try {
            runtime.run(provider->create(some_vm(), call()));
        } catch (const Error& error) {
            return error.errc();
        }
        return Errc{};
    }
    Call call() { return {Deadline::after(*runtime.environment().clock, std::chrono::seconds(30)), {}, {}}; }
    VirtualRuntime runtime;
    SimulatedHost host;
    std::shared_ptr<VmProvider> provider;
};

TEST(SimulatorFaults, FailureHasNoEffect) {
    Trial trial(always(&SimulatorFaults::fail));
    EXPECT_EQ(trial.create(), Errc::provider);
    EXPECT_TRUE(trial.host.vms().empty());
}

TEST(SimulatorFaults, ALostReplyHasItsEffect) {
    Trial trial(always(&SimulatorFaults::lose_reply));
    EXPECT_EQ(trial.create(), Errc::provider);
    EXPECT_EQ(trial.host.vms().size(), 1u);
}

TEST(SimulatorFaults, ALieHasNoEffectAndNoError) {
    Trial trial(always(&SimulatorFaults::lie));
    EXPECT_EQ(trial.create(), Errc{});
    EXPECT_TRUE(trial.host.vms().empty());
}

TEST(SimulatorFaults, AHangLastsUntilTheDeadline) {
    Trial trial(always(&SimulatorFaults::hang));
    auto before = trial.runtime.environment().clock->monotonic_now();
    EXPECT_EQ(trial.create(), Errc::timeout);
    EXPECT_EQ(trial.runtime.environment().clock->monotonic_now() - before, std::chrono::seconds(30));
    EXPECT_TRUE(trial.host.vms().empty());
}

TEST(SimulatorFaults, SlownessTakesTenTimesAsLong) {
    Trial trial(always(&SimulatorFaults::slow));
    auto before = trial.runtime.environment().clock->monotonic_now();
    EXPECT_EQ(trial.create(), Errc{});
    EXPECT_EQ(trial.runtime.environment().clock->monotonic_now() - before, std::chrono::milliseconds(200));
}

TEST(SimulatorFaults, ABlindHostSaysUnknown) {
    Trial trial(always(&SimulatorFaults::blind));
    EXPECT_EQ(trial.create(), Errc{});
    EXPECT_EQ(trial.runtime.run(trial.provider->inspect(some_vm().id, trial.call())).state, VmState::unknown);
}

TEST(SimulatorFaults, AVanishedProcessIsFailed) {
    Trial trial(always(&SimulatorFaults::vanish));
    EXPECT_EQ(trial.create(), Errc{});
    trial.runtime.run(trial.provider->start(some_vm().id, "execution-1", trial.call()));
    trial.runtime.run_for(std::chrono::minutes(2));
    auto status = trial.runtime.run(trial.provider->inspect(some_vm().id, trial.call()));
    EXPECT_EQ(status.state, VmState::failed);
    EXPECT_EQ(status.reason, "ProcessKilled");
}

TEST(Simulator, TheSeedDecidesEverything) {
    auto story = [](std::uint64_t seed) {
        SimulatorOptions options;
        options.seed = seed;
        options.keep_history = true;
        options.faults = {200'000, 200'000, 50'000, 100'000, 100'000, 100'000, 0};
        VirtualRuntimeOptions virtual_options;
        virtual_options.seed = seed;
        VirtualRuntime runtime(virtual_options);
        SimulatedHost host(options);
        auto provider = make_simulator_provider(runtime.environment(), host);
        std::string text;
        for (int i = 0; i < 60; ++i) {
            VmSpec spec = some_vm();
            spec.id.value = make_uuid(*runtime.environment().random);
            Call call{Deadline::after(*runtime.environment().clock, std::chrono::seconds(30)), {}, {}};
            try {
                runtime.run(provider->create(spec, call));
                runtime.run(provider->start(spec.id, "execution-1", call));
                runtime.run(provider->suspend(spec.id, call));
            } catch (const Error& error) {
                text += error.message() + "\n";
            }
        }
        runtime.run(provider->close());
        for (const auto& line : host.history()) text += line + "\n";
        return text + to_rfc3339(runtime.environment().clock->wall_now());
    };
    EXPECT_EQ(story(7), story(7));
    EXPECT_NE(story(7), story(8));
}

}  // namespace
}  // namespace infrastructure_sdk
