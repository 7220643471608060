// What lets others see into a VM: its agent and evidence.
#include <filesystem>

#include <unistd.h>

#include "providers/qemu/command_line.hpp"
#include "providers/qemu/evidence.hpp"
#include "providers/qemu/probe_port.hpp"
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

/// The guest's agent for all others: silent while the guest may be another one.
class NamedAgent final : public GuestAgent {
public:
    explicit NamedAgent(VmPtr vm) : vm_(std::move(vm)) {}
    Task<void> ping(Call call) override { return agent().ping(call); }
    Task<ExecResult> exec(ExecRequest request, Call call) override { return agent().exec(std::move(request), call); }
    Task<std::shared_ptr<GuestProcess>> start(ExecRequest request, Call call) override {
        return agent().start(std::move(request), call);
    }
    Task<std::string> read_file(std::string path, std::size_t limit_bytes, Call call) override {
        return agent().read_file(std::move(path), limit_bytes, call);
    }
    Task<void> write_file(std::string path, std::string bytes, Call call) override {
        return agent().write_file(std::move(path), std::move(bytes), call);
    }
    Task<void> write_files(std::vector<GuestFile> files, Call call) override {
        return agent().write_files(std::move(files), call);
    }
    Task<std::string> read_file_part(std::string path, std::uint64_t offset, std::size_t limit_bytes,
                                     Call call) override {
        return agent().read_file_part(std::move(path), offset, limit_bytes, call);
    }
    Task<void> write_file_part(std::string path, std::uint64_t offset, std::string bytes, Call call) override {
        return agent().write_file_part(std::move(path), offset, std::move(bytes), call);
    }
    Task<std::vector<GuestFileEntry>> list_files(std::string path, Call call) override {
        return agent().list_files(std::move(path), call);
    }
    Task<void> set_time(WallTime time, Call call) override { return agent().set_time(time, call); }
    Task<std::vector<GuestInterface>> interfaces(Call call) override { return agent().interfaces(call); }
    Task<std::uint32_t> logged_in_users(Call call) override { return agent().logged_in_users(call); }

private:
    GuestAgent& agent() {
        need_named(vm_->record);
        return *vm_->agent;
    }

    VmPtr vm_;
};

class QemuEvidence final : public EvidenceSource {
public:
    QemuEvidence(std::shared_ptr<QemuProvider> provider, VmId id)
        : provider_(std::move(provider)), id_(std::move(id)) {}
    Task<Fact> collect(std::string name, Call call) override { return provider_->collect(id_, std::move(name), call); }
    Task<std::shared_ptr<ProbePort>> open_probe_port(Call call) override {
        return provider_->open_probe_port(id_, call);
    }

private:
    std::shared_ptr<QemuProvider> provider_;
    VmId id_;
};

}  // namespace

void need_named(const VmRecord& record) {
    if (is_unnamed(record))
        throw Error(Errc::not_ready, "the guest has no identity of its own yet",
                    {{"vm", record.spec.id.value}, {"reason", "NotNamed"}});
}

std::shared_ptr<GuestAgent> QemuProvider::agent(VmId id) {
    auto it = known_.find(id);
    if (it == known_.end()) return std::make_shared<NoAgent>();
    return std::make_shared<NamedAgent>(it->second);
}

std::shared_ptr<EvidenceSource> QemuProvider::evidence(VmId id) {
    return std::make_shared<QemuEvidence>(shared_from_this(), id);
}

Task<std::shared_ptr<ProbePort>> QemuProvider::open_probe_port(VmId id, Call call) {
    auto self = shared_from_this();
    auto vm = co_await need(id, call);
    if (!vm->alive) throw Error(Errc::not_ready, "the VM does not run");
    auto client = co_await qmp(vm, call);
    co_return co_await qemu::open_probe_port(environment_, client, call);
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
        } else if (name == "process.promises") {
            fact.source = "provider";
            fact.locator = "vm.json";
            bool encrypted = vm->record.spec.encryption == Encryption::all;
            value = {{"exclusive", false},
                     {"encrypted", encrypted},
                     {"confidential", false},
                     {"ports", json::array()},
                     {"network", name_of(vm->record.spec.network)}};
        } else if (name == "agent.identity") {
            fact.source = "agent";
            fact.locator = "/etc/machine-id and /etc/ssh/ssh_host_*_key.pub of the guest";
            fact.vantage = "guest";
            need_named(vm->record);
            value = co_await guest_identity(vm->agent, call);
        } else {
            auto request = monitor_request(name);
            if (!request) throw Error(Errc::unsupported, "the qemu provider has no fact of that name");
            fact.source = "qmp";
            fact.locator = request->locator;
            auto client = co_await qmp(vm, call);
            value = co_await client->execute(request->command, request->arguments, call);
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
