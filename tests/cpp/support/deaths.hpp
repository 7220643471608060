#pragma once
// A life in which the owner dies, at every point where it can.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "support/simulated_world.hpp"

namespace infrastructure_sdk::test {

/// Fills in the ids that were acknowledged; ends early when the owner died.
using Life = std::function<void(SimulatedWorld& world, std::vector<std::string>& known)>;
/// What else must hold afterwards; `point` 0 is the life without a death.
using Afterwards = std::function<void(SimulatedWorld& world, std::size_t point)>;

/// Lives once to count the points, which must be `more_than`, then dies once at each of them. The next owner has ten
/// minutes, and nothing may be wrong then.
inline void die_at_each_point(const Life& life, std::size_t more_than, const Afterwards& afterwards = {}) {
    SimulatedWorld whole(1);
    std::vector<std::string> ids;
    life(whole, ids);
    EXPECT_THAT(whole.faults(ids), testing::IsEmpty());
    if (afterwards) afterwards(whole, 0);
    std::size_t points = 0;
    for (const auto& [name, times] : whole.points().passed()) points += times;
    ASSERT_GT(points, more_than);
    for (std::size_t point = 1; point <= points; ++point) {
        SCOPED_TRACE("point " + std::to_string(point));
        SimulatedWorld world(1);
        std::vector<std::string> known;
        world.points().arm(point);
        life(world, known);
        EXPECT_FALSE(world.owner_lives());
        ASSERT_TRUE(world.open());
        world.run_for(std::chrono::minutes(10));
        EXPECT_THAT(world.faults(known), testing::IsEmpty());
        if (afterwards) afterwards(world, point);
    }
}

}  // namespace infrastructure_sdk::test
