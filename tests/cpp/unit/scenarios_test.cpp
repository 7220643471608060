// Acceptance scenarios: faults that users of other session systems reported, each as one test. The numbers are those of
// the list of scenarios; 1, 9 and 22 belong to warm pools and stand elsewhere.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/unix_socket.hpp"
#include "providers/qemu/debris.hpp"
#include "providers/qemu/process.hpp"
#include "session/reservation_ledger.hpp"
#include "session/session_fsm.hpp"
#include "support/race.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::at_most;
using test::Race;
using test::SimulatedWorld;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using namespace std::chrono_literals;

constexpr std::uint32_t always = 1'000'000;

Session create(SimulatedWorld& world, const std::string& user = "alice") {
    Session session;
    world.run(world.engine().create(world.request(user), world.call()), &session);
    return session;
}

Session get(SimulatedWorld& world, const Session& session) {
    Session now;
    world.run(world.engine().get(session.id), &now);
    return now;
}

Session created_active(SimulatedWorld& world) {
    auto session = create(world);
    world.run(world.engine().wait(session.id, SessionState::active, world.call()), &session);
    EXPECT_EQ(session.state, SessionState::active) << world.last_message;
    return session;
}

void terminate(SimulatedWorld& world, const Session& session, TerminationReason reason = TerminationReason::request) {
    world.run(world.engine().terminate(session.id, reason, world.call()));
}

bool is_place_free(SimulatedWorld& world) {
    std::optional<Denial> denial;
    world.run(world.engine().can_create(world.request("alice")), &denial);
    return !denial;
}

SimulatorFaults with(std::uint32_t SimulatorFaults::* fault) {
    SimulatorFaults faults;
    faults.*fault = always;
    return faults;
}

std::vector<Event> events_of(SimulatedWorld& world, const std::string& subject) {
    EventQuery query;
    query.subject = subject;
    std::vector<Event> events;
    world.run(world.engine().events(query), &events);
    return events;
}

/// A session is brought to a state that it does not leave by itself in the next moments.
Session brought_to(SimulatedWorld& world, SessionState state) {
    // Behind another one that boots.
    if (state == SessionState::pending) create(world, "first");
    auto session = create(world);
    auto wait = [&](SessionState target) { world.run(world.engine().wait(session.id, target, world.call())); };
    if (state == SessionState::provisioning) world.run_for(5ms);
    else if (state != SessionState::pending) wait(SessionState::active);
    if (state == SessionState::suspending || state == SessionState::suspended || state == SessionState::resuming)
        world.run(world.engine().suspend(session.id, world.call()));
    if (state == SessionState::suspended || state == SessionState::resuming) wait(SessionState::suspended);
    if (state == SessionState::resuming) world.run(world.engine().resume(session.id, world.call()));
    if (state == SessionState::failed) {
        world.host().kill(session.vm_id);
        world.run_for(1s);
    }
    if (state == SessionState::terminating) terminate(world, session);
    auto now = get(world, session);
    EXPECT_EQ(now.state, state);
    return now;
}

TEST(Scenarios, Scenario02_KilledManagerAdoptsOrReaps) {
    constexpr std::size_t most_points = 80;
    std::size_t deaths = 0;
    for (std::size_t point = 1; point <= most_points; ++point) {
        SimulatedWorld world(point);
        std::vector<std::string> known;
        world.points().arm(point);
        // Four sessions in different states, so that the death falls into the midst of something.
        for (int i = 0; i < 4 && world.owner_lives(); ++i) {
            auto session = create(world, "user-" + std::to_string(i));
            if (!session.id.empty()) known.push_back(session.id);
            world.run_for(900ms);
            if (i == 1 && world.owner_lives()) world.run(world.engine().suspend(known[0], world.call()));
            if (i == 2 && world.owner_lives()) world.run(world.engine().resume(known[0], world.call()));
            if (i == 3 && world.owner_lives())
                world.run(world.engine().terminate(known[1], TerminationReason::request, world.call()));
        }
        world.run_for(4s);
        deaths += world.owner_lives() ? 0 : 1;
        world.kill_owner();
        ASSERT_TRUE(world.open());
        world.run_for(1min);
        EXPECT_THAT(world.faults(known), IsEmpty()) << "within a minute after death at point " << point;
    }
    EXPECT_GT(deaths, 40u);
}

