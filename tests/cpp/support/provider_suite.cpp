#include "support/provider_suite.hpp"

#include <algorithm>

namespace infrastructure_sdk {

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ProviderSuite);

void ProviderSuite::SetUp() {
    bench_ = GetParam().make();
    provider_ = bench_->make();
}

void ProviderSuite::TearDown() {
    if (!provider_) return;
    for (const auto& id : get(provider_->list_snapshots(call()))) run(provider_->delete_snapshot(id, call()));
    for (const auto& status : get(provider_->list_owned(call()))) run(provider_->destroy(status.id, call()));
    EXPECT_TRUE(get(provider_->list_owned(call())).empty());
    run(provider_->close());
    provider_.reset();
    bench_.reset();
}

Call ProviderSuite::call() const {
    return {Deadline::after(*bench_->environment().clock, std::chrono::minutes(4)), {}, "provider-suite"};
}

Errc ProviderSuite::errc_of(Task<void> task) {
    try {
        run(std::move(task));
    } catch (const Error& error) {
        last_error_ = error;
        return error.errc();
    }
    return Errc{};
}

VmSpec ProviderSuite::boot() {
    auto spec = bench_->spec();
    run(provider_->create(spec, call()));
    run(provider_->start(spec.id, "execution-1", call()));
    run(provider_->wait_ready(spec.id, call()));
    return spec;
}

std::string ProviderSuite::cat(const VmId& id, const std::string& path) {
    return get(provider_->agent(id)->read_file(path, 1 << 20, call()));
}

/// A provider that takes no snapshots says so, at once.
bool ProviderSuite::is_snapshot_refused(const VmId& id) {
    if (provider_->capabilities().snapshot) return false;
    EXPECT_EQ(errc_of(provider_->snapshot(id, "snap-1", SnapshotMode::disk, call())), Errc::unsupported);
    EXPECT_EQ(last_error_.context().at("capability"), "snapshot");
    return true;
}

/// What the capabilities promise holds, and what they say is unavailable is not shown as held.
void ProviderSuite::expect_promised_limits(const VmStatus& status) {
    const auto& promised = provider_->capabilities().limits;
    for (const auto& limit : promised) EXPECT_NE(limit.enforced_by.empty(), limit.reason.empty()) << limit.resource;
    EXPECT_EQ(status.limits.empty(), promised.empty());
    for (const auto& limit : status.limits) {
        auto same = [&](const LimitStatus& each) { return each.resource == limit.resource; };
        auto found = std::find_if(promised.begin(), promised.end(), same);
        ASSERT_NE(found, promised.end()) << limit.resource;
        EXPECT_EQ(limit.enforced_by, found->enforced_by) << limit.resource << ": " << limit.reason;
        EXPECT_GT(limit.limit, 0u) << limit.resource;
    }
}

TEST_P(ProviderSuite, CreatesAtMostOnce) {
    auto spec = bench_->spec();
    EXPECT_EQ(state_of(spec.id), VmState::deleted) << "an id that never existed is deleted";
    run(provider_->create(spec, call()));
    run(provider_->create(spec, call()));
    EXPECT_NE(state_of(spec.id), VmState::running);
    auto owned = get(provider_->list_owned(call()));
    ASSERT_EQ(owned.size(), 1u);
    EXPECT_EQ(owned.front().id, spec.id);
    EXPECT_EQ(owned.front().owner_session, spec.owner_session);
    run(provider_->destroy(spec.id, call()));
    run(provider_->destroy(spec.id, call()));
    EXPECT_EQ(state_of(spec.id), VmState::deleted);
}

TEST_P(ProviderSuite, RefusesVerbsOnWhatIsNotThere) {
    VmId nobody = bench_->spec().id;
    EXPECT_EQ(errc_of(provider_->start(nobody, "execution-1", call())), Errc::not_found);
    EXPECT_EQ(errc_of(provider_->pause(nobody, call())), Errc::not_found);
    EXPECT_EQ(errc_of(provider_->suspend(nobody, call())), Errc::not_found);
    EXPECT_EQ(errc_of(provider_->resume(nobody, "execution-1", call())), Errc::not_found);
    EXPECT_EQ(errc_of(provider_->power_off(nobody, call())), Errc{}) << "it does not run: what was asked for holds";
    EXPECT_EQ(errc_of(provider_->destroy(nobody, call())), Errc{});
    EXPECT_EQ(errc_of(provider_->agent(nobody)->ping(call())), Errc::not_ready);
}

