// Webhooks on a virtual clock: receivers that fail in every way, and owners that die at every point between two writes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "core/seeded_random.hpp"
#include "support/crash_points.hpp"
#include "support/fake_transport.hpp"
#include "webhooks/delivery_rules.hpp"
#include <infrastructure_sdk/virtual_runtime.hpp>
#include <infrastructure_sdk/webhooks/webhook_engine.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using test::FakeAnswer;
using test::FakeReceivers;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;
using namespace std::chrono_literals;

Webhook webhook_named(const std::string& name) {
    Webhook webhook;
    webhook.name = name;
    webhook.url = "https://" + name + ".example/hook?token=hunter2";
    webhook.secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    return webhook;
}

/// Fails so many commits, as a full disk does.
class FullDisk final : public Store {
public:
    explicit FullDisk(std::shared_ptr<Store> inner) : inner_(std::move(inner)) {}
    int failures = 0;
    Task<CommitResult> commit(Batch batch) override {
        if (failures > 0) {
            --failures;
            throw Error(Errc::store, "the disk is full");
        }
        co_return co_await inner_->commit(std::move(batch));
    }
    Task<std::optional<Record>> get(std::string kind, std::string id) override {
        return inner_->get(std::move(kind), std::move(id));
    }
    Task<std::vector<Record>> list(std::string kind, std::string after, std::size_t limit) override {
        return inner_->list(std::move(kind), std::move(after), limit);
    }
    Task<std::vector<Event>> events(EventQuery query) override { return inner_->events(std::move(query)); }
    void close() override {}

private:
    std::shared_ptr<Store> inner_;
};

/// A store and receivers that outlive the owners of a webhook engine.
class World {
public:
    explicit World(std::vector<std::string> names = {"ops"}, std::uint64_t seed = 1) : seed_(seed) {
        for (const auto& name : names) options.webhooks.push_back(webhook_named(name));
        VirtualRuntime scratch;
        memory_ = make_memory_store(scratch.environment());
        disk = std::make_shared<FullDisk>(memory_);
    }
    ~World() { kill(); }

    /// A new owner. False = it died while it began.
    bool open() {
        kill();
        VirtualRuntimeOptions runtime_options;
        runtime_options.seed = seed_ * 1000 + ++owners_;
        runtime_options.start = wall_;
        runtime = std::make_unique<VirtualRuntime>(runtime_options);
        auto die = [this] { runtime->halt(); };
        points = std::make_shared<test::CrashPoints>(die);
        points->arm(std::exchange(dies_at, 0));
        written_ = std::make_unique<Signal>(runtime->environment().executor);
        auto store = with_crash_points(disk, points);
        options.next_events = [this, store](EventQuery query, Call call) { return wait(this, store, query, call); };
        options.make_transport = [this](const std::string&) { return receivers.transport(runtime->environment()); };
        engine = std::make_unique<WebhookEngine>(runtime->environment(), store, options);
        return run(engine->start());
    }
    void kill() {
        if (!runtime) return;
        wall_ = runtime->environment().clock->wall_now();
        runtime->halt();
        engine.reset();
        runtime.reset();
        receivers.under_way = 0;
    }
    void close() {
        run(engine->close());
        engine.reset();
    }
    /// False = the owner died.
    bool run(Task<void> task) {
        try {
            runtime->run(std::move(task));
        } catch (const Error&) {
            if (!points->dead()) throw;
            return false;
        }
        return true;
    }
    void run_for(Duration length) { runtime->run_for(length); }

    /// What others write into the log.
    void happen(const std::string& subject, const std::string& type = "session.lifecycle.ready", int times = 1) {
        Batch batch;
        auto now = runtime ? runtime->environment().clock->wall_now() : wall_;
        for (int i = 0; i < times; ++i) batch.events.push_back({0, now, type, subject, "x-1", "", R"({"n":1})"});
        VirtualRuntime writer;
        writer.run(memory_->commit(std::move(batch)));
        if (written_ && runtime) written_->notify_all();
    }

