#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/seeded_random.hpp"
#include "session/deadline_index.hpp"

namespace infrastructure_sdk {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using namespace std::chrono_literals;

WallTime at(std::int64_t seconds) { return WallTime(std::chrono::seconds(seconds)); }

TEST(DeadlineIndex, GivesWhatIsDueEarliestFirst) {
    DeadlineIndex<WallTime> index;
    EXPECT_EQ(index.next(), std::nullopt);
    EXPECT_TRUE(index.set("b", at(20)));
    EXPECT_TRUE(index.set("a", at(10)));
    EXPECT_FALSE(index.set("c", at(30))) << "the earliest is the same";
    EXPECT_THAT(index.due(at(9)), IsEmpty());
    EXPECT_THAT(index.due(at(20)), ElementsAre("a", "b"));
    EXPECT_TRUE(index.set("a", at(40))) << "it was extended";
    EXPECT_EQ(index.next(), at(20));
    EXPECT_TRUE(index.set("b", std::nullopt));
    EXPECT_EQ(index.next(), at(30));
    EXPECT_FALSE(index.set("nobody", std::nullopt));
}

TEST(DeadlineIndex, AgreesWithAListForSeededChanges) {
    SeededRandom random(5);
    DeadlineIndex<WallTime> index;
    std::map<std::string, WallTime> list;
    for (int i = 0; i < 5000; ++i) {
        auto id = std::to_string(random.below(40));
        auto when = at(static_cast<std::int64_t>(random.below(100)));
        if (random.below(4) == 0) {
            index.set(id, std::nullopt);
            list.erase(id);
        } else {
            index.set(id, when);
            list[id] = when;
        }
        auto now = at(static_cast<std::int64_t>(random.below(100)));
        std::set<std::pair<WallTime, std::string>> expected;
        for (const auto& [known, time] : list)
            if (time <= now) expected.emplace(time, known);
        std::vector<std::string> ids;
        for (const auto& entry : expected) ids.push_back(entry.second);
        ASSERT_EQ(index.due(now), ids);
    }
}

}  // namespace
}  // namespace infrastructure_sdk
