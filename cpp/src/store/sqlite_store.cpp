#include "store/sqlite_store.hpp"

#include <functional>
#include <mutex>

#include "core/async_tools.hpp"
#include "store/journal.hpp"
#include "store/precondition.hpp"

namespace infrastructure_sdk {
namespace {

struct PendingCommit {
    explicit PendingCommit(Batch b) : batch(std::move(b)) {}
    Batch batch;
    CommitResult result;
    std::exception_ptr error;
    std::function<void()> complete;  ///< posts to the awaiting executor
};
using PendingCommitPtr = std::shared_ptr<PendingCommit>;
using Group = std::vector<PendingCommitPtr>;

/// Each its own transaction, so that each has its own outcome.
void write_alone(JournalWriter& writer, PendingCommit& commit) {
    try {
        writer.begin();
        commit.result = writer.apply(commit.batch);
        writer.commit();
    } catch (...) {
        writer.rollback();
        commit.error = std::current_exception();
    }
}

void fail_all(const Group& group, const Error& error) {
    // A copy for each: callers on different executors may add to theirs.
    for (auto& commit : group) commit->error = std::make_exception_ptr(error);
}

void write_group(JournalWriter& writer, const Group& group) {
    try {
        writer.begin();
    } catch (const Error& error) {
        fail_all(group, error);
        return;
    }
    try {
        for (auto& commit : group) {
            try {
                commit->result = writer.apply(commit->batch);
            } catch (const Error& error) {
                if (error.errc() != Errc::conflict) throw;
                commit->error = std::current_exception();
            }
        }
        writer.commit();
    } catch (...) {
        // One batch that is too big, or the disk full for all of them together: the others may still fit.
        writer.rollback();
        for (auto& commit : group) {
            commit->error = nullptr;
            write_alone(writer, *commit);
        }
    }
}

class SqliteStore final : public Store, public std::enable_shared_from_this<SqliteStore> {
public:
    SqliteStore(Environment environment, const std::string& path, SqliteStoreOptions options)
        : environment_(std::move(environment)),
          writer_(std::make_unique<JournalWriter>(path, options)),
          reader_(std::make_unique<JournalReader>(path)) {}

    Task<CommitResult> commit(Batch batch) override {
        auto self = shared_from_this();
        auto pending = std::make_shared<PendingCommit>(std::move(batch));
        auto accept = [](auto handler, std::shared_ptr<SqliteStore> store, PendingCommitPtr commit) {
            commit->complete = completion(std::move(handler), commit);
            store->accept(std::move(commit));
        };
        co_await asio::async_initiate<const asio::use_awaitable_t<>, void(std::exception_ptr)>(
            accept, asio::use_awaitable, self, pending);
        co_return std::move(pending->result);
    }

    Task<std::optional<Record>> get(std::string kind, std::string id) override {
        auto work = [kind, id](JournalReader& reader) { return reader.get(kind, id); };
        return read(shared_from_this(), work);
    }

    Task<std::vector<Record>> list(std::string kind, std::string after, std::size_t limit) override {
        auto work = [kind, after, limit](JournalReader& reader) { return reader.list(kind, after, limit); };
        return read(shared_from_this(), work);
    }

    Task<std::vector<Event>> events(EventQuery query) override {
        auto work = [query](JournalReader& reader) { return reader.events(query); };
        return read(shared_from_this(), work);
    }

    void close() override {
        {
            std::lock_guard lock(queue_mutex_);
            closed_ = true;
        }
        // Drained here and not by the executors, which may have stopped already.
        std::scoped_lock lock(writer_mutex_, reader_mutex_);
        if (!writer_) return;
        for (auto group = take(); !group.empty(); group = take()) write(group);
        reader_.reset();
        writer_.reset();
    }

private:
    template <class Handler>
    static std::function<void()> completion(Handler handler, const PendingCommitPtr& commit) {
        auto executor = asio::get_associated_executor(handler);
        // Keeps the loop of the caller running until the outcome has arrived.
        auto work = asio::prefer(executor, asio::execution::outstanding_work.tracked);
        auto shared = std::make_shared<Handler>(std::move(handler));
        std::weak_ptr<PendingCommit> outcome = commit;  // the commit owns this function
        return [shared, outcome, work] {
            auto error = outcome.lock()->error;
            asio::post(work, [shared, error] { (*shared)(error); });
        };
    }

    void accept(PendingCommitPtr commit) {
        std::lock_guard lock(queue_mutex_);
        if (closed_) {
            commit->error = closed_error();
            complete(*commit);
            return;
        }
        queue_.push_back(std::move(commit));
        if (std::exchange(scheduled_, true)) return;
        schedule();
    }

    static std::exception_ptr closed_error() {
        try {
            refuse_closed();
        } catch (...) {
            return std::current_exception();
        }
    }

    /// Through the callers' executor: the callers that the last group resumed hand in their next commits first, and the
    /// next group has them all. Straight from one group to the next, every second group would hold a single commit.
    void schedule() {
        auto self = shared_from_this();
        asio::post(environment_.executor,
                   [self] { asio::post(self->environment_.blocking, [self] { self->write_next(); }); });
    }

    void write_next() {
        {
            std::lock_guard lock(writer_mutex_);
            auto group = take();
            if (group.empty()) return;
            write(group);
        }
        schedule();
    }

    /// Empty when nothing waits; the next commit then schedules again.
    Group take() {
        std::lock_guard lock(queue_mutex_);
        scheduled_ = !queue_.empty();
        return std::exchange(queue_, {});
    }

    void write(const Group& group) {
        write_group(*writer_, group);
        for (auto& commit : group) complete(*commit);
    }

    /// Lets go of the caller's coroutine: it owns the commit, which would own it.
    static void complete(PendingCommit& commit) { std::exchange(commit.complete, nullptr)(); }

    template <class Work, class Result = std::invoke_result_t<Work, JournalReader&>>
    static Task<Result> read(std::shared_ptr<SqliteStore> self, Work work) {
        auto locked = [self, work] {
            std::lock_guard lock(self->reader_mutex_);
            if (!self->reader_) refuse_closed();
            return work(*self->reader_);
        };
        co_return co_await run_blocking(self->environment_.blocking, locked);
    }

    Environment environment_;
    std::mutex queue_mutex_;
    Group queue_;
    bool scheduled_ = false;
    bool closed_ = false;
    std::mutex writer_mutex_;  ///< taken before queue_mutex_
    std::mutex reader_mutex_;
    std::unique_ptr<JournalWriter> writer_;
    std::unique_ptr<JournalReader> reader_;
};

}  // namespace

std::shared_ptr<Store> make_sqlite_store(const Environment& environment, const std::string& path,
                                         SqliteStoreOptions options) {
    return std::make_shared<SqliteStore>(environment, path, options);
}

std::shared_ptr<Store> make_sqlite_store(const Environment& environment, const std::string& path) {
    return make_sqlite_store(environment, path, SqliteStoreOptions{});
}

}  // namespace infrastructure_sdk
