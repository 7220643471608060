// Snapshots and forks of the session engine on a simulated host.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include <nlohmann/json.hpp>

#include "support/deaths.hpp"
#include "support/simulated_world.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {

using test::SimulatedWorld;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using namespace std::chrono_literals;

Session start(SimulatedWorld& world, const std::string& user = "alice") {
    Session session;
    world.run(world.engine().create(world.request(user), world.call()), &session);
    world.run(world.engine().wait(session.id, SessionState::active, world.call()), &session);
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    return session;
}

Task<bool> put_file(SessionEngine* engine, std::string id, std::string path, std::string text, Call call) {
    co_await engine->write_file(id, path, text, call);
    co_return true;
}

void write(SimulatedWorld& world, const Session& session, const std::string& text) {
    world.run(put_file(&world.engine(), session.id, "/data/note", text, world.call()));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
}

std::string read(SimulatedWorld& world, const Session& session) {
    std::string text;
    world.run(world.engine().read_file(session.id, "/data/note", 1000, world.call()), &text);
    return text;
}

Snapshot snap(SimulatedWorld& world, const Session& session) {
    Snapshot snapshot;
    world.run(world.engine().snapshot(session.id, "a name", world.call()), &snapshot);
    return snapshot;
}

Task<bool> remove_snapshot(SessionEngine* engine, std::string id, Call call) {
    co_await engine->delete_snapshot(id, call);
    co_return true;
}

void end(SimulatedWorld& world, const Session& session) {
    world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    world.run(world.engine().wait(session.id, SessionState::terminated, world.call()));
}

std::vector<std::string> event_types(SimulatedWorld& world, const std::string& subject) {
    EventQuery query;
    query.subject = subject;
    std::vector<Event> events;
    world.run(world.engine().events(query), &events);
    std::vector<std::string> types;
    for (const auto& event : events) types.push_back(event.type);
    return types;
}

TEST(SessionSnapshot, IsNamedDurableAndOutlivesItsSession) {
    SimulatedWorld world(1);
    auto session = start(world);
    write(world, session, "before");
    auto snapshot = snap(world, session);
    ASSERT_EQ(world.last_code, Errc{}) << world.last_message;
    EXPECT_EQ(snapshot.state, SnapshotState::ready);
    EXPECT_EQ(snapshot.name, "a name");
    EXPECT_EQ(snapshot.consistent, "frozen");
    EXPECT_EQ(snapshot.session_id, session.id);
    EXPECT_EQ(snapshot.sha256.size(), 64u);
    EXPECT_THAT(event_types(world, snapshot.id),
                ElementsAre("snapshot.lifecycle.creating", "snapshot.lifecycle.created"));
    EXPECT_EQ(event_types(world, session.id).back(), "session.lifecycle.snapshotted");
    write(world, session, "after");
    EXPECT_EQ(read(world, session), "after") << "the session goes on";
    end(world, session);
    ASSERT_TRUE(world.open());
    std::vector<Snapshot> left;
    world.run(world.engine().list_snapshots({}), &left);
    ASSERT_THAT(left, SizeIs(1));
    EXPECT_EQ(nlohmann::json(left.front()), nlohmann::json(snapshot));
    auto request = world.request("bob");
    request.template_name = SessionRequest().template_name;
    request.snapshot = snapshot.id;
    Session later;
    world.run(world.engine().create(request, world.call()), &later);
    ASSERT_EQ(world.last_code, Errc{}) << world.last_message;
    EXPECT_EQ(later.template_name, "tiny");
    EXPECT_EQ(later.snapshot, snapshot.id);
    EXPECT_NE(later.mac_address, session.mac_address);
    world.run(world.engine().wait(later.id, SessionState::active, world.call()));
    EXPECT_EQ(read(world, later), "before");
    EXPECT_THAT(world.faults({session.id, later.id}), IsEmpty());
    world.run(remove_snapshot(&world.engine(), snapshot.id, world.call()));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    EXPECT_THAT(world.host().snapshots(), IsEmpty());
    EXPECT_EQ(event_types(world, snapshot.id).back(), "snapshot.lifecycle.deleted");
    world.run(world.engine().get_snapshot(snapshot.id));
    EXPECT_EQ(world.last_code, Errc::not_found);
    EXPECT_EQ(read(world, later), "before") << "who began from it keeps its disk";
    EXPECT_THAT(world.faults({session.id, later.id}), IsEmpty());
}

TEST(SessionSnapshot, IsTakenOfASuspendedAndOfAFailedSession) {
    SimulatedWorld world(1);
    auto session = start(world);
    write(world, session, "on disk");
    world.run(world.engine().suspend(session.id, world.call()));
    snap(world, session);
    EXPECT_EQ(world.last_code, Errc::invalid_transition) << "it is suspending";
    world.run(world.engine().wait(session.id, SessionState::suspended, world.call()));
    auto asleep = snap(world, session);
    EXPECT_EQ(asleep.consistent, "crash");
    EXPECT_EQ(asleep.session_state, SessionState::suspended);
    world.run(world.engine().resume(session.id, world.call()));
    world.run(world.engine().wait(session.id, SessionState::active, world.call()));
    world.host().kill(session.vm_id);
    world.run(world.engine().wait(session.id, SessionState::failed, world.call()));
    auto dead = snap(world, session);
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    EXPECT_EQ(dead.session_state, SessionState::failed);
    EXPECT_EQ(dead.sha256, asleep.sha256);
}

