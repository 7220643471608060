#include <gtest/gtest.h>

#include "core/async_tools.hpp"
#include <infrastructure_sdk/virtual_runtime.hpp>

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;

Task<void> note_after(Environment environment, Duration length, std::vector<int>* order, int number) {
    co_await environment.clock->sleep_until(environment.clock->monotonic_now() + length, {});
    order->push_back(number);
}

TEST(VirtualRuntime, MovesTheClockInsteadOfWaiting) {
    VirtualRuntime runtime;
    std::vector<int> order;
    auto start = runtime.environment().clock->wall_now();
    runtime.run(note_after(runtime.environment(), 24h * 365, &order, 1));
    EXPECT_EQ(order, std::vector<int>{1});
    EXPECT_EQ(runtime.environment().clock->wall_now() - start, 24h * 365);
}

TEST(VirtualRuntime, FiresTimersInOrderAndEqualOnesAsTheyCame) {
    VirtualRuntime runtime;
    std::vector<int> order;
    TaskGroup group(runtime.environment().executor);
    int number = 0;
    for (auto length : {3s, 1s, 2s, 1s})
        group.spawn(nullptr, "timer", note_after(runtime.environment(), length, &order, ++number));
    runtime.run_for(10s);
    EXPECT_EQ(order, (std::vector<int>{2, 4, 3, 1}));
}

TEST(VirtualRuntime, StopsAtTheGivenTime) {
    VirtualRuntime runtime;
    std::vector<int> order;
    TaskGroup group(runtime.environment().executor);
    for (int i = 1; i <= 3; ++i) group.spawn(nullptr, "timer", note_after(runtime.environment(), i * 10s, &order, i));
    runtime.run_for(20s);
    EXPECT_EQ(order, (std::vector<int>{1, 2}));
    EXPECT_EQ(runtime.environment().clock->monotonic_now(), MonotonicTime(20s));
}

TEST(VirtualRuntime, WallJumpsMoveNoTimer) {
    VirtualRuntime runtime;
    std::vector<int> order;
    TaskGroup group(runtime.environment().executor);
    group.spawn(nullptr, "timer", note_after(runtime.environment(), 10s, &order, 1));
    runtime.run_for(1s);
    runtime.set_wall_time(runtime.environment().clock->wall_now() + 24h);
    runtime.run_for(8s);
    EXPECT_TRUE(order.empty());
    runtime.run_for(1s);
    EXPECT_EQ(order, std::vector<int>{1});
}

TEST(VirtualRuntime, AHaltedOneRunsNothingMore) {
    VirtualRuntime runtime;
    std::vector<int> order;
    TaskGroup group(runtime.environment().executor);
    group.spawn(nullptr, "timer", note_after(runtime.environment(), 1s, &order, 1));
    runtime.halt();
    runtime.run_for(10s);
    EXPECT_TRUE(order.empty());
    EXPECT_FALSE(runtime.step());
}

TEST(VirtualRuntime, SaysThatATaskWaitsForNothing) {
    VirtualRuntime runtime;
    Signal never(runtime.environment().executor);
    try {
        runtime.run(never.wait());
        FAIL() << "it must not complete";
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::timeout);
    }
}

TEST(VirtualRuntime, TheSeedGivesTheBytes) {
    auto ids = [](std::uint64_t seed) {
        VirtualRuntimeOptions options;
        options.seed = seed;
        VirtualRuntime runtime(options);
        return make_uuid(*runtime.environment().random) + make_uuid(*runtime.environment().random);
    };
    EXPECT_EQ(ids(1), ids(1));
    EXPECT_NE(ids(1), ids(2));
}

}  // namespace
}  // namespace infrastructure_sdk
