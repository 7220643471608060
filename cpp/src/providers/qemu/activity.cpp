#include "providers/qemu/activity.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include "providers/qemu/command_line.hpp"
#include "providers/qemu/provider.hpp"

namespace infrastructure_sdk::qemu {

using nlohmann::json;

std::optional<std::vector<std::int64_t>> vcpu_threads(const json& answer) {
    if (!answer.is_array() || answer.empty()) return std::nullopt;
    std::vector<std::int64_t> threads;
    for (const auto& cpu : answer) {
        auto thread = cpu.is_object() ? cpu.find("thread-id") : cpu.end();
        if (thread == cpu.end() || !thread->is_number_integer()) return std::nullopt;
        threads.push_back(thread->get<std::int64_t>());
    }
    std::sort(threads.begin(), threads.end());
    threads.erase(std::unique(threads.begin(), threads.end()), threads.end());
    return threads;
}

std::optional<std::uint64_t> cpu_nanoseconds(const std::string& schedstat) {
    std::istringstream in(schedstat);
    std::uint64_t on_cpu = 0, waiting = 0, slices = 0;
    if (!(in >> on_cpu >> waiting >> slices)) return std::nullopt;
    return on_cpu;
}

std::optional<Transferred> disk_bytes(const json& answer) try {
    if (!answer.is_array()) return std::nullopt;
    Transferred sum;
    for (const auto& device : answer) {
        const auto& stats = device.at("stats");
        sum.in += stats.at("rd_bytes").get<std::uint64_t>();
        sum.out += stats.at("wr_bytes").get<std::uint64_t>();
    }
    return sum;
} catch (const json::exception&) {
    return std::nullopt;
}

std::optional<Transferred> network_bytes(const std::vector<GuestInterface>& interfaces) {
    Transferred sum;
    for (const auto& interface : interfaces) {
        if (interface.name == "lo") continue;
        if (!interface.rx_bytes || !interface.tx_bytes) return std::nullopt;
        sum.in += *interface.rx_bytes;
        sum.out += *interface.tx_bytes;
    }
    return sum;
}

std::optional<std::uint32_t> vnc_clients(const json& answer) {
    if (!answer.is_object()) return std::nullopt;
    if (!answer.value("enabled", false)) return 0;
    auto clients = answer.find("clients");
    if (clients == answer.end() || !clients->is_array()) return std::nullopt;
    return static_cast<std::uint32_t>(clients->size());
}

std::optional<std::uint64_t> input_interrupts(const std::string& interrupts, const std::string& devices) {
    // "S: Sysfs=/devices/pci0000:00/0000:00:05.0/virtio4/input/input3": its interrupts are called "virtio4-...".
    std::vector<std::string> names{"i8042"};
    std::istringstream described(devices);
    for (std::string line; std::getline(described, line);) {
        auto end = line.find("/input/");
        auto start = line.rfind("/virtio", end);
        if (!line.starts_with("S: Sysfs=") || end == std::string::npos || start == std::string::npos) continue;
        names.push_back(line.substr(start + 1, end - start - 1) + "-");
    }
    std::istringstream lines(interrupts);
    std::optional<std::uint64_t> sum;
    for (std::string line; std::getline(lines, line);) {
        auto of_input = [&line](const std::string& name) { return line.find(" " + name) != std::string::npos; };
        if (std::none_of(names.begin(), names.end(), of_input)) continue;
        std::istringstream words(line.substr(line.find(':') + 1));
        for (std::uint64_t count = 0; words >> count;) sum = sum.value_or(0) + count;
    }
    return sum;
}

namespace {

std::string file_text(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

/// What QEMU and the kernel count, then what the guest's agent says. Each may fail by itself.
Task<VmActivity> QemuProvider::activity(VmId id, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    auto client = co_await qmp(vm, call);
    VmActivity seen;
    auto cpus = co_await client->execute("query-cpus-fast", no_arguments, call);
    if (auto threads = vcpu_threads(cpus); threads && vm->record.process) {
        seen.guest_cpu_ns = 0;
        for (auto thread : *threads) {
            auto path = "/proc/" + std::to_string(vm->record.process->pid) + "/task/" + std::to_string(thread);
            auto time = cpu_nanoseconds(file_text(path + "/schedstat"));
            if (time && seen.guest_cpu_ns) *seen.guest_cpu_ns += *time;
            else seen.guest_cpu_ns.reset();
        }
    }
    if (!seen.guest_cpu_ns) seen.reasons["guest_cpu"] = "the kernel does not count the vCPU threads' time";
    auto stats = co_await client->execute("query-blockstats", no_arguments, call);
    if (auto bytes = disk_bytes(stats)) {
        seen.disk_read_bytes = bytes->in;
        seen.disk_write_bytes = bytes->out;
    } else {
        seen.reasons["disk"] = "QEMU does not count the disks' bytes";
    }
    auto vnc = co_await client->execute("query-vnc", no_arguments, call);
    seen.vnc_clients = vnc_clients(vnc);
    if (!seen.vnc_clients) seen.reasons["connection"] = "QEMU did not tell its VNC clients";
    seen.forwarded_connections = vm->connections.count();

    const auto& channels = vm->record.spec.channels;
    if (std::find(channels.begin(), channels.end(), "agent") == channels.end()) {
        for (auto signal : {"heartbeat", "network", "users", "input"})
            seen.reasons[signal] = "the template has no agent";
        co_return seen;
    }
    std::string silent;
    // A guest that stands still or is frozen for a snapshot is not silent; one that only does not thaw is.
    auto held = [vm] { return !vm->record.snapshotting.empty() && vm->record.snapshotting != "thaw"; };
    auto status = co_await query_status(vm, call);
    if (held() || status != "running") silent = "the VM does not run or is being copied";
    if (silent.empty()) {
        try {
            co_await vm->agent->ping(call);
            seen.agent_answered = true;
        } catch (const Error& error) {
            if (call.stop.stop_requested()) throw;
            if (!held()) seen.agent_answered = false;
            silent = "the agent did not answer";
        }
    }
    for (auto signal : {"network", "users", "input"}) {
        std::string why = silent;
        const std::string name = signal;
        try {
            if (!silent.empty()) {
            } else if (name == "network") {
                auto interfaces = co_await vm->agent->interfaces(call);
                if (auto bytes = network_bytes(interfaces)) {
                    seen.network_rx_bytes = bytes->in;
                    seen.network_tx_bytes = bytes->out;
                } else {
                    why = "the agent does not count the interfaces' bytes";
                }
            } else if (name == "users") {
                seen.logged_in_users = co_await vm->agent->logged_in_users(call);
            } else if (seen.vnc_clients == 0) {
                why = "nobody is connected";
            } else {
                constexpr std::size_t most = 1 << 20;
                auto text = co_await vm->agent->read_file("/proc/interrupts", most, call);
                auto devices = co_await vm->agent->read_file("/proc/bus/input/devices", most, call);
                seen.input_events = input_interrupts(text, devices);
                if (!seen.input_events) why = "the guest does not count keyboard and pointer";
            }
        } catch (const Error& error) {
            if (call.stop.stop_requested()) throw;
            why = error.message();
        }
        if (!why.empty()) seen.reasons[name] = why;
    }
    co_return seen;
}

}  // namespace infrastructure_sdk::qemu
