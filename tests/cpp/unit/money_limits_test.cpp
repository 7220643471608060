// Limits on tenants, GPUs and money, through the engine on a simulated host.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "session/amounts.hpp"
#include "support/money_story.hpp"
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using test::MoneyStory;
using test::SimulatedWorld;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;
using S = LimitScope;
using R = LimitResource;

SimulatorOptions with_gpus(std::map<std::string, std::int64_t> gpus) {
    SimulatorOptions options;
    options.gpus = std::move(gpus);
    return options;
}

SessionRequest paid(SimulatedWorld& world, const std::string& user = "alice", Duration ttl = 1h) {
    auto request = world.request(user);
    request.template_name = "paid";
    request.tenant = "physics";
    request.ttl = ttl;
    return request;
}

Session create(SimulatedWorld& world, const SessionRequest& request) {
    Session session;
    world.run(world.engine().create(request, world.call()), &session);
    if (world.last_code == Errc{})
        world.run(world.engine().wait(session.id, SessionState::active, world.call()), &session);
    return session;
}

/// Until it is done; nothing more of it is charged.
void end(SimulatedWorld& world, const Session& session) {
    world.run(world.engine().terminate(session.id, TerminationReason::request, world.call()));
    world.run(world.engine().wait(session.id, SessionState::terminated, world.call()));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
}

void rest(SimulatedWorld& world, const Session& session) {
    world.run(world.engine().suspend(session.id, world.call()));
    world.run(world.engine().wait(session.id, SessionState::suspended, world.call()));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
}

UsageLine line_of(SimulatedWorld& world, S scope, const std::string& subject, R resource) {
    std::vector<UsageLine> lines;
    world.run(world.engine().usage(), &lines);
    for (const auto& line : lines)
        if (line.limit.scope == scope && line.subject == subject && line.limit.resource == resource) return line;
    ADD_FAILURE() << "no line of " << subject;
    return {};
}

std::string month_in_use(SimulatedWorld& world) {
    auto line = line_of(world, S::user, "alice", R::money_per_month);
    return amount_text(R::money_per_month, line.in_use);
}

void set_time(SimulatedWorld& world, const char* text) { world.runtime().set_wall_time(parse_rfc3339(text)); }

TEST(RequestDocument, TenantAndGpusAreReadAndWrongOnesNamed) {
    auto good = session_request_from_json(
        json::parse(R"({"user_id": "a", "tenant": "physics", "resources": {"gpu_count": 2, "gpu_type": "a100"}})"));
    EXPECT_EQ(good.tenant, "physics");
    EXPECT_EQ(good.resources.gpu_count, 2);
    EXPECT_EQ(good.resources.gpu_type, "a100");
    auto none = session_request_from_json(
        json::parse(R"({"user_id": "a", "tenant": null, "resources": {"gpu_count": null, "gpu_type": ""}})"));
    EXPECT_EQ(none.tenant, "");
    EXPECT_FALSE(none.resources.gpu_count);
    for (const auto& [pointer, value, field] :
         {std::tuple{"/tenant", R"(7)", "tenant"}, std::tuple{"/tenant", R"("a\nb")", "tenant"},
          std::tuple{"/resources/gpu_count", R"("1")", "resources.gpu_count"},
          std::tuple{"/resources/gpu_count", R"(1.5)", "resources.gpu_count"},
          std::tuple{"/resources/gpu_count", R"(-1)", "resources.gpu_count"},
          std::tuple{"/resources/gpu_count", R"(65)", "resources.gpu_count"},
          std::tuple{"/resources/gpu_count", R"(18446744073709551615)", "resources.gpu_count"},
          std::tuple{"/resources/gpu_type", R"([])", "resources.gpu_type"},
          std::tuple{"/resources/gpu_type", R"("\u0007")", "resources.gpu_type"},
          std::tuple{"/resources/gpus", R"(1)", "resources.gpus"}}) {
        auto document = json{{"user_id", "a"}, {"resources", json::object()}};
        document[json::json_pointer(pointer)] = json::parse(value);
        try {
            session_request_from_json(document);
            ADD_FAILURE() << "accepted: " << document.dump();
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation) << document.dump();
            EXPECT_EQ(error.context().at("field"), field) << document.dump();
        }
    }
    auto document = json{{"user_id", "a"}, {"tenant", std::string(129, 'x')}};
    EXPECT_THROW(session_request_from_json(document), Error);
    EXPECT_THROW(session_filter_from_json(json{{"tenant", 7}}), Error);
}