TEST(Scenarios, Scenario03_LiveVmOutlivesItsManagerAndStaysKnown) {
    SimulatedWorld world(3);
    auto session = created_active(world);
    world.run(world.engine().wait(create(world, "bob").id, SessionState::active, world.call()));
    world.kill_owner();
    // One VM that nobody remembers: its session is not on the disk.
    VirtualRuntime outside;
    auto provider = make_simulator_provider(outside.environment(), world.host());
    VmSpec forgotten;
    forgotten.id.value = "00000000-0000-4000-8000-00000000dead";
    forgotten.owner_session = "s-forgotten";
    outside.run(provider->create(forgotten, {}));
    outside.run(provider->start(forgotten.id, "execution", {}));
    outside.run(provider->close());
    ASSERT_THAT(world.host().vms(), SizeIs(3));
    ASSERT_TRUE(world.open());
    ASSERT_THAT(world.host().vms(), SizeIs(2)) << "adopted are two, reaped is one";
    for (const auto& vm : world.host().vms()) EXPECT_EQ(vm.processes, 1u) << "not started again";
    EXPECT_EQ(get(world, session).execution_id, session.execution_id) << "the user did not notice";
    auto reaped = events_of(world, forgotten.id.value);
    ASSERT_THAT(reaped, SizeIs(1));
    EXPECT_EQ(reaped.front().type, "vm.orphan_reaped");
    EXPECT_EQ(json::parse(reaped.front().data)["owner_session"], "s-forgotten");
}

TEST(Scenarios, Scenario04_GarbageIsMoreThanProcesses) {
    // In the folder of VMs: disks, sockets, FIFOs and records that a dead owner left half made or half removed ...
    test::TemporaryDirectory host;
    const std::string uuid = "11111111-2222-4333-8444-55555555555";
    auto folder = [&](const std::string& name) {
        fs::create_directories(host / name);
        return host / name;
    };
    auto write = [](const std::string& path) { std::ofstream(path) << "x"; };
    write(folder(".new-" + uuid + "0/guest") + "/disk.qcow2");
    write(folder(".gone-" + uuid + "1/guest") + "/memory.state");
    auto half = folder(uuid + "2");
    fs::create_directories(half + "/guest");
    ::close(listen_unix(half + "/guest/qmp.sock"));
    ::mkfifo((half + "/guest/agent.sock").c_str(), 0600);
    write(half + "/vm.json.new");
    ::close(listen_unix(half + "/guest/vnc.sock"));
    // ... and what is not known to be ours.
    write(folder(uuid + "3") + "/vm.json");
    write(folder(uuid + "4") + "/letters.txt");
    fs::create_directories(folder(uuid + "5/guest") + "/disk.qcow2");
    write(folder("backup") + "/disk.qcow2");
    write(host / "notes");
    fs::create_symlink(host / "backup", host / (uuid + "6"));
    EXPECT_THAT(qemu::sweep(host.path()), ElementsAre(uuid + "4", uuid + "5", uuid + "6", "backup", "notes"));
    std::vector<std::string> left;
    for (const auto& entry : fs::directory_iterator(host.path())) left.push_back(entry.path().filename());
    std::sort(left.begin(), left.end());
    EXPECT_THAT(left, ElementsAre(uuid + "3", uuid + "4", uuid + "5", uuid + "6", "backup", "notes"));
    EXPECT_TRUE(fs::exists(host / "backup/disk.qcow2"));

    // In the store: reservations and intents of what ended.
    SimulatedWorld world(4, {}, at_most(1));
    world.points().arm(9);
    auto session = create(world);
    world.run_for(10s);
    EXPECT_FALSE(world.owner_lives());
    while (!world.owner_lives()) world.open();
    terminate(world, session);
    world.run_for(1min);
    VirtualRuntime reader;
    for (const char* kind : {"reservation", "intent"})
        EXPECT_THAT(reader.run(world.disk().list(kind, "", 10)), IsEmpty()) << kind;
    EXPECT_TRUE(is_place_free(world));
}

