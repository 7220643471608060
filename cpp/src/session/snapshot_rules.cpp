#include "session/snapshot_rules.hpp"

#include <algorithm>

#include "session/session_plan.hpp"

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr int most_forks = 100;

[[noreturn]] void reject(const std::string& field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, field + ": '" + value + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

/// The guest has them already: nothing else fits its memory.
void need_same(const char* field, const Quantity& asked, const Quantity& there, const Snapshot& snapshot) {
    if (asked.milli() != there.milli())
        reject(field, asked.to_string(), "snapshot " + snapshot.id + " holds memory that fits " + there.to_string());
}

void check_memory_request(const SessionRequest& request, const Snapshot& snapshot) {
    if (request.user_id != snapshot.user_id)
        reject("user_id", request.user_id,
               "snapshot " + snapshot.id + " holds what was in the memory of '" + snapshot.user_id + "'");
    need_same("resources.cpu", *request.resources.cpu, snapshot.cpu, snapshot);
    need_same("resources.memory", *request.resources.memory, snapshot.memory, snapshot);
    need_same("resources.disk_size", *request.resources.disk_size, snapshot.disk_size, snapshot);
}

/// As the session had them, but no more than the template allows now.
void take_limits(ResourceSpec& resources, const VmLimits& limits, const Template& source) {
    for (const auto& limit : resource_limits) {
        auto value = limits.*limit.place;
        auto most = source.limits.*limit.place;
        if (most > 0) value = std::min(value, most);
        auto& asked = resources.*limit.asked;
        if (!asked && value > 0) asked = Quantity::from_units(static_cast<std::int64_t>(value));
    }
}

}  // namespace

void need_snapshot_capability(const Capabilities& capabilities, SnapshotMode mode) {
    if (!capabilities.snapshot)
        throw Error(Errc::unsupported, "provider " + capabilities.provider + " cannot take snapshots",
                    {{"capability", "snapshot"}});
    if (mode == SnapshotMode::memory && !capabilities.memory_snapshot)
        throw Error(Errc::unsupported, "provider " + capabilities.provider + " cannot take snapshots of memory",
                    {{"capability", "memory_snapshot"}});
}

void need_copyable(const Session& session, SnapshotMode mode) {
    using S = SessionState;
    const bool whole = mode == SnapshotMode::memory;
    if (session.state == S::active) return;
    if (!whole && (session.state == S::suspended || session.state == S::failed)) return;
    throw Error(Errc::invalid_transition,
                "cannot snapshot " + std::string(whole ? "the memory of " : "") + "session " + session.id +
                    " while it is " + name_of(session.state) +
                    (whole ? "; it must be active" : "; it must be active, suspended or failed"),
                {{"session", session.id}, {"state", name_of(session.state)}, {"verb", "snapshot"}});
}

bool takes_identity(const Template& source) {
    const auto& channels = source.channels;
    return source.os == "linux" && std::find(channels.begin(), channels.end(), "agent") != channels.end();
}

void need_renamable(const Template& source) {
    if (takes_identity(source)) return;
    throw Error(Errc::unsupported,
                "the memory of template '" + source.name +
                    "' cannot be copied: a copy becomes another guest through its agent, which takes Linux and the "
                    "channel 'agent'",
                {{"capability", "memory_snapshot"}, {"template", source.name}});
}

void check_snapshot_name(const std::string& name) {
    bool good = !name.empty() && name.size() <= 128 &&
                std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (!good) reject("name", name.substr(0, 128), "1 to 128 characters without control characters are needed");
}

void check_fork(const ForkRequest& request) {
    if (request.count < 1 || request.count > most_forks)
        reject("count", std::to_string(request.count), "1 to " + std::to_string(most_forks));
    if (request.source.empty()) reject("source", request.source, "the id of a session or of a snapshot is needed");
}

void need_user_of_memory(const ForkRequest& request, const Session& session) {
    auto user = request.user_id.value_or(session.user_id);
    if (request.mode == SnapshotMode::memory && user != session.user_id)
        reject("user_id", user, "session " + session.id + " holds what is in the memory of '" + session.user_id + "'");
}

bool is_snapshot_id(const std::string& id) { return id.starts_with("snap-"); }