TEST(TenantLimits, CountAllUsersOfATenantAndNobodyElse) {
    SimulatedWorld world(1, {}, {{S::tenant, "physics", R::sessions, 2}});
    create(world, paid(world, "alice"));
    create(world, paid(world, "bob"));
    create(world, paid(world, "carol"));
    EXPECT_EQ(world.last_code, Errc::quota_exceeded);
    EXPECT_THAT(world.last_message, HasSubstr("the sessions limit of tenant 'physics' is 2: 2 in use, 1 requested"));
    EXPECT_THAT(world.last_message, HasSubstr("what would help: end one of them, or a higher limit"));
    EXPECT_EQ(world.last_context.at("help"), "end one of them, or a higher limit");
    create(world, world.request("carol"));
    EXPECT_EQ(world.last_code, Errc{}) << "who has no tenant is not counted";
    SessionFilter filter;
    filter.tenant = "physics";
    SessionPage page;
    world.run(world.engine().list(filter), &page);
    EXPECT_EQ(page.sessions.size(), 2u);
}

TEST(TenantLimits, ASnapshotAndItsForksAreTheTenants) {
    SimulatedWorld world(2, {}, {{S::tenant, "physics", R::disk, 3 * (64 << 20)}, {S::tenant, "*", R::sessions, 2}});
    auto session = create(world, paid(world));
    Snapshot snapshot;
    world.run(world.engine().snapshot(session.id, "a name", world.call()), &snapshot);
    EXPECT_EQ(snapshot.tenant, "physics");
    EXPECT_EQ(line_of(world, S::tenant, "physics", R::disk).in_use, 2 * (64 << 20));
    ForkRequest fork;
    fork.source = snapshot.id;
    fork.count = 2;
    std::vector<ForkEntry> entries;
    world.run(world.engine().fork(fork, world.call()), &entries);
    ASSERT_EQ(entries.size(), 2u);
    ASSERT_TRUE(entries[0].session);
    EXPECT_EQ(entries[0].session->tenant, "physics");
    ASSERT_TRUE(entries[1].error);
    EXPECT_EQ(entries[1].error->errc(), Errc::quota_exceeded);
}

TEST(GpuRequests, AreRefusedBeforeAnythingIsReservedWhereThereAreNone) {
    SimulatedWorld world(3, {}, {{S::user, "*", R::gpu, 4}});
    auto request = paid(world);
    request.resources.gpu_count = 1;
    Session session;
    world.run(world.engine().create(request, world.call()), &session);
    EXPECT_EQ(world.last_code, Errc::unsupported);
    EXPECT_EQ(world.last_context.at("field"), "resources.gpu_count");
    EXPECT_EQ(world.last_context.at("capability"), "gpu");
    EXPECT_THAT(world.last_message, HasSubstr("provider simulator has no GPUs"));
    EXPECT_THAT(world.sessions(), IsEmpty());
    EXPECT_EQ(line_of(world, S::user, "*", R::gpu).in_use, 0);
}

