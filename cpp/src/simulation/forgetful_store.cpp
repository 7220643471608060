#include "simulation/forgetful_store.hpp"

#include <map>
#include <unordered_map>

#include "store/precondition.hpp"

namespace infrastructure_sdk {
namespace {

class ForgetfulStore final : public Store {
public:
    explicit ForgetfulStore(std::function<void(const Event&)> listener) : listener_(std::move(listener)) {}

    Task<CommitResult> commit(Batch batch) override {
        CommitResult result;
        for (const auto& put : batch.puts) {
            auto& versions = versions_[put.kind];
            auto stored = versions.find(put.id);
            const auto next = next_version(put, stored == versions.end() ? 0 : stored->second);
            result.versions.push_back(next);
        }
        for (std::size_t i = 0; i < batch.puts.size(); ++i)
            versions_[batch.puts[i].kind][std::move(batch.puts[i].id)] = result.versions[i];
        for (const auto& erase : batch.erases) versions_[erase.kind].erase(erase.id);
        for (auto& event : batch.events) {
            event.sequence = ++events_;
            result.event_sequences.push_back(event.sequence);
            listener_(event);
        }
        co_return result;
    }
    Task<std::optional<Record>> get(std::string, std::string) override { co_return std::nullopt; }
    Task<std::vector<Record>> list(std::string, std::string, std::size_t) override { co_return std::vector<Record>(); }
    Task<std::vector<Event>> events(EventQuery) override { co_return std::vector<Event>(); }
    bool keeps_documents() const override { return false; }
    void close() override {}

private:
    std::function<void(const Event&)> listener_;
    std::map<std::string, std::unordered_map<std::string, std::uint64_t>> versions_;  // looked up only
    std::uint64_t events_ = 0;
};

}  // namespace

std::shared_ptr<Store> make_forgetful_store(std::function<void(const Event&)> listener) {
    return std::make_shared<ForgetfulStore>(std::move(listener));
}

}  // namespace infrastructure_sdk