    std::vector<Delivery> deliveries(std::optional<DeliveryState> state = {}) {
        DeliveryFilter filter;
        filter.state = state;
        filter.limit = 1'000'000;
        VirtualRuntime reader;
        WebhookEngine table(reader.environment(), memory_, {});
        return reader.run(table.deliveries(filter));
    }
    std::vector<std::string> ids_seen(const std::string& host = "") const {
        std::vector<std::string> ids;
        for (const auto& request : receivers.seen)
            if (request.url.starts_with("https://" + host)) ids.push_back(*request.headers.find("webhook-id"));
        return ids;
    }
    WebhookStatus status(std::size_t index = 0) { return runtime->run(engine->list()).at(index); }
    Call call() { return {Deadline::after(*runtime->environment().clock, 1min)}; }

    WebhookEngineOptions options;
    FakeReceivers receivers;
    std::shared_ptr<FullDisk> disk;
    std::unique_ptr<VirtualRuntime> runtime;
    test::CrashPointsPtr points;
    std::unique_ptr<WebhookEngine> engine;
    std::size_t dies_at = 0;

private:
    static Task<std::vector<Event>> wait(World* world, std::shared_ptr<Store> store, EventQuery query, Call call) {
        for (;;) {
            auto found = co_await store->events(query);
            if (!found.empty()) co_return found;
            check(call, *world->runtime->environment().clock, "waiting for events");
            co_await world->written_->wait(*world->runtime->environment().clock, call);
        }
    }

    std::uint64_t seed_, owners_ = 0;
    WallTime wall_ = VirtualRuntimeOptions().start;
    std::shared_ptr<Store> memory_;
    std::unique_ptr<Signal> written_;
};

FakeAnswer status_answer(int status, HttpHeaders headers = {}) {
    FakeAnswer answer;
    answer.status = status;
    answer.headers = std::move(headers);
    return answer;
}

TEST(WebhookEngine, SendsEachEventOnceAndSigned) {
    World world;
    world.open();
    world.happen("s-1", "session.lifecycle.created");
    world.happen("s-2", "session.lifecycle.ready");
    world.run_for(1s);
    ASSERT_THAT(world.receivers.seen, SizeIs(2));
    const auto& request = world.receivers.seen[0];
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.url, "https://ops.example/hook?token=hunter2");
    EXPECT_EQ(request.headers.find("content-type"), "application/json");
    EXPECT_THAT(*request.headers.find("user-agent"), StartsWith("infrastructure-sdk/"));
    EXPECT_TRUE(request.repeatable);
    auto body = json::parse(request.body);
    EXPECT_EQ(body["type"], "session.lifecycle.created");
    EXPECT_EQ(body["session_id"], "s-1");
    EXPECT_EQ(body["sequence"], 1);
    EXPECT_EQ(body["id"], *request.headers.find("webhook-id"));
    auto at = std::stoll(*request.headers.find("webhook-timestamp"));
    EXPECT_EQ(request.headers.find("webhook-signature"),
              webhook_signature(world.options.webhooks[0], body["id"], at, request.body));
    world.run_for(48h);
    EXPECT_THAT(world.receivers.seen, SizeIs(2));
    EXPECT_THAT(world.deliveries(DeliveryState::delivered), SizeIs(2));
    EXPECT_THAT(world.deliveries(), SizeIs(2));
    auto status = world.status();
    EXPECT_EQ(status.delivered, 2u);
    EXPECT_EQ(status.pending, 0u);
    EXPECT_EQ(status.cursor, 2u);
    EXPECT_EQ(status.url, "https://ops.example/hook?***");
    EXPECT_EQ(json(status).dump().find("hunter2"), std::string::npos);
}

