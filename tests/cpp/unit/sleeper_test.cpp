#include "core/sleeper.hpp"

#include <memory>
#include <optional>
#include <thread>

#include <gtest/gtest.h>

#include "core/asio.hpp"

namespace infrastructure_sdk {
namespace {

Task<void> sleep_once(Sleeper sleeper, std::shared_ptr<int> times_up) {
    co_await sleeper.sleep();
    ++*times_up;
}

struct SleeperTest : ::testing::Test {
    void start(const Sleeper& sleeper) {
        asio::co_spawn(io.get_executor(), sleep_once(sleeper, times_up), asio::detached);
        run();
    }
    void run() {
        io.restart();
        io.poll();
    }

    std::shared_ptr<int> times_up = std::make_shared<int>(0);
    asio::io_context io{1};
};

TEST_F(SleeperTest, SleepsUntilWoken) {
    Sleeper sleeper(io.get_executor());
    start(sleeper);
    EXPECT_EQ(*times_up, 0);
    sleeper.wake();
    EXPECT_EQ(*times_up, 0) << "it goes on where it was, not where it was woken";
    run();
    EXPECT_EQ(*times_up, 1);
}

TEST_F(SleeperTest, IsWokenOnceHoweverOftenItIsAsked) {
    Sleeper sleeper(io.get_executor());
    start(sleeper);
    sleeper.wake();
    sleeper.wake();
    run();
    sleeper.wake();
    run();
    EXPECT_EQ(*times_up, 1);
}

TEST_F(SleeperTest, DoesNotSleepWhenItWasWokenBefore) {
    Sleeper sleeper(io.get_executor());
    sleeper.wake();
    run();
    start(sleeper);
    EXPECT_EQ(*times_up, 1);
}

TEST_F(SleeperTest, OthersSleepOn) {
    Sleeper first(io.get_executor());
    Sleeper second(io.get_executor());
    Sleeper third(io.get_executor());
    for (const auto& sleeper : {first, second, third}) start(sleeper);
    second.wake();
    run();
    EXPECT_EQ(*times_up, 1);
    first.wake();
    third.wake();
    run();
    EXPECT_EQ(*times_up, 3);
}

TEST_F(SleeperTest, IsWokenFromAnotherThread) {
    Sleeper sleeper(io.get_executor());
    start(sleeper);
    std::thread([&sleeper] { sleeper.wake(); }).join();
    run();
    EXPECT_EQ(*times_up, 1);
}

TEST(Sleeper, EndsWithItsContext) {
    auto times_up = std::make_shared<int>(0);
    std::weak_ptr<int> held = times_up;
    std::optional<Sleeper> sleeper;
    {
        asio::io_context io{1};
        sleeper.emplace(io.get_executor());
        asio::co_spawn(io.get_executor(), sleep_once(*sleeper, std::move(times_up)), asio::detached);
        io.poll();
        EXPECT_FALSE(held.expired());
    }
    EXPECT_TRUE(held.expired()) << "what the coroutine holds goes with it";
}

}  // namespace
}  // namespace infrastructure_sdk
