// Failed sessions that come back, by hand and by their template's rule, on a virtual clock.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/deaths.hpp"
#include "support/simulated_world.hpp"

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using test::SimulatedWorld;
using testing::IsEmpty;
using testing::SizeIs;
using namespace std::chrono_literals;

Session look(SimulatedWorld& world, const Session& session) {
    Session now;
    world.run(world.engine().get(session.id), &now);
    return now;
}

Session wait(SimulatedWorld& world, const Session& session, SessionState state) {
    Session now;
    world.run(world.engine().wait(session.id, state, world.call()), &now);
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    return now;
}

Session start(SimulatedWorld& world, const std::string& template_name) {
    auto request = world.request("alice");
    request.template_name = template_name;
    Session session;
    world.run(world.engine().create(request, world.call()), &session);
    return wait(world, session, SessionState::active);
}

Task<bool> put_file(SessionEngine* engine, std::string id, std::string path, std::string text, Call call) {
    co_await engine->write_file(id, path, text, call);
    co_return true;
}

void write(SimulatedWorld& world, const Session& session, const std::string& path) {
    world.run(put_file(&world.engine(), session.id, path, "kept", world.call()));
}

Errc read(SimulatedWorld& world, const Session& session, const std::string& path) {
    world.run(world.engine().read_file(session.id, path, 100, world.call()));
    return world.last_code;
}

std::vector<json> events(SimulatedWorld& world, const Session& session, const std::string& type) {
    EventQuery query;
    query.subject = session.id;
    std::vector<Event> all;
    world.run(world.engine().events(query), &all);
    std::vector<json> found;
    for (const auto& event : all)
        if (event.type == "session.lifecycle." + type) found.push_back(json::parse(event.data));
    return found;
}

TEST(Resume, IsWhatWasSeenAndNotWhatWasSaid) {
    SimulatedWorld world(6);
    auto session = start(world, "tiny");
    write(world, session, "/tmp/in-memory");
    world.run(world.engine().suspend(session.id, world.call()));
    wait(world, session, SessionState::suspended);
    SimulatorFaults faults;
    faults.lose_reply = 1'000'000;
    world.host().set_faults(faults);
    world.run(world.engine().resume(session.id, world.call()));
    wait(world, session, SessionState::active);
    world.host().set_faults({});
    EXPECT_EQ(read(world, session, "/tmp/in-memory"), Errc{}) << "its memory was never given up";
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
}

TEST(Resume, ThatFailsLeavesTheMemoryAndIsNotCountedAsRunning) {
    SimulatedWorld world(7, {}, {{LimitScope::host, "", LimitResource::memory, std::int64_t{128} << 20}});
    auto session = start(world, "tiny");
    world.run(world.engine().suspend(session.id, world.call()));
    wait(world, session, SessionState::suspended);
    SimulatorFaults faults;
    faults.fail = 1'000'000;
    world.host().set_faults(faults);
    world.run(world.engine().resume(session.id, world.call()));
    wait(world, session, SessionState::failed);
    ASSERT_THAT(world.host().vms(), SizeIs(1));
    EXPECT_EQ(world.host().vms().front().state, VmState::suspended);
    world.host().set_faults({});
    world.run(world.engine().create(world.request("bob"), world.call()));
    EXPECT_EQ(world.last_code, Errc{}) << "what does not run holds no memory: " << world.last_message;
}

TEST(Recovery, WhatMayBeAliveKeepsItsMemoryUnderTheNextOwnerToo) {
    SimulatedWorld world(8, {}, {{LimitScope::host, "", LimitResource::memory, std::int64_t{128} << 20}});
    auto session = start(world, "tiny");
    SimulatorFaults faults;
    faults.lie = 1'000'000;
    world.host().set_faults(faults);
    world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    world.run_for(1h);
    world.host().set_faults({});
    for (int owner = 0; owner < 2; ++owner) {
        EXPECT_EQ(look(world, session).state, SessionState::failed);
        world.run(world.engine().create(world.request("bob"), world.call()));
        EXPECT_EQ(world.last_code, Errc::capacity) << "owner " << owner;
        world.kill_owner();
        ASSERT_TRUE(world.open());
    }
    world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    wait(world, session, SessionState::terminated);
    world.run(world.engine().create(world.request("bob"), world.call()));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
}