TEST(WebhookEngine, SendsWhatIsAskedForOnly) {
    World world;
    world.options.webhooks[0].events = {"session.lifecycle.ready", "vm.*"};
    world.open();
    for (const char* type : {"session.lifecycle.created", "session.lifecycle.ready", "vm.lost", "vmx.y"})
        world.happen("s-1", type);
    world.run_for(1s);
    EXPECT_THAT(world.ids_seen(), SizeIs(2));
    EXPECT_EQ(world.status().cursor, 4u);
}

TEST(WebhookEngine, ANewWebhookBeginsWithThePresentAndAKnownOneWhereItWas) {
    World world({"ops"});
    world.happen("s-1", "old", 2500);
    world.open();
    world.happen("s-1");
    world.run_for(1s);
    EXPECT_THAT(world.ids_seen("ops"), SizeIs(1));
    world.close();
    auto ops = world.options.webhooks[0];
    // Out of the file, and back.
    world.options.webhooks = {webhook_named("audit")};
    world.open();
    world.happen("s-2");
    world.run_for(1s);
    world.close();
    world.options.webhooks = {webhook_named("audit"), ops};
    world.open();
    world.run_for(1s);
    EXPECT_THAT(world.ids_seen("ops"), SizeIs(2));
    EXPECT_THAT(world.ids_seen("audit"), SizeIs(1));
}

TEST(WebhookEngine, TriesAgainLaterAndLaterAndGivesUp) {
    World world;
    world.options.webhooks[0].max_attempts = 3;
    world.receivers.answer = [](const HttpRequest&) { return status_answer(500); };
    world.open();
    world.happen("s-1");
    world.run_for(1s);
    ASSERT_THAT(world.deliveries(DeliveryState::pending), SizeIs(1));
    auto waiting = world.deliveries()[0];
    EXPECT_EQ(waiting.attempts, 1);
    EXPECT_EQ(waiting.last_status, 500);
    EXPECT_EQ(waiting.last_error, "HTTP 500");
    EXPECT_GE(waiting.due_at - *waiting.last_attempt_at, 2500ms);
    EXPECT_LE(waiting.due_at - *waiting.last_attempt_at, 5s);
    EXPECT_THAT(world.ids_seen(), SizeIs(1));
    world.run_for(5s);
    EXPECT_THAT(world.ids_seen(), SizeIs(2));
    world.run_for(20s);
    EXPECT_THAT(world.ids_seen(), SizeIs(3));
    world.run_for(100h);
    EXPECT_THAT(world.ids_seen(), SizeIs(3));
    auto ids = world.ids_seen();
    EXPECT_THAT(std::set<std::string>(ids.begin(), ids.end()), SizeIs(1));
    EXPECT_THAT(world.deliveries(DeliveryState::dead), SizeIs(1));
    EXPECT_EQ(world.status().dead, 1u);
    // Every attempt was signed for its own time.
    EXPECT_NE(world.receivers.seen[0].headers.find("webhook-timestamp"),
              world.receivers.seen[2].headers.find("webhook-timestamp"));
}

TEST(WebhookEngine, ABrokenConnectionAndASilentReceiverAreFailures) {
    World world;
    world.options.webhooks[0].timeout = 3s;
    int calls = 0;
    world.receivers.answer = [&](const HttpRequest&) {
        FakeAnswer answer = status_answer(++calls == 1 ? 0 : 200);
        answer.never = calls == 2;
        return answer;
    };
    world.open();
    world.happen("s-1");
    world.run_for(1s);
    EXPECT_THAT(world.deliveries()[0].last_error, HasSubstr("broken pipe"));
    world.run_for(9s);
    EXPECT_THAT(world.deliveries()[0].last_error, HasSubstr("out of time"));
    world.run_for(1min);
    EXPECT_EQ(world.deliveries()[0].state, DeliveryState::delivered);
    EXPECT_EQ(world.deliveries()[0].attempts, 3);
}