TEST(GpuRequests, NameATypeThatTheHostHasAndNoMoreThanItHas) {
    SimulatedWorld world(4, with_gpus({{"a100", 2}, {"t4", 1}}));
    struct Case {
        std::optional<std::int64_t> count;
        const char* type;
        const char* field;
        const char* says;
    };
    for (const auto& [count, type, field, says] :
         {Case{1, "", "resources.gpu_type", "one of a100, t4"},
          Case{1, "h100", "resources.gpu_type", "one of a100, t4"},
          Case{3, "a100", "resources.gpu_count", "the host has 2 of type 'a100'"},
          Case{0, "a100", "resources.gpu_count", "at least 1"}, Case{-1, "", "resources.gpu_count", "0 to 64"},
          Case{65, "a100", "resources.gpu_count", "0 to 64"}}) {
        auto request = paid(world);
        request.resources.gpu_count = count;
        request.resources.gpu_type = type;
        create(world, request);
        EXPECT_EQ(world.last_code, Errc::validation) << says;
        EXPECT_EQ(world.last_context.at("field"), field);
        EXPECT_THAT(world.last_message, HasSubstr(says));
    }
    EXPECT_THAT(world.sessions(), IsEmpty());
    auto request = paid(world);
    request.resources.gpu_type = "t4";
    auto session = create(world, request);
    EXPECT_EQ(session.gpu_count, 1) << "one of a type that is named";
    EXPECT_EQ(session.charge.price_per_hour_micros, 1'500'000) << "the template's price and the GPU's";
    EXPECT_THAT(world.faults({session.id}), IsEmpty());
}

TEST(GpuLimits, TheGpusOfTheHostAreALimitForEachType) {
    SimulatedWorld world(5, with_gpus({{"a100", 2}, {"t4", 1}}));
    auto request = paid(world);
    request.resources.gpu_type = "a100";
    request.resources.gpu_count = 2;
    auto first = create(world, request);
    request.resources.gpu_count = 1;
    create(world, request);
    EXPECT_EQ(world.last_code, Errc::capacity);
    EXPECT_THAT(world.last_message,
                HasSubstr("the gpu limit of the host's 'a100' is 2: 2 in use, 1 requested; held by " + first.id));
    EXPECT_THAT(world.last_message, HasSubstr("suspend or end it, or ask for less"));
    EXPECT_EQ(line_of(world, S::host, "a100", R::gpu).free, 0);
    EXPECT_EQ(line_of(world, S::host, "t4", R::gpu).free, 1);

    rest(world, first);
    auto second = create(world, request);
    EXPECT_EQ(second.state, SessionState::active) << "a suspended session gives its GPUs back: " << world.last_message;
    world.run(world.engine().resume(first.id, world.call()));
    EXPECT_EQ(world.last_code, Errc::capacity) << "and takes them again, or stays suspended";
    world.open();
    world.run(world.engine().resume(first.id, world.call()));
    EXPECT_EQ(world.last_code, Errc::capacity) << "so says the next owner too";
    end(world, second);
    world.run(world.engine().resume(first.id, world.call()));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    world.run_for(1min);
    EXPECT_THAT(world.faults({first.id}), IsEmpty());
}

TEST(GpuLimits, AForkHasTheGpusOfItsSource) {
    SimulatedWorld world(6, with_gpus({{"a100", 2}}));
    auto request = paid(world);
    request.resources.gpu_count = 1;
    auto session = create(world, request);
    ForkRequest fork;
    fork.source = session.id;
    fork.count = 2;
    std::vector<ForkEntry> entries;
    world.run(world.engine().fork(fork, world.call()), &entries);
    ASSERT_EQ(entries.size(), 2u);
    ASSERT_TRUE(entries[0].session);
    EXPECT_EQ(entries[0].session->gpu_type, "a100");
    ASSERT_TRUE(entries[1].error) << "the host has two";
    EXPECT_EQ(entries[1].error->errc(), Errc::capacity);
}

TEST(MoneyPerHour, IsThePriceOfWhatRuns) {
    SimulatedWorld world(7, with_gpus({{"a100", 1}}), {{S::tenant, "*", R::money_per_hour, 2'000'000}});
    auto plain = create(world, paid(world, "alice"));
    auto request = paid(world, "bob");
    request.resources.gpu_count = 1;
    create(world, request);
    EXPECT_EQ(line_of(world, S::tenant, "physics", R::money_per_hour).in_use, 2'000'000);
    create(world, paid(world, "carol"));
    EXPECT_EQ(world.last_code, Errc::budget_exceeded);
    EXPECT_THAT(world.last_message,
                HasSubstr("the money_per_hour limit of tenant 'physics' (as of every tenant) is 2.00 USD: 2.00 USD in "
                          "use, 0.50 USD requested"));
    EXPECT_THAT(world.last_message, HasSubstr("what would help: suspend or end one of them, or a higher limit"));
    rest(world, plain);
    create(world, paid(world, "carol"));
    EXPECT_EQ(world.last_code, Errc{}) << "a suspended session costs nothing: " << world.last_message;
    world.run(world.engine().resume(plain.id, world.call()));
    EXPECT_EQ(world.last_code, Errc::budget_exceeded);
}

