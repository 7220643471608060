#include "session/snapshot_rules.hpp"

#include <algorithm>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr int most_forks = 100;

[[noreturn]] void reject(const std::string& field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, field + ": '" + value + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

}  // namespace

void need_snapshot_capability(const Capabilities& capabilities) {
    if (capabilities.snapshot) return;
    throw Error(Errc::unsupported, "provider " + capabilities.provider + " cannot take snapshots",
                {{"capability", "snapshot"}});
}

void need_copyable(const Session& session) {
    using S = SessionState;
    if (session.state == S::active || session.state == S::suspended || session.state == S::failed) return;
    throw Error(Errc::invalid_transition,
                "cannot snapshot session " + session.id + " while it is " + name_of(session.state) +
                    "; it must be active, suspended or failed",
                {{"session", session.id}, {"state", name_of(session.state)}, {"verb", "snapshot"}});
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

bool is_snapshot_id(const std::string& id) { return id.starts_with("snap-"); }

Snapshot plan_snapshot(const Session& session, const std::string& id, const std::string& name, bool temporary,
                       WallTime now) {
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
    snapshot.temporary = temporary;
    snapshot.vm_id = session.vm_id;
    snapshot.cpu = session.cpu;
    snapshot.memory = session.memory;
    snapshot.disk_size = session.disk_size;
    snapshot.gpu_count = session.gpu_count;
    snapshot.gpu_type = session.gpu_type;
    snapshot.encryption = session.encryption;
    snapshot.created_at = now;
    return snapshot;
}

Snapshot completed(Snapshot snapshot, const VmSnapshot& seen) {
    snapshot.state = SnapshotState::ready;
    snapshot.consistent = seen.consistent;
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
    return reservation;
}

SessionRequest begin_from(SessionRequest request, const Snapshot& snapshot) {
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
    if (snapshot.encryption == Encryption::all) {
        auto asked = request.encryption.value_or(Encryption::all);
        if (asked != Encryption::all)
            reject("encryption", name_of(asked), "snapshot " + snapshot.id + " is encrypted: all");
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