TEST(WebhookEngine, ASlowReceiverHoldsUpNoOther) {
    World world({"slow", "quick"});
    world.receivers.answer = [](const HttpRequest& request) {
        FakeAnswer answer;
        answer.never = request.url.starts_with("https://slow");
        return answer;
    };
    world.open();
    for (int i = 0; i < 50; ++i) world.happen("s-" + std::to_string(i));
    world.run_for(1ms);
    EXPECT_THAT(world.ids_seen("quick"), SizeIs(50));
    EXPECT_THAT(world.ids_seen("slow"), SizeIs(4)) << "so many at once and no more";
}

TEST(WebhookEngine, EventsOfOneSessionAreFirstTriedInOrder) {
    World world;
    world.receivers.answer = [](const HttpRequest&) {
        FakeAnswer answer;
        answer.after = 100ms;
        return answer;
    };
    world.open();
    for (int i = 0; i < 10; ++i) world.happen("s-1");
    world.run_for(150ms);
    EXPECT_EQ(world.receivers.most_under_way, 1u);
    world.run_for(1min);
    std::vector<std::uint64_t> sequences;
    for (const auto& request : world.receivers.seen) sequences.push_back(json::parse(request.body)["sequence"]);
    EXPECT_THAT(sequences, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
    for (int i = 0; i < 10; ++i) world.happen("s-" + std::to_string(i));
    world.run_for(1min);
    EXPECT_EQ(world.receivers.most_under_way, 4u);
}

TEST(WebhookEngine, GoneDisablesUntilATestSucceeds) {
    World world;
    bool gone = true;
    world.receivers.answer = [&](const HttpRequest&) { return status_answer(gone ? 410 : 200); };
    world.open();
    world.happen("s-1");
    world.run_for(1s);
    EXPECT_TRUE(world.status().disabled_at);
    EXPECT_THAT(world.status().disabled_reason, HasSubstr("410"));
    world.happen("s-2");
    world.run_for(48h);
    EXPECT_THAT(world.ids_seen(), SizeIs(1));
    // Also after a restart.
    world.kill();
    world.open();
    world.happen("s-3");
    world.run_for(48h);
    EXPECT_THAT(world.ids_seen(), SizeIs(1));
    EXPECT_EQ(world.runtime->run(world.engine->test("ops", world.call())).state, DeliveryState::dead);
    EXPECT_TRUE(world.status().disabled_at);
    gone = false;
    EXPECT_EQ(world.runtime->run(world.engine->test("ops", world.call())).state, DeliveryState::delivered);
    EXPECT_FALSE(world.status().disabled_at);
    world.run_for(1s);
    EXPECT_THAT(world.ids_seen(), SizeIs(1 + 2 + 2)) << "what it missed comes now";
}

TEST(WebhookEngine, AnotherAddressIsAnotherReceiver) {
    World world;
    world.receivers.answer = [](const HttpRequest& request) {
        return status_answer(request.url.find("new") == std::string::npos ? 410 : 200);
    };
    world.open();
    world.happen("s-1");
    world.run_for(1s);
    world.close();
    world.options.webhooks[0].url = "https://new.example/";
    world.open();
    EXPECT_FALSE(world.status().disabled_at);
    world.happen("s-2");
    world.run_for(1s);
    EXPECT_THAT(world.ids_seen("new"), SizeIs(1));
}

TEST(WebhookEngine, KeepsQuietAsLongAsTheReceiverAsks) {
    World world;
    bool busy = true;
    world.receivers.answer = [&](const HttpRequest&) {
        return busy ? status_answer(429, {{"Retry-After", "600"}}) : status_answer(200);
    };
    world.open();
    world.happen("s-1");
    world.run_for(1s);
    busy = false;
    world.happen("s-2");
    world.run_for(598s);
    EXPECT_THAT(world.ids_seen(), SizeIs(1));
    world.run_for(3s);
    EXPECT_THAT(world.ids_seen(), SizeIs(3));
    EXPECT_THAT(world.deliveries(DeliveryState::delivered), SizeIs(2));
}

TEST(WebhookEngine, AWallClockThatIsSetForwardIsNoticedWithinAMinute) {
    World world;
    int calls = 0;
    world.receivers.answer = [&](const HttpRequest&) {
        return ++calls == 1 ? status_answer(503, {{"Retry-After", "36000"}}) : status_answer(200);
    };
    world.open();
    world.happen("s-1");
    world.run_for(1s);
    world.runtime->set_wall_time(world.runtime->environment().clock->wall_now() + 24h);
    world.run_for(1min);
    EXPECT_EQ(world.deliveries()[0].state, DeliveryState::delivered);
}

TEST(WebhookEngine, AWallClockThatIsSetBackHoldsUpNothing) {
    World world;
    int calls = 0;
    world.receivers.answer = [&](const HttpRequest&) { return status_answer(++calls == 1 ? 500 : 200); };
    world.open();
    world.happen("s-1");
    world.run_for(1s);
    world.runtime->set_wall_time(world.runtime->environment().clock->wall_now() - 24h * 365);
    world.run_for(1min);
    EXPECT_EQ(world.deliveries()[0].state, DeliveryState::delivered);
}

TEST(WebhookEngine, KeepsSoManyFinishedDeliveries) {
    World world({"ops", "audit"});
    world.options.kept = 5;
    world.open();
    for (int i = 0; i < 20; ++i) {
        world.happen("s-" + std::to_string(i));
        world.run_for(1s);
    }
    EXPECT_THAT(world.deliveries(), SizeIs(10));
    for (const auto& delivery : world.deliveries()) EXPECT_GT(delivery.sequence, 15u);
    // Also when they come from an earlier owner.
    world.kill();
    world.open();
    world.happen("s-x");
    world.run_for(1s);
    EXPECT_THAT(world.deliveries(), SizeIs(10));
    EXPECT_EQ(world.status().delivered, 5u);
}

TEST(WebhookEngine, WaitsWithTheLogWhenTooMuchIsPending) {
    World world({"ops"});
    world.options.most_pending = 3;
    bool down = true;
    world.receivers.answer = [&](const HttpRequest&) { return status_answer(down ? 500 : 200); };
    world.open();
    for (int i = 0; i < 600; ++i) world.happen("s-" + std::to_string(i));
    world.run_for(1min);
    EXPECT_LT(world.status().cursor, 600u);
    EXPECT_LE(world.status().pending, 3u + 256u);
    down = false;
    world.run_for(1h);
    EXPECT_EQ(world.status().cursor, 600u);
    auto ids = world.ids_seen();
    EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 600u);
    EXPECT_EQ(world.status().pending, 0u);
}

