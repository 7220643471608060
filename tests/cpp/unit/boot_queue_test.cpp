#include "session/boot_queue.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <stdexcept>
#include <vector>

#include "support/simulated_world.hpp"

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;

WallTime at(int seconds) { return WallTime(std::chrono::seconds(seconds)); }

TEST(BootQueue, GivesPlacesInTheOrderOfAdmission) {
    BootQueue queue(2);
    EXPECT_TRUE(queue.try_begin("a"));
    EXPECT_TRUE(queue.try_begin("b"));
    EXPECT_FALSE(queue.try_begin("c"));
    queue.wait("later", at(2));
    queue.wait("sooner", at(1));
    EXPECT_EQ(queue.size(), 4u);
    EXPECT_EQ(queue.next(), std::nullopt);
    EXPECT_TRUE(queue.leave("a"));
    EXPECT_FALSE(queue.try_begin("c")) << "nobody overtakes those that wait";
    EXPECT_EQ(queue.next(), "sooner");
    EXPECT_TRUE(queue.has_place("sooner"));
    EXPECT_TRUE(queue.leave("later")) << "who waits may go as well";
    EXPECT_FALSE(queue.leave("later"));
    EXPECT_EQ(queue.size(), 2u);
}

TEST(BootQueue, WithoutALimitEverybodyBegins) {
    BootQueue queue(0);
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(queue.try_begin(std::to_string(i)));
}

TEST(BootQueue, AgreesWithANaiveModel) {
    for (unsigned seed = 1; seed <= 200; ++seed) {
        std::mt19937 random(seed);
        const std::size_t places = 1 + random() % 4;
        BootQueue queue(places);
        std::vector<std::string> booting;
        std::deque<std::string> waiting;
        int made = 0;
        for (int step = 0; step < 200; ++step) {
            if (random() % 2 == 0) {
                auto id = std::to_string(made);
                bool free = waiting.empty() && booting.size() < places;
                ASSERT_EQ(queue.try_begin(id), free) << seed;
                if (free) booting.push_back(id);
                else queue.wait(id, at(made)), waiting.push_back(id);
                ++made;
            } else if (made > 0) {
                auto id = std::to_string(random() % static_cast<unsigned>(made));
                auto left = std::erase(booting, id) + std::erase(waiting, id);
                ASSERT_EQ(queue.leave(id), left > 0) << seed;
            }
            while (booting.size() < places && !waiting.empty()) {
                ASSERT_EQ(queue.next(), waiting.front()) << seed;
                booting.push_back(waiting.front());
                waiting.pop_front();
            }
            ASSERT_EQ(queue.next(), std::nullopt) << seed;
            ASSERT_EQ(queue.size(), booting.size() + waiting.size()) << seed;
        }
    }
}

class Boots : public testing::Test {
protected:
    std::size_t in(SessionState state) {
        auto all = world_.sessions();
        return static_cast<std::size_t>(
            std::count_if(all.begin(), all.end(), [&](const Session& session) { return session.state == state; }));
    }
    Session create(const std::string& user) {
        Session session;
        world_.run(world_.engine().create(world_.request(user), world_.call()), &session);
        return session;
    }
    static SimulatorOptions two_at_once() {
        SimulatorOptions options;
        options.concurrent_boots = 2;
        return options;
    }

    test::SimulatedWorld world_{
        5, two_at_once(), {{LimitScope::host, "", LimitResource::memory, std::int64_t{1} << 40}}};
};

TEST_F(Boots, FiftyRequestsAtOnceBootTwoByTwoAndInOrder) {
    std::vector<Session> asked;
    for (int i = 0; i < 50; ++i) asked.push_back(create("user-" + std::to_string(i)));
    EXPECT_EQ(asked[1].state, SessionState::provisioning);
    EXPECT_EQ(asked[2].state, SessionState::pending);
    for (int i = 0; i < 120 && in(SessionState::active) < 50; ++i) {
        ASSERT_LE(in(SessionState::provisioning), 2u);
        world_.run_for(500ms);
    }
    EXPECT_EQ(in(SessionState::active), 50u);
    std::vector<std::string> started, expected;
    EventQuery everything;
    everything.limit = 1000;
    std::vector<Event> events;
    world_.run(world_.engine().events(everything), &events);
    for (const auto& event : events)
        if (event.type == "session.lifecycle.started") started.push_back(event.subject);
    for (const auto& session : asked) expected.push_back(session.id);
    EXPECT_EQ(started, expected);
}

TEST_F(Boots, ThoseThatWaitedGoOnAfterTheDeathOfTheOwner) {
    std::vector<std::string> known;
    for (int i = 0; i < 6; ++i) known.push_back(create("user-" + std::to_string(i)).id);
    world_.kill_owner();
    ASSERT_TRUE(world_.open());
    EXPECT_EQ(in(SessionState::provisioning), 2u);
    EXPECT_EQ(in(SessionState::pending), 4u);
    world_.run_for(1min);
    EXPECT_EQ(in(SessionState::active), 6u);
    EXPECT_TRUE(world_.faults(known).empty());
}

TEST_F(Boots, OneThatEndsOrFailsMakesRoom) {
    auto first = create("a"), second = create("b"), third = create("c"), fourth = create("d");
    world_.run(world_.engine().terminate(third.id, TerminationReason::request, world_.call()));
    world_.run(world_.engine().terminate(first.id, TerminationReason::request, world_.call()));
    world_.host().kill(second.vm_id);
    world_.run_for(1min);
    Session now;
    world_.run(world_.engine().get(fourth.id), &now);
    EXPECT_EQ(now.state, SessionState::active);
}

TEST_F(Boots, ARequestThatCannotBeRecordedTakesNoPlace) {
    auto request = world_.request("a");
    request.tags["team"] = "\xff";
    for (int i = 0; i < 3; ++i) {
        EXPECT_ANY_THROW({
            world_.run(world_.engine().create(request, world_.call()));
            if (world_.last_code != Errc{}) throw std::runtime_error(world_.last_message);
        });
    }
    EXPECT_EQ(create("b").state, SessionState::provisioning);
    EXPECT_EQ(create("c").state, SessionState::provisioning);
}

TEST_F(Boots, ADeniedRequestTakesNoPlace) {
    auto request = world_.request("a");
    request.resources.memory = Quantity::parse("100Ti");
    for (int i = 0; i < 3; ++i) {
        world_.run(world_.engine().create(request, world_.call()));
        EXPECT_NE(world_.last_code, Errc{});
    }
    EXPECT_EQ(create("b").state, SessionState::provisioning);
    EXPECT_EQ(create("c").state, SessionState::provisioning);
}

}  // namespace
}  // namespace infrastructure_sdk