TEST(Scenarios, Scenario05_UnsureIsNeverDead) {
    SimulatedWorld world(5);
    auto session = created_active(world);
    auto suspended = brought_to(world, SessionState::suspended);
    world.kill_owner();
    world.host().set_faults(with(&SimulatorFaults::blind));
    ASSERT_TRUE(world.open());
    world.run_for(1h);
    EXPECT_EQ(get(world, session).state, SessionState::active);
    EXPECT_EQ(get(world, suspended).state, SessionState::suspended);
    ASSERT_THAT(world.host().vms(), SizeIs(2)) << "nothing was ended or replaced";
    world.host().set_faults({});
    world.kill_owner();
    ASSERT_TRUE(world.open());
    EXPECT_EQ(get(world, session).state, SessionState::active);
    EXPECT_THAT(world.faults({session.id, suspended.id}), IsEmpty());

    // The identity of a process is more than its pid.
    ProcessIdentity self{qemu::boot_id(), ::getpid(), qemu::start_time_ticks(::getpid()).value(), ""};
    EXPECT_TRUE(qemu::is_alive(self));
    auto recycled = self;
    ++recycled.start_time_ticks;
    EXPECT_FALSE(qemu::is_alive(recycled));
    auto other_boot = self;
    other_boot.boot_id = "another";
    EXPECT_FALSE(qemu::is_alive(other_boot));
}

TEST(Scenarios, Scenario06_StaleOwnerCannotOverwrite) {
    SimulatedWorld world(6);
    auto session = created_active(world);
    // Behind the owner's back the record moves on, as it would with a second owner.
    VirtualRuntime other;
    auto record = other.run(world.disk().get("session", session.id)).value();
    auto newer = json::parse(record.json);
    newer["tags"]["written_by"] = "the other owner";
    Batch batch;
    batch.puts.push_back({"session", session.id, newer.dump(), record.version});
    other.run(world.disk().commit(batch));
    world.run(world.engine().touch(session.id, world.call()));
    EXPECT_EQ(world.last_code, Errc::conflict);
    world.run(world.engine().suspend(session.id, world.call()));
    EXPECT_EQ(world.last_code, Errc::conflict);
    auto now = other.run(world.disk().get("session", session.id)).value();
    EXPECT_EQ(now.version, record.version + 1);
    EXPECT_EQ(json::parse(now.json)["tags"]["written_by"], "the other owner");
    EXPECT_THAT(world.host().vms(), SizeIs(1));
    EXPECT_EQ(world.host().vms().front().state, VmState::running) << "no effect without its record";
}

TEST(Scenarios, Scenario07_TerminatedOnlyAfterDeathWasSeen) {
    SimulatedWorld world(7, {}, at_most(1));
    auto session = created_active(world);
    world.host().set_faults(with(&SimulatorFaults::lie));
    terminate(world, session);
    world.run_for(1h);
    EXPECT_EQ(get(world, session).state, SessionState::failed);
    EXPECT_EQ(get(world, session).failure_reason, "StillThere");
    EXPECT_THAT(world.host().vms(), SizeIs(1));
    EXPECT_FALSE(is_place_free(world)) << "what may be alive keeps its place";
    world.host().set_faults({});
    terminate(world, session);
    world.run_for(1min);
    EXPECT_EQ(get(world, session).state, SessionState::terminated);
    EXPECT_THAT(world.host().vms(), IsEmpty());
    EXPECT_TRUE(is_place_free(world));
}