// Scenario 25: the provider says that it cannot, as a capability; it does not fail late.
TEST(Scenario25, WhatAProviderCannotDoIsRefusedAtOnceNamingTheCapability) {
    SimulatorOptions options;
    options.snapshots = false;
    options.suspend_modes.clear();
    SimulatedWorld world(1, options);
    auto session = start(world);
    auto before = event_types(world, session.id);
    auto refuses = [&](const char* capability) {
        EXPECT_EQ(world.last_code, Errc::unsupported);
        EXPECT_THAT(world.last_message, HasSubstr("simulator"));
        EXPECT_EQ(world.last_context["capability"], capability);
        Session now;
        world.run(world.engine().get(session.id), &now);
        EXPECT_EQ(now.state, SessionState::active) << "nothing was begun";
    };
    world.run(world.engine().suspend(session.id, world.call()));
    refuses("suspend_modes");
    snap(world, session);
    refuses("snapshot");
    ForkRequest fork;
    fork.source = session.id;
    world.run(world.engine().fork(fork, world.call()));
    refuses("snapshot");
    auto request = world.request("alice");
    request.snapshot = "snap-0000000000000000";
    world.run(world.engine().create(request, world.call()));
    refuses("snapshot");
    EXPECT_EQ(event_types(world, session.id), before);
}

TEST(SessionSnapshot, RefusesWhatCannotBeBeforeAnythingIsRecorded) {
    SimulatedWorld world(1);
    auto session = start(world);
    world.run(world.engine().snapshot(session.id, "a\nb", world.call()));
    EXPECT_EQ(world.last_code, Errc::validation);
    world.run(world.engine().snapshot("s-nobody", "name", world.call()));
    EXPECT_EQ(world.last_code, Errc::not_found);
    world.run(remove_snapshot(&world.engine(), "snap-nothing", world.call()));
    EXPECT_EQ(world.last_code, Errc::not_found);
    auto request = world.request("alice");
    request.snapshot = "snap-nothing";
    world.run(world.engine().create(request, world.call()));
    EXPECT_EQ(world.last_code, Errc::not_found);
    for (int count : {0, -1, 101}) {
        ForkRequest fork;
        fork.source = session.id;
        fork.count = count;
        world.run(world.engine().fork(fork, world.call()));
        EXPECT_EQ(world.last_code, Errc::validation);
        EXPECT_EQ(world.last_context["field"], "count");
    }
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
    EXPECT_THAT(world.host().snapshots(), IsEmpty());
}

TEST(SessionSnapshot, LeavesNothingWhenTheProviderFailsLiesOrHangs) {
    for (auto fault :
         {&SimulatorFaults::fail, &SimulatorFaults::lie, &SimulatorFaults::lose_reply, &SimulatorFaults::hang})
        for (bool next_owner : {false, true}) {
            SimulatedWorld world(1);
            auto session = start(world);
            SimulatorFaults broken;
            broken.*fault = 1'000'000;
            world.host().set_faults(broken);
            auto work = [](SimulatedWorld* place, Session source) -> Task<Snapshot> {
                auto call = place->call();
                call.deadline = Deadline::after(*place->runtime().environment().clock, 5s);
                co_return co_await place->engine().snapshot(source.id, "name", call);
            };
            world.run(work(&world, session));
            EXPECT_NE(world.last_code, Errc{});
            // What could not even be removed is tried again, or goes with the next owner.
            world.host().set_faults({});
            if (next_owner) {
                ASSERT_TRUE(world.open());
            } else {
                world.run_for(2min);
            }
            EXPECT_THAT(world.faults({session.id}), IsEmpty());
            EXPECT_THAT(world.host().snapshots(), IsEmpty());
        }
}

TEST(SessionSnapshot, CountsForItsUsersDisk) {
    // A session and one snapshot fit, no more.
    SimulatedWorld world(1, {}, {{LimitScope::user, "*", LimitResource::disk, std::int64_t{128} << 20}});
    auto session = start(world);
    auto snapshot = snap(world, session);
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    snap(world, session);
    EXPECT_EQ(world.last_code, Errc::quota_exceeded);
    EXPECT_THAT(world.last_message, HasSubstr(snapshot.id));
    ASSERT_TRUE(world.open());
    snap(world, session);
    EXPECT_EQ(world.last_code, Errc::quota_exceeded) << "the next owner counts it too";
    world.run(remove_snapshot(&world.engine(), snapshot.id, world.call()));
    snap(world, session);
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
}

