#include "session/measurement.hpp"

#include <algorithm>
#include <cstdio>
#include <initializer_list>

#include <infrastructure_sdk/duration.hpp>

namespace infrastructure_sdk {
namespace {

using State = SignalReading::State;
using Basis = MeasurementBasis;
using CounterValue = std::optional<std::uint64_t>;

struct Growth {
    Basis basis = Basis::absent;
    std::uint64_t amount = 0;
    Duration interval{};
};

Growth growth_of(const CounterMark& before, const CounterValue& now, MonotonicTime at, Duration longest_gap) {
    if (!now) return {};
    if (before.at == MonotonicTime::min()) return {Basis::first_look, 0, {}};
    const auto interval = at - before.at;
    if (interval > longest_gap) return {Basis::too_long_ago, 0, interval};
    if (*now < before.value) return {Basis::went_back, *now, interval};
    if (interval <= Duration::zero()) return {Basis::no_time, *now - before.value, {}};
    return {Basis::seen, *now - before.value, interval};
}

double per_second(const Growth& growth) {
    if (growth.interval <= Duration::zero()) return 0;
    return static_cast<double>(growth.amount) * 1e9 / static_cast<double>(growth.interval.count());
}

/// Counters that make one signal. What is known of it may be enough to be active; quiet needs all.
Measurement rate(std::initializer_list<Growth> parts, double threshold) {
    Measurement result{State::quiet, Basis::seen, 0, {}};
    for (const auto& part : parts) {
        result.amount += per_second(part);
        result.interval = std::max(result.interval, part.interval);
        if (part.basis != Basis::seen) result = {State::unknown, part.basis, result.amount, result.interval};
    }
    if (result.amount > threshold) result.state = State::active;
    return result;
}

/// Any growth is activity.
Measurement events(const Growth& growth) {
    auto state = growth.amount > 0 ? State::active : growth.basis == Basis::seen ? State::quiet : State::unknown;
    return {state, growth.basis, static_cast<double>(growth.amount), growth.interval};
}

using Count = std::optional<std::uint32_t>;

Measurement count(std::initializer_list<Count> parts) {
    Measurement result{State::quiet, Basis::seen, 0, {}};
    for (const auto& part : parts) {
        if (part) result.amount += *part;
        else result = {State::unknown, Basis::absent, result.amount, {}};
    }
    if (result.amount > 0) result.state = State::active;
    return result;
}

std::array<CounterValue, IdleMemory::counter_count> values_of(const ActivitySample& sample) {
    return {sample.guest_cpu_ns,     sample.network_rx_bytes, sample.network_tx_bytes, sample.disk_read_bytes,
            sample.disk_write_bytes, sample.input_events,     sample.execs_started,    sample.touches};
}

std::string number(const char* format, double value) {
    char text[64];
    std::snprintf(text, sizeof text, format, value);
    return text;
}

std::string counted(std::uint64_t n, const char* one, const char* many) {
    return n == 0 ? std::string("no ") + many : std::to_string(n) + " " + (n == 1 ? one : many);
}

std::string unseen(ActivitySignal signal, const Measurement& measurement, const ActivitySample& sample) {
    switch (measurement.basis) {
        case Basis::first_look: return "first look: nothing to compare with";
        case Basis::too_long_ago:
            return "the look before was " + to_string(std::chrono::floor<std::chrono::seconds>(measurement.interval)) +
                   " ago: too long to compare";
        case Basis::went_back: return "the counter was restarted";
        case Basis::no_time: return "no time has passed since the look before";
        case Basis::seen:
        case Basis::absent: break;
    }
    auto reason = sample.reasons.find(signal);
    return reason == sample.reasons.end() ? "not in the sample" : reason->second;
}

std::string clients(const ActivitySample& sample) {
    auto vnc = sample.vnc_clients.value_or(0), forwarded = sample.forwarded_connections.value_or(0);
    if (vnc == 0 && forwarded == 0) return "no clients";
    std::string text = vnc ? counted(vnc, "VNC client", "VNC clients") : "";
    if (forwarded) text += (vnc ? ", " : "") + counted(forwarded, "forwarded connection", "forwarded connections");
    return text;
}

std::string seen(ActivitySignal signal, const Measurement& measurement, const ActivitySample& sample) {
    const auto whole = static_cast<std::uint64_t>(measurement.amount);
    switch (signal) {
        case ActivitySignal::connection: return clients(sample);
        case ActivitySignal::input: return counted(whole, "input event", "input events");
        case ActivitySignal::guest_cpu: return number("%.1f %% of one core", measurement.amount * 100 / 1e9);
        case ActivitySignal::network:
        case ActivitySignal::disk: return number("%.0f B/s", measurement.amount);
        case ActivitySignal::users: return counted(whole, "user logged in", "users logged in");
        case ActivitySignal::heartbeat: return whole ? "the agent answers" : "the agent does not answer";
        case ActivitySignal::exec:
            return sample.exec_in_flight.value_or(0) || whole == 0
                       ? counted(sample.exec_in_flight.value_or(0), "command in flight", "commands in flight")
                       : counted(whole, "command started", "commands started");
        case ActivitySignal::hold: return counted(whole, "hold", "holds");
        case ActivitySignal::touch: return counted(whole, "touch", "touches");
    }
    return {};
}

}  // namespace

Measurements measure(const Counters& before, const ActivitySample& now, const IdleThresholds& thresholds) {
    const auto values = values_of(now);
    auto growth = [&](IdleMemory::Counter counter) {
        return growth_of(before[counter], values[counter], now.monotonic_at, thresholds.longest_gap);
    };
    Measurements result;
    auto of = [&](ActivitySignal signal) -> Measurement& { return result[static_cast<std::size_t>(signal)]; };
    of(ActivitySignal::connection) = count({now.vnc_clients, now.forwarded_connections});
    of(ActivitySignal::input) = events(growth(IdleMemory::input));
    of(ActivitySignal::guest_cpu) = rate({growth(IdleMemory::guest_cpu)}, thresholds.guest_cpu_cores * 1e9);
    of(ActivitySignal::network) =
        rate({growth(IdleMemory::network_rx), growth(IdleMemory::network_tx)}, thresholds.network_bytes_per_second);
    of(ActivitySignal::disk) =
        rate({growth(IdleMemory::disk_read), growth(IdleMemory::disk_write)}, thresholds.disk_bytes_per_second);
    of(ActivitySignal::users) = count({now.logged_in_users});
    of(ActivitySignal::heartbeat) = count({now.agent_answered ? Count(*now.agent_answered ? 1 : 0) : Count()});
    of(ActivitySignal::hold) = count({now.holds});
    of(ActivitySignal::touch) = events(growth(IdleMemory::touches));
    of(ActivitySignal::exec) = count({now.exec_in_flight});
    // A command that began and ended between two looks shows in the counter alone.
    if (auto started = events(growth(IdleMemory::execs)); started.state == State::active)
        of(ActivitySignal::exec) = started;
    return result;
}

void remember(Counters& counters, const ActivitySample& sample) {
    const auto values = values_of(sample);
    for (std::size_t i = 0; i < counters.size(); ++i)
        if (values[i] && sample.monotonic_at > counters[i].at) counters[i] = {*values[i], sample.monotonic_at};
}

std::vector<SignalReading> describe(const Measurements& measurements, const ActivitySample& sample) {
    std::vector<SignalReading> readings;
    readings.reserve(measurements.size());
    for (std::size_t i = 0; i < measurements.size(); ++i) {
        const auto signal = static_cast<ActivitySignal>(i);
        const auto& measurement = measurements[i];
        readings.push_back({signal, measurement.state,
                            measurement.state == State::unknown ? unseen(signal, measurement, sample)
                                                                : seen(signal, measurement, sample),
                            sample.at});
    }
    return readings;
}

}  // namespace infrastructure_sdk