/// What a VM may be when the next owner looks.
enum class Found { nothing, made, running, suspended, dead };

void put_vm(SimulatedWorld& world, const Session& session, Found found) {
    if (found == Found::nothing) return;
    VirtualRuntime outside;
    auto provider = make_simulator_provider(outside.environment(), world.host());
    VmSpec spec;
    spec.id = session.vm_id;
    spec.owner_session = session.id;
    outside.run(provider->create(spec, {}));
    if (found != Found::made) outside.run(provider->start(spec.id, session.execution_id, {}));
    if (found == Found::suspended) outside.run(provider->suspend(spec.id, {}));
    if (found == Found::dead) world.host().kill(spec.id);
    outside.run(provider->close());
}

TEST(Scenarios, Scenario08_EveryHalfStateHasARepairPath) {
    // Every recorded state beside everything that may be found on the host, whether it can come about or not.
    using S = SessionState;
    for (auto state :
         {S::pending, S::provisioning, S::active, S::suspending, S::suspended, S::resuming, S::terminating, S::failed})
        for (auto found : {Found::nothing, Found::made, Found::running, Found::suspended, Found::dead}) {
            SimulatedWorld world(8);
            auto session = create(world);
            world.kill_owner();
            for (const auto& vm : world.host().vms()) {
                VirtualRuntime outside;
                auto provider = make_simulator_provider(outside.environment(), world.host());
                outside.run(provider->destroy(vm.id, {}));
                outside.run(provider->close());
            }
            session = world.sessions().front();
            session.state = state;
            if (state == S::suspended) session.suspend_mode = "memory";
            Batch batch;
            batch.puts.push_back({"session", session.id, json(session).dump(), std::nullopt});
            batch.puts.push_back(
                {ReservationLedger::kind, session.id, json(reservation_of(session)).dump(), std::nullopt});
            VirtualRuntime writer;
            writer.run(world.disk().commit(batch));
            put_vm(world, session, found);
            auto which = std::string(name_of(state)) + " beside " + std::to_string(static_cast<int>(found));
            ASSERT_TRUE(world.open()) << which;
            world.run_for(10min);
            EXPECT_FALSE(is_transient(get(world, session).state))
                << which << " is " << name_of(get(world, session).state);
            terminate(world, session);
            world.run_for(10min);
            EXPECT_EQ(get(world, session).state, S::terminated) << which;
            EXPECT_THAT(world.host().vms(), IsEmpty()) << which;
            EXPECT_THAT(world.faults({session.id}), IsEmpty()) << which;
        }
}

TEST(Scenarios, Scenario10_TerminateIsLegalFromEveryState) {
    using S = SessionState;
    for (auto state : {S::pending, S::provisioning, S::active, S::suspending, S::suspended, S::resuming, S::terminating,
                       S::failed}) {
        SimulatorOptions host;
        host.concurrent_boots = 1;
        SimulatedWorld world(10, host);
        auto session = brought_to(world, state);
        terminate(world, session);
        EXPECT_EQ(world.last_code, Errc{}) << name_of(state) << ": " << world.last_message;
        world.run_for(1min);
        EXPECT_EQ(get(world, session).state, S::terminated) << name_of(state);
        EXPECT_THAT(world.host().vms(), SizeIs(state == S::pending ? 1 : 0)) << name_of(state);
        terminate(world, session);
        EXPECT_EQ(world.last_code, Errc{}) << "once more changes nothing";
    }
}