TEST(SessionFork, GivesOneEntryEachAndADenialInItsEntry) {
    SimulatedWorld world(1, {}, {{LimitScope::user, "*", LimitResource::sessions, 3}});
    auto session = start(world);
    write(world, session, "shared past");
    ForkRequest request;
    request.source = session.id;
    request.count = 4;
    request.tags = {{"branch", "yes"}};
    std::vector<ForkEntry> entries;
    world.run(world.engine().fork(request, world.call()), &entries);
    ASSERT_EQ(world.last_code, Errc{}) << world.last_message;
    ASSERT_THAT(entries, SizeIs(4));
    std::vector<std::string> known{session.id};
    std::set<std::string> addresses{session.mac_address};
    for (std::size_t i = 0; i < entries.size(); ++i) {
        EXPECT_EQ(entries[i].session.has_value(), i < 2) << i;
        EXPECT_NE(entries[i].session.has_value(), entries[i].error.has_value());
        if (!entries[i].session) {
            EXPECT_EQ(entries[i].error->errc(), Errc::quota_exceeded);
            continue;
        }
        auto fork = *entries[i].session;
        known.push_back(fork.id);
        EXPECT_TRUE(addresses.insert(fork.mac_address).second);
        EXPECT_EQ(fork.user_id, "alice");
        EXPECT_EQ(fork.tags.at("branch"), "yes");
        world.run(world.engine().wait(fork.id, SessionState::active, world.call()));
        EXPECT_EQ(read(world, fork), "shared past");
        write(world, fork, fork.id);
    }
    for (const auto& entry : entries)
        if (entry.session) {
            EXPECT_EQ(read(world, *entry.session), entry.session->id) << "their futures are their own";
        }
    EXPECT_EQ(read(world, session), "shared past");
    world.run_for(1s);
    EXPECT_THAT(world.host().snapshots(), IsEmpty()) << "the one that was made for the fork is gone";
    EXPECT_THAT(world.faults(known), IsEmpty());
}

TEST(SessionFork, OfASnapshotKeepsTheSnapshotAndMayBeForAnotherUser) {
    SimulatedWorld world(1);
    auto session = start(world);
    write(world, session, "golden");
    auto snapshot = snap(world, session);
    ForkRequest request;
    request.source = snapshot.id;
    request.count = 2;
    request.user_id = "bob";
    request.ttl = 1h;
    std::vector<ForkEntry> entries;
    world.run(world.engine().fork(request, world.call()), &entries);
    ASSERT_THAT(entries, SizeIs(2));
    world.run(remove_snapshot(&world.engine(), snapshot.id, world.call()));
    EXPECT_EQ(world.last_code, Errc::conflict) << "they have no disk yet";
    EXPECT_THAT(world.last_message, HasSubstr(entries[0].session->id));
    for (const auto& entry : entries) {
        EXPECT_EQ(entry.session->user_id, "bob");
        EXPECT_EQ(*entry.session->expires_at, entry.session->created_at + 1h);
        world.run(world.engine().wait(entry.session->id, SessionState::active, world.call()));
        EXPECT_EQ(read(world, *entry.session), "golden");
    }
    EXPECT_THAT(world.host().snapshots(), ElementsAre(snapshot.id));
    world.run(remove_snapshot(&world.engine(), snapshot.id, world.call()));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
}

TEST(SessionFork, FailsAsAWholeWhenTheDiskCannotBeCopied) {
    SimulatedWorld world(1);
    auto session = start(world);
    SimulatorFaults broken;
    broken.fail = 1'000'000;
    world.host().set_faults(broken);
    ForkRequest request;
    request.source = session.id;
    request.count = 3;
    world.run(world.engine().fork(request, world.call()));
    EXPECT_EQ(world.last_code, Errc::provider);
    EXPECT_THAT(world.sessions(), SizeIs(1));
}

TEST(SessionSnapshot, SurvivesDeathAtEachPointOfSnapshotForkAndDelete) {
    auto life = [](SimulatedWorld& world, std::vector<std::string>& known) {
        Session session;
        auto& engine = world.engine();
        if (!world.run(engine.create(world.request("alice"), world.call()), &session)) return;
        known.push_back(session.id);
        if (!world.run(engine.wait(session.id, SessionState::active, world.call()))) return;
        Snapshot snapshot;
        if (!world.run(engine.snapshot(session.id, "name", world.call()), &snapshot)) return;
        ForkRequest request;
        request.source = session.id;
        request.count = 2;
        std::vector<ForkEntry> entries;
        if (!world.run(engine.fork(request, world.call()), &entries)) return;
        for (const auto& entry : entries) known.push_back(entry.session->id);
        for (const auto& entry : entries)
            if (!world.run(engine.wait(entry.session->id, SessionState::active, world.call()))) return;
        if (!world.run(remove_snapshot(&engine, snapshot.id, world.call()))) return;
        world.run_for(1min);
    };
    test::die_at_each_point(life, 40, [](SimulatedWorld& world, std::size_t point) {
        if (point == 0) {
            EXPECT_THAT(world.host().snapshots(), IsEmpty());
        }
    });
}

}  // namespace
}  // namespace infrastructure_sdk
