#include "store/sqlite_store.hpp"

#include <fstream>

#include <gmock/gmock.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#include <sys/stat.h>

#include "store/schema.hpp"
#include "support/child_process.hpp"
#include "support/store_suite.hpp"

namespace infrastructure_sdk::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::shared_ptr<Store> make(const Environment& environment, const std::string& directory) {
    return make_sqlite_store(environment, directory + "/state.db");
}

INSTANTIATE_TEST_SUITE_P(Sqlite, StoreSuite, testing::Values(StoreMaker{"sqlite", make}));

class SqliteStoreTest : public StoreFixture {
protected:
    void open(SqliteStoreOptions options = {}) { use(make_sqlite_store(runtime_.environment(), path_, options)); }
    std::future<CommitResult> start(Batch batch) {
        return boost::asio::co_spawn(runtime_.environment().executor, store_->commit(std::move(batch)),
                                     boost::asio::use_future);
    }
    std::string path_ = directory_ / "state.db";
};

mode_t mode_of(const std::string& path) {
    struct stat status{};
    return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

void execute(const std::string& path, const char* sql) { Sqlite(path).execute(sql); }

void write_file(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
}

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

TEST_F(SqliteStoreTest, KeepsRecordsAndEventsAcrossReopening) {
    open();
    Batch batch = batch_of({put("a", "1")});
    batch.events = {event("a")};
    commit(batch);
    open();
    EXPECT_EQ(get("session", "a")->version, 1u);
    EXPECT_THAT(sequences(events()), ElementsAre(1));
    EXPECT_THAT(commit(batch_of({put("a", "2", 1)})).versions, ElementsAre(2));
}

TEST_F(SqliteStoreTest, NeverGivesASequenceAgainAfterReopening) {
    open();
    Batch batch;
    batch.events = {event("a"), event("b")};
    EXPECT_THAT(commit(batch).event_sequences, ElementsAre(1, 2));
    close();
    execute(path_, "DELETE FROM events");
    open();
    EXPECT_THAT(commit(batch).event_sequences, ElementsAre(3, 4));
    EXPECT_THAT(sequences(events()), ElementsAre(3, 4));
}

TEST_F(SqliteStoreTest, KeepsItsFilesPrivateWhateverTheUmask) {
    auto before = ::umask(0);
    open();
    commit(batch_of({put("a", "1")}));
    ::umask(before);
    EXPECT_EQ(mode_of(path_), 0600u);
    EXPECT_EQ(mode_of(path_ + "-wal"), 0600u);
    EXPECT_EQ(mode_of(path_ + "-shm"), 0600u);
    close();
    before = ::umask(0777);
    open();
    commit(batch_of({put("a", "2")}));
    ::umask(before);
    EXPECT_EQ(mode_of(path_), 0600u);
    EXPECT_EQ(mode_of(path_ + "-wal"), 0600u);
    EXPECT_EQ(mode_of(path_ + "-shm"), 0600u);
}

TEST_F(SqliteStoreTest, TakesAccessByOthersAwayFromAnExistingFile) {
    write_file(path_, "");
    ::chmod(path_.c_str(), 0644);
    open();
    EXPECT_EQ(mode_of(path_), 0600u);
}

TEST_F(SqliteStoreTest, RefusesASymbolicLink) {
    auto target = directory_ / "elsewhere";
    std::filesystem::create_symlink(target, path_);
    auto error = error_of([&] { open(); });
    EXPECT_EQ(error.errc(), Errc::store);
    EXPECT_THAT(error.message(), HasSubstr("not a regular file"));
    EXPECT_FALSE(std::filesystem::exists(target));
}

TEST_F(SqliteStoreTest, RefusesADirectoryThatIsAFile) {
    write_file(directory_ / "file", "");
    path_ = directory_ / "file/state.db";
    auto error = error_of([&] { open(); });
    EXPECT_EQ(error.errc(), Errc::store);
    EXPECT_EQ(error.context().at("path"), path_);
    EXPECT_THAT(error.message(), HasSubstr("store.state_directory"));
}

TEST_F(SqliteStoreTest, RefusesANewerSchemaAndLeavesTheFileAlone) {
    open();
    close();
    auto newer = std::to_string(schema_version() + 1);
    execute(path_, ("PRAGMA user_version = " + newer).c_str());
    auto before = read_file(path_);
    auto error = error_of([&] { open(); });
    EXPECT_EQ(error.errc(), Errc::store);
    EXPECT_EQ(error.context().at("version"), newer);
    EXPECT_EQ(error.context().at("known"), std::to_string(schema_version()));
    EXPECT_THAT(error.message(), HasSubstr("newer"));
    EXPECT_EQ(read_file(path_), before);
}

TEST_F(SqliteStoreTest, SaysThatAFileIsDamaged) {
    write_file(path_, std::string(8192, 'x'));
    auto error = error_of([&] { open(); });
    EXPECT_EQ(error.errc(), Errc::store);
    EXPECT_THAT(error.message(), HasSubstr("damaged"));
}

TEST_F(SqliteStoreTest, SaysThatAPageIsDamaged) {
    open();
    for (int i = 0; i < 50; ++i) commit(batch_of({put(std::to_string(i), std::string(1000, 'x'))}));
    close();
    {
        std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
        file.seekp(4096);
        file << std::string(std::filesystem::file_size(path_) - 4096, '\xff');
    }
    open();
    auto error = error_of([&] { list("session"); });
    EXPECT_EQ(error.errc(), Errc::store);
    EXPECT_THAT(error.message(), HasSubstr("damaged"));
}

TEST_F(SqliteStoreTest, SaysThatTheDiskIsFullAndGoesOnWithWhatFits) {
    SqliteStoreOptions options;
    options.max_pages = 32;
    open(options);
    commit(batch_of({put("small", "1")}));
    auto error = error_of([&] { commit(batch_of({put("new", "1"), put("big", std::string(1 << 20, 'x'))})); });
    EXPECT_EQ(error.errc(), Errc::store);
    EXPECT_THAT(error.message(), HasSubstr("disk is full"));
    EXPECT_FALSE(get("session", "new"));
    EXPECT_THAT(commit(batch_of({put("small", "2", 1)})).versions, ElementsAre(2));
}

TEST_F(SqliteStoreTest, FailsOnlyTheBatchThatDoesNotFit) {
    SqliteStoreOptions options;
    options.max_pages = 32;
    open(options);
    std::vector<std::future<CommitResult>> small;
    for (int i = 0; i < 4; ++i) small.push_back(start(batch_of({put("before-" + std::to_string(i), "1", 0)})));
    auto big = start(batch_of({put("big", std::string(1 << 20, 'x'))}));
    for (int i = 0; i < 4; ++i) small.push_back(start(batch_of({put("after-" + std::to_string(i), "1", 0)})));
    EXPECT_EQ(error_of([&] { big.get(); }).errc(), Errc::store);
    for (auto& one : small) EXPECT_THAT(one.get().versions, ElementsAre(1));
    EXPECT_EQ(list("session").size(), 8u);
}

TEST_F(SqliteStoreTest, NamesAnotherProcessThatHoldsTheDatabase) {
    SqliteStoreOptions options;
    options.busy_timeout = std::chrono::milliseconds(1);
    open(options);
    Sqlite other(path_);
    other.execute("BEGIN IMMEDIATE");
    auto waiting = start(batch_of({put("a", "1")}));
    auto error = error_of([&] { waiting.get(); });
    EXPECT_EQ(error.errc(), Errc::store);
    EXPECT_THAT(error.message(), HasSubstr("another process"));
    other.execute("ROLLBACK");
    EXPECT_THAT(commit(batch_of({put("a", "1")})).versions, ElementsAre(1));
}

/// An Environment whose loops run only when the test says so.
struct ManualLoops {
    ManualLoops() {
        environment.clock = make_system_clock();
        environment.random = make_system_random();
        environment.executor = executor.get_executor();
        environment.blocking = blocking.get_executor();
    }
    boost::asio::io_context executor;
    boost::asio::io_context blocking;
    Environment environment;
};

TEST_F(SqliteStoreTest, DrainsAcceptedCommitsWhenItIsClosed) {
    auto loops = std::make_unique<ManualLoops>();
    auto store = make_sqlite_store(loops->environment, path_);
    std::vector<std::future<CommitResult>> accepted;
    for (int i = 0; i < 3; ++i)
        accepted.push_back(boost::asio::co_spawn(
            loops->executor, store->commit(batch_of({put(std::to_string(i), "1", 0)})), boost::asio::use_future));
    // The callers start and are accepted; the pool has not written anything yet.
    loops->executor.poll();
    store->close();
    loops->executor.restart();
    loops->executor.poll();
    for (auto& one : accepted) EXPECT_THAT(one.get().versions, ElementsAre(1));
    loops->blocking.poll();
    open();
    EXPECT_THAT(ids(list("session")), ElementsAre("0", "1", "2"));
}

TEST_F(SqliteStoreTest, LetsGoOfEverythingWhenTheLoopsStopBeforeTheAnswer) {
    auto loops = std::make_unique<ManualLoops>();
    auto store = make_sqlite_store(loops->environment, path_);
    boost::asio::co_spawn(loops->executor, store->commit(batch_of({put("a", "1", 0)})),
                          [](std::exception_ptr, CommitResult) {});
    loops->executor.poll();
    store->close();
    std::weak_ptr<Store> left = store;
    store.reset();
    loops.reset();
    EXPECT_TRUE(left.expired());
    open();
    EXPECT_TRUE(get("session", "a"));
}

TEST_F(SqliteStoreTest, CommitsEverythingThatWaitsInOneTransaction) {
    auto loops = std::make_unique<ManualLoops>();
    auto store = make_sqlite_store(loops->environment, path_);
    for (int i = 0; i < 20; ++i)
        boost::asio::co_spawn(loops->executor, store->commit(batch_of({put(std::to_string(i), "1", 0)})),
                              [](std::exception_ptr, CommitResult) {});
    loops->executor.poll();
    EXPECT_EQ(loops->blocking.poll(), 1u);
    Sqlite reader(path_);
    Statement count(reader, "SELECT count(*) FROM records");
    ASSERT_TRUE(count.step());
    EXPECT_EQ(count.integer(0), 20);
    loops->executor.restart();
    loops->executor.poll();
    store->close();
}

/// Commits for ever and tells the parent each id when, and only when, it was acknowledged.
Task<void> commit_and_tell(std::shared_ptr<Store> store, int caller, int tell) {
    for (int i = 0;; ++i) {
        auto id = std::to_string(caller) + "-" + std::to_string(i);
        Batch batch = batch_of({put(id, "1", 0)});
        batch.events = {event(id)};
        auto result = co_await store->commit(batch);
        auto line = id + " " + std::to_string(result.event_sequences.at(0)) + "\n";
        if (::write(tell, line.data(), line.size()) != static_cast<ssize_t>(line.size())) co_return;
    }
}

TEST(SqliteStoreCrash, KeepsEverythingAcknowledgedBeforeKill9) {
    TemporaryDirectory directory;
    auto path = directory / "state.db";
    ChildProcess child([&](int tell) {
        auto clock = make_system_clock();
        auto lock = OwnerLock::acquire(directory.path(), *clock);
        Runtime runtime(make_null_sink());
        auto store = make_sqlite_store(runtime.environment(), path);
        std::vector<std::future<void>> callers;
        for (int i = 0; i < 8; ++i)
            callers.push_back(boost::asio::co_spawn(runtime.environment().executor, commit_and_tell(store, i, tell),
                                                    boost::asio::use_future));
        for (auto& caller : callers) caller.get();
    });
    std::vector<std::pair<std::string, std::uint64_t>> acknowledged;
    auto note = [&](const std::string& line) {
        auto space = line.find(' ');
        acknowledged.emplace_back(line.substr(0, space), std::stoull(line.substr(space + 1)));
    };
    for (int i = 0; i < 300; ++i) {
        auto line = child.read_line();
        ASSERT_FALSE(line.empty()) << "the child died early";
        note(line);
    }
    child.kill();
    for (auto line = child.read_line(); !line.empty(); line = child.read_line()) note(line);

    auto lock = OwnerLock::acquire(directory.path(), *make_system_clock());
    Runtime runtime(make_null_sink());
    auto store = make_sqlite_store(runtime.environment(), path);
    auto stored = run(runtime, store->list("session", "", 1'000'000));
    auto log = run(runtime, store->events({0, std::nullopt, 1'000'000}));
    EXPECT_EQ(stored.size(), log.size());
    std::map<std::uint64_t, std::string> subjects;
    for (const auto& one : log) subjects[one.sequence] = one.subject;
    auto found = ids(stored);
    std::set<std::string> there(found.begin(), found.end());
    for (const auto& [id, sequence] : acknowledged) {
        EXPECT_TRUE(there.contains(id)) << id;
        EXPECT_EQ(subjects[sequence], id);
    }
    store->close();
}

}  // namespace
}  // namespace infrastructure_sdk::test
