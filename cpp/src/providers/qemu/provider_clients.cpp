// Who is connected to a VM from outside: viewers of its screen.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include <sys/socket.h>

#include "core/unix_socket.hpp"
#include "providers/qemu/activity.hpp"
#include "providers/qemu/command_line.hpp"
#include "providers/qemu/provider.hpp"

namespace infrastructure_sdk::qemu {
namespace {

const ErrorContext of_display{{"channel", "display"}};

Error no_display(const std::string& why) { return Error(Errc::not_ready, "the VM's screen: " + why, of_display); }

/// The socket lies where the VM's uid can put another one: it must be this QEMU that listens.
GuestStreamPtr connect_screen(const Vm& vm) {
    int fd = connect_unix(vm.path(file_name::vnc));
    if (fd < 0) throw no_display(std::strerror(errno));
    auto stream = std::make_shared<GuestStream>(fd);
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || !vm.record.process ||
        peer.pid != vm.record.process->pid)
        throw Error(Errc::provider, "the VM's screen is served by another process than its own", of_display);
    return stream;
}

Task<void> short_pause(Environment environment, Duration& pause, Call call) {
    check(call, *environment.clock, "talking to the VM's screen");
    auto next = Deadline::after(*environment.clock, pause).earlier(call.deadline);
    pause = std::min<Duration>(pause * 2, std::chrono::milliseconds(20));
    co_await environment.clock->sleep_until(next.when(), call.stop);
}

/// @param taken false leaves the bytes where they are
Task<std::string> receive(Environment environment, GuestStreamPtr stream, std::size_t size, bool taken, Call call) {
    std::string bytes(size, '\0');
    Duration pause = std::chrono::microseconds(200);
    for (std::size_t have = 0; have < size;) {
        auto got =
            ::recv(stream->descriptor(), bytes.data() + have, size - have, MSG_DONTWAIT | (taken ? 0 : MSG_PEEK));
        if (got == 0) throw no_display("it hung up");
        if (got < 0 && errno != EAGAIN && errno != EINTR) throw no_display(std::strerror(errno));
        if (got > 0 && (taken || static_cast<std::size_t>(got) == size)) have += static_cast<std::size_t>(got);
        else co_await short_pause(environment, pause, call);
    }
    co_return bytes;
}

void send_few(const GuestStreamPtr& stream, const std::string& bytes) {
    auto sent = ::send(stream->descriptor(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent != static_cast<ssize_t>(bytes.size())) throw no_display("it does not listen");
}

constexpr std::size_t greeting_size = 12;  // "RFB 003.008\n", RFC 6143 section 7.1.1

/// RFC 6143 sections 7.1 to 7.3, as a client that wants the screen for itself: QEMU then cuts off the others.
Task<void> demand_alone(Environment environment, GuestStreamPtr stream, Call call) {
    auto greeting = co_await receive(environment, stream, greeting_size, true, call);
    if (!greeting.starts_with("RFB ")) throw Error(Errc::provider, "the VM's screen does not speak RFB", of_display);
    send_few(stream, "RFB 003.008\n");
    auto count = co_await receive(environment, stream, 1, true, call);
    auto types = co_await receive(environment, stream, static_cast<unsigned char>(count.front()), true, call);
    constexpr char none = 1;
    if (types.find(none) == std::string::npos)
        throw Error(Errc::provider, "the VM's screen wants a password", of_display);
    send_few(stream, std::string(1, none));
    auto result = co_await receive(environment, stream, 4, true, call);
    if (result != std::string(4, '\0')) throw Error(Errc::provider, "the VM's screen refused us", of_display);
    send_few(stream, std::string(1, '\0'));
    constexpr std::size_t server_init = 24;
    co_await receive(environment, stream, server_init, true, call);
}

}  // namespace

Task<std::uint32_t> QemuProvider::viewers(VmPtr vm, Call call) {
    auto self = shared_from_this();
    auto client = co_await qmp(vm, call);
    auto answer = co_await client->execute("query-vnc", no_arguments, call);
    auto count = vnc_clients(answer);
    if (!count) throw Error(Errc::provider, "QEMU did not tell its VNC clients");
    co_return *count;
}

Task<GuestStreamPtr> QemuProvider::console(VmId id, bool alone, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    if (!vm->record.spec.display)
        throw Error(Errc::unsupported, "the VM has no display", {{"capability", "console"}, {"vm", id.value}});
    need_named(vm->record);
    auto guard = co_await vm->viewing.lock(*environment_.clock, call, "opening a console");
    auto count = co_await viewers(vm, call);
    if (alone && count > 0)
        throw Error(Errc::conflict, "somebody is connected to the screen already",
                    {{"viewers", std::to_string(count)}});
    auto stream = connect_screen(*vm);
    // The greeting comes when the client is in QEMU's list, where the next one is compared with it.
    Call soon = call.within(Deadline::after(*environment_.clock, std::chrono::seconds(10)));
    co_await receive(environment_, stream, greeting_size, false, soon);
    co_return stream;
}

Task<void> QemuProvider::disconnect_clients(VmId id, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    vm->connections.cut_off();
    if (!vm->record.spec.display) co_return;
    auto guard = co_await vm->viewing.lock(*environment_.clock, call, "cutting off clients");
    auto count = co_await viewers(vm, call);
    if (count == 0) co_return;
    auto stream = connect_screen(*vm);
    Call soon = call.within(Deadline::after(*environment_.clock, std::chrono::seconds(10)));
    co_await demand_alone(environment_, stream, soon);
    stream.reset();
    Duration pause = std::chrono::milliseconds(1);
    for (count = 1; count > 0;) {
        count = co_await viewers(vm, soon);
        if (count > 0) co_await short_pause(environment_, pause, soon);
    }
}

}  // namespace infrastructure_sdk::qemu
