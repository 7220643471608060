#include "support/crash_points.hpp"

namespace infrastructure_sdk::test {
namespace {

class CrashingStore final : public Store {
public:
    CrashingStore(std::shared_ptr<Store> inner, CrashPointsPtr points)
        : inner_(std::move(inner)), points_(std::move(points)) {}

    Task<CommitResult> commit(Batch batch) override {
        // The intent, outcome or plain edit is named by the first event.
        auto name = batch.events.empty() ? std::string("edit") : batch.events.front().type;
        co_await points_->pass("before " + name);
        auto result = co_await inner_->commit(std::move(batch));
        co_await points_->pass("after " + name);
        co_return result;
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
    CrashPointsPtr points_;
};

class CrashingProvider final : public VmProvider {
public:
    CrashingProvider(std::shared_ptr<VmProvider> inner, CrashPointsPtr points)
        : inner_(std::move(inner)), points_(std::move(points)) {}

    const Capabilities& capabilities() const override { return inner_->capabilities(); }
    std::vector<VmPlace> places(const VmSpec& spec) const override { return inner_->places(spec); }
    Task<void> create(VmSpec spec, Call call) override {
        return around("create", inner_->create(std::move(spec), call));
    }
    Task<void> start(VmId id, std::string execution, Call call) override {
        return around("start", inner_->start(id, execution, call));
    }
    Task<void> wait_ready(VmId id, Call call) override { return around("wait_ready", inner_->wait_ready(id, call)); }
    Task<void> pause(VmId id, Call call) override { return around("pause", inner_->pause(id, call)); }
    Task<void> unpause(VmId id, Call call) override { return around("unpause", inner_->unpause(id, call)); }
    Task<void> suspend(VmId id, Call call) override { return around("suspend", inner_->suspend(id, call)); }
    Task<void> resume(VmId id, std::string execution, Call call) override {
        return around("resume", inner_->resume(id, execution, call));
    }
    Task<void> shutdown(VmId id, Call call) override { return around("shutdown", inner_->shutdown(id, call)); }
    Task<void> power_off(VmId id, Call call) override { return around("power_off", inner_->power_off(id, call)); }
    Task<void> destroy(VmId id, Call call) override { return around("destroy", inner_->destroy(id, call)); }
    Task<void> snapshot(VmId id, std::string snapshot_id, SnapshotMode mode, Call call) override {
        return around("snapshot", inner_->snapshot(id, snapshot_id, mode, call));
    }
    Task<std::optional<VmSnapshot>> inspect_snapshot(std::string snapshot_id, Call call) override {
        return inner_->inspect_snapshot(std::move(snapshot_id), call);
    }
    Task<std::vector<std::string>> list_snapshots(Call call) override { return inner_->list_snapshots(call); }
    Task<void> delete_snapshot(std::string snapshot_id, Call call) override {
        return around("delete_snapshot", inner_->delete_snapshot(std::move(snapshot_id), call));
    }
    Task<void> assign(VmId id, std::string user_id, Call call) override {
        return around("assign", inner_->assign(id, std::move(user_id), call));
    }
    Task<VmStatus> inspect(VmId id, Call call) override { return inner_->inspect(id, call); }
    Task<VmActivity> activity(VmId id, Call call) override { return inner_->activity(id, call); }
    Task<void> disconnect_clients(VmId id, Call call) override {
        return around("disconnect_clients", inner_->disconnect_clients(id, call));
    }
    Task<std::vector<VmStatus>> list_owned(Call call) override { return inner_->list_owned(call); }
    std::shared_ptr<GuestAgent> agent(VmId id) override { return inner_->agent(id); }
    std::shared_ptr<Display> display(VmId id) override { return inner_->display(id); }
    std::shared_ptr<EvidenceSource> evidence(VmId id) override { return inner_->evidence(id); }
    void on_event(std::function<void(VmEvent)> handler) override {
        points_->tell = handler;
        inner_->on_event(std::move(handler));
    }
    Task<void> close() override { return inner_->close(); }

private:
    /// A task is lazy: the verb does not begin before the first point is passed.
    Task<void> around(std::string verb, Task<void> task) {
        co_await points_->pass("before " + verb);
        co_await std::move(task);
        co_await points_->pass("after " + verb);
    }

    std::shared_ptr<VmProvider> inner_;
    CrashPointsPtr points_;
};

}  // namespace

std::shared_ptr<Store> with_crash_points(std::shared_ptr<Store> store, CrashPointsPtr points) {
    return std::make_shared<CrashingStore>(std::move(store), std::move(points));
}
std::shared_ptr<VmProvider> with_crash_points(std::shared_ptr<VmProvider> provider, CrashPointsPtr points) {
    return std::make_shared<CrashingProvider>(std::move(provider), std::move(points));
}

}  // namespace infrastructure_sdk::test
