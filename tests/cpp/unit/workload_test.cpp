// Workloads: made up, read from traces, reconstructed from event logs.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/simulation/workload.hpp>

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

template <class F>
std::string refusal(F work) {
    try {
        work();
    } catch (const Error& error) {
        return std::string(name_of(error.errc())) + ": " + std::string(error.message());
    }
    return "nothing was refused";
}

TEST(Fleet, IsTheSameForASeedAndAnotherForAnother) {
    FleetModel model;
    model.users = 20;
    model.length = std::chrono::hours(24 * 14);
    const auto first = synthesize(model, 7), again = synthesize(model, 7), other = synthesize(model, 8);
    EXPECT_EQ(first.sessions, again.sessions);
    EXPECT_NE(first.sessions, other.sessions);
    EXPECT_GT(first.sessions.size(), 20u);
}

TEST(Fleet, KeepsItsPromisesForManySeeds) {
    FleetModel model;
    model.users = 5;
    model.length = std::chrono::hours(24 * 10);
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        const auto workload = synthesize(model, seed);
        check(workload);
        for (const auto& planned : workload.sessions) {
            EXPECT_GE(planned.start, model.start) << seed;
            EXPECT_LT(planned.start, model.start + model.length) << seed;
            EXPECT_FALSE(planned.uses.empty()) << seed;
        }
    }
}

TEST(Fleet, FollowsItsParameters) {
    FleetModel model;
    model.users = 200;
    model.length = std::chrono::hours(24 * 7);
    model.attendance = 1;
    model.weekend_attendance = 0;
    model.session_days = 1;
    model.day_start_spread = 0s;
    const auto workload = synthesize(model, 1);
    EXPECT_EQ(workload.sessions.size(), 200u * 5);  // five working days, one session each
    for (const auto& planned : workload.sessions)
        EXPECT_EQ((planned.start - WallTime(std::chrono::floor<std::chrono::days>(planned.start))), Duration(9h));
    Duration worked{};
    for (const auto& planned : workload.sessions)
        for (const auto& use : planned.uses)
            if (use.kind == UseKind::work) worked += use.length;
    const auto mean = worked / static_cast<std::int64_t>(workload.sessions.size());
    EXPECT_GT(mean, Duration(4h));
    EXPECT_LT(mean, Duration(8h));
}

TEST(Fleet, RefusesWhatCannotBeNamingIt) {
    auto refused = [](const char* document) { return refusal([&] { fleet_model_from_json(document); }); };
    EXPECT_THAT(refused(R"({"users": 0})"), HasSubstr("validation: fleet.users: '0' is not allowed; 1 to 1000000"));
    EXPECT_THAT(refused(R"({"users": "many"})"), HasSubstr("fleet.users: 'many'"));
    EXPECT_THAT(refused(R"({"attendance": 1.5})"), HasSubstr("fleet.attendance: '1.5' is not allowed"));
    EXPECT_THAT(refused(R"({"day_start": "soon"})"), HasSubstr("fleet.day_start"));
    EXPECT_THAT(refused(R"({"day_length": "48h"})"), HasSubstr("fleet.day_length: '48h'"));
    EXPECT_THAT(refused(R"({"working_days": [0]})"), HasSubstr("fleet.working_days"));
    EXPECT_THAT(refused(R"({"utc_offset": "15h"})"), HasSubstr("fleet.utc_offset"));
    EXPECT_THAT(refused(R"({"start": "monday"})"), HasSubstr("fleet.start: 'monday'"));
    EXPECT_THAT(refused(R"({"usres": 3})"), HasSubstr("did you mean 'users'?"));
    EXPECT_THAT(refused("[]"), HasSubstr("an object is needed"));
    EXPECT_THAT(refused("nothing"), HasSubstr("a JSON object is needed"));
}

TEST(Fleet, GoesToJsonAndBack) {
    FleetModel model;
    model.users = 12;
    model.utc_offset = -5h;
    model.meeting_share = 0.25;
    EXPECT_EQ(to_json(fleet_model_from_json(to_json(model))), to_json(model));
}