Snapshot plan_snapshot(const Session& session, const std::string& id, const std::string& name, SnapshotMode mode,
                       bool temporary, WallTime now) {
    check_snapshot_name(name);
    Snapshot snapshot;
    snapshot.id = id;
    snapshot.name = name;
    snapshot.session_id = session.id;
    snapshot.user_id = session.user_id;
    snapshot.tenant = session.tenant;
    snapshot.template_name = session.template_name;
    snapshot.session_type = session.session_type;
    snapshot.session_state = session.state;
    snapshot.mode = mode;
    snapshot.temporary = temporary;
    snapshot.vm_id = session.vm_id;
    snapshot.cpu = session.cpu;
    snapshot.memory = session.memory;
    snapshot.disk_size = session.disk_size;
    snapshot.gpu_count = session.gpu_count;
    snapshot.gpu_type = session.gpu_type;
    snapshot.limits = session.limits;
    snapshot.network = session.network;
    snapshot.bridge = session.bridge;
    snapshot.encryption = session.encryption;
    snapshot.created_at = now;
    return snapshot;
}

Snapshot completed(Snapshot snapshot, const VmSnapshot& seen) {
    snapshot.state = SnapshotState::ready;
    snapshot.consistent = seen.consistent;
    snapshot.memory_size_bytes = seen.memory_size_bytes;
    snapshot.size_bytes = seen.size_bytes;
    snapshot.virtual_size_bytes = seen.virtual_size_bytes;
    snapshot.sha256 = seen.sha256;
    return snapshot;
}

Reservation reservation_of(const Snapshot& snapshot) {
    Reservation reservation;
    reservation.session_id = snapshot.id;
    reservation.user_id = snapshot.user_id;
    reservation.tenant = snapshot.tenant;
    reservation.template_name = snapshot.template_name;
    reservation.amounts.disk_bytes = snapshot.disk_size.value();
    if (snapshot.mode == SnapshotMode::memory) reservation.amounts.disk_bytes += snapshot.memory.value();
    return reservation;
}

void leave_network_to(const Template& source, Snapshot& snapshot) {
    if (snapshot.mode == SnapshotMode::memory) return;
    if (snapshot.network != source.network || snapshot.bridge != source.bridge) return;
    snapshot.network.reset();
    snapshot.bridge.clear();
}

SessionRequest begin_from(SessionRequest request, const Snapshot& snapshot, const Template& source) {
    if (snapshot.state != SnapshotState::ready)
        throw Error(Errc::conflict, "snapshot " + snapshot.id + " is " + name_of(snapshot.state) + ", not ready",
                    {{"field", "snapshot"}, {"value", snapshot.id}, {"state", name_of(snapshot.state)}});
    bool told = request.template_name != SessionRequest().template_name;
    if (told && request.template_name != snapshot.template_name)
        reject("template", request.template_name,
               "snapshot " + snapshot.id + " is of '" + snapshot.template_name + "'");
    request.template_name = snapshot.template_name;
    if (!request.resources.cpu) request.resources.cpu = snapshot.cpu;
    if (!request.resources.memory) request.resources.memory = snapshot.memory;
    if (!request.resources.disk_size) request.resources.disk_size = snapshot.disk_size;
    if (!request.resources.gpu_count && request.resources.gpu_type.empty()) {
        request.resources.gpu_count = snapshot.gpu_count;
        request.resources.gpu_type = snapshot.gpu_type;
    }
    if (snapshot.limits) take_limits(request.resources, *snapshot.limits, source);
    if (!request.resources.network && request.resources.bridge.empty() && snapshot.network) {
        request.resources.network = snapshot.network;
        request.resources.bridge = snapshot.bridge;
    }
    if (snapshot.mode == SnapshotMode::memory) check_memory_request(request, snapshot);
    if (snapshot.encryption != Encryption::off) {
        auto asked = request.encryption.value_or(std::max(source.encryption, snapshot.encryption));
        if (asked < snapshot.encryption)
            reject("encryption", name_of(asked),
                   "snapshot " + snapshot.id + " is encrypted: " + name_of(snapshot.encryption));
        request.encryption = asked;
    }
    return request;
}

SessionRequest request_of(const ForkRequest& fork, const Snapshot& snapshot) {
    SessionRequest request;
    request.user_id = fork.user_id.value_or(snapshot.user_id);
    request.tenant = snapshot.tenant;
    request.template_name = snapshot.template_name;
    request.snapshot = snapshot.id;
    request.session_type = snapshot.session_type;
    request.ttl = fork.ttl;
    request.tags = fork.tags;
    return request;
}

bool waits_for(const Session& session, const Snapshot& snapshot) {
    return session.snapshot == snapshot.id &&
           (session.state == SessionState::pending || session.state == SessionState::provisioning);
}

bool may_need(const Session& session, const Snapshot& snapshot) {
    return waits_for(session, snapshot) || (session.snapshot == snapshot.id && session.state == SessionState::failed);
}

bool matches(const SnapshotFilter& filter, const Snapshot& snapshot) {
    return (!filter.session_id || *filter.session_id == snapshot.session_id) &&
           (!filter.user_id || *filter.user_id == snapshot.user_id);
}

}  // namespace infrastructure_sdk