TEST(Scenarios, Scenario11_EveryTransientStateHasADeadlineAndTheDyingCount) {
    using S = SessionState;
    for (auto state : {S::provisioning, S::suspending, S::resuming, S::terminating}) {
        SimulatedWorld world(11, {}, at_most(1));
        // The provider takes the verb and never answers.
        if (state == S::provisioning) world.host().set_faults(with(&SimulatorFaults::hang));
        auto session = create(world);
        if (state != S::provisioning) world.run(world.engine().wait(session.id, S::active, world.call()));
        if (state == S::resuming) {
            world.run(world.engine().suspend(session.id, world.call()));
            world.run(world.engine().wait(session.id, S::suspended, world.call()));
        }
        world.host().set_faults(with(&SimulatorFaults::hang));
        if (state == S::suspending) world.run(world.engine().suspend(session.id, world.call()));
        if (state == S::resuming) world.run(world.engine().resume(session.id, world.call()));
        if (state == S::terminating) terminate(world, session);
        world.run_for(10s);
        EXPECT_EQ(get(world, session).state, state);
        world.run_for(10min);
        auto after = get(world, session);
        EXPECT_EQ(after.state, state == S::suspending ? S::active : S::failed) << name_of(state);
        EXPECT_FALSE(is_place_free(world)) << "a session that is not terminated has its place: " << name_of(state);
        world.host().set_faults({});
        terminate(world, session);
        world.run_for(1min);
        EXPECT_TRUE(is_place_free(world)) << name_of(state);
        EXPECT_THAT(world.faults({session.id}), IsEmpty());
    }
}

TEST(Scenarios, Scenario12_AnAdministratorEndsWhatIsStuckAndItIsOnRecord) {
    SimulatedWorld world(12);
    world.host().set_faults(with(&SimulatorFaults::hang));
    auto session = create(world);
    world.run_for(2s);
    EXPECT_EQ(get(world, session).state, SessionState::provisioning);
    world.host().set_faults({});
    // The verb that hangs is not waited for.
    Call call = world.call();
    call.correlation_id = "ticket-4711";
    world.run(world.engine().terminate(session.id, TerminationReason::admin, call));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    world.run_for(5s);
    EXPECT_EQ(get(world, session).state, SessionState::terminated);
    EXPECT_EQ(get(world, session).termination_reason, TerminationReason::admin);
    auto events = events_of(world, session.id);
    auto ended = std::find_if(events.begin(), events.end(),
                              [](const Event& event) { return event.type == "session.lifecycle.terminating"; });
    ASSERT_NE(ended, events.end());
    EXPECT_EQ(ended->correlation_id, "ticket-4711");
    EXPECT_EQ(json::parse(ended->data)["termination_reason"], "admin");
    EXPECT_EQ(json::parse(ended->data)["from"], "provisioning");
}

TEST(Scenarios, Scenario13_CancelledWhileItIsMade) {
    // At each moment of the making.
    for (auto moment = 0ms; moment <= 2400ms; moment += 60ms) {
        SimulatedWorld world(13);
        auto session = create(world);
        world.run_for(moment);
        terminate(world, session);
        EXPECT_EQ(world.last_code, Errc{}) << moment.count();
        world.run(world.engine().wait(session.id, SessionState::terminated, world.call()));
        EXPECT_EQ(world.last_code, Errc{}) << moment.count() << ": " << world.last_message;
        EXPECT_THAT(world.host().vms(), IsEmpty()) << moment.count();
        world.run_for(1min);
        EXPECT_THAT(world.host().vms(), IsEmpty()) << "nothing comes to life later, " << moment.count();
    }
}

TEST(Scenarios, Scenario20_ExactlyAsManyAsThereArePlacesUnderCrashes) {
    std::size_t deaths = 0;
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        Race race(seed);
        ASSERT_THAT(race.run(), IsEmpty()) << "seed " << seed;
        deaths += race.deaths();
    }
    EXPECT_GT(deaths, 300u) << "the owner must really have died";
}

/// Not run: it needs a cluster that evicts.
TEST(Scenarios, Scenario26_ASpotNoticeSuspendsOrMigratesAndCanBeCancelled) {
    GTEST_SKIP() << "not yet run: needs a cluster";
}

