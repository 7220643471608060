// What lets others see into a VM: its agent, display and evidence.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "providers/qemu/command_line.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/provider.hpp"

namespace infrastructure_sdk::qemu {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

class NoAgent final : public GuestAgent {
    template <class T>
    static Task<T> refuse() {
        throw Error(Errc::not_ready, "there is no such VM", {{"channel", "agent"}});
        co_return T();
    }

public:
    Task<void> ping(Call) override { co_await refuse<bool>(); }
    Task<ExecResult> exec(ExecRequest, Call) override { return refuse<ExecResult>(); }
    Task<std::string> read_file(std::string, std::size_t, Call) override { return refuse<std::string>(); }
    Task<void> write_file(std::string, std::string, Call) override { co_await refuse<bool>(); }
    Task<void> set_time(WallTime, Call) override { co_await refuse<bool>(); }
    Task<std::vector<GuestInterface>> interfaces(Call) override { return refuse<std::vector<GuestInterface>>(); }
    Task<std::uint32_t> logged_in_users(Call) override { return refuse<std::uint32_t>(); }
};

class QemuDisplay final : public Display {
public:
    QemuDisplay(std::shared_ptr<QemuProvider> provider, VmId id) : provider_(std::move(provider)), id_(std::move(id)) {}
    Task<std::string> screenshot(Call call) override { return provider_->screenshot(id_, call); }

private:
    std::shared_ptr<QemuProvider> provider_;
    VmId id_;
};

class QemuEvidence final : public EvidenceSource {
public:
    QemuEvidence(std::shared_ptr<QemuProvider> provider, VmId id)
        : provider_(std::move(provider)), id_(std::move(id)) {}
    Task<Fact> collect(std::string name, Call call) override { return provider_->collect(id_, std::move(name), call); }

private:
    std::shared_ptr<QemuProvider> provider_;
    VmId id_;
};

}  // namespace

std::shared_ptr<GuestAgent> QemuProvider::agent(VmId id) {
    auto it = known_.find(id);
    if (it == known_.end()) return std::make_shared<NoAgent>();
    return it->second->agent;
}

std::shared_ptr<Display> QemuProvider::display(VmId id) {
    return std::make_shared<QemuDisplay>(shared_from_this(), id);
}
std::shared_ptr<EvidenceSource> QemuProvider::evidence(VmId id) {
    return std::make_shared<QemuEvidence>(shared_from_this(), id);
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

Task<Fact> QemuProvider::collect(VmId id, std::string name, Call call) {
    auto self = shared_from_this();
    Fact fact;
    fact.name = name;
    fact.collected_at = environment_.clock->wall_now();
    try {
        auto vm = co_await need(id, call);
        if (!vm->alive) throw Error(Errc::not_ready, "the VM does not run");
        json value;
        if (name == "process.identity") {
            fact.source = "procfs";
            fact.locator = "/proc/" + std::to_string(vm->record.process->pid) + "/stat";
            auto client = co_await qmp(vm, call);
            auto answer = co_await client->execute("query-uuid", no_arguments, call);
            value = {{"boot_id", boot_id()},
                     {"pid", vm->record.process->pid},
                     {"start_time_ticks", start_time_ticks(vm->record.process->pid).value_or(0)},
                     {"vm_uuid", answer.is_object() ? answer.value("UUID", "") : ""}};
        } else if (name == "process.paths") {
            fact.source = "provider";
            fact.locator = "vm.json";
            value = {{"vm_directory", guest_folder(vm->directory)},
                     {"image_directory", fs::path(vm->record.spec.image.disk).parent_path().string()}};
        } else if (name == "process.uid") {
            fact.source = "provider";
            fact.locator = "vm.json:uid";
            value = {{"expected_uid", vm->record.uid.value_or(::geteuid())}};
        } else if (name.starts_with("qmp:query-")) {
            fact.source = "qmp";
            fact.locator = name;
            auto client = co_await qmp(vm, call);
            value = co_await client->execute(name.substr(4), no_arguments, call);
        } else if (auto colon = name.rfind(':'); name.starts_with("qom:/") && colon > 4) {
            fact.source = "qmp";
            fact.locator = "qmp:qom-get " + name.substr(4);
            auto client = co_await qmp(vm, call);
            json arguments{{"path", name.substr(4, colon - 4)}, {"property", name.substr(colon + 1)}};
            value = co_await client->execute("qom-get", arguments, call);
        } else {
            throw Error(Errc::unsupported, "the qemu provider has no fact of that name");
        }
        fact.json = value.dump(-1, ' ', false, json::error_handler_t::replace);
    } catch (const Error& error) {
        if (error.errc() == Errc::cancelled) throw;
        fact.could_not_look =
            error.message() + (error.remote_message().empty() ? "" : " (" + error.remote_message() + ")");
    }
    co_return fact;
}

}  // namespace infrastructure_sdk::qemu
