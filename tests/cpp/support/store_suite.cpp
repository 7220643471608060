#include "support/store_suite.hpp"

#include <map>
#include <random>

#include <gmock/gmock.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_future.hpp>

namespace infrastructure_sdk::test {

// Linked into every test program; some have no store.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(StoreSuite);

using testing::ElementsAre;
using testing::IsEmpty;

Put put(std::string id, std::string json, std::optional<std::uint64_t> expected_version, std::string kind) {
    return {std::move(kind), std::move(id), std::move(json), expected_version};
}

Batch batch_of(std::vector<Put> puts) {
    Batch batch;
    batch.puts = std::move(puts);
    return batch;
}

Event event(std::string subject, std::string type) {
    Event event;
    event.time = WallTime(std::chrono::nanoseconds(1'795'532'868'123'456'789));
    event.type = std::move(type);
    event.subject = std::move(subject);
    return event;
}

std::vector<std::string> ids(const std::vector<Record>& records) {
    std::vector<std::string> found;
    for (const auto& record : records) found.push_back(record.id);
    return found;
}

std::vector<std::uint64_t> sequences(const std::vector<Event>& events) {
    std::vector<std::uint64_t> found;
    for (const auto& event : events) found.push_back(event.sequence);
    return found;
}

TEST_P(StoreSuite, ReturnsWhatWasPut) {
    commit(batch_of({put("a", R"({"x":1})")}));
    auto record = get("session", "a");
    ASSERT_TRUE(record);
    EXPECT_EQ(record->kind, "session");
    EXPECT_EQ(record->id, "a");
    EXPECT_EQ(record->version, 1u);
    EXPECT_EQ(record->json, R"({"x":1})");
}

TEST_P(StoreSuite, ReturnsNothingForAnAbsentRecord) {
    commit(batch_of({put("a", "{}")}));
    EXPECT_FALSE(get("session", "b"));
    EXPECT_FALSE(get("intent", "a"));
}

TEST_P(StoreSuite, KeepsTextByteForByte) {
    using namespace std::string_literals;
    auto text = "{\"quote\":\"'; DROP TABLE records; --\",\"nul\":\"\0\",\"euro\":\"\xe2\x82\xac\"}"s;
    std::string id("a\0b", 3);
    commit(batch_of({put(id, text), put("a", "other"), put("empty", "")}));
    EXPECT_EQ(get("session", id)->json, text);
    EXPECT_EQ(get("session", "a")->json, "other");
    EXPECT_EQ(get("session", "empty")->json, "");
}

TEST_P(StoreSuite, CountsVersionsUpFromOne) {
    EXPECT_THAT(commit(batch_of({put("a", "1"), put("b", "1")})).versions, ElementsAre(1, 1));
    EXPECT_THAT(commit(batch_of({put("a", "2")})).versions, ElementsAre(2));
    EXPECT_THAT(commit(batch_of({put("b", "2"), put("a", "3")})).versions, ElementsAre(2, 3));
}

TEST_P(StoreSuite, LetsALaterPutOfOneBatchSeeAnEarlierOne) {
    EXPECT_THAT(commit(batch_of({put("a", "1", 0), put("a", "2", 1)})).versions, ElementsAre(1, 2));
    EXPECT_EQ(get("session", "a")->json, "2");
}

TEST_P(StoreSuite, RefusesToCreateWhatExists) {
    commit(batch_of({put("a", "1", 0)}));
    auto error = error_of([&] { commit(batch_of({put("a", "2", 0)})); });
    EXPECT_EQ(error.errc(), Errc::conflict);
    EXPECT_EQ(error.context().at("kind"), "session");
    EXPECT_EQ(error.context().at("id"), "a");
    EXPECT_EQ(error.context().at("version"), "1");
    EXPECT_EQ(get("session", "a")->json, "1");
}

TEST_P(StoreSuite, RefusesAStaleVersionAndTakesTheCurrentOne) {
    commit(batch_of({put("a", "1")}));
    commit(batch_of({put("a", "2")}));
    EXPECT_EQ(error_of([&] { commit(batch_of({put("a", "3", 1)})); }).errc(), Errc::conflict);
    EXPECT_EQ(error_of([&] { commit(batch_of({put("absent", "3", 1)})); }).errc(), Errc::conflict);
    EXPECT_THAT(commit(batch_of({put("a", "3", 2)})).versions, ElementsAre(3));
}

TEST_P(StoreSuite, WritesNothingOfABatchThatConflicts) {
    commit(batch_of({put("a", "1"), put("kept", "1")}));
    Batch batch = batch_of({put("new", "1"), put("a", "2", 7)});
    batch.erases = {{"session", "kept"}};
    batch.events = {event("a")};
    EXPECT_EQ(error_of([&] { commit(batch); }).errc(), Errc::conflict);
    EXPECT_FALSE(get("session", "new"));
    EXPECT_EQ(get("session", "a")->json, "1");
    EXPECT_TRUE(get("session", "kept"));
    EXPECT_THAT(events(), IsEmpty());
}

TEST_P(StoreSuite, ErasesAndStartsVersionsAgain) {
    commit(batch_of({put("a", "1")}));
    Batch batch;
    batch.erases = {{"session", "a"}, {"session", "never there"}};
    commit(batch);
    EXPECT_FALSE(get("session", "a"));
    EXPECT_THAT(commit(batch_of({put("a", "2", 0)})).versions, ElementsAre(1));
}

TEST_P(StoreSuite, ErasesAfterItPuts) {
    Batch batch = batch_of({put("a", "1")});
    batch.erases = {{"session", "a"}};
    EXPECT_THAT(commit(batch).versions, ElementsAre(1));
    EXPECT_FALSE(get("session", "a"));
}

TEST_P(StoreSuite, AcceptsAnEmptyBatch) {
    auto result = commit({});
    EXPECT_THAT(result.versions, IsEmpty());
    EXPECT_THAT(result.event_sequences, IsEmpty());
}

TEST_P(StoreSuite, ListsOneKindByIdInPages) {
    commit(batch_of({put("c", "3"), put("a", "1"), put("b", "2"), put("\xc3\xa9", "4"), put("B", "0"),
                     put("x", "", {}, "zone"), put("x", "", {}, "intent")}));
    EXPECT_THAT(ids(list("session")), ElementsAre("B", "a", "b", "c", "\xc3\xa9"));
    auto first = list("session", "", 2);
    EXPECT_THAT(ids(first), ElementsAre("B", "a"));
    auto second = list("session", first.back().id, 2);
    EXPECT_THAT(ids(second), ElementsAre("b", "c"));
    EXPECT_THAT(ids(list("session", second.back().id, 2)), ElementsAre("\xc3\xa9"));
    EXPECT_THAT(ids(list("session", "\xc3\xa9", 2)), IsEmpty());
    EXPECT_THAT(ids(list("session", "", 0)), IsEmpty());
    EXPECT_EQ(list("session", "", std::numeric_limits<std::size_t>::max()).size(), 5u);
    EXPECT_THAT(ids(list("nothing")), IsEmpty());
}

TEST_P(StoreSuite, KeepsEventsInOrderWithEveryField) {
    Event full = event("s1", "session.lifecycle.ready");
    full.execution_id = "e1";
    full.correlation_id = "c1";
    full.data = R"({"channel":"agent"})";
    Batch batch;
    batch.events = {full, event("s2")};
    EXPECT_THAT(commit(batch).event_sequences, ElementsAre(1, 2));
    auto found = events();
    ASSERT_EQ(found.size(), 2u);
    EXPECT_EQ(found[0].sequence, 1u);
    EXPECT_EQ(found[0].time, full.time);
    EXPECT_EQ(found[0].type, "session.lifecycle.ready");
    EXPECT_EQ(found[0].subject, "s1");
    EXPECT_EQ(found[0].execution_id, "e1");
    EXPECT_EQ(found[0].correlation_id, "c1");
    EXPECT_EQ(found[0].data, R"({"channel":"agent"})");
    EXPECT_EQ(found[1].data, "{}");
}

TEST_P(StoreSuite, FiltersAndPagesEvents) {
    for (int i = 0; i < 6; ++i) {
        Batch batch;
        batch.events = {event(i % 2 ? "odd" : "even")};
        commit(batch);
    }
    EXPECT_THAT(sequences(events({2, std::nullopt, 3})), ElementsAre(3, 4, 5));
    EXPECT_THAT(sequences(events({0, "odd", 1000})), ElementsAre(2, 4, 6));
    EXPECT_THAT(sequences(events({2, "odd", 1})), ElementsAre(4));
    EXPECT_THAT(sequences(events({6, std::nullopt, 1000})), IsEmpty());
    EXPECT_THAT(sequences(events({std::numeric_limits<std::uint64_t>::max(), std::nullopt, 1000})), IsEmpty());
    EXPECT_THAT(sequences(events({0, "nobody", 1000})), IsEmpty());
    EXPECT_THAT(sequences(events({0, std::nullopt, 0})), IsEmpty());
}

TEST_P(StoreSuite, RefusesEverythingAfterClose) {
    commit(batch_of({put("a", "1")}));
    store_->close();
    auto error = error_of([&] { commit(batch_of({put("b", "1")})); });
    EXPECT_EQ(error.errc(), Errc::store);
    EXPECT_THAT(error.message(), testing::HasSubstr("closed"));
    EXPECT_EQ(error_of([&] { get("session", "a"); }).errc(), Errc::store);
    EXPECT_EQ(error_of([&] { list("session"); }).errc(), Errc::store);
    EXPECT_EQ(error_of([&] { events(); }).errc(), Errc::store);
    store_->close();
}

namespace {

struct Won {
    std::string id;
    std::uint64_t version;
    std::uint64_t event_sequence;
};

struct Outcome {
    std::vector<Won> won;
    int lost = 0;
};

/// Reads a record at random and writes it back under the condition that nobody else did.
Task<Outcome> compete(std::shared_ptr<Store> store, unsigned seed, int rounds) {
    std::mt19937 random(seed);
    Outcome outcome;
    for (int i = 0; i < rounds; ++i) {
        auto id = "record-" + std::to_string(random() % 4);
        auto current = co_await store->get("session", id);
        std::uint64_t version = current ? current->version : 0;
        Batch batch = batch_of({put(id, std::to_string(seed), version)});
        batch.events = {event(id)};
        try {
            auto result = co_await store->commit(batch);
            outcome.won.push_back({id, result.versions.at(0), result.event_sequences.at(0)});
        } catch (const Error& error) {
            if (error.errc() != Errc::conflict) throw;
            ++outcome.lost;
        }
    }
    co_return outcome;
}

}  // namespace

TEST_P(StoreSuite, GivesEveryVersionToExactlyOneOf64Committers) {
    constexpr int committers = 64, rounds = 10;
    std::vector<std::future<Outcome>> running;
    for (unsigned seed = 0; seed < committers; ++seed)
        running.push_back(boost::asio::co_spawn(runtime_.environment().executor, compete(store_, seed, rounds),
                                                boost::asio::use_future));
    std::map<std::string, std::map<std::uint64_t, std::string>> winners;
    std::map<std::uint64_t, std::string> subjects;
    int won = 0, lost = 0;
    for (unsigned seed = 0; seed < committers; ++seed) {
        auto outcome = running[seed].get();
        lost += outcome.lost;
        for (const auto& one : outcome.won) {
            ++won;
            EXPECT_TRUE(winners[one.id].emplace(one.version, std::to_string(seed)).second)
                << one.id << " " << one.version;
            EXPECT_TRUE(subjects.emplace(one.event_sequence, one.id).second) << one.event_sequence;
        }
    }
    EXPECT_EQ(won + lost, committers * rounds);
    for (const auto& [id, versions] : winners) {
        EXPECT_EQ(versions.begin()->first, 1u) << id;
        EXPECT_EQ(versions.rbegin()->first, versions.size()) << id;
        auto record = get("session", id);
        EXPECT_EQ(record->version, versions.size());
        EXPECT_EQ(record->json, versions.rbegin()->second);
    }
    auto stored = events({0, std::nullopt, 10000});
    ASSERT_EQ(stored.size(), static_cast<std::size_t>(won));
    for (const auto& one : stored) EXPECT_EQ(one.subject, subjects[one.sequence]);
}

}  // namespace infrastructure_sdk::test
