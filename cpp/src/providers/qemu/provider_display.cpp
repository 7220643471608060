// The display of a VM: its picture, keys and pointer.
#include <algorithm>
#include <set>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "providers/qemu/command_line.hpp"
#include "providers/qemu/input_messages.hpp"
#include "providers/qemu/provider.hpp"

namespace infrastructure_sdk::qemu {
using nlohmann::json;

namespace {

class QemuDisplay final : public Display {
public:
    QemuDisplay(std::shared_ptr<QemuProvider> provider, VmId id) : provider_(std::move(provider)), id_(std::move(id)) {}
    Task<std::string> screenshot(Call call) override { return provider_->screenshot(id_, call); }
    Task<void> input(std::vector<InputEvent> events, Call call) override {
        return provider_->input(id_, std::move(events), call);
    }
    Task<GuestStreamPtr> console(bool alone, Call call) override { return provider_->console(id_, alone, call); }

private:
    std::shared_ptr<QemuProvider> provider_;
    VmId id_;
};

}  // namespace

std::shared_ptr<Display> QemuProvider::display(VmId id) {
    return std::make_shared<QemuDisplay>(shared_from_this(), id);
}

Task<std::string> QemuProvider::screenshot(VmId id, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    auto client = co_await qmp(vm, call);
    // Relative: QEMU's working directory is the VM's.
    json arguments{{"filename", file_name::screen}, {"format", "png"}};
    try {
        co_await client->execute("screendump", arguments, call);
    } catch (const Error& error) {
        if (error.errc() != Errc::provider) throw;
        throw Error(Errc::not_ready, "the display gave no picture", {{"channel", "display"}})
            .with_remote_message(error.remote_message());
    }
    auto path = vm->path(file_name::screen);
    auto work = [path] {
        constexpr std::size_t most = 64u << 20;
        int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0) throw Error(Errc::not_ready, "the display gave no picture", {{"channel", "display"}});
        struct stat status{};
        auto there = ::fstat(fd, &status) == 0 ? static_cast<std::size_t>(status.st_size) : 0;
        std::string bytes(std::min(there, most), '\0');
        std::size_t size = 0;
        for (ssize_t got = 1; got > 0 && size < bytes.size();
             size += static_cast<std::size_t>(std::max<ssize_t>(got, 0)))
            got = ::read(fd, bytes.data() + size, bytes.size() - size);
        ::close(fd);
        ::unlink(path.c_str());
        bytes.resize(size);
        if (!bytes.starts_with("\x89PNG\r\n\x1a\n")) throw Error(Errc::provider, "the screenshot is not a PNG");
        return bytes;
    };
    co_return co_await run_blocking(environment_.blocking, work);
}

Task<void> QemuProvider::input(VmId id, std::vector<InputEvent> events, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    if (!vm->record.spec.display)
        throw Error(Errc::unsupported, "the VM has no display", {{"capability", "input"}, {"vm", id.value}});
    need_named(vm->record);
    auto client = co_await qmp(vm, call);
    auto guard = co_await vm->typing.lock(*environment_.clock, call, "sending keys");
    std::set<std::string> held;
    std::exception_ptr failure;
    try {
        for (const auto& event : events) {
            check(call, *environment_.clock, "sending keys");
            if (event.kind == InputEvent::Kind::key_down) held.insert(event.name);
            if (event.kind == InputEvent::Kind::key_up) held.erase(event.name);
            co_await send_input(client, event, call);
        }
    } catch (const Error&) {
        failure = std::current_exception();
    }
    if (!failure) co_return;
    Call soon{Deadline::after(*environment_.clock, std::chrono::seconds(2)), {}, call.correlation_id};
    try {
        for (const auto& key : held) {
            InputEvent release{InputEvent::Kind::key_up, key, 0, 0};
            auto message = input_message(release);
            co_await client->execute("input-send-event", message, soon);
        }
    } catch (const Error&) {
        // QEMU does not answer: what went wrong first is told.
    }
    std::rethrow_exception(failure);
}

/// One event; of a key, until the guest took it: the emulated keyboard keeps 16 bytes and drops what comes then.
Task<void> QemuProvider::send_input(std::shared_ptr<QmpClient> client, InputEvent event, Call call) {
    auto self = shared_from_this();
    auto message = input_message(event);
    try {
        co_await client->execute("input-send-event", message, call);
    } catch (const Error& error) {
        if (error.errc() != Errc::provider) throw;
        throw Error(Errc::not_ready, "the VM takes no such input", {{"channel", "display"}, {"input", event.name}})
            .with_remote_message(error.remote_message());
    }
    if (event.kind != InputEvent::Kind::key_down && event.kind != InputEvent::Kind::key_up) co_return;
    const auto patience = Deadline::after(*environment_.clock, std::chrono::seconds(5));
    Duration pause = std::chrono::microseconds(500);
    for (;;) {
        auto status = co_await client->execute("human-monitor-command", keyboard_status_question(), call);
        if (!is_keyboard_busy(status)) co_return;
        check(call, *environment_.clock, "sending keys");
        if (patience.expired(*environment_.clock))
            throw Error(Errc::not_ready, "the guest does not take keys", {{"channel", "display"}});
        auto next = Deadline::after(*environment_.clock, pause).earlier(call.deadline);
        co_await environment_.clock->sleep_until(next.when(), call.stop);
        pause = std::min<Duration>(pause * 2, std::chrono::milliseconds(20));
    }
}

}  // namespace infrastructure_sdk::qemu