TEST(MoneyPerMonth, IsWhatHasAccruedAndWhatIsReservedUntilTheTtl) {
    SimulatedWorld world(8, {}, {{S::user, "*", R::money_per_month, 10'000'000}});
    set_time(world, "2026-11-10T00:00:00Z");
    auto session = create(world, paid(world, "alice", 10h));
    EXPECT_EQ(month_in_use(world), "5.00") << "reserved to its ttl";
    world.run_for(5h);
    EXPECT_EQ(month_in_use(world), "5.00") << "what has accrued is no longer to come";
    end(world, session);
    auto line = line_of(world, S::user, "alice", R::money_per_month);
    EXPECT_GE(line.in_use, 2'500'000);
    EXPECT_LT(line.in_use, 2'502'000) << "what it has cost, to the second, and nothing else";
    EXPECT_EQ(line.spent, line.in_use);
    EXPECT_EQ(line.holder_count, 0u);
    EXPECT_EQ(line.currency, "USD");
    world.open();
    EXPECT_EQ(line_of(world, S::user, "alice", R::money_per_month), line) << "the next owner counts the same";
}

TEST(MoneyPerMonth, IsReservedNoFurtherThanTheMonthsEndAndTurnsWithIt) {
    SimulatedWorld world(9, {}, {{S::user, "*", R::money_per_month, 100'000'000}});
    set_time(world, "2026-11-30T12:00:00Z");
    auto session = create(world, paid(world, "alice", 24h));
    EXPECT_EQ(month_in_use(world), "6.00") << "twelve of its hours are this month's";
    set_time(world, "2026-12-01T06:00:00Z");
    EXPECT_EQ(month_in_use(world), "6.00") << "the other twelve are the next one's";
    world.open();
    EXPECT_EQ(month_in_use(world), "6.00");
    set_time(world, "2026-12-01T10:00:00Z");
    end(world, session);
    EXPECT_THAT(month_in_use(world), testing::StartsWith("5.00"));
    set_time(world, "2027-01-01T00:00:00Z");
    std::vector<UsageLine> lines;
    world.run(world.engine().usage(), &lines);
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_EQ(lines[0].in_use, 0) << "a new month, and nobody there";
    set_time(world, "2026-11-30T13:00:00Z");
    EXPECT_EQ(month_in_use(world), "6.00") << "a clock that is set back finds the old month as it was";
}

TEST(MoneyPerMonth, ADenialTellsWhatEndedSessionsHaveSpentAndWhenTheMonthTurns) {
    SimulatedWorld world(10, {}, {{S::user, "alice", R::money_per_month, 3'000'000}});
    set_time(world, "2026-11-10T00:00:00Z");
    auto first = create(world, paid(world, "alice", 4h));
    world.run_for(3h);
    end(world, first);
    auto second = create(world, paid(world, "alice", 2h));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    create(world, paid(world, "alice", 2h));
    EXPECT_EQ(world.last_code, Errc::budget_exceeded);
    EXPECT_THAT(world.last_message, HasSubstr("the money_per_month limit of user 'alice' is 3.00 USD: 2.50"));
    EXPECT_THAT(world.last_message, HasSubstr(" USD in use, 1.00 USD requested; held by " + second.id + "; 1.50"));
    EXPECT_THAT(world.last_message, HasSubstr(" USD of it spent by sessions that have ended"));
    EXPECT_THAT(world.last_message, HasSubstr("what would help: a shorter ttl, or suspend or end it, or wait until "
                                              "2026-12-01, or a higher limit"));
    EXPECT_EQ(world.last_context.at("currency"), "USD");
    EXPECT_EQ(world.last_context.at("renews_at"), "2026-12-01T00:00:00.000000000Z");
    EXPECT_EQ(world.last_context.at("holders"), second.id);
    create(world, paid(world, "alice", 30min));
    EXPECT_EQ(world.last_code, Errc{}) << "a shorter ttl did help: " << world.last_message;
}