TEST(WebhookEngine, RedeliversUnderTheSameId) {
    World world;
    world.options.webhooks[0].max_attempts = 1;
    bool down = true;
    world.receivers.answer = [&](const HttpRequest&) { return status_answer(down ? 500 : 200); };
    world.open();
    world.happen("s-1");
    world.run_for(1s);
    auto dead = world.deliveries()[0];
    EXPECT_EQ(dead.state, DeliveryState::dead);
    down = false;
    auto again = world.runtime->run(world.engine->redeliver(dead.id));
    EXPECT_EQ(again.state, DeliveryState::pending);
    EXPECT_EQ(again.attempts, 0);
    world.run_for(1s);
    EXPECT_THAT(world.ids_seen(), ElementsAre(dead.id, dead.id));
    EXPECT_EQ(world.deliveries()[0].state, DeliveryState::delivered);
    EXPECT_EQ(world.status().dead, 0u);
    EXPECT_EQ(world.status().delivered, 1u);
    for (const char* unknown : {"msg_no", ""}) try {
            world.runtime->run(world.engine->redeliver(unknown));
            ADD_FAILURE();
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::not_found);
        }
}

TEST(WebhookEngine, RedeliversAtOnceWhatWaitsAndLeavesAloneWhatIsUnderWay) {
    World world;
    int calls = 0;
    world.receivers.answer = [&](const HttpRequest&) {
        auto answer = status_answer(++calls == 1 ? 500 : 200);
        answer.after = 1s;
        return answer;
    };
    world.open();
    world.happen("s-1");
    world.run_for(500ms);
    auto id = world.ids_seen().at(0);
    world.runtime->run(world.engine->redeliver(id));
    world.run_for(1s);
    EXPECT_THAT(world.ids_seen(), SizeIs(1));
    world.runtime->run(world.engine->redeliver(id));
    world.run_for(1100ms);
    EXPECT_THAT(world.ids_seen(), SizeIs(2));
    EXPECT_EQ(world.deliveries()[0].state, DeliveryState::delivered);
    world.run_for(48h);
    EXPECT_THAT(world.ids_seen(), SizeIs(2));
}

