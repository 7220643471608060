// Pure rules of snapshots and forks.

#include "session/snapshot_rules.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {

Session some_session(SessionState state = SessionState::active) {
    Session session;
    session.id = "s-1";
    session.user_id = "alice";
    session.template_name = "tiny";
    session.session_type = "shell";
    session.state = state;
    session.vm_id.value = "vm-1";
    session.cpu = Quantity::parse("2");
    session.memory = Quantity::parse("256Mi");
    session.disk_size = Quantity::parse("64Mi");
    return session;
}

Snapshot some_snapshot() {
    auto snapshot = plan_snapshot(some_session(), "snap-1", "before the update", SnapshotMode::disk, false, WallTime());
    VmSnapshot seen{"snap-1", "frozen", 1000, 64u << 20, std::string(64, 'a')};
    return completed(snapshot, seen);
}

template <class F>
Error error_of(F work) {
    try {
        work();
    } catch (const Error& error) {
        return error;
    }
    return Error(Errc::internal, "nothing was thrown");
}

TEST(SnapshotRules, WhatBeginsFromAnEncryptedSessionIsEncryptedToo) {
    auto snapshot = some_snapshot();
    SessionRequest request;
    request.user_id = "bob";
    EXPECT_FALSE(begin_from(request, snapshot).encryption) << "the template says";
    snapshot.encryption = Encryption::memory;
    EXPECT_EQ(begin_from(request, snapshot).encryption, Encryption::memory);
    Template strict;
    strict.encryption = Encryption::all;
    EXPECT_EQ(begin_from(request, snapshot, strict).encryption, Encryption::all) << "the template says more";
    request.encryption = Encryption::off;
    EXPECT_EQ(error_of([&] { begin_from(request, snapshot); }).context().at("field"), "encryption");
    request.encryption.reset();
    snapshot.encryption = Encryption::all;
    EXPECT_EQ(begin_from(request, snapshot).encryption, Encryption::all);
    request.encryption = Encryption::memory;
    auto refused = error_of([&] { begin_from(request, snapshot); });
    EXPECT_EQ(refused.errc(), Errc::validation);
    EXPECT_EQ(refused.context().at("field"), "encryption");
    EXPECT_EQ(snapshot_from_json(nlohmann::json(snapshot)).encryption, Encryption::all);
}

TEST(SnapshotRules, TakesSnapshotsOfActiveSuspendedAndFailedSessionsOnly) {
    for (int i = 0; i <= static_cast<int>(SessionState::failed); ++i) {
        auto state = static_cast<SessionState>(i);
        bool copyable =
            state == SessionState::active || state == SessionState::suspended || state == SessionState::failed;
        if (copyable) {
            EXPECT_NO_THROW(need_copyable(some_session(state), SnapshotMode::disk)) << name_of(state);
        } else {
            auto error = error_of([&] { need_copyable(some_session(state), SnapshotMode::disk); });
            EXPECT_EQ(error.errc(), Errc::invalid_transition) << name_of(state);
            EXPECT_NE(error.message().find(name_of(state)), std::string::npos);
        }
    }
}

TEST(SnapshotRules, RefusesAProviderThatCannotAtOnceNamingTheCapability) {
    Capabilities none;
    none.provider = "kubevirt";
    auto error = error_of([&] { need_snapshot_capability(none); });
    EXPECT_EQ(error.errc(), Errc::unsupported);
    EXPECT_EQ(error.context().at("capability"), "snapshot");
}

TEST(SnapshotRules, MemoryIsCopiedOfActiveLinuxGuestsWithAnAgent) {
    constexpr auto memory = SnapshotMode::memory;
    for (auto state : {SessionState::suspended, SessionState::failed, SessionState::resuming}) {
        auto error = error_of([&] { need_copyable(some_session(state), memory); });
        EXPECT_EQ(error.errc(), Errc::invalid_transition) << name_of(state);
        EXPECT_NE(error.message().find("it must be active"), std::string::npos) << error.message();
    }
    EXPECT_NO_THROW(need_copyable(some_session(), memory));
    Template source;
    source.os = "linux";
    EXPECT_NO_THROW(need_renamable(source));
    source.channels = {"display"};
    EXPECT_EQ(error_of([&] { need_renamable(source); }).context().at("capability"), "memory_snapshot");
    source.channels = {"agent"};
    source.os = "windows";
    EXPECT_EQ(error_of([&] { need_renamable(source); }).errc(), Errc::unsupported);
    Capabilities disks_only;
    disks_only.snapshot = true;
    EXPECT_NO_THROW(need_snapshot_capability(disks_only));
    EXPECT_EQ(error_of([&] { need_snapshot_capability(disks_only, memory); }).context().at("capability"),
              "memory_snapshot");
}