TEST(MoneyPerMonth, RefusesAnExtensionThatItDoesNotAllowAndMovesNothing) {
    SimulatedWorld world(11, {}, {{S::user, "*", R::money_per_month, 1'000'000}});
    auto session = create(world, paid(world, "alice", 1h));
    world.run(world.engine().extend(session.id, 2h, world.call()));
    EXPECT_EQ(world.last_code, Errc::budget_exceeded);
    Session after;
    world.run(world.engine().get(session.id), &after);
    EXPECT_EQ(after.expires_at, session.expires_at);
    EXPECT_EQ(month_in_use(world), "0.50");
    world.run(world.engine().extend(session.id, 1h, world.call()));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    EXPECT_EQ(month_in_use(world), "1.00");
}

TEST(MoneyPerMonth, ARefusedResumeLeavesTheSessionAsItWas) {
    SimulatedWorld world(12, {}, {{S::user, "*", R::money_per_month, 1'200'000}});
    auto first = create(world, paid(world, "alice", 2h));
    rest(world, first);
    create(world, paid(world, "alice", 2h));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    auto before = month_in_use(world);
    world.run(world.engine().resume(first.id, world.call()));
    EXPECT_EQ(world.last_code, Errc::budget_exceeded);
    EXPECT_EQ(month_in_use(world), before);
    Session after;
    world.run(world.engine().get(first.id), &after);
    EXPECT_EQ(after.state, SessionState::suspended);
    end(world, first);
}

