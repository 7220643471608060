// Tokens of consoles: given out once, taken once.

#include <gtest/gtest.h>

#include "core/seeded_random.hpp"
#include "session/console_tokens.hpp"

namespace infrastructure_sdk {
namespace {

using std::chrono::seconds;

MonotonicTime at(int second) { return MonotonicTime(seconds(second)); }
ConsoleGrant grant(std::string session, int expires) { return {std::move(session), "e-1", false, at(expires)}; }

TEST(ConsoleTokens, OpenOnceForTheirSession) {
    ConsoleTokens tokens;
    SeededRandom random(1);
    auto token = tokens.issue(grant("s-1", 60), random, at(0));
    EXPECT_EQ(token.reveal().size(), 64u);
    auto found = tokens.redeem(token, "s-1", "e-1", at(59));
    ASSERT_TRUE(found);
    EXPECT_EQ(found->session, "s-1");
    EXPECT_FALSE(tokens.redeem(token, "s-1", "e-1", at(59))) << "it was used";
    EXPECT_EQ(tokens.size(), 0u);
}

TEST(ConsoleTokens, AreVoidElsewhereLaterAndAfterAResume) {
    SeededRandom random(2);
    struct Try {
        const char* session;
        const char* execution;
        int second;
    };
    for (auto wrong : {Try{"s-2", "e-1", 1}, Try{"s-1", "e-2", 1}, Try{"s-1", "e-1", 60}, Try{"", "", 1}}) {
        ConsoleTokens tokens;
        auto token = tokens.issue(grant("s-1", 60), random, at(0));
        EXPECT_FALSE(tokens.redeem(token, wrong.session, wrong.execution, at(wrong.second)));
        EXPECT_FALSE(tokens.redeem(token, "s-1", "e-1", at(1))) << "what was offered is void";
    }
    ConsoleTokens tokens;
    tokens.issue(grant("s-1", 60), random, at(0));
    for (const char* text : {"", "0", "zzzz"}) EXPECT_FALSE(tokens.redeem(Secret(text), "s-1", "e-1", at(1)));
    EXPECT_EQ(tokens.size(), 1u);
}

TEST(ConsoleTokens, AreDifferentAndBounded) {
    ConsoleTokens tokens;
    SeededRandom random(3);
    auto first = tokens.issue(grant("s-1", 1000), random, at(0));
    auto other = tokens.issue(grant("s-2", 1), random, at(0));
    EXPECT_FALSE(first == other);
    for (int i = 0; i < 64; ++i) tokens.issue(grant("s-1", 2000 + i), random, at(0));
    EXPECT_EQ(tokens.size(), 65u);
    EXPECT_FALSE(tokens.redeem(first, "s-1", "e-1", at(0))) << "the one that would be over first made room";
    EXPECT_TRUE(tokens.redeem(other, "s-2", "e-1", at(0)));
    tokens.issue(grant("s-3", 9000), random, at(5000));
    EXPECT_EQ(tokens.size(), 1u) << "what is over is forgotten";
}

}  // namespace
}  // namespace infrastructure_sdk
