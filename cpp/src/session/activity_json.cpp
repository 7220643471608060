#include "session/activity_json.hpp"

#include <nlohmann/json.hpp>

#include "session/clock_rules.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

template <typename T>
struct SampleField {
    const char* name;
    std::optional<T> ActivitySample::* member;
};
constexpr SampleField<std::uint64_t> counters[] = {
    {"guest_cpu_ns", &ActivitySample::guest_cpu_ns},         {"network_rx_bytes", &ActivitySample::network_rx_bytes},
    {"network_tx_bytes", &ActivitySample::network_tx_bytes}, {"disk_read_bytes", &ActivitySample::disk_read_bytes},
    {"disk_write_bytes", &ActivitySample::disk_write_bytes}, {"input_events", &ActivitySample::input_events},
    {"execs_started", &ActivitySample::execs_started},       {"touches", &ActivitySample::touches},
};
constexpr SampleField<std::uint32_t> counts[] = {
    {"vnc_clients", &ActivitySample::vnc_clients},
    {"forwarded_connections", &ActivitySample::forwarded_connections},
    {"logged_in_users", &ActivitySample::logged_in_users},
    {"exec_in_flight", &ActivitySample::exec_in_flight},
    {"holds", &ActivitySample::holds},
};
// In the order of IdleMemory::Counter.
constexpr const char* mark_names[] = {"guest_cpu",  "network_rx", "network_tx", "disk_read",
                                      "disk_write", "input",      "execs",      "touches"};
static_assert(std::size(mark_names) == IdleMemory::counter_count);

struct MemoryTime {
    const char* name;
    MonotonicTime IdleMemory::* member;
};
constexpr MemoryTime memory_times[] = {{"seen_at", &IdleMemory::seen_at},
                                       {"known_at", &IdleMemory::known_at},
                                       {"quiet_since", &IdleMemory::quiet_since},
                                       {"armed_at", &IdleMemory::armed_at},
                                       {"state_since", &IdleMemory::state_since}};

constexpr ClockKind clock_kinds[] = {ClockKind::ttl, ClockKind::idle_timeout, ClockKind::disconnect_timeout,
                                     ClockKind::retention};

template <typename T>
json or_null(const std::optional<T>& value) {
    return value ? json(*value) : json(nullptr);
}
json or_null(const std::optional<Duration>& value) { return value ? json(to_string(*value)) : json(nullptr); }
json or_null(const std::optional<WallTime>& value) { return value ? json(to_rfc3339(*value)) : json(nullptr); }

template <typename T>
std::optional<T> read(const json& document, const char* key) {
    const auto& value = document.at(key);
    return value.is_null() ? std::nullopt : std::optional<T>(value.get<T>());
}
std::optional<Duration> read_duration(const json& document, const char* key) {
    auto text = read<std::string>(document, key);
    return text ? std::optional(parse_duration(*text, key)) : std::nullopt;
}
std::optional<WallTime> read_time(const json& document, const char* key) {
    auto text = read<std::string>(document, key);
    return text ? std::optional(parse_rfc3339(*text)) : std::nullopt;
}

json moment(MonotonicTime time) {
    return time == MonotonicTime::min() ? json(nullptr) : json(time.time_since_epoch().count());
}
MonotonicTime read_moment(const json& value) {
    return value.is_null() ? MonotonicTime::min() : MonotonicTime(Duration(value.get<std::int64_t>()));
}

json names(SignalSet set) {
    auto list = json::array();
    for (auto signal : set.list()) list.push_back(name_of(signal));
    return list;
}

/// The enumerator of `count` that has this name.
template <typename Enum>
Enum parse(const std::string& name, int count, const char* what) {
    for (int i = 0; i < count; ++i)
        if (name == name_of(static_cast<Enum>(i))) return static_cast<Enum>(i);
    throw Error(Errc::validation, std::string("unknown ") + what + " '" + name + "'",
                {{"field", what}, {"value", name}});
}

template <typename Reader>
auto checked(const char* what, Reader reader) try {
    return reader();
} catch (const json::exception& error) {
    throw Error(Errc::validation, std::string("a stored ") + what + " cannot be read: " + error.what(),
                {{"field", what}});
}

}  // namespace

void to_json(json& document, const SignalReading& reading) {
    document = {{"signal", name_of(reading.signal)},
                {"state", name_of(reading.state)},
                {"detail", reading.detail},
                {"at", to_rfc3339(reading.at)}};
}

SignalReading signal_reading_from_json(const json& document) {
    return checked("reading", [&] {
        return SignalReading{parse_activity_signal(document.at("signal")),
                             parse<SignalReading::State>(document.at("state"), 3, "reading state"),
                             document.at("detail"), parse_rfc3339(document.at("at"))};
    });
}

void to_json(json& document, const ActivitySample& sample) {
    document = {{"at", to_rfc3339(sample.at)},
                {"monotonic_at", sample.monotonic_at.time_since_epoch().count()},
                {"execution_id", sample.execution_id},
                {"agent_answered", or_null(sample.agent_answered)},
                {"reasons", json::object()}};
    for (const auto& field : counters) document[field.name] = or_null(sample.*field.member);
    for (const auto& field : counts) document[field.name] = or_null(sample.*field.member);
    for (const auto& [signal, reason] : sample.reasons) document["reasons"][name_of(signal)] = reason;
}