TEST(MoneyPerMonth, ASessionOverItsBudgetCanAlwaysBeEnded) {
    SimulatedWorld world(13, {}, {{S::user, "*", R::money_per_month, 600'000}});
    auto request = paid(world, "alice", 1h);
    request.on_expiry[ClockKind::ttl] = OnExpiry::disconnect;
    create(world, request);
    EXPECT_EQ(world.last_code, Errc::budget_exceeded) << "a ttl that only disconnects reserves the whole month";
    request.on_expiry.clear();
    auto session = create(world, request);
    world.adjust = [](SessionEngineOptions& options) {
        options.limits = {{S::user, "*", R::money_per_month, 1}, {S::user, "*", R::money_per_hour, 1}};
    };
    world.open();
    rest(world, session);
    end(world, session);
}

TEST(Admission, ASuspendedSessionCanBeEndedWhenWhatItGaveBackIsTaken) {
    SimulatedWorld world(17, {}, {{S::host, "", R::cpu, 1000}});
    auto first = create(world, paid(world, "alice"));
    rest(world, first);
    create(world, paid(world, "bob"));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    end(world, first);
    EXPECT_EQ(line_of(world, S::host, "", R::cpu).in_use, 1000);
}

TEST(MoneyPerHour, WarmUnitsCountForTheHostAndAClaimMovesNothing) {
    Pool pool;
    pool.name = "desks";
    pool.template_name = "paid";
    pool.min = pool.max = 2;
    SimulatedWorld world(14, {}, {{S::host, "", R::money_per_hour, 1'000'000}, {S::user, "*", R::money_per_hour, 1}},
                         {pool});
    PoolStatus status;
    world.run(world.engine().wait_pool("desks", world.call()), &status);
    EXPECT_EQ(status.ready, 2u);
    auto line = line_of(world, S::host, "", R::money_per_hour);
    EXPECT_EQ(line.in_use, 1'000'000);
    EXPECT_EQ(line.warm, 1'000'000);
    create(world, paid(world, "alice"));
    EXPECT_EQ(world.last_code, Errc::budget_exceeded) << "a user pays for his session, not for units";
    world.adjust = [](SessionEngineOptions& options) {
        options.limits = {{S::host, "", R::money_per_hour, 1'000'000}, {S::user, "*", R::money_per_hour, 500'000}};
    };
    world.open();
    auto session = create(world, paid(world, "alice"));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    EXPECT_EQ(session.pool, "desks");
    EXPECT_EQ(line_of(world, S::host, "", R::money_per_hour).in_use, 1'000'000);
    EXPECT_EQ(line_of(world, S::host, "", R::money_per_hour).warm, 500'000);
    EXPECT_EQ(line_of(world, S::user, "alice", R::money_per_hour).in_use, 500'000);
}

TEST(MoneyPerMonth, APriceThatChangesIsThatOfNewSessions) {
    SimulatedWorld world(15, {}, {{S::user, "*", R::money_per_hour, 100'000'000}});
    create(world, paid(world));
    world.adjust = [](SessionEngineOptions& options) {
        options.templates.at("paid").price_per_hour_micros = 7'000'000;
        options.currency = "EUR";
    };
    world.open();
    create(world, paid(world));
    auto line = line_of(world, S::user, "alice", R::money_per_hour);
    EXPECT_EQ(line.in_use, 7'500'000);
    EXPECT_EQ(line.currency, "EUR");
}

/// As the last release wrote it.
void age(json& document, const std::string& kind) {
    for (const char* key : {"tenant", "cost", "price_per_hour", "gpu_type"})
        if (kind != "reservation" || std::string(key) != "tenant") document.erase(key);
    if (auto resources = document.find("resources"); resources != document.end()) {
        resources->erase("gpu_count");
        resources->erase("gpu_type");
    }
}

TEST(OldRecords, AStoreOfAnEarlierReleaseOpensAndItsSessionsCostNothing) {
    Pool pool;
    pool.name = "desks";
    pool.template_name = "tiny";
    SimulatedWorld world(16, {}, {{S::user, "*", R::money_per_month, 1'000'000}, {S::host, "", R::sessions, 9}},
                         {pool});
    auto active = create(world, world.request("alice"));
    auto suspended = create(world, world.request("alice"));
    rest(world, suspended);
    Snapshot snapshot;
    world.run(world.engine().snapshot(active.id, "a name", world.call()), &snapshot);
    auto ended = create(world, world.request("alice"));
    end(world, ended);
    world.run(world.engine().wait_pool("desks", world.call()));
    world.kill_owner();
    VirtualRuntime outside;
    std::size_t aged = 0;
    for (const char* kind : {"session", "snapshot", "pool_unit", "reservation"})
        for (const auto& record : outside.run(world.disk().list(kind, "", 1000))) {
            auto document = json::parse(record.json);
            age(document, kind);
            EXPECT_NE(document, json::parse(record.json)) << kind;
            Batch batch;
            batch.puts.push_back({kind, record.id, document.dump(), std::nullopt});
            outside.run(world.disk().commit(batch));
            ++aged;
        }
    EXPECT_GE(aged, 9u);
    ASSERT_TRUE(world.open());
    world.run(world.engine().resume(suspended.id, world.call()));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    create(world, paid(world, "alice"));
    EXPECT_EQ(world.last_code, Errc{}) << world.last_message;
    EXPECT_EQ(month_in_use(world), "0.50");
    world.run_for(1min);
    EXPECT_THAT(world.faults({active.id, suspended.id, ended.id}), IsEmpty());
}

TEST(MoneyProperty, TheAccountIsThatOfTheNaiveModelOverJumpsMonthTurnsAndDeaths) {
    std::size_t deaths = 0, turns = 0, compared = 0, ended = 0;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        MoneyStory story(seed);
        ASSERT_THAT(story.run(40), IsEmpty()) << "seed " << seed;
        deaths += story.deaths();
        turns += story.month_turns();
        compared += story.compared();
        ended += story.ended();
    }
    EXPECT_GT(deaths, 150u);
    EXPECT_GT(turns, 40u);
    EXPECT_GT(ended, 40u);
    EXPECT_GT(compared, 10'000u);
}

}  // namespace
}  // namespace infrastructure_sdk
