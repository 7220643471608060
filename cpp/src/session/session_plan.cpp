#include "session/session_plan.hpp"

#include <algorithm>

#include "session/clock_rules.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

[[noreturn]] void reject(const std::string& field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, field + ": '" + value + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

constexpr std::int64_t mebibyte = 1 << 20;

SessionClocks plan_clocks(const SessionRequest& request, SessionClocks clocks, WallTime now) {
    auto take = [&clocks](ClockKind kind, const std::optional<Duration>& asked) {
        auto& limit = clock_of(clocks, kind).limit;
        if (asked) limit = asked;
        if (limit == Duration::zero() && kind != ClockKind::ttl) limit.reset();
    };
    take(ClockKind::ttl, request.ttl);
    take(ClockKind::idle_timeout, request.idle_timeout);
    take(ClockKind::disconnect_timeout, request.disconnect_timeout);
    take(ClockKind::retention, request.retention);
    for (const auto& [kind, action] : request.on_expiry) clock_of(clocks, kind).on_expiry = action;
    check(clocks);
    return start_clocks(clocks, now);
}

}  // namespace

VmLimits limits_of(const ResourceSpec& resources, const Template& source) {
    auto limits = source.limits;
    for (const auto& limit : resource_limits) {
        const auto& asked = resources.*limit.asked;
        if (!asked) continue;
        const auto field = std::string("resources.") + limit.name;
        const auto least = Quantity::parse(limit.least, field), most = Quantity::parse(limit.most, field);
        if (asked->milli() % 1000 != 0 || asked->milli() < least.milli() || asked->milli() > most.milli())
            reject(field, asked->to_string(), std::string("a whole number of ") + limit.least + " to " + limit.most);
        const auto value = static_cast<std::uint64_t>(asked->value());
        auto& place = limits.*limit.place;
        if (place > 0 && value > place)
            reject(field, asked->to_string(), "template '" + source.name + "' allows " + std::to_string(place));
        place = value;
    }
    return limits;
}

Session plan_session(const SessionRequest& request, const Template& source, const SessionIds& ids,
                     const SessionClocks& rules, WallTime now) {
    Session session;
    session.clocks = plan_clocks(request, rules, now);
    session.id = ids.session;
    session.user_id = request.user_id;
    session.tenant = request.tenant;
    session.template_name = source.name;
    session.session_type = request.session_type;
    session.snapshot = request.snapshot;
    session.vm_id.value = ids.vm;
    session.execution_id = ids.execution;
    session.cpu = request.resources.cpu.value_or(source.cpu);
    session.memory = request.resources.memory.value_or(source.memory);
    session.disk_size = request.resources.disk_size.value_or(source.disk_size);
    if (session.cpu.value() > 255) reject("resources.cpu", session.cpu.to_string(), "at most 255");
    // The hypervisor takes whole mebibytes.
    if (session.memory.value() < source.memory.value())
        reject("resources.memory", session.memory.to_string(),
               "template '" + source.name + "' needs at least " + source.memory.to_string());
    if (session.memory.value() % mebibyte != 0)
        reject("resources.memory", session.memory.to_string(), "a multiple of 1Mi");
    session.limits = limits_of(request.resources, source);
    session.network = request.resources.network.value_or(source.network);
    session.bridge = request.resources.network ? request.resources.bridge : source.bridge;
    session.encryption = request.encryption.value_or(source.encryption);
    if (session.encryption < source.encryption)
        reject("encryption", name_of(session.encryption),
               "template '" + source.name + "' demands at least " + name_of(source.encryption));
    session.mac_address = mac_address_of(ids.session);
    session.created_at = session.updated_at = session.observed_at = now;
    session.expires_at = session.clocks.ttl.deadline;
    session.warned_until = now;
    session.last_activity_at = now;
    session.tags = request.tags;
    set_condition(session, {"Ready", "False", "Pending", "waiting to be started", now});
    return session;
}

void plan_gpus(Session& session, const ResourceSpec& resources, const Template& source,
               const Capabilities& capabilities) {
    constexpr std::int64_t most = 64;
    const auto& gpus = capabilities.gpus;
    auto type = resources.gpu_type;
    auto count = resources.gpu_count.value_or(type.empty() ? 0 : 1);
    if (count < 0 || count > most) reject("resources.gpu_count", std::to_string(count), "an integer of 0 to 64");
    if (count == 0 && !type.empty()) reject("resources.gpu_count", "0", "at least 1 when resources.gpu_type is given");
    session.charge.price_per_hour_micros = source.price_per_hour_micros + count * source.gpu_price_per_hour_micros;
    if (count == 0) return;
    if (gpus.empty())
        throw Error(Errc::unsupported,
                    "resources.gpu_count: '" + std::to_string(count) + "' is not possible: provider " +
                        capabilities.provider + " has no GPUs on this host" +
                        (capabilities.gpu_reason.empty() ? "" : ": " + capabilities.gpu_reason),
                    {{"field", "resources.gpu_count"}, {"value", std::to_string(count)}, {"capability", "gpu"}});
    std::string known;
    for (const auto& [name, there] : gpus) known += (known.empty() ? "" : ", ") + name;
    if (type.empty() && gpus.size() > 1) reject("resources.gpu_type", type, "one of " + known);
    if (type.empty()) type = gpus.begin()->first;
    auto there = gpus.find(type);
    if (there == gpus.end()) reject("resources.gpu_type", type, "one of " + known);
    if (count > there->second)
        reject("resources.gpu_count", std::to_string(count),
               "the host has " + std::to_string(there->second) + " of type '" + type + "'");
    session.gpu_count = count;
    session.gpu_type = type;
}