ActivitySample activity_sample_from_json(const json& document) {
    return checked("sample", [&] {
        ActivitySample sample;
        sample.at = parse_rfc3339(document.at("at"));
        sample.monotonic_at = MonotonicTime(Duration(document.at("monotonic_at").get<std::int64_t>()));
        sample.execution_id = document.at("execution_id");
        sample.agent_answered = read<bool>(document, "agent_answered");
        for (const auto& field : counters) sample.*field.member = read<std::uint64_t>(document, field.name);
        for (const auto& field : counts) sample.*field.member = read<std::uint32_t>(document, field.name);
        for (const auto& [name, reason] : document.at("reasons").items())
            sample.reasons[parse_activity_signal(name)] = reason.template get<std::string>();
        return sample;
    });
}

void to_json(json& document, const IdleSettings& settings) {
    document = {{"idle_timeout", or_null(settings.idle_timeout)},
                {"arming_delay", to_string(settings.arming_delay)},
                {"sample_interval", to_string(settings.sample_interval)},
                {"thresholds",
                 {{"guest_cpu_cores", settings.thresholds.guest_cpu_cores},
                  {"network_bytes_per_second", settings.thresholds.network_bytes_per_second},
                  {"disk_bytes_per_second", settings.thresholds.disk_bytes_per_second},
                  {"longest_gap", to_string(settings.thresholds.longest_gap)}}}};
}

IdleSettings idle_settings_from_json(const json& document) {
    return checked("idle settings", [&] {
        IdleSettings settings;
        settings.idle_timeout = read_duration(document, "idle_timeout");
        settings.arming_delay = parse_duration(document.at("arming_delay").get<std::string>(), "arming_delay");
        settings.sample_interval = parse_duration(document.at("sample_interval").get<std::string>(), "sample_interval");
        const auto& stored = document.at("thresholds");
        auto& thresholds = settings.thresholds;
        thresholds.guest_cpu_cores = stored.at("guest_cpu_cores");
        thresholds.network_bytes_per_second = stored.at("network_bytes_per_second");
        thresholds.disk_bytes_per_second = stored.at("disk_bytes_per_second");
        thresholds.longest_gap = parse_duration(stored.at("longest_gap").get<std::string>(), "longest_gap");
        return settings;
    });
}

void to_json(json& document, const IdleVerdict& verdict) {
    document = {{"state", name_of(verdict.state)},
                {"changed", verdict.changed},
                {"since", to_rfc3339(verdict.since)},
                {"quiet_since", to_rfc3339(verdict.quiet_since)},
                {"next_look", to_rfc3339(verdict.next_look)},
                {"wake_at", moment(verdict.wake_at)},
                {"active", names(verdict.active)},
                {"missing", names(verdict.missing)},
                {"unseen", names(verdict.unseen)}};
}

void to_json(json& document, const IdleMemory& memory) {
    document = {{"state", name_of(memory.state)}, {"execution", memory.execution}, {"counters", json::object()}};
    for (const auto& time : memory_times) document[time.name] = moment(memory.*time.member);
    for (std::size_t i = 0; i < memory.counters.size(); ++i) {
        const auto& mark = memory.counters[i];
        document["counters"][mark_names[i]] = {{"value", mark.value}, {"at", moment(mark.at)}};
    }
}

IdleMemory idle_memory_from_json(const json& document) {
    return checked("idle memory", [&] {
        IdleMemory memory;
        memory.state = parse<IdleState>(document.at("state"), 5, "idle state");
        memory.execution = document.at("execution");
        for (const auto& time : memory_times) memory.*time.member = read_moment(document.at(time.name));
        for (std::size_t i = 0; i < memory.counters.size(); ++i) {
            const auto& mark = document.at("counters").at(mark_names[i]);
            memory.counters[i] = {mark.at("value").get<std::uint64_t>(), read_moment(mark.at("at"))};
        }
        // Only a look that never was has no times; the detector counts on it.
        for (const auto& time : memory_times) {
            const bool needed = memory.execution != 0 && time.member != &IdleMemory::armed_at;
            if (needed && memory.*time.member == MonotonicTime::min())
                throw Error(Errc::validation, std::string("a stored idle memory lacks ") + time.name,
                            {{"field", time.name}});
        }
        return memory;
    });
}

void to_json(json& document, const SessionClocks& clocks) {
    document = {{"created_at", to_rfc3339(clocks.created_at)},
                {"connected", clocks.connected},
                {"maximum_ttl", or_null(clocks.maximum_ttl)},
                {"warn_before", to_string(clocks.warn_before)}};
    for (auto kind : clock_kinds) {
        const auto& clock = clock_of(clocks, kind);
        document[name_of(kind)] = {{"limit", or_null(clock.limit)},
                                   {"on_expiry", name_of(clock.on_expiry)},
                                   {"deadline", or_null(clock.deadline)},
                                   {"spent", clock.spent}};
    }
}

SessionClocks session_clocks_from_json(const json& document) {
    return checked("clocks", [&] {
        SessionClocks clocks;
        clocks.created_at = parse_rfc3339(document.at("created_at"));
        clocks.connected = document.at("connected");
        clocks.maximum_ttl = read_duration(document, "maximum_ttl");
        clocks.warn_before = parse_duration(document.at("warn_before").get<std::string>(), "warn_before");
        for (auto kind : clock_kinds) {
            const auto& clock = document.at(name_of(kind));
            clock_of(clocks, kind) = {read_duration(clock, "limit"), parse_on_expiry(clock.at("on_expiry")),
                                      read_time(clock, "deadline"), clock.at("spent").get<bool>()};
        }
        return clocks;
    });
}

void to_json(json& document, const ClockDeadline& deadline) {
    document = {{"clock", name_of(deadline.clock)},
                {"action", name_of(deadline.action)},
                {"at", to_rfc3339(deadline.at)},
                {"warn_at", to_rfc3339(deadline.warn_at)},
                {"firm", deadline.firm}};
}

}  // namespace infrastructure_sdk
