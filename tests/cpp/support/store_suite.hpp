#pragma once
// What every Store must do. Instantiate it once for each implementation:
// INSTANTIATE_TEST_SUITE_P(Memory, StoreSuite, testing::Values(StoreMaker{...}));

#include <functional>
#include <ostream>

#include <gtest/gtest.h>

#include <infrastructure_sdk/detail/run.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/store/store.hpp>

#include "support/temporary_directory.hpp"

namespace infrastructure_sdk::test {

struct StoreMaker {
    std::string name;
    std::function<std::shared_ptr<Store>(const Environment&, const std::string& directory)> make;
    friend void PrintTo(const StoreMaker& maker, std::ostream* out) { *out << maker.name; }
};

/// Threads and a directory for a store; closes what it opened.
class StoreFixture : public testing::Test {
protected:
    ~StoreFixture() override { close(); }

    void use(std::shared_ptr<Store> store) {
        close();
        store_ = std::move(store);
    }
    void close() {
        if (store_) store_->close();
        store_.reset();
    }

    CommitResult commit(Batch batch) { return run(runtime_, store_->commit(std::move(batch))); }
    std::optional<Record> get(std::string kind, std::string id) { return run(runtime_, store_->get(kind, id)); }
    std::vector<Record> list(std::string kind, std::string after = {}, std::size_t limit = 1000) {
        return run(runtime_, store_->list(kind, after, limit));
    }
    std::vector<Event> events(EventQuery query = {}) { return run(runtime_, store_->events(std::move(query))); }

    TemporaryDirectory directory_;
    Runtime runtime_{make_null_sink()};
    std::shared_ptr<Store> store_;
};

class StoreSuite : public StoreFixture, public testing::WithParamInterface<StoreMaker> {
protected:
    void SetUp() override { use(GetParam().make(runtime_.environment(), directory_.path())); }
};

Put put(std::string id, std::string json, std::optional<std::uint64_t> expected_version = {},
        std::string kind = "session");
Batch batch_of(std::vector<Put> puts);
Event event(std::string subject, std::string type = "session.test");
std::vector<std::string> ids(const std::vector<Record>& records);
std::vector<std::uint64_t> sequences(const std::vector<Event>& events);

/// The error that `work` throws; fails the test and gives `internal` when it throws none.
template <class Work>
Error error_of(Work work) {
    try {
        work();
    } catch (const Error& error) {
        return error;
    }
    ADD_FAILURE() << "no error was thrown";
    return Error(Errc::internal, "no error was thrown");
}

}  // namespace infrastructure_sdk::test
