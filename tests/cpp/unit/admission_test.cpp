#include "session/admission.hpp"

#include <limits>

#include <gtest/gtest.h>

#include "session/amounts.hpp"
#include "support/print_limits.hpp"

namespace infrastructure_sdk {
namespace {

using S = LimitScope;
using R = LimitResource;

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();

Amounts amounts(R resource, std::int64_t value) {
    Amounts result;
    result.of(resource) = value;
    return result;
}

Reservation of_user(const std::string& session, const std::string& user, Amounts held = amounts(R::sessions, 1)) {
    return {session, user, "physics", "linux-tiny", false, held};
}

Reservation warm(const std::string& unit, Amounts held = amounts(R::sessions, 1)) {
    return {unit, "", "", "linux-tiny", true, held};
}

std::string numbered(int i) { return std::string("s").append(std::to_string(i)); }

UsageLine line(Limit limit, std::string subject, std::int64_t in_use, std::int64_t free, std::size_t holder_count) {
    UsageLine result;
    result.limit = std::move(limit);
    result.subject = std::move(subject);
    result.in_use = in_use;
    result.free = free;
    result.holder_count = holder_count;
    return result;
}

void expect_denial(const Denial& denial, const Limit& limit, const std::string& subject, std::int64_t in_use,
                   std::int64_t requested, const std::vector<std::string>& holders) {
    EXPECT_EQ(denial.limit, limit) << denial.message();
    EXPECT_EQ(denial.subject, subject);
    EXPECT_EQ(denial.in_use, in_use);
    EXPECT_EQ(denial.requested, requested);
    EXPECT_EQ(denial.holders, holders);
    EXPECT_EQ(denial.holder_count, holders.size());
}

/// The subject that `of_user(_, "alice")` has in a scope.
std::string subject_in(S scope) {
    switch (scope) {
        case S::user: return "alice";
        case S::tenant: return "physics";
        case S::template_: return "linux-tiny";
        case S::host: break;
    }
    return "";
}

TEST(Admission, EveryScopeLimitsEveryResource) {
    for (auto scope : limit_scopes)
        for (auto resource : limit_resources) {
            Limit limit{scope, subject_in(scope), resource, 10};
            Admission admission({limit});
            EXPECT_FALSE(admission.reserve(of_user("a", "alice", amounts(resource, 4))));
            EXPECT_FALSE(admission.reserve(of_user("b", "alice", amounts(resource, 6))));
            auto denial = admission.reserve(of_user("c", "alice", amounts(resource, 1)));
            ASSERT_TRUE(denial) << name_of(scope) << " " << name_of(resource);
            expect_denial(*denial, limit, subject_in(scope), 10, 1, {"b", "a"});
            EXPECT_EQ(admission.in_use(scope, subject_in(scope)), amounts(resource, 10));
            for (auto other : limit_resources)
                if (other != resource) {
                    EXPECT_FALSE(admission.check(of_user("c", "alice", amounts(other, most / 1000))));
                }
            auto elsewhere = of_user("d", "bob", amounts(resource, 10));
            elsewhere.tenant = "chemistry";
            elsewhere.template_name = "win";
            EXPECT_EQ(admission.check(elsewhere).has_value(), scope == S::host);
            admission.release("a");
            EXPECT_FALSE(admission.reserve(of_user("c", "alice", amounts(resource, 4))));
            EXPECT_TRUE(admission.reserve(of_user("e", "alice", amounts(resource, 1))));
        }
}

TEST(Admission, WithoutLimitsEverythingFits) {
    Admission admission({});
    for (int i = 0; i < 100; ++i) EXPECT_FALSE(admission.reserve(of_user(numbered(i), "alice")));
    EXPECT_EQ(admission.in_use(S::user, "alice").sessions, 100);
    EXPECT_TRUE(admission.usage().empty());
}

TEST(Admission, RefusalsComeInTheDocumentedOrder) {
    std::vector<Limit> limits;
    for (auto resource : limit_resources)
        for (auto scope : {S::host, S::template_, S::tenant, S::user})
            limits.push_back({scope, subject_in(scope), resource, 0});
    Amounts all{1, 1, 1, 1, 1, 1, 1};
    for (auto scope : limit_scopes)
        for (auto resource : limit_resources) {
            auto denial = Admission(limits).check(of_user("", "alice", all));
            ASSERT_TRUE(denial);
            EXPECT_EQ(denial->limit, (Limit{scope, subject_in(scope), resource, 0}));
            std::erase(limits, denial->limit);
        }
    EXPECT_FALSE(Admission(limits).check(of_user("", "alice", all)));
}

TEST(Admission, AStarIsEveryOneOnItsOwnAndASubjectOverridesItForThatResourceOnly) {
    Admission admission({{S::user, "*", R::sessions, 1},
                         {S::user, "*", R::gpu, 0},
                         {S::user, "alice", R::sessions, 2},
                         {S::user, "eve", R::sessions, 0}});
    EXPECT_FALSE(admission.reserve(of_user("a1", "alice")));
    EXPECT_FALSE(admission.reserve(of_user("a2", "alice")));
    EXPECT_EQ(admission.check(of_user("a3", "alice"))->limit.subject, "alice");
    EXPECT_FALSE(admission.reserve(of_user("b1", "bob")));
    auto denial = admission.check(of_user("b2", "bob"));
    ASSERT_TRUE(denial);
    EXPECT_EQ(denial->limit, (Limit{S::user, "*", R::sessions, 1}));
    EXPECT_EQ(denial->subject, "bob");
    EXPECT_EQ(denial->message(),
              "the sessions limit of user 'bob' (as of every user) is 1: 1 in use, 1 requested; held by b1; "
              "what would help: end it, or a higher limit");
    EXPECT_TRUE(admission.check(of_user("e", "eve")));
    EXPECT_EQ(admission.check(of_user("a1", "alice", amounts(R::gpu, 1)))->limit, (Limit{S::user, "*", R::gpu, 0}));
}

TEST(Admission, AZeroLimitRefusesOnlyWhoAsks) {
    Admission admission({{S::user, "*", R::gpu, 0}});
    EXPECT_FALSE(admission.reserve(of_user("a", "alice")));
    EXPECT_TRUE(admission.check(of_user("b", "alice", amounts(R::gpu, 1))));
}

TEST(Admission, HoldersAreTheBiggestTenOfThatResourceAndThatSubject) {
    Admission admission({{S::user, "alice", R::memory, 1000}});
    for (int i = 10; i < 25; ++i) admission.restore(of_user(numbered(i), "alice", amounts(R::memory, i / 2)));
    admission.restore(of_user("none", "alice", amounts(R::cpu, 5)));
    admission.restore(of_user("other", "bob", amounts(R::memory, 900)));
    auto denial = admission.check(of_user("", "alice", amounts(R::memory, 1000)));
    ASSERT_TRUE(denial);
    EXPECT_EQ(denial->holder_count, 15u);
    EXPECT_EQ(denial->holders,
              (std::vector<std::string>{"s24", "s22", "s23", "s20", "s21", "s18", "s19", "s16", "s17", "s14"}));
}

TEST(Admission, TheSameSessionTwiceIsHeldOnce) {
    Admission admission({{S::user, "alice", R::sessions, 1}});
    for (int i = 0; i < 3; ++i) EXPECT_FALSE(admission.reserve(of_user("a", "alice")));
    EXPECT_EQ(admission.in_use(S::user, "alice").sessions, 1);
    for (int i = 0; i < 3; ++i) admission.release("a");
    admission.release("never seen");
    EXPECT_EQ(admission.in_use(S::host, ""), Amounts{});
    EXPECT_FALSE(admission.find("a"));
}

TEST(Admission, ASuspendedSessionKeepsItsPlaceAndResumesOnlyIfItFits) {
    const Amounts full{1, 2000, 4096, 8192, 0, 500, 7000};
    Admission admission({{S::user, "*", R::sessions, 2}, {S::host, "", R::memory, 6000}});
    ASSERT_FALSE(admission.reserve(of_user("a", "alice", full)));
    ASSERT_EQ(admission.check(of_user("b", "bob", full))->limit.scope, S::host);
    ASSERT_FALSE(admission.reserve(of_user("a", "alice", held_by(SessionState::suspended, full))));
    EXPECT_EQ(admission.in_use(S::user, "alice"), (Amounts{1, 0, 0, 8192, 0, 0, 7000}));
    ASSERT_FALSE(admission.reserve(of_user("b", "bob", full)));
    auto denial = admission.reserve(of_user("a", "alice", held_by(SessionState::resuming, full)));
    ASSERT_TRUE(denial);
    expect_denial(*denial, {S::host, "", R::memory, 6000}, "", 4096, 4096, {"b"});
    EXPECT_EQ(admission.find("a")->amounts, held_by(SessionState::suspended, full))
        << "kept when the new one does not fit";
    admission.release("b");
    EXPECT_FALSE(admission.reserve(of_user("a", "alice", held_by(SessionState::resuming, full))));
    EXPECT_EQ(admission.in_use(S::host, ""), full);
}

TEST(Admission, AWarmUnitCountsForTheHostAndItsOwnAccountAlone) {
    Admission admission({{S::user, "*", R::sessions, 0},
                         {S::tenant, "*", R::sessions, 0},
                         {S::template_, "*", R::sessions, 0},
                         {S::host, "", R::sessions, 2}});
    EXPECT_FALSE(admission.reserve(warm("w1")));
    EXPECT_FALSE(admission.reserve(warm("w2")));
    EXPECT_EQ(admission.check(warm("w3"))->limit.scope, S::host);
    EXPECT_EQ(admission.in_use(S::host, "").sessions, 2);
    EXPECT_EQ(admission.warm_in_use("linux-tiny").sessions, 2);
    EXPECT_EQ(admission.warm_in_use("other"), Amounts{});
    EXPECT_EQ(admission.in_use(S::template_, "linux-tiny"), Amounts{});
    EXPECT_EQ(admission.in_use(S::user, ""), Amounts{});
    admission.release("w1");
    EXPECT_EQ(admission.warm_in_use("linux-tiny").sessions, 1);
}

TEST(Admission, AClaimMovesTheUnitToItsUserOrLeavesItWarm) {
    Admission admission({{S::user, "*", R::sessions, 1}, {S::host, "", R::sessions, 2}});
    ASSERT_FALSE(admission.reserve(warm("w1")));
    ASSERT_FALSE(admission.reserve(warm("w2")));
    EXPECT_FALSE(admission.reserve(of_user("w1", "alice"))) << "the full host has room for what it holds already";
    EXPECT_EQ(admission.in_use(S::user, "alice").sessions, 1);
    EXPECT_EQ(admission.in_use(S::template_, "linux-tiny").sessions, 1);
    EXPECT_EQ(admission.warm_in_use("linux-tiny").sessions, 1);
    EXPECT_EQ(admission.in_use(S::host, "").sessions, 2);
    EXPECT_EQ(admission.reserve(of_user("w2", "alice"))->limit.scope, S::user);
    EXPECT_TRUE(admission.find("w2")->warm);
    EXPECT_EQ(admission.warm_in_use("linux-tiny").sessions, 1);
    EXPECT_FALSE(admission.reserve(of_user("w2", "bob")));
    EXPECT_EQ(admission.warm_in_use("linux-tiny"), Amounts{});
}

TEST(Admission, ALoweredLimitTakesNothingAwayAndRefusesOnlyGrowth) {
    Admission admission({});
    const Amounts full{1, 2000, 0, 0, 0, 0, 0};
    for (const char* id : {"a", "b", "c"}) ASSERT_FALSE(admission.reserve(of_user(id, "alice", full)));
    admission.set_limits({{S::user, "*", R::sessions, 2}, {S::user, "*", R::cpu, 1000}});
    EXPECT_EQ(admission.in_use(S::user, "alice").sessions, 3);
    EXPECT_FALSE(admission.reserve(of_user("a", "alice", full))) << "the same again";
    EXPECT_FALSE(admission.reserve(of_user("a", "alice", held_by(SessionState::suspended, full)))) << "less";
    EXPECT_EQ(admission.reserve(of_user("a", "alice", full))->limit.resource, R::cpu);
    EXPECT_EQ(admission.reserve(of_user("d", "alice", full))->limit.resource, R::sessions);
    EXPECT_FALSE(admission.reserve(of_user("b", "bob", held_by(SessionState::suspended, full))))
        << "another user's now";
    EXPECT_EQ(admission.in_use(S::user, "alice").sessions, 2);
    EXPECT_EQ(admission.usage().at(2), line({S::user, "*", R::cpu, 1000}, "alice", 2000, 0, 1));
}

TEST(Admission, WhatIsHeldAlreadyIsRestoredAboveTheLimit) {
    Admission admission({{S::user, "*", R::sessions, 1}});
    admission.restore(of_user("a", "alice"));
    admission.restore(of_user("b", "alice"));
    EXPECT_EQ(admission.in_use(S::user, "alice").sessions, 2);
    EXPECT_EQ(admission.check(of_user("", "alice"))->in_use, 2);
    auto before = admission.find("a");
    ASSERT_FALSE(admission.reserve(of_user("a", "bob")));
    admission.restore(*before);
    EXPECT_EQ(admission.in_use(S::user, "bob"), Amounts{});
    EXPECT_EQ(admission.in_use(S::user, "alice").sessions, 2);
}

TEST(Admission, UsageHasALineForEachLimitAndForEachSubjectOfAStar) {
    Admission admission({{S::host, "", R::cpu, 8000},
                         {S::user, "*", R::sessions, 3},
                         {S::user, "bob", R::sessions, 1},
                         {S::tenant, "*", R::gpu, 2},
                         {S::template_, "win", R::sessions, 5}});
    const std::vector<UsageLine> idle{
        line({S::user, "*", R::sessions, 3}, "*", 0, 3, 0), line({S::user, "bob", R::sessions, 1}, "bob", 0, 1, 0),
        line({S::tenant, "*", R::gpu, 2}, "*", 0, 2, 0), line({S::template_, "win", R::sessions, 5}, "win", 0, 5, 0),
        line({S::host, "", R::cpu, 8000}, "", 0, 8000, 0)};
    EXPECT_EQ(admission.usage(), idle);
    for (const char* id : {"a1", "a2"}) admission.restore(of_user(id, "alice", {1, 1500, 0, 0, 0, 0, 0}));
    admission.restore(of_user("b", "bob", {1, 500, 0, 0, 0, 0, 0}));
    admission.restore(of_user("c", "carol", {1, 0, 0, 0, 1, 0, 0}));
    const std::vector<UsageLine> used{line({S::user, "*", R::sessions, 3}, "alice", 2, 1, 2),
                                      line({S::user, "*", R::sessions, 3}, "carol", 1, 2, 1),
                                      line({S::user, "bob", R::sessions, 1}, "bob", 1, 0, 1),
                                      line({S::tenant, "*", R::gpu, 2}, "physics", 1, 1, 1),
                                      line({S::template_, "win", R::sessions, 5}, "win", 0, 5, 0),
                                      line({S::host, "", R::cpu, 8000}, "", 3500, 4500, 3)};
    EXPECT_EQ(admission.usage(), used);
}

TEST(Admission, AMonthsSpentMoneyIsHeldWithoutASession) {
    Admission admission({{S::tenant, "physics", R::money_per_month, 100}});
    admission.restore(of_user("spent", "alice", amounts(R::money_per_month, 90)));
    auto denial = admission.check(of_user("", "bob", amounts(R::money_per_month, 11)));
    ASSERT_TRUE(denial);
    EXPECT_EQ(denial->to_error().errc(), Errc::budget_exceeded);
    EXPECT_FALSE(admission.check(of_user("", "bob", amounts(R::money_per_month, 10))));
}

TEST(Admission, SumsNeverOverflow) {
    for (auto resource : {R::sessions, R::cpu, R::gpu, R::money_per_hour, R::money_per_month}) {
        Admission limited({{S::user, "*", resource, most}});
        ASSERT_FALSE(limited.reserve(of_user("a", "alice", amounts(resource, most))));
        auto denial = limited.check(of_user("b", "alice", Amounts{}));
        EXPECT_FALSE(denial);
        // Above every limit and out of range at once: nothing is counted wrongly, nothing changes.
        EXPECT_THROW((void)limited.check(of_user("b", "alice", amounts(resource, 1))), Error);
        EXPECT_THROW(limited.restore(of_user("b", "bob", amounts(resource, 1))), Error);
        EXPECT_FALSE(limited.find("b"));
        EXPECT_FALSE(limited.reserve(of_user("a", "bob", amounts(resource, most)))) << "replaced, not added";
    }
}

TEST(Admission, WhatCannotBeCountedIsRefusedAndChangesNothing) {
    Admission admission({{S::user, "*", R::sessions, 1}});
    ASSERT_FALSE(admission.reserve(of_user("a", "alice")));
    for (auto resource : limit_resources) {
        auto negative = of_user("a", "alice", amounts(resource, -1));
        EXPECT_THROW((void)admission.check(negative), Error) << name_of(resource);
        EXPECT_THROW((void)admission.reserve(negative), Error) << name_of(resource);
        EXPECT_THROW(admission.restore(negative), Error) << name_of(resource);
    }
    EXPECT_THROW((void)admission.check(of_user("a", "", {})), Error);
    EXPECT_THROW((void)admission.reserve(of_user("", "alice", {})), Error);
    EXPECT_THROW(admission.restore(of_user("", "alice", {})), Error);
    EXPECT_EQ(admission.find("a"), of_user("a", "alice"));
}

TEST(Admission, BadLimitsAreRefusedAndTheOldOnesStay) {
    Admission admission({{S::user, "*", R::sessions, 0}});
    const std::vector<std::vector<Limit>> bad{{{S::user, "", R::sessions, 1}},
                                              {{S::host, "a", R::sessions, 1}},
                                              {{S::user, "a", R::sessions, -1}},
                                              {{S::user, "a", R::memory, most}},
                                              {{S::user, "a", R::cpu, 1}, {S::user, "a", R::cpu, 1}}};
    for (const auto& limits : bad) {
        EXPECT_THROW(admission.set_limits(limits), Error);
        EXPECT_THROW(Admission{limits}, Error);
    }
    EXPECT_TRUE(admission.check(of_user("", "alice")));
}

}  // namespace
}  // namespace infrastructure_sdk