TEST(Trace, ReadsCsv) {
    const auto workload = parse_trace_csv(
        "start,user,length,activity,tenant,ended\n"
        "2026-01-05T10:00:00Z,bob,8h,work@0s+50m background@2h+1h,\"a, b\",false\r\n"
        "\n"
        "2026-01-05T09:00:00Z,alice,1h30m,,,true\n",
        "day.csv");
    ASSERT_THAT(workload.sessions, SizeIs(2));
    const auto& alice = workload.sessions[0];
    const auto& bob = workload.sessions[1];
    EXPECT_EQ(alice.user_id, "alice");
    EXPECT_TRUE(alice.ended_by_user);
    EXPECT_EQ(alice.length, Duration(90min));
    EXPECT_EQ(bob.tenant, "a, b");
    EXPECT_FALSE(bob.ended_by_user);
    EXPECT_THAT(bob.uses, ElementsAre(UseSegment{0s, 50min, UseKind::work}, UseSegment{2h, 1h, UseKind::background}));
    EXPECT_EQ(to_rfc3339(workload.start), "2026-01-05T00:00:00.000000000Z");
    EXPECT_EQ(workload.length, Duration(18h));
}

TEST(Trace, ReadsJsonl) {
    const auto workload =
        parse_trace_jsonl(R"({"user":"alice","start":"2026-01-05T09:00:00Z","length":"2h","tags":{"project":"thesis"},)"
                          R"("activity":[{"kind":"open","at":"1h","length":"30m"}],"ended":false})"
                          "\n",
                          "day.jsonl");
    ASSERT_THAT(workload.sessions, SizeIs(1));
    EXPECT_EQ(workload.sessions[0].tags.at("project"), "thesis");
    EXPECT_THAT(workload.sessions[0].uses, ElementsAre(UseSegment{1h, 30min, UseKind::open}));
    EXPECT_FALSE(workload.sessions[0].ended_by_user);
}

TEST(Trace, RefusesNamingLineAndColumn) {
    auto csv = [](const std::string& text) { return refusal([&] { parse_trace_csv(text, "t.csv"); }); };
    const std::string head = "user,start,length,activity\n", good = "a,2026-01-05T09:00:00Z,1h,\n";
    EXPECT_THAT(csv(""), HasSubstr("t.csv: '' is not allowed; there is no session in it"));
    EXPECT_THAT(csv("user,start\n"),
                HasSubstr("t.csv:1: header: 'user,start' is not allowed; column 'length' is missing"));
    EXPECT_THAT(csv("user,strat,length\n"), HasSubstr("t.csv:1: header: 'strat'"));
    EXPECT_THAT(csv("user,user,length\n"), HasSubstr("a column may stand there once"));
    EXPECT_THAT(csv(head + good + "a,b\n"),
                HasSubstr("t.csv:3: 'a,b' is not allowed; 4 columns are needed, there are 2"));
    EXPECT_THAT(csv(head + "a,yesterday,1h,\n"), HasSubstr("t.csv:2: column 'start': 'yesterday' is not allowed"));
    EXPECT_THAT(csv(head + "a,2026-01-05T09:00:00Z,soon,\n"), HasSubstr("t.csv:2: column 'length': 'soon'"));
    EXPECT_THAT(csv(head + "a,2026-01-05T09:00:00Z,0s,\n"), HasSubstr("t.csv:2: column 'length': '0s'"));
    EXPECT_THAT(csv(head + ",2026-01-05T09:00:00Z,1h,\n"), HasSubstr("t.csv:2: column 'user'"));
    EXPECT_THAT(csv(head + "a,2026-01-05T09:00:00Z,1h,work\n"),
                HasSubstr("t.csv:2: column 'activity': 'work' is not allowed; KIND@OFFSET+LENGTH"));
    EXPECT_THAT(csv(head + "a,2026-01-05T09:00:00Z,1h,play@0s+1m\n"),
                HasSubstr("column 'activity': 'play@0s+1m' is not allowed; allowed: work, background, open"));
    EXPECT_THAT(csv(head + "a,2026-01-05T09:00:00Z,1h,work@50m+20m\n"), HasSubstr("within the session's length"));
    EXPECT_THAT(csv(head + "a,2026-01-05T09:00:00Z,1h,work@0s+20m work@10m+1m\n"), HasSubstr("do not overlap"));
    EXPECT_THAT(csv(head + "\"a,2026-01-05T09:00:00Z,1h,\n"), HasSubstr("a double quote is not closed"));
    auto jsonl = [](const std::string& text) { return refusal([&] { parse_trace_jsonl(text, "t.jsonl"); }); };
    EXPECT_THAT(jsonl("{\n"), HasSubstr("t.jsonl:1: '{' is not allowed; a JSON object is needed"));
    EXPECT_THAT(jsonl("[1]\n"), HasSubstr("t.jsonl:1"));
    EXPECT_THAT(jsonl("{\"user\":3}\n"), HasSubstr("t.jsonl:1: column 'user': '3' is not allowed; a text is needed"));
    EXPECT_THAT(jsonl("{\"user\":\"a\"}\n"), HasSubstr("t.jsonl:1: column 'start'"));
    EXPECT_THAT(jsonl("{\"who\":\"a\"}\n"), HasSubstr("t.jsonl:1: column 'who'"));
}

