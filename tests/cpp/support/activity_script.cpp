#include "support/activity_script.hpp"

#include <cmath>

namespace infrastructure_sdk::test {

void ActivityScript::pass(Duration step, const Doing& doing) {
    const double seconds = std::chrono::duration<double>(step).count();
    elapsed_ += step;
    cpu_ns_ += doing.cpu * 1e7 * seconds;
    net_ += doing.net * seconds;
    disk_ += doing.disk * seconds;
    input_ += doing.input * seconds / 60;
    execs_ += doing.execs * seconds / 60;
    touches_ += doing.touches * seconds / 60;
}

ActivitySample ActivityScript::look(const Doing& doing) const {
    auto counter = [&](ActivitySignal signal, double value) -> std::optional<std::uint64_t> {
        if (doing.unseen.contains(signal)) return std::nullopt;
        return static_cast<std::uint64_t>(std::llround(std::floor(value + 1e-6)));
    };
    auto number = [&](ActivitySignal signal, std::uint32_t value) -> std::optional<std::uint32_t> {
        if (doing.unseen.contains(signal)) return std::nullopt;
        return value;
    };
    using enum ActivitySignal;
    ActivitySample sample;
    sample.at = start_ + elapsed_;
    // Another origin than the wall clock's, so that mixing them up shows.
    sample.monotonic_at = MonotonicTime(std::chrono::hours(1000) + elapsed_);
    sample.execution_id = "execution-" + std::to_string(execution_);
    sample.guest_cpu_ns = counter(guest_cpu, cpu_ns_);
    sample.network_rx_bytes = counter(network, net_ * 0.75);
    sample.network_tx_bytes = counter(network, net_ * 0.25);
    sample.disk_read_bytes = counter(disk, disk_ * 0.5);
    sample.disk_write_bytes = counter(disk, disk_ * 0.5);
    sample.input_events = counter(input, input_);
    sample.execs_started = counter(exec, execs_);
    sample.touches = counter(touch, touches_);
    sample.vnc_clients = number(connection, doing.clients);
    sample.forwarded_connections = number(connection, doing.forwarded);
    sample.logged_in_users = number(users, doing.users);
    sample.exec_in_flight = number(exec, doing.exec);
    sample.holds = number(hold, doing.holds);
    if (!doing.unseen.contains(heartbeat)) sample.agent_answered = doing.agent;
    for (auto signal : doing.unseen) sample.reasons[signal] = std::string("could not ask for ") + name_of(signal);
    return sample;
}

ActivitySample ActivityScript::step(Duration step, const Doing& doing) {
    pass(step, doing);
    return look(doing);
}

std::vector<ActivitySample> ActivityScript::looks(int count, Duration step, const Doing& doing) {
    std::vector<ActivitySample> samples{look(doing)};
    for (int i = 0; i < count; ++i) samples.push_back(this->step(step, doing));
    return samples;
}

void ActivityScript::restart() {
    ++execution_;
    cpu_ns_ = net_ = disk_ = input_ = execs_ = touches_ = 0;
}

void ActivityScript::reset(ActivitySignal signal) {
    using enum ActivitySignal;
    switch (signal) {
        case guest_cpu: cpu_ns_ = 0; break;
        case network: net_ = 0; break;
        case disk: disk_ = 0; break;
        case input: input_ = 0; break;
        case exec: execs_ = 0; break;
        case touch: touches_ = 0; break;
        case connection:
        case users:
        case heartbeat:
        case hold: break;
    }
}

}  // namespace infrastructure_sdk::test