TEST(SnapshotRules, MemoryFitsItsUserAndItsResourcesAlone) {
    auto snapshot = some_snapshot();
    snapshot.mode = SnapshotMode::memory;
    snapshot.memory_size_bytes = 1000;
    EXPECT_EQ(snapshot_from_json(nlohmann::json(snapshot)).mode, SnapshotMode::memory);
    EXPECT_EQ(snapshot_from_json(nlohmann::json(snapshot)).memory_size_bytes, 1000u);
    EXPECT_EQ(reservation_of(snapshot).amounts.disk_bytes, (64 << 20) + (256 << 20));
    SessionRequest request;
    request.user_id = "alice";
    EXPECT_EQ(begin_from(request, snapshot).resources.memory->to_string(), "256Mi");
    const std::pair<const char*, std::optional<Quantity> ResourceSpec::*> fields[] = {
        {"resources.cpu", &ResourceSpec::cpu},
        {"resources.memory", &ResourceSpec::memory},
        {"resources.disk_size", &ResourceSpec::disk_size}};
    for (const auto& [name, place] : fields) {
        auto other = request;
        other.resources.*place = Quantity::parse("1Gi");
        auto error = error_of([&] { begin_from(other, snapshot); });
        EXPECT_EQ(error.errc(), Errc::validation);
        EXPECT_EQ(error.context().at("field"), name);
    }
    request.user_id = "bob";
    EXPECT_EQ(error_of([&] { begin_from(request, snapshot); }).context().at("field"), "user_id");
    ForkRequest fork;
    fork.source = "s-1";
    fork.user_id = "bob";
    EXPECT_NO_THROW(need_user_of_memory(fork, some_session()));
    fork.mode = SnapshotMode::memory;
    EXPECT_EQ(error_of([&] { need_user_of_memory(fork, some_session()); }).context().at("value"), "bob");
    fork.user_id = "alice";
    EXPECT_NO_THROW(need_user_of_memory(fork, some_session()));
}

TEST(SnapshotRules, NamesAreForPeopleAndPrintable) {
    for (const char* good : {"x", "before the update", "été"}) EXPECT_NO_THROW(check_snapshot_name(good));
    for (const auto& bad : {std::string(), std::string("a\nb"), std::string(129, 'x')}) {
        auto error = error_of([&] { check_snapshot_name(bad); });
        EXPECT_EQ(error.errc(), Errc::validation);
        EXPECT_EQ(error.context().at("field"), "name");
    }
}

TEST(SnapshotRules, BeginsWithTheResourcesAndTheTemplateOfTheSource) {
    SessionRequest request;
    request.user_id = "bob";
    request.snapshot = "snap-1";
    auto from = begin_from(request, some_snapshot());
    EXPECT_EQ(from.template_name, "tiny");
    EXPECT_EQ(from.resources.cpu->to_string(), "2");
    EXPECT_EQ(from.resources.memory->to_string(), "256Mi");
    request.resources.memory = Quantity::parse("1Gi");
    EXPECT_EQ(begin_from(request, some_snapshot()).resources.memory->to_string(), "1Gi");
    request.template_name = "another";
    EXPECT_EQ(error_of([&] { begin_from(request, some_snapshot()); }).errc(), Errc::validation);
    auto half = some_snapshot();
    half.state = SnapshotState::creating;
    request.template_name = "tiny";
    EXPECT_EQ(error_of([&] { begin_from(request, half); }).errc(), Errc::conflict);
}