TEST(WebhookEngine, ATestTellsItsOutcome) {
    World world;
    world.open();
    auto good = world.runtime->run(world.engine->test("ops", world.call()));
    EXPECT_EQ(good.state, DeliveryState::delivered);
    EXPECT_EQ(good.event_type, "webhook.test");
    EXPECT_EQ(json::parse(world.receivers.seen[0].body)["id"], good.id);
    EXPECT_EQ(json::parse(world.receivers.seen[0].body)["type"], "webhook.test");
    world.receivers.answer = [](const HttpRequest&) { return status_answer(401); };
    auto bad = world.runtime->run(world.engine->test("ops", world.call()));
    EXPECT_EQ(bad.state, DeliveryState::dead);
    EXPECT_EQ(bad.last_error, "HTTP 401");
    EXPECT_NE(bad.id, good.id);
    world.run_for(48h);
    EXPECT_THAT(world.receivers.seen, SizeIs(2)) << "a test is not tried again";
    try {
        world.runtime->run(world.engine->test("opps", world.call()));
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::not_found);
        EXPECT_THAT(error.message(), HasSubstr("did you mean 'ops'"));
    }
}

TEST(WebhookEngine, CloseDeliversWhatIsDueAndWaitsForNobodyLong) {
    World world({"quick", "silent"});
    world.receivers.answer = [](const HttpRequest& request) {
        FakeAnswer answer;
        answer.never = request.url.starts_with("https://silent");
        return answer;
    };
    world.open();
    world.happen("s-1");
    auto before = world.runtime->environment().clock->monotonic_now();
    world.close();
    EXPECT_LE(world.runtime->environment().clock->monotonic_now() - before, 2s);
    EXPECT_THAT(world.ids_seen("quick"), SizeIs(1));
    EXPECT_THAT(world.deliveries(DeliveryState::pending), SizeIs(1));
    EXPECT_EQ(world.deliveries(DeliveryState::pending)[0].attempts, 0);
    world.receivers.answer = [](const HttpRequest&) { return FakeAnswer(); };
    world.open();
    world.run_for(10s);
    EXPECT_THAT(world.ids_seen("silent"), SizeIs(2));
    EXPECT_THAT(world.ids_seen("quick"), SizeIs(1));
    EXPECT_THAT(world.deliveries(DeliveryState::pending), IsEmpty());
    before = world.runtime->environment().clock->monotonic_now();
    world.close();
    EXPECT_EQ(world.runtime->environment().clock->monotonic_now(), before) << "nothing is due: at once";
}