Event event(std::uint64_t sequence, const char* time, const char* type, const char* subject, const char* data = "{}") {
    Event made;
    made.sequence = sequence;
    made.time = parse_rfc3339(std::string("2026-01-05T") + time + "Z");
    made.type = std::string("session.") + type;
    made.subject = subject;
    made.data = data;
    return made;
}

TEST(EventLog, BecomesWhatPeopleWanted) {
    const auto workload = workload_from_events({
        event(1, "09:00:00", "lifecycle.created", "s-1", R"({"user_id":"alice","template":"tiny","tenant":"lab"})"),
        event(2, "09:00:30", "lifecycle.ready", "s-1"),
        event(3, "11:00:00", "idle.armed", "s-1", R"({"quiet_since":"2026-01-05T10:30:00Z"})"),
        event(4, "11:01:00", "lifecycle.suspending", "s-1", R"({"cause":"idle"})"),
        event(5, "11:01:03", "lifecycle.suspended", "s-1"),
        event(6, "13:00:00", "lifecycle.resuming", "s-1"),
        event(7, "13:00:05", "lifecycle.resumed", "s-1"),
        event(8, "15:00:00", "lifecycle.terminating", "s-1", R"({"cause":"request"})"),
        event(9, "15:00:00", "lifecycle.ready", "s-unknown"),
    });
    ASSERT_THAT(workload.sessions, SizeIs(1));
    const auto& planned = workload.sessions[0];
    EXPECT_EQ(planned.user_id, "alice");
    EXPECT_EQ(planned.tenant, "lab");
    EXPECT_TRUE(planned.ended_by_user);
    EXPECT_EQ(planned.length, Duration(6h));
    EXPECT_THAT(planned.uses,
                ElementsAre(UseSegment{30s, 90min - 30s, UseKind::work}, UseSegment{4h + 5s, 2h - 5s, UseKind::work}));
    EXPECT_THAT(workload.notes.back(), HasSubstr("1 events of sessions that began before the log"));
}

TEST(EventLog, TellsBackgroundWorkByWhoIsConnected) {
    const auto workload = workload_from_events({
        event(1, "09:00:00", "lifecycle.created", "s-1", R"({"user_id":"alice"})"),
        event(2, "09:00:00", "lifecycle.ready", "s-1"),
        event(3, "09:01:00", "clients.connected", "s-1"),
        event(4, "10:00:00", "clients.left", "s-1"),
        event(5, "12:00:00", "lifecycle.terminating", "s-1", R"({"cause":"ttl"})"),
    });
    const auto& planned = workload.sessions.at(0);
    EXPECT_FALSE(planned.ended_by_user);
    EXPECT_THAT(planned.uses, ElementsAre(UseSegment{0s, 1min, UseKind::work}, UseSegment{1min, 59min, UseKind::work},
                                          UseSegment{1h, 2h, UseKind::background}));
}

TEST(EventLog, RefusesWhatIsNoLog) {
    EXPECT_THAT(refusal([] { workload_from_events({}); }), HasSubstr("no session begins in them"));
    auto lines = [](const char* text) { return refusal([&] { parse_event_lines(text, "log.jsonl"); }); };
    EXPECT_THAT(lines("{\"type\":\"x\",\"subject\":\"y\"}\n"), HasSubstr("log.jsonl:1.time"));
    EXPECT_THAT(lines("{\"time\":\"now\"}\n"), HasSubstr("log.jsonl:1.time: 'now'"));
    EXPECT_THAT(lines("{\"time\":\"2026-01-05T09:00:00Z\"}\n"), HasSubstr("an event has a type and a subject"));
    EXPECT_THAT(lines("x\n"), HasSubstr("log.jsonl:1"));
    const auto read = parse_event_lines(
        R"({"sequence":3,"time":"2026-01-05T09:00:00Z","type":"session.x","subject":"s","data":{"a":1}})", "log.jsonl");
    ASSERT_THAT(read, SizeIs(1));
    EXPECT_EQ(read[0].sequence, 3u);
    EXPECT_EQ(read[0].data, R"({"a":1})");
}

}  // namespace
}  // namespace infrastructure_sdk
