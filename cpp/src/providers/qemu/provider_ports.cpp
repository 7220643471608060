// Ports of the guest, reached through QEMU's user-mode network: a rule lets one connection in and is removed again.
#include <algorithm>
#include <cerrno>

#include <sys/socket.h>

#include "providers/qemu/net_namespace.hpp"
#include "providers/qemu/provider.hpp"
#include "providers/qemu/usernet.hpp"

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;

constexpr const char* forwards = "HOST_FORWARD";

/// What the monitor prints. The commands have no equivalent in QMP.
Task<std::string> monitor(std::shared_ptr<QmpClient> client, std::string line, Call call) {
    json arguments{{"command-line", line}};
    auto answer = co_await client->execute("human-monitor-command", arguments, call);
    if (!answer.is_string()) throw Error(Errc::provider, "QEMU's monitor gave no text");
    co_return answer.get<std::string>();
}

Task<void> remove_rule(std::shared_ptr<QmpClient> client, std::uint16_t host_port, Call call) {
    co_await monitor(client, "hostfwd_remove net0 tcp:127.0.0.1:" + std::to_string(host_port), call);
}

/// The host's port of a new rule. What an owner left that died between two steps goes first.
Task<std::uint16_t> add_rule(std::shared_ptr<QmpClient> client, std::string target, std::uint16_t port, Call call) {
    auto text = co_await monitor(client, "info usernet", call);
    const auto stale = parse_usernet(text);
    for (const auto& line : stale)
        if (line.state == forwards) co_await remove_rule(client, line.source_port, call);
    auto rule = "tcp:127.0.0.1:0-" + target + ":" + std::to_string(port);
    auto refused = co_await monitor(client, "hostfwd_add net0 " + rule, call);
    if (!refused.empty())
        throw Error(Errc::unsupported, "QEMU does not forward to this VM", {{"capability", "forward"}})
            .with_remote_message(refused);
    text = co_await monitor(client, "info usernet", call);
    for (const auto& line : parse_usernet(text))
        if (line.state == forwards && line.target_port == port) co_return line.source_port;
    throw Error(Errc::provider, "QEMU does not tell where it forwards from");
}

bool is_closed(const GuestStreamPtr& stream) {
    char byte = 0;
    auto got = ::recv(stream->descriptor(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

/// Until QEMU has it: a rule that is removed takes with it what still waits to be accepted.
Task<void> wait_accepted(Environment environment, std::shared_ptr<QmpClient> client, std::uint16_t host_port,
                         GuestStreamPtr stream, Call call) {
    Duration pause = std::chrono::microseconds(500);
    while (!is_closed(stream)) {
        auto text = co_await monitor(client, "info usernet", call);
        for (const auto& line : parse_usernet(text))
            if (line.state != forwards && line.source_port == host_port) co_return;
        check(call, *environment.clock, "opening a port of the guest");
        auto next = Deadline::after(*environment.clock, pause).earlier(call.deadline);
        co_await environment.clock->sleep_until(next.when(), call.stop);
        pause = std::min<Duration>(pause * 2, std::chrono::milliseconds(10));
    }
}

}  // namespace

/// Of the guest in QEMU's network, if its agent tells it soon.
Task<std::string> QemuProvider::forward_target_of(VmPtr vm, Call call) {
    auto self = shared_from_this();
    const auto& channels = vm->record.spec.channels;
    std::vector<GuestInterface> interfaces;
    if (std::find(channels.begin(), channels.end(), "agent") != channels.end()) {
        Call soon = call.within(Deadline::after(*environment_.clock, std::chrono::seconds(2)));
        try {
            interfaces = co_await vm->agent->interfaces(soon);
        } catch (const Error& error) {
            if (error.errc() == Errc::cancelled) throw;
        }
    }
    co_return forward_target(interfaces, vm->record.spec.mac_address);
}

Task<GuestStreamPtr> QemuProvider::open_port(VmId id, std::uint16_t port, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    if (port == 0)
        throw Error(Errc::validation, "port: '0' is not allowed; 1 to 65535", {{"field", "port"}, {"value", "0"}});
    const auto mode = vm->record.spec.network;
    if (mode != NetworkMode::isolated && mode != NetworkMode::internet)
        throw Error(Errc::unsupported, "the VM has no network that ports can be reached through",
                    {{"capability", "forward"}, {"network", name_of(vm->record.spec.network)}});
    need_named(vm->record);
    // Before the turn: a guest that is slow to answer makes nobody else wait.
    const auto target = co_await forward_target_of(vm, call);
    auto guard = co_await vm->forwarding.lock(*environment_.clock, call, "opening a port of the guest");
    auto client = co_await qmp(vm, call);
    if (!vm->record.process) throw Error(Errc::not_ready, "the VM does not run");
    const auto process = *vm->record.process;
    auto raise = [process] {
        raise_loopback(process);
        return true;
    };
    co_await run_blocking(environment_.blocking, raise);
    const auto host_port = co_await add_rule(client, target, port, call);
    GuestStreamPtr stream;
    std::exception_ptr failure;
    try {
        auto dial = [process, host_port] { return connect_loopback(process, host_port); };
        stream = std::make_shared<GuestStream>(co_await run_blocking(environment_.blocking, dial));
        co_await wait_accepted(environment_, client, host_port, stream, call);
    } catch (const Error&) {
        failure = std::current_exception();
    }
    Call soon{Deadline::after(*environment_.clock, std::chrono::seconds(5)), {}, call.correlation_id};
    co_await remove_rule(client, host_port, soon);
    if (failure) std::rethrow_exception(failure);
    vm->connections.add(stream);
    co_return stream;
}

}  // namespace infrastructure_sdk::qemu