// Scenario 14: failed carries the cause; recover keeps the disk, and asking twice is fine.
TEST(Scenario14, AFailedSessionCarriesTheCauseAndIsRecoveredWithItsDisk) {
    SimulatedWorld world(1);
    auto session = start(world, "tiny");
    write(world, session, "/data/note");
    write(world, session, "/tmp/note");
    world.host().kill(session.vm_id);
    auto failed = wait(world, session, SessionState::failed);
    EXPECT_EQ(failed.failure_reason, "ProcessKilled");
    Session first, second;
    world.run(world.engine().recover_session(session.id, world.call()), &first);
    EXPECT_EQ(first.state, SessionState::provisioning);
    EXPECT_NE(first.execution_id, session.execution_id);
    world.run(world.engine().recover_session(session.id, world.call()), &second);
    EXPECT_EQ(world.last_code, Errc{}) << "it is under way";
    EXPECT_EQ(second.execution_id, first.execution_id);
    auto back = wait(world, session, SessionState::active);
    EXPECT_EQ(back.execution_id, first.execution_id);
    EXPECT_EQ(back.vm_id, session.vm_id);
    EXPECT_EQ(back.failure_reason, "");
    world.run(world.engine().recover_session(session.id, world.call()), &second);
    EXPECT_EQ(world.last_code, Errc{}) << "it is done";
    EXPECT_EQ(second.state, SessionState::active);
    EXPECT_EQ(read(world, session, "/data/note"), Errc{});
    EXPECT_EQ(read(world, session, "/tmp/note"), Errc::not_found) << "it booted anew";
    auto told = events(world, session, "recovering");
    ASSERT_THAT(told, SizeIs(1));
    EXPECT_EQ(told.front()["failure"]["reason"], "ProcessKilled") << "the cause stays readable";
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
}

TEST(SessionRecovery, IsLegalFromFailedOnly) {
    SimulatedWorld world(1);
    auto session = start(world, "tiny");
    world.run(world.engine().suspend(session.id, world.call()));
    wait(world, session, SessionState::suspended);
    world.run(world.engine().recover_session(session.id, world.call()));
    EXPECT_EQ(world.last_code, Errc::invalid_transition);
    world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    wait(world, session, SessionState::terminated);
    world.run(world.engine().recover_session(session.id, world.call()));
    EXPECT_EQ(world.last_code, Errc::invalid_transition);
    world.run(world.engine().recover_session("s-nobody", world.call()));
    EXPECT_EQ(world.last_code, Errc::not_found);
}

TEST(SessionRecovery, TakesBackExactlyWhatWasHeldAndMayBeDenied) {
    SimulatedWorld world(1, {}, {{LimitScope::host, "", LimitResource::memory, std::int64_t{128} << 20}});
    auto session = start(world, "tiny");
    world.host().kill(session.vm_id);
    wait(world, session, SessionState::failed);
    auto other = start(world, "tiny");
    world.run(world.engine().recover_session(session.id, world.call()));
    EXPECT_EQ(world.last_code, Errc::capacity);
    EXPECT_EQ(look(world, session).state, SessionState::failed) << "a refused recovery changes nothing";
    EXPECT_EQ(look(world, session).failure_reason, "ProcessKilled");
    world.run(world.engine().terminate(other.id, TerminationReason::request, world.call()));
    wait(world, other, SessionState::terminated);
    world.run(world.engine().recover_session(session.id, world.call()));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    wait(world, session, SessionState::active);
    EXPECT_THAT(world.faults({session.id, other.id}), IsEmpty());
}

TEST(SessionRecovery, EndsWhatStillRunsAndDropsAMemoryFile) {
    // A resume that never ends leaves a suspended VM behind.
    SimulatedWorld world(1);
    auto session = start(world, "tiny");
    write(world, session, "/data/note");
    world.run(world.engine().suspend(session.id, world.call()));
    wait(world, session, SessionState::suspended);
    SimulatorFaults broken;
    broken.fail = 1'000'000;
    world.host().set_faults(broken);
    world.run(world.engine().resume(session.id, world.call()));
    wait(world, session, SessionState::failed);
    world.host().set_faults({});
    world.run(world.engine().recover_session(session.id, world.call()));
    wait(world, session, SessionState::active);
    EXPECT_EQ(read(world, session, "/data/note"), Errc{});
    // A terminate that fails leaves a living VM behind.
    world.host().set_faults(broken);
    world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    wait(world, session, SessionState::failed);
    ASSERT_EQ(world.host().vms().front().processes, 1u);
    world.host().set_faults({});
    world.run(world.engine().recover_session(session.id, world.call()));
    auto back = wait(world, session, SessionState::active);
    EXPECT_EQ(world.host().vms().front().execution_id, back.execution_id);
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
}