TEST(WebhookEngine, AFullDiskDelaysAndLosesNothing) {
    World world;
    world.open();
    world.disk->failures = 1;  // the delivery is not recorded
    world.happen("s-1");
    world.run_for(1s);
    EXPECT_THAT(world.ids_seen(), IsEmpty()) << "nothing is sent that is not recorded";
    world.run_for(10s);
    EXPECT_THAT(world.ids_seen(), SizeIs(1));
    world.receivers.answer = [&](const HttpRequest&) {
        world.disk->failures = 1;  // the outcome is not
        world.receivers.answer = [](const HttpRequest&) { return FakeAnswer(); };
        return FakeAnswer();
    };
    world.happen("s-2");
    world.run_for(1min);
    EXPECT_THAT(world.ids_seen(), SizeIs(3));
    EXPECT_EQ(world.ids_seen()[1], world.ids_seen()[2]);
    EXPECT_THAT(world.deliveries(DeliveryState::delivered), SizeIs(2));
}

/// Every event was sent to everyone under one id of its own, and is recorded as delivered.
void expect_all_delivered(World& world, std::size_t events) {
    for (const auto& webhook : world.options.webhooks) {
        std::map<std::uint64_t, std::set<std::string>> ids;
        for (const auto& request : world.receivers.seen)
            if (request.url == webhook.url)
                ids[json::parse(request.body)["sequence"]].insert(*request.headers.find("webhook-id"));
        EXPECT_THAT(ids, SizeIs(events)) << webhook.name;
        for (const auto& [sequence, names] : ids) EXPECT_THAT(names, SizeIs(1)) << sequence;
    }
    auto expected = events * world.options.webhooks.size();
    EXPECT_EQ(world.deliveries(DeliveryState::delivered).size(), expected);
    EXPECT_EQ(world.deliveries().size(), expected);
}

TEST(WebhookEngine, LosesNothingWhereverItsOwnerDies) {
    std::size_t deaths = 0;
    for (std::size_t point = 1;; ++point) {
        World world({"ops", "audit"});
        int calls = 0;
        world.receivers.answer = [&](const HttpRequest&) { return status_answer(++calls % 3 == 0 ? 500 : 200); };
        world.open();
        world.points->arm(point);
        for (int i = 0; i < 4; ++i) {
            world.happen("s-" + std::to_string(i % 2));
            world.run_for(1s);
        }
        world.run_for(10min);
        bool died = world.points->dead();
        deaths += died;
        world.open();
        world.run_for(10min);
        expect_all_delivered(world, 4);
        if (!died) break;
    }
    EXPECT_GE(deaths, 20u);
}

TEST(WebhookEngine, DeliversEverythingInAnyStory) {
    for (std::uint64_t seed = 1; seed <= 25; ++seed) {
        SeededRandom random(seed);
        World world({"ops", "audit", "mail"}, seed);
        for (auto& webhook : world.options.webhooks) webhook.max_attempts = 100;
        world.receivers.answer = [&](const HttpRequest&) {
            const int statuses[] = {200, 200, 200, 500, 429, 0, 302};
            auto answer = status_answer(statuses[random.below(7)], {{"Retry-After", "7"}});
            answer.after = std::chrono::milliseconds(random.below(3000));
            answer.never = random.below(10) == 0;
            return answer;
        };
        ASSERT_TRUE(world.open());
        std::size_t events = 0;
        for (int step = 0; step < 40; ++step) {
            if (random.below(5) == 0) {
                world.dies_at = 1 + random.below(30);
                while (!world.open()) {
                }
            }
            for (auto i = random.below(3); i > 0; --i, ++events) world.happen("s-" + std::to_string(random.below(3)));
            world.run_for(std::chrono::milliseconds(random.below(10'000)));
            if (world.points->dead())
                while (!world.open()) {
                }
        }
        world.receivers.answer = [](const HttpRequest&) { return FakeAnswer(); };
        world.run_for(200h);
        if (world.points->dead()) {
            world.open();
            world.run_for(200h);
        }
        expect_all_delivered(world, events);
        if (HasFailure()) FAIL() << "seed " << seed;
    }
}

}  // namespace
}  // namespace infrastructure_sdk
