#include <infrastructure_sdk/store/store.hpp>

#include <algorithm>
#include <map>
#include <mutex>

#include "store/precondition.hpp"

namespace infrastructure_sdk {
namespace {

using Key = std::pair<std::string, std::string>;

class MemoryStore final : public Store {
public:
    Task<CommitResult> commit(Batch batch) override {
        std::lock_guard lock(mutex_);
        if (closed_) refuse_closed();
        // Everything that can be refused comes first.
        CommitResult result;
        result.versions = versions_after(batch.puts);
        for (std::size_t i = 0; i < batch.puts.size(); ++i) {
            auto& put = batch.puts[i];
            records_.insert_or_assign(Key(put.kind, put.id),
                                      Record{put.kind, put.id, result.versions[i], std::move(put.json)});
        }
        for (const auto& erase : batch.erases) records_.erase({erase.kind, erase.id});
        for (auto& event : batch.events) {
            event.sequence = events_.size() + 1;
            result.event_sequences.push_back(event.sequence);
            events_.push_back(std::move(event));
        }
        co_return result;
    }

    Task<std::optional<Record>> get(std::string kind, std::string id) override {
        std::lock_guard lock(mutex_);
        if (closed_) refuse_closed();
        auto it = records_.find({kind, id});
        if (it == records_.end()) co_return std::nullopt;
        co_return it->second;
    }

    Task<std::vector<Record>> list(std::string kind, std::string after, std::size_t limit) override {
        std::lock_guard lock(mutex_);
        if (closed_) refuse_closed();
        std::vector<Record> found;
        auto it = records_.upper_bound({kind, after});
        for (; it != records_.end() && it->first.first == kind && found.size() < limit; ++it)
            found.push_back(it->second);
        co_return found;
    }

    Task<std::vector<Event>> events(EventQuery query) override {
        std::lock_guard lock(mutex_);
        if (closed_) refuse_closed();
        std::vector<Event> found;
        // Sequence N is at index N - 1.
        for (auto i = std::min<std::uint64_t>(query.after, events_.size());
             i < events_.size() && found.size() < query.limit; ++i)
            if (!query.subject || *query.subject == events_[i].subject) found.push_back(events_[i]);
        co_return found;
    }

    void close() override {
        std::lock_guard lock(mutex_);
        closed_ = true;
    }

private:
    /// A record that is put twice in one batch counts up twice, and the second put sees the first.
    std::vector<std::uint64_t> versions_after(const std::vector<Put>& puts) const {
        std::map<Key, std::uint64_t> changed;
        std::vector<std::uint64_t> versions;
        for (const auto& put : puts) {
            auto stored = records_.find({put.kind, put.id});
            auto [version, is_new] =
                changed.try_emplace({put.kind, put.id}, stored == records_.end() ? 0 : stored->second.version);
            version->second = next_version(put, version->second);
            versions.push_back(version->second);
        }
        return versions;
    }

    std::mutex mutex_;
    std::map<Key, Record> records_;
    std::vector<Event> events_;
    bool closed_ = false;
};

}  // namespace

std::shared_ptr<Store> make_memory_store(const Environment&) { return std::make_shared<MemoryStore>(); }

}  // namespace infrastructure_sdk
