#include "core/did_you_mean.hpp"

#include <gtest/gtest.h>

namespace infrastructure_sdk {
namespace {

const std::vector<std::string> words{"boot_timeout", "memory", "cpu", "kvm"};

TEST(DidYouMean, FindsTheNearestWordWithinTwoEdits) {
    EXPECT_EQ(did_you_mean("boot_tmeout", words), "boot_timeout");
    EXPECT_EQ(did_you_mean("mmeory", words), "memory");
    EXPECT_EQ(did_you_mean("kmv", words), "kvm");
    EXPECT_EQ(did_you_mean("memorys", words), "memory");
}

TEST(DidYouMean, SaysNothingBeyondTwoEdits) {
    EXPECT_EQ(did_you_mean("timeout", words), "");
    EXPECT_EQ(did_you_mean("", words), "");
    EXPECT_EQ(did_you_mean("memory", {}), "");
}

TEST(DidYouMean, SuggestsNoWordThatSharesNothing) { EXPECT_EQ(did_you_mean("ab", {"xy"}), ""); }

TEST(DidYouMean, TakesTheFirstOfEquallyNearWords) { EXPECT_EQ(did_you_mean("cat", {"bat", "hat"}), "bat"); }

TEST(DidYouMean, IgnoresHugeWords) { EXPECT_EQ(did_you_mean(std::string(1u << 20, 'a'), words), ""); }

}  // namespace
}  // namespace infrastructure_sdk