TEST_P(ProviderSuite, StartsOnceAndAnswersOnEveryChannel) {
    auto spec = boot();
    EXPECT_EQ(state_of(spec.id), VmState::running);
    auto first = get(provider_->inspect(spec.id, call()));
    EXPECT_EQ(first.execution_id, "execution-1");
    expect_promised_limits(first);
    run(provider_->start(spec.id, "execution-1", call()));
    auto again = get(provider_->inspect(spec.id, call()));
    EXPECT_EQ(again.process, first.process) << "asked again it is the same process";
    ExecRequest echo;
    echo.arguments = {"echo", "hello"};
    EXPECT_EQ(get(provider_->agent(spec.id)->exec(echo, call())).stdout_data, "hello\n");
    if (provider_->capabilities().screenshot) {
        EXPECT_TRUE(get(provider_->display(spec.id)->screenshot(call())).starts_with("\x89PNG"));
    }
    run(provider_->power_off(spec.id, call()));
    run(provider_->power_off(spec.id, call()));
    EXPECT_EQ(state_of(spec.id), VmState::stopped);
    EXPECT_EQ(errc_of(provider_->agent(spec.id)->ping(call())), Errc::not_ready);
    EXPECT_EQ(errc_of(provider_->suspend(spec.id, call())), Errc::invalid_transition);
}

TEST_P(ProviderSuite, PausesAndGoesOn) {
    auto spec = boot();
    run(provider_->pause(spec.id, call()));
    run(provider_->pause(spec.id, call()));
    EXPECT_EQ(state_of(spec.id), VmState::paused);
    run(provider_->unpause(spec.id, call()));
    run(provider_->unpause(spec.id, call()));
    EXPECT_EQ(state_of(spec.id), VmState::running);
    run(provider_->agent(spec.id)->ping(call()));
}

TEST_P(ProviderSuite, KeepsMemoryOverSuspendAndResume) {
    const auto& modes = provider_->capabilities().suspend_modes;
    auto spec = boot();
    if (std::find(modes.begin(), modes.end(), "memory") == modes.end()) {
        EXPECT_EQ(errc_of(provider_->suspend(spec.id, call())), Errc::unsupported);
        EXPECT_EQ(last_error_.context().at("capability"), "suspend_modes");
        return;
    }
    run(provider_->agent(spec.id)->write_file("/tmp/note", "kept", call()));
    for (int round = 1; round <= 2; ++round) {
        run(provider_->suspend(spec.id, call()));
        run(provider_->suspend(spec.id, call()));
        EXPECT_EQ(state_of(spec.id), VmState::suspended);
        EXPECT_EQ(errc_of(provider_->start(spec.id, "execution-9", call())), Errc::invalid_transition)
            << "a cold start would lose the memory";
        auto execution = "execution-" + std::to_string(1 + round);
        run(provider_->resume(spec.id, execution, call()));
        run(provider_->resume(spec.id, execution, call()));
        run(provider_->wait_ready(spec.id, call()));
        EXPECT_EQ(get(provider_->inspect(spec.id, call())).execution_id, execution);
        EXPECT_EQ(cat(spec.id, "/tmp/note"), "kept");
    }
}

TEST_P(ProviderSuite, ForgetsMemoryWhenItIsPoweredOff) {
    const auto& modes = provider_->capabilities().suspend_modes;
    if (std::find(modes.begin(), modes.end(), "memory") == modes.end()) GTEST_SKIP() << "it keeps no memory";
    auto spec = boot();
    run(provider_->agent(spec.id)->write_file("/tmp/note", "in memory", call()));
    run(provider_->suspend(spec.id, call()));
    run(provider_->power_off(spec.id, call()));
    EXPECT_EQ(state_of(spec.id), VmState::stopped);
    EXPECT_EQ(errc_of(provider_->resume(spec.id, "execution-2", call())), Errc::invalid_transition);
    run(provider_->start(spec.id, "execution-2", call()));
    run(provider_->wait_ready(spec.id, call()));
    auto read = [this, &spec]() -> Task<void> {
        co_await provider_->agent(spec.id)->read_file("/tmp/note", 100, call());
    };
    EXPECT_EQ(errc_of(read()), Errc::not_found);
}