TEST(SnapshotRules, BeginsWithTheLimitsAndTheNetworkOfTheSource) {
    auto session = some_session();
    SessionRequest request;
    EXPECT_FALSE(begin_from(request, some_snapshot()).resources.network) << "an old record says nothing of it";
    EXPECT_FALSE(begin_from(request, some_snapshot()).resources.disk_iops);
    session.limits = VmLimits{0, 500, 0, 1 << 20};
    session.network = NetworkMode::bridge;
    session.bridge = "br0";
    auto planned = plan_snapshot(session, "snap-1", "x", SnapshotMode::disk, false, WallTime());
    planned.state = SnapshotState::ready;
    auto snapshot = snapshot_from_json(nlohmann::json(planned));
    auto taken = begin_from(request, snapshot).resources;
    EXPECT_EQ(taken.disk_iops->value(), 500);
    EXPECT_FALSE(taken.disk_bandwidth);
    EXPECT_EQ(taken.network_bandwidth->value(), 1 << 20);
    EXPECT_EQ(taken.network, NetworkMode::bridge);
    EXPECT_EQ(taken.bridge, "br0");
    Template tighter;
    tighter.limits.disk_iops = 100;
    EXPECT_EQ(begin_from(request, snapshot, tighter).resources.disk_iops->value(), 100);
    request.resources.network = NetworkMode::none;
    request.resources.disk_iops = Quantity::parse("7");
    auto told = begin_from(request, snapshot).resources;
    EXPECT_EQ(told.network, NetworkMode::none);
    EXPECT_EQ(told.bridge, "");
    EXPECT_EQ(told.disk_iops->value(), 7);
    request.resources.network.reset();
    request.resources.bridge = "br1";
    EXPECT_EQ(begin_from(request, snapshot).resources.bridge, "br1") << "it is refused as what it is";
}

TEST(SnapshotRules, LeavesTheNetworkToTheTemplateThatItCameFrom) {
    auto session = some_session();
    session.network = NetworkMode::bridge;
    session.bridge = "br0";
    Template source;
    source.network = NetworkMode::bridge;
    for (auto mode : {SnapshotMode::disk, SnapshotMode::memory})
        for (std::string bridge : {"br0", "br1"}) {
            auto planned = plan_snapshot(session, "snap-1", "x", mode, false, WallTime());
            source.bridge = bridge;
            leave_network_to(source, planned);
            EXPECT_EQ(planned.network.has_value(), mode == SnapshotMode::memory || bridge == "br1") << bridge;
            EXPECT_EQ(planned.bridge.empty(), !planned.network) << bridge;
        }
}

TEST(SnapshotRules, IsNeededByWhoHasNoDiskYet) {
    auto snapshot = some_snapshot();
    auto session = some_session(SessionState::provisioning);
    EXPECT_FALSE(waits_for(session, snapshot)) << "it begins from its image";
    session.snapshot = snapshot.id;
    EXPECT_TRUE(waits_for(session, snapshot));
    session.state = SessionState::active;
    EXPECT_FALSE(may_need(session, snapshot));
    session.state = SessionState::failed;
    EXPECT_FALSE(waits_for(session, snapshot));
    EXPECT_TRUE(may_need(session, snapshot)) << "it may be recovered";
}

TEST(SnapshotRules, HoldsItsUsersDisk) {
    auto reservation = reservation_of(some_snapshot());
    Amounts expected;
    expected.disk_bytes = 64 << 20;
    EXPECT_EQ(reservation.amounts, expected);
    EXPECT_EQ(reservation.user_id, "alice");
    EXPECT_EQ(reservation.session_id, "snap-1");
}

TEST(SnapshotRules, AStoredSnapshotIsReadAsItWas) {
    auto snapshot = some_snapshot();
    snapshot.version = 7;
    snapshot.temporary = true;
    nlohmann::json written = snapshot;
    EXPECT_EQ(nlohmann::json(snapshot_from_json(written)), written);
    written.erase("sha256");
    EXPECT_EQ(error_of([&] { snapshot_from_json(written); }).errc(), Errc::validation);
}

TEST(SnapshotRules, AForkDocumentNamesItsWrongField) {
    auto field_of = [](const char* text) {
        auto error = error_of([&] { fork_request_from_json(nlohmann::json::parse(text)); });
        return error.errc() == Errc::validation ? error.context().at("field") : error.message();
    };
    EXPECT_EQ(field_of(R"({"source": ""})"), "source");
    EXPECT_EQ(field_of(R"({"source": "s-1", "count": 0})"), "count");
    EXPECT_EQ(field_of(R"({"source": "s-1", "count": 101})"), "count");
    EXPECT_EQ(field_of(R"({"source": "s-1", "user_id": "a\nb"})"), "user_id");
    EXPECT_EQ(field_of(R"({"source": "s-1", "ttl": "0s"})"), "ttl");
    EXPECT_EQ(field_of(R"({"source": "s-1", "cuont": 2})"), "cuont");
    auto good = fork_request_from_json(nlohmann::json::parse(R"({"source": "s-1", "count": 3, "tags": {"a": "b"}})"));
    EXPECT_EQ(good.count, 3);
    EXPECT_EQ(good.tags.at("a"), "b");
    EXPECT_FALSE(good.user_id);
}

}  // namespace
}  // namespace infrastructure_sdk
