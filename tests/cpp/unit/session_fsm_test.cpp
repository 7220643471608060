#include "session/session_fsm.hpp"

#include <gtest/gtest.h>

#include <queue>
#include <set>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr int states = 9;
constexpr int inputs = 14;
SessionState state(int i) { return static_cast<SessionState>(i); }

TEST(SessionFsm, TheTableIsExactlyThis) {
    // Rows: states; columns: inputs in their order. '.' = illegal.
    const char* expected[states] = {
        // provision ready startup_failed suspend saved suspend_failed resume resume_failed terminate gone term_failed
        // lost recover resume_refused
        "V.F.....T.....",  // pending
        ".AF.....T..F..",  // provisioning
        "...S....T..F..",  // active
        "....DA..T..F..",  // suspending
        "......R.T..F..",  // suspended
        ".A.....FT..F.D",  // resuming
        ".........XF...",  // terminating
        "..............",  // terminated
        "........T...V.",  // failed
    };
    const std::string letters = "PVASDRTXF";
    for (int s = 0; s < states; ++s)
        for (int i = 0; i < inputs; ++i) {
            auto next = next_state(state(s), static_cast<SessionInput>(i));
            char got = next ? letters[static_cast<std::size_t>(*next)] : '.';
            EXPECT_EQ(got, expected[s][i]) << name_of(state(s)) << " + " << name_of(static_cast<SessionInput>(i));
        }
}

TEST(SessionFsm, TerminateIsLegalFromEveryStateThatIsNotTerminated) {
    for (int s = 0; s < states; ++s) {
        if (state(s) == SessionState::terminated) continue;
        EXPECT_TRUE(next_state(state(s), SessionInput::terminate) || is_already(state(s), SessionInput::terminate))
            << name_of(state(s));
    }
}

TEST(SessionFsm, EveryTransientStateHasASuccessAndAFailureExit) {
    for (int s = 0; s < states; ++s) {
        if (!is_transient(state(s))) continue;
        std::set<SessionState> exits;
        for (const auto& row : session_transitions())
            if (row.from == state(s)) exits.insert(row.to);
        EXPECT_TRUE(exits.contains(SessionState::failed)) << name_of(state(s));
        EXPECT_GE(exits.size(), 2u) << name_of(state(s));
    }
}

TEST(SessionFsm, TerminatedIsReachableFromEverywhereAndLeftByNothing) {
    for (int s = 0; s < states; ++s) {
        std::set<SessionState> seen{state(s)};
        std::queue<SessionState> open;
        open.push(state(s));
        while (!open.empty()) {
            auto from = open.front();
            open.pop();
            for (const auto& row : session_transitions())
                if (row.from == from && seen.insert(row.to).second) open.push(row.to);
        }
        EXPECT_TRUE(seen.contains(SessionState::terminated)) << name_of(state(s));
        if (state(s) == SessionState::terminated) {
            EXPECT_EQ(seen.size(), 1u);
        }
    }
}

TEST(SessionFsm, ReturnsToActiveWhenSuspendFails) {
    EXPECT_EQ(next_state(SessionState::suspending, SessionInput::suspend_failed), SessionState::active);
    EXPECT_STREQ(event_type(SessionState::suspending, SessionState::active), "session.lifecycle.suspend_failed");
}

TEST(SessionFsm, StaysSuspendedWhenAResumeIsRefused) {
    EXPECT_EQ(next_state(SessionState::resuming, SessionInput::resume_refused), SessionState::suspended);
    EXPECT_STREQ(event_type(SessionState::resuming, SessionState::suspended), "session.lifecycle.resume_refused");
    EXPECT_STREQ(event_type(SessionState::suspending, SessionState::suspended), "session.lifecycle.suspended");
}

TEST(SessionFsm, NamesRoundTripAndUnknownNamesListWhatIsAllowed) {
    for (int s = 0; s < states; ++s) EXPECT_EQ(parse_session_state(name_of(state(s))), state(s));
    try {
        parse_session_state("runing");
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::validation);
        EXPECT_EQ(error.context().at("value"), "runing");
        EXPECT_NE(error.message().find("active"), std::string::npos);
    }
}

}  // namespace
}  // namespace infrastructure_sdk