TEST(SessionRestart, DoesNotComeWithoutARule) {
    SimulatedWorld world(1);
    auto session = start(world, "tiny");
    world.host().kill(session.vm_id);
    world.run_for(1h);
    auto failed = look(world, session);
    EXPECT_EQ(failed.state, SessionState::failed);
    EXPECT_FALSE(failed.restart.next_at);
    EXPECT_FALSE(events(world, session, "failed").front().contains("restart"));
}

TEST(SessionRestart, ComesBackByItselfAfterABackoff) {
    SimulatedWorld world(1);
    auto session = start(world, "sturdy");
    write(world, session, "/data/note");
    world.host().kill(session.vm_id);
    auto died_at = world.runtime().environment().clock->wall_now();
    world.run_for(1s);
    auto failed = look(world, session);
    ASSERT_EQ(failed.state, SessionState::failed);
    ASSERT_TRUE(failed.restart.next_at);
    EXPECT_GE(*failed.restart.next_at, died_at + 10s);
    EXPECT_LE(*failed.restart.next_at, died_at + 12500ms);
    auto told = events(world, session, "failed").front()["restart"];
    EXPECT_EQ(told["attempt"], 1);
    EXPECT_EQ(told["max_attempts"], 3);
    EXPECT_EQ(told["at"], to_rfc3339(*failed.restart.next_at));
    auto back = wait(world, session, SessionState::active);
    EXPECT_GE(world.runtime().environment().clock->wall_now(), *failed.restart.next_at) << "not before its time";
    EXPECT_NE(back.execution_id, session.execution_id);
    EXPECT_EQ(back.restart.attempts, 1u);
    EXPECT_FALSE(back.restart.next_at);
    EXPECT_EQ(read(world, session, "/data/note"), Errc{});
    EXPECT_EQ(events(world, session, "recovering").front()["attempt"], 1);
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
}

TEST(SessionRestart, StaysFailedAfterTheLastAttemptUntilItIsRecoveredByHand) {
    SimulatedWorld world(1);
    auto session = start(world, "sturdy");
    std::vector<Duration> waits;
    for (int loss = 1; loss <= 4; ++loss) {
        world.host().kill(session.vm_id);
        auto died_at = world.runtime().environment().clock->wall_now();
        world.run_for(10ms);
        auto failed = look(world, session);
        ASSERT_EQ(failed.state, SessionState::failed);
        if (loss == 4) {
            EXPECT_FALSE(failed.restart.next_at);
            break;
        }
        waits.push_back(*failed.restart.next_at - died_at);
        wait(world, session, SessionState::active);
    }
    ASSERT_THAT(waits, SizeIs(3));
    EXPECT_GE(waits[1], 20s);
    EXPECT_GE(waits[2], 40s);
    auto last = events(world, session, "failed").back()["restart"];
    EXPECT_EQ(last["again"], false);
    EXPECT_EQ(last["reason"], "AttemptsUsedUp");
    world.run_for(1h);
    EXPECT_EQ(look(world, session).state, SessionState::failed);
    Session given_up;
    world.run(world.engine().wait(session.id, SessionState::active, world.call()), &given_up);
    EXPECT_EQ(world.last_code, Errc::provider) << "nobody waits for what will not come";
    world.run(world.engine().recover_session(session.id, world.call()));
    auto back = wait(world, session, SessionState::active);
    EXPECT_EQ(back.restart.attempts, 0u) << "by hand the count begins anew";
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
}

TEST(SessionRestart, ForgetsAttemptsAfterAStableWhile) {
    SimulatedWorld world(1);
    auto session = start(world, "sturdy");
    for (int loss = 1; loss <= 6; ++loss) {
        world.host().kill(session.vm_id);
        world.run_for(10ms);
        ASSERT_EQ(look(world, session).restart.attempts, 1u) << loss;
        wait(world, session, SessionState::active);
        world.run_for(11min);
    }
}