/// How a session ends whose guest takes `boot_time` where a minute is allowed, and after how long.
std::pair<SessionState, Duration> boot_of(Duration boot_time, double disk_bytes_per_second) {
    SimulatorOptions options;
    options.boot_time = boot_time;
    SimulatedWorld world(27, options);
    world.adjust = [](SessionEngineOptions& engine) {
        engine.templates.at("tiny").boot_timeout = std::chrono::minutes(1);
    };
    EXPECT_TRUE(world.open());
    const auto began = world.runtime().environment().clock->monotonic_now();
    Session session;
    world.run(world.engine().create(world.request("alice"), world.call()), &session);
    world.run_for(std::chrono::seconds(1));
    SimulatedUse use;
    use.disk_bytes_per_second = disk_bytes_per_second;
    world.host().set_use(session.vm_id, use, world.runtime().environment().clock->monotonic_now());
    world.run(world.engine().wait(session.id, SessionState::active, world.call()));
    world.run(world.engine().get(session.id), &session);
    return {session.state, world.runtime().environment().clock->monotonic_now() - began};
}

TEST(Scenarios, Scenario27_ABootThatGetsOnMayTakeLongerAndOneThatDoesNotMayNot) {
    using std::chrono::seconds;
    auto [fast, fast_time] = boot_of(seconds(40), 0);
    EXPECT_EQ(fast, SessionState::active);
    EXPECT_LT(fast_time, seconds(45));
    auto [slow, slow_time] = boot_of(seconds(150), 4096);
    EXPECT_EQ(slow, SessionState::active) << "its disk moved all the time";
    EXPECT_LT(slow_time, seconds(155));
    auto [silent, silent_time] = boot_of(seconds(150), 0);
    EXPECT_EQ(silent, SessionState::failed);
    EXPECT_LT(silent_time, seconds(65));
    auto [endless, endless_time] = boot_of(std::chrono::hours(1), 4096);
    EXPECT_EQ(endless, SessionState::failed);
    EXPECT_LT(endless_time, seconds(260)) << "four times what is allowed";
}

TEST(Scenarios, Scenario30_AFailedCreateLeavesNothing) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        // 50 at once on a host that fails, hangs and loses replies.
        SimulatedWorld world(seed);
        SimulatorFaults faults;
        faults.fail = 150'000;
        faults.hang = 100'000;
        faults.lose_reply = 150'000;
        world.host().set_faults(faults);
        std::vector<std::string> ids;
        for (int i = 0; i < 50; ++i) ids.push_back(create(world, "user-" + std::to_string(i)).id);
        world.run_for(30min);
        world.host().set_faults({});
        std::size_t failed = 0;
        for (const auto& id : ids) {
            Session session;
            world.run(world.engine().get(id), &session);
            if (session.state == SessionState::failed) ++failed;
            else EXPECT_EQ(session.state, SessionState::active);
        }
        EXPECT_GT(failed, 3u);
        EXPECT_THAT(world.faults(ids), IsEmpty());
        for (const auto& id : ids) world.run(world.engine().terminate(id, TerminationReason::request, world.call()));
        world.run_for(10min);
        EXPECT_THAT(world.host().vms(), IsEmpty());
        EXPECT_THAT(world.faults(ids), IsEmpty());
    }
}

TEST(Scenarios, Scenario30_ARefusedCreateLeavesNothing) {
    SimulatedWorld world(30, {}, at_most(1));
    auto session = created_active(world);
    VirtualRuntime reader;
    auto events = events_of(world, session.id).size();
    create(world);
    EXPECT_EQ(world.last_code, Errc::quota_exceeded);
    EXPECT_THAT(world.sessions(), SizeIs(1));
    EXPECT_THAT(world.host().vms(), SizeIs(1));
    EXPECT_THAT(reader.run(world.disk().list("reservation", "", 10)), SizeIs(1));
    EXPECT_EQ(reader.run(world.disk().events({})).size(), events);
}

}  // namespace
}  // namespace infrastructure_sdk