TEST_P(ProviderSuite, CopiesTheDiskOfARunningVm) {
    auto spec = boot();
    if (is_snapshot_refused(spec.id)) return;
    run(provider_->agent(spec.id)->write_file("/data/note", "before", call()));
    EXPECT_FALSE(get(provider_->inspect_snapshot("snap-1", call())));
    run(provider_->snapshot(spec.id, "snap-1", SnapshotMode::disk, call()));
    run(provider_->snapshot(spec.id, "snap-1", SnapshotMode::disk, call()));
    EXPECT_EQ(state_of(spec.id), VmState::running) << "it goes on";
    run(provider_->agent(spec.id)->write_file("/data/note", "after", call()));
    EXPECT_EQ(cat(spec.id, "/data/note"), "after") << "its disk is not held";
    auto seen = get(provider_->inspect_snapshot("snap-1", call()));
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->consistent, "frozen");
    EXPECT_EQ(seen->sha256.size(), 64u);
    EXPECT_GT(seen->size_bytes, 0u);
    EXPECT_EQ(get(provider_->list_snapshots(call())), std::vector<std::string>{"snap-1"});

    // The copy depends on nothing: neither on its VM, nor those that began from it on the copy.
    run(provider_->destroy(spec.id, call()));
    auto fork = bench_->spec();
    fork.snapshot = "snap-1";
    run(provider_->create(fork, call()));
    run(provider_->delete_snapshot("snap-1", call()));
    run(provider_->delete_snapshot("snap-1", call()));
    EXPECT_TRUE(get(provider_->list_snapshots(call())).empty());
    run(provider_->start(fork.id, "execution-1", call()));
    run(provider_->wait_ready(fork.id, call()));
    EXPECT_EQ(cat(fork.id, "/data/note"), "before");
    auto orphan = bench_->spec();
    orphan.snapshot = "snap-1";
    EXPECT_EQ(errc_of(provider_->create(orphan, call())), Errc::not_found);
    EXPECT_EQ(state_of(orphan.id), VmState::deleted) << "a failed create leaves nothing";
}

TEST_P(ProviderSuite, CopiesTheDiskOfAVmAtRest) {
    auto spec = boot();
    if (is_snapshot_refused(spec.id)) return;
    run(provider_->agent(spec.id)->write_file("/data/note", "kept", call()));
    ExecRequest sync;
    sync.arguments = {"true"};
    if (provider_->capabilities().provider == "qemu") sync.arguments = {"sync"};
    get(provider_->agent(spec.id)->exec(sync, call()));
    run(provider_->power_off(spec.id, call()));
    run(provider_->snapshot(spec.id, "snap-2", SnapshotMode::disk, call()));
    EXPECT_EQ(get(provider_->inspect_snapshot("snap-2", call())).value().consistent, "crash");
    auto fork = bench_->spec();
    fork.snapshot = "snap-2";
    run(provider_->create(fork, call()));
    run(provider_->start(fork.id, "execution-1", call()));
    run(provider_->wait_ready(fork.id, call()));
    EXPECT_EQ(cat(fork.id, "/data/note"), "kept");
    // A copy of what lies on a copy.
    run(provider_->snapshot(fork.id, "snap-3", SnapshotMode::disk, call()));
    run(provider_->delete_snapshot("snap-2", call()));
    run(provider_->delete_snapshot("snap-3", call()));
}

TEST_P(ProviderSuite, CopiesMemoryWithTheDiskOfOneInstant) {
    auto spec = boot();
    if (is_snapshot_refused(spec.id)) return;
    ASSERT_TRUE(provider_->capabilities().memory_snapshot);
    run(provider_->agent(spec.id)->write_file("/tmp/note", "in memory", call()));
    run(provider_->agent(spec.id)->write_file("/data/note", "on disk", call()));
    run(provider_->snapshot(spec.id, "snap-5", SnapshotMode::memory, call()));
    run(provider_->snapshot(spec.id, "snap-5", SnapshotMode::memory, call()));
    EXPECT_EQ(state_of(spec.id), VmState::running) << "it goes on";
    run(provider_->agent(spec.id)->write_file("/tmp/note", "later", call()));
    run(provider_->agent(spec.id)->write_file("/data/note", "later", call()));
    auto seen = get(provider_->inspect_snapshot("snap-5", call()));
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->mode, SnapshotMode::memory);
    EXPECT_EQ(seen->consistent, "memory");
    EXPECT_GT(seen->memory_size_bytes, 0u);

    // Two go on from it, while the first does too and after the snapshot is gone.
    for (int i = 0; i < 2; ++i) {
        auto fork = bench_->spec();
        fork.snapshot = "snap-5";
        run(provider_->create(fork, call()));
        if (i == 1) run(provider_->delete_snapshot("snap-5", call()));
        run(provider_->start(fork.id, "execution-1", call()));
        run(provider_->start(fork.id, "execution-1", call()));
        run(provider_->wait_ready(fork.id, call()));
        EXPECT_EQ(get(provider_->inspect(fork.id, call())).launch.from, "snapshot");
        EXPECT_EQ(cat(fork.id, "/tmp/note"), "in memory");
        EXPECT_EQ(cat(fork.id, "/data/note"), "on disk");
        run(provider_->agent(fork.id)->write_file("/data/note", "its own", call()));
    }
    EXPECT_EQ(cat(spec.id, "/data/note"), "later");
    run(provider_->pause(spec.id, call()));
    EXPECT_EQ(errc_of(provider_->snapshot(spec.id, "snap-6", SnapshotMode::memory, call())), Errc::invalid_transition);
    EXPECT_TRUE(get(provider_->list_snapshots(call())).empty());
}