TEST(SessionRestart, IsLeftAloneWhenItIsTerminatedMeanwhile) {
    SimulatedWorld world(1);
    auto session = start(world, "sturdy");
    world.host().kill(session.vm_id);
    world.run_for(1s);
    world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    wait(world, session, SessionState::terminated);
    world.run_for(1h);
    EXPECT_EQ(look(world, session).state, SessionState::terminated);
    EXPECT_THAT(world.host().vms(), IsEmpty());
}

TEST(SessionRestart, CountsADenialAndTriesAgain) {
    SimulatedWorld world(1, {}, {{LimitScope::host, "", LimitResource::memory, std::int64_t{128} << 20}});
    auto session = start(world, "sturdy");
    world.host().kill(session.vm_id);
    world.run_for(1s);
    auto other = start(world, "tiny");
    world.run_for(20s);
    auto denied = events(world, session, "restart_denied");
    ASSERT_THAT(denied, SizeIs(1));
    EXPECT_EQ(denied.front()["restart"]["attempt"], 2);
    world.run(world.engine().terminate(other.id, TerminationReason::request, world.call()));
    auto back = wait(world, session, SessionState::active);
    EXPECT_EQ(back.restart.attempts, 2u);
    EXPECT_THAT(world.faults({session.id, other.id}), IsEmpty());
}

TEST(SessionRestart, ComesOfAnAttemptThatFailsToBoot) {
    SimulatedWorld world(1);
    auto session = start(world, "sturdy");
    SimulatorFaults broken;
    broken.fail = 1'000'000;
    world.host().kill(session.vm_id);
    world.host().set_faults(broken);
    world.run_for(13s);
    EXPECT_EQ(look(world, session).restart.attempts, 2u) << "the first attempt could not start the VM";
    world.host().set_faults({});
    wait(world, session, SessionState::active);
}

TEST(SessionRestart, IsTheNextOwnersBusinessWhenTheOwnerDies) {
    SimulatedWorld world(1);
    auto session = start(world, "sturdy");
    // The VM dies while nobody looks.
    world.kill_owner();
    world.host().kill(session.vm_id);
    ASSERT_TRUE(world.open());
    auto failed = look(world, session);
    EXPECT_EQ(failed.state, SessionState::failed);
    ASSERT_TRUE(failed.restart.next_at);
    // The owner dies before the attempt.
    world.kill_owner();
    ASSERT_TRUE(world.open());
    EXPECT_EQ(look(world, session).restart, failed.restart);
    auto back = wait(world, session, SessionState::active);
    EXPECT_EQ(back.restart.attempts, 1u);
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
}

TEST(SessionRestart, IsTheSameForTheSameSeed) {
    auto times = [](std::uint64_t seed) {
        SimulatedWorld world(seed);
        auto session = start(world, "sturdy");
        world.host().kill(session.vm_id);
        world.run_for(10ms);
        return look(world, session).restart.next_at.value();
    };
    EXPECT_EQ(times(7), times(7));
    EXPECT_NE(times(7), times(8));
}

TEST(SessionRecovery, SurvivesDeathAtEachPoint) {
    auto life = [](SimulatedWorld& world, std::vector<std::string>& known) {
        auto request = world.request("alice");
        request.template_name = "sturdy";
        Session session;
        auto& engine = world.engine();
        if (!world.run(engine.create(request, world.call()), &session)) return;
        known.push_back(session.id);
        if (!world.run(engine.wait(session.id, SessionState::active, world.call()))) return;
        world.host().kill(session.vm_id);
        if (!world.run(engine.wait(session.id, SessionState::failed, world.call()))) return;
        if (!world.run(engine.recover_session(session.id, world.call()))) return;
        if (!world.run(engine.wait(session.id, SessionState::active, world.call()))) return;
        world.host().kill(session.vm_id);
        if (!world.run(engine.wait(session.id, SessionState::failed, world.call()))) return;
        world.run_for(1min);
    };
    test::die_at_each_point(life, 25, [](SimulatedWorld& world, std::size_t) {
        for (const auto& session : world.sessions()) EXPECT_EQ(session.state, SessionState::active);
    });
}

}  // namespace
}  // namespace infrastructure_sdk