VmSpec plan_vm(const Session& session, const Template& source, ImageFiles image) {
    VmSpec spec;
    spec.id = session.vm_id;
    spec.name = session.id;
    spec.owner_session = session.id;
    spec.owner_user = session.user_id;
    spec.encryption = session.encryption;
    spec.machine = source.machine;
    spec.firmware = source.firmware;
    spec.tpm = source.tpm;
    spec.enlightenments = source.enlightenments;
    spec.clock = source.clock;
    spec.cpu_count = static_cast<int>(session.cpu.value());
    spec.memory_bytes = static_cast<std::uint64_t>(session.memory.value());
    spec.disk_size_bytes = static_cast<std::uint64_t>(session.disk_size.value());
    if (spec.disk_size_bytes != 0 && spec.disk_size_bytes < image.disk_size_bytes)
        reject("resources.disk_size", session.disk_size.to_string(),
               "image '" + image.name + "' needs at least " + std::to_string(image.disk_size_bytes) + " bytes");
    spec.limits = session.limits.value_or(source.limits);
    spec.limits.cpu_milli = session.cpu.milli();
    spec.pin_cpus = source.pin_cpus;
    spec.watchdog = source.watchdog;
    spec.gpu_count = session.gpu_count;
    spec.gpu_type = session.gpu_type;
    spec.display = source.display;
    spec.network = session.network.value_or(source.network);
    spec.bridge = session.network ? session.bridge : source.bridge;
    spec.mac_address = session.mac_address;
    spec.channels = source.channels;
    spec.boot_timeout = source.boot_timeout;
    spec.snapshot = session.snapshot;
    spec.image = std::move(image);
    return spec;
}

std::string mac_address_of(const std::string& session_id) {
    std::string mac = "02";
    std::string digits;
    for (char c : session_id)
        if (std::isxdigit(static_cast<unsigned char>(c))) digits += c;
    digits.resize(10, '0');
    for (std::size_t i = 0; i < 10; i += 2) mac += ":" + digits.substr(i, 2);
    return mac;
}

RecoveryStep plan_recovery(SessionState state, VmState vm) {
    using A = RecoveryStep::Action;
    const bool lost = vm == VmState::failed || vm == VmState::stopped || vm == VmState::deleted;
    switch (state) {
        case SessionState::active:
            // `unknown` is not death: the session stays as recorded until somebody can look.
            if (lost || vm == VmState::suspended) return {A::apply, SessionInput::vm_lost};
            return {A::keep, {}};
        case SessionState::suspended:
            if (vm == VmState::deleted || vm == VmState::failed) return {A::apply, SessionInput::vm_lost};
            return {A::keep, {}};
        case SessionState::suspending:
            if (lost) return {A::apply, SessionInput::vm_lost};
            return {A::drive, {}};
        case SessionState::pending:
        case SessionState::provisioning:
        case SessionState::resuming:
        case SessionState::terminating: return {A::drive, {}};
        case SessionState::failed:
        case SessionState::terminated: return {A::keep, {}};
    }
    return {A::keep, {}};
}

bool matches(const SessionFilter& filter, const Session& session) {
    if (filter.user_id && *filter.user_id != session.user_id) return false;
    if (filter.tenant && *filter.tenant != session.tenant) return false;
    if (filter.states.empty()
            ? session.state == SessionState::terminated
            : std::find(filter.states.begin(), filter.states.end(), session.state) == filter.states.end())
        return false;
    return std::all_of(filter.tags.begin(), filter.tags.end(), [&](const auto& tag) {
        auto it = session.tags.find(tag.first);
        return it != session.tags.end() && it->second == tag.second;
    });
}

void set_condition(Session& session, Condition condition) {
    for (auto& existing : session.conditions) {
        if (existing.type != condition.type) continue;
        if (existing.status == condition.status) condition.since = existing.since;
        existing = std::move(condition);
        return;
    }
    session.conditions.push_back(std::move(condition));
}

}  // namespace infrastructure_sdk