TEST_P(ProviderSuite, LeavesNoSnapshotWhenItIsStopped) {
    auto spec = boot();
    if (is_snapshot_refused(spec.id)) return;
    std::stop_source stop;
    stop.request_stop();
    Call stopped{Deadline(), stop.get_token(), {}};
    EXPECT_EQ(errc_of(provider_->snapshot(spec.id, "snap-4", SnapshotMode::disk, stopped)), Errc::cancelled);
    EXPECT_TRUE(get(provider_->list_snapshots(call())).empty());
    EXPECT_EQ(errc_of(provider_->snapshot(bench_->spec().id, "snap-4", SnapshotMode::disk, call())), Errc::not_found);
    EXPECT_TRUE(get(provider_->list_snapshots(call())).empty());
    run(provider_->agent(spec.id)->write_file("/data/note", "not frozen", call()));
}

TEST_P(ProviderSuite, TakesInputAndClientsAsItsCapabilitiesSay) {
    auto spec = boot();
    const auto can = provider_->capabilities();
    const auto lacking = [](bool capable) { return capable ? Errc{} : Errc::unsupported; };
    auto drop = [](Task<GuestStreamPtr> opening) -> Task<void> { co_await std::move(opening); };
    auto keys = typing("a\n", "us");
    EXPECT_EQ(errc_of(provider_->display(spec.id)->input(keys, call())), lacking(can.input));
    EXPECT_EQ(errc_of(drop(provider_->display(spec.id)->console(true, call()))), lacking(can.console));
    EXPECT_EQ(errc_of(provider_->disconnect_clients(spec.id, call())), lacking(can.disconnect));
    EXPECT_EQ(errc_of(drop(provider_->open_port(spec.id, 9, call()))), lacking(can.forward));
    EXPECT_EQ(get(provider_->activity(spec.id, call())).vnc_clients, 0u) << "the stream was dropped";
    run(provider_->destroy(spec.id, call()));
    EXPECT_NE(errc_of(provider_->display(spec.id)->input(keys, call())), Errc{});
}

TEST_P(ProviderSuite, TellsOfADeathThatNobodyAskedFor) {
    auto spec = boot();
    std::vector<VmEvent> events;
    provider_->on_event([&events](VmEvent event) { events.push_back(std::move(event)); });
    auto status = get(provider_->inspect(spec.id, call()));
    bench_->kill(status);
    auto wait = [](Environment environment, std::vector<VmEvent>* seen) -> Task<void> {
        while (seen->empty())
            co_await environment.clock->sleep_until(environment.clock->monotonic_now() + std::chrono::milliseconds(5),
                                                    {});
    };
    run(wait(bench_->environment(), &events));
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events.front().id, spec.id);
    EXPECT_EQ(events.front().reason, "ProcessKilled");
    EXPECT_EQ(state_of(spec.id), VmState::failed);
    EXPECT_EQ(errc_of(provider_->wait_ready(spec.id, call())), Errc::vm_provisioning) << "nobody waits for the dead";
    provider_->on_event(nullptr);
}

TEST_P(ProviderSuite, IsAdoptedByTheNextOwner) {
    auto spec = boot();
    run(provider_->agent(spec.id)->write_file("/tmp/note", "mine", call()));
    auto before = get(provider_->inspect(spec.id, call()));
    run(provider_->close());
    provider_ = bench_->make();
    auto owned = get(provider_->list_owned(call()));
    ASSERT_EQ(owned.size(), 1u);
    EXPECT_EQ(owned.front().state, VmState::running);
    EXPECT_EQ(owned.front().process, before.process);
    EXPECT_EQ(owned.front().limits, before.limits);
    EXPECT_EQ(cat(spec.id, "/tmp/note"), "mine");
}

TEST_P(ProviderSuite, StopsWaitingWhenItIsCancelledOrOutOfTime) {
    auto spec = bench_->spec();
    run(provider_->create(spec, call()));
    run(provider_->start(spec.id, "execution-1", call()));
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(errc_of(provider_->wait_ready(spec.id, {Deadline(), stop.get_token(), {}})), Errc::cancelled);
    Call over{Deadline(bench_->environment().clock->monotonic_now()), {}, {}};
    auto code = errc_of(provider_->wait_ready(spec.id, over));
    EXPECT_EQ(code, Errc::not_ready);
    EXPECT_FALSE(last_error_.context().at("channel").empty());
}

}  // namespace infrastructure_sdk
