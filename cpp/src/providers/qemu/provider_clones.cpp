// A VM that begins as a copy of a template: its RAM maps the template's and keeps its own writes, its disk is a copy of
// the template's disk, and it becomes somebody else before anybody sees it.
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>

#include <fcntl.h>

#include "providers/qemu/command_line.hpp"
#include "providers/qemu/descriptors.hpp"
#include "providers/qemu/ignore_shared.hpp"
#include "providers/qemu/provider.hpp"
#include "providers/qemu/reseed_program.hpp"
#include "vm/guest_identity.hpp"

namespace infrastructure_sdk::qemu {
using nlohmann::json;

/// Empty = it runs. Otherwise why it is to be booted.
Task<std::string> QemuProvider::start_from_template(VmPtr vm, std::string execution_id, Call call) {
    auto self = shared_from_this();
    bool untouched = vm->record.arguments.empty() || vm->record.cloning;
    if (!untouched) co_return "it has run before";
    auto why = options_.fast_launch ? why_booted(vm->record.spec) : "vm.fast_launch is off";
    if (why.empty()) {
        RamTemplatePtr source;
        bool serves = true;
        // Half of the time is left for a boot.
        auto left =
            call.deadline.is_never() ? std::chrono::minutes(10) : call.deadline.remaining(*environment_.clock) / 2;
        auto within = call.within(Deadline::after(*environment_.clock, left));
        try {
            source = co_await template_for(vm, within);
            co_await start_clone(vm, source, execution_id, within);
            co_return std::string();
        } catch (const Error& error) {
            if (error.errc() == Errc::cancelled) throw;
            // What the host or the caller lacked says nothing about the template.
            serves = error.errc() == Errc::timeout || error.errc() == Errc::capacity || error.errc() == Errc::store;
            why = error.message();
            if (!error.remote_message().empty()) why += " (" + error.remote_message().substr(0, 500) + ")";
        }
        environment_.logger->log(LogLevel::warning, "vm.qemu", "a VM is booted, because no template could be used",
                                 {{"vm", vm->record.spec.id.value}, {"detail", why}});
        if (source && !serves) {
            Call soon{Deadline::after(*environment_.clock, std::chrono::seconds(10))};
            auto guard = co_await templating_.lock(*environment_.clock, soon, "giving a template up");
            // It did not serve: another one is made when it is asked for.
            std::erase(at_hand_, source);
            auto give_up = [folder = template_folder_, record = source->record(), why,
                            now = environment_.clock->wall_now()]() mutable {
                record.refused = why;
                record.retry_at = now;
                folder.refuse(record);
                return true;
            };
            co_await run_blocking(environment_.blocking, give_up);
        }
    }
    if (vm->record.cloning) co_await undo_clone(vm);
    co_return why;
}

/// Its disk as before the first start.
Task<void> QemuProvider::undo_clone(VmPtr vm) {
    auto self = shared_from_this();
    Call rescue{Deadline::after(*environment_.clock, std::chrono::seconds(10))};
    co_await end(vm, rescue);
    co_await make_disk(vm, std::string());
    vm->record.cloning = false;
    vm->record.arguments.clear();
    co_await save(vm);
}

/// Empty, or a copy of a template's.
Task<void> QemuProvider::make_disk(VmPtr vm, std::string from) {
    if (vm->record.spec.image.disk.empty()) co_return;
    auto work = [record = vm->record, guest = guest_folder(vm->directory), from] {
        make_disk_file(record, guest, from);
        return true;
    };
    co_await run_blocking(environment_.blocking, work);
}

Task<void> QemuProvider::start_clone(VmPtr vm, RamTemplatePtr source, std::string execution_id, Call call) {
    auto self = shared_from_this();
    begin_start(vm, std::move(execution_id));
    vm->record.cloning = true;
    co_await save(vm);
    passed(Effect::start_intended);
    co_await make_disk(vm, source->disk_path());
    Descriptors descriptors;
    int state = descriptors.add(::open(source->state_path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (state < 0)
        throw Error(Errc::store, "the template's devices cannot be read: " + std::string(std::strerror(errno)),
                    {{"path", source->state_path()}});
    co_await spawn(vm, true, state, call, source->memory());
    auto client = co_await qmp(vm, call);
    auto version = co_await client->execute("query-version", no_arguments, call);
    if (version.dump() != source->record().qemu)
        throw Error(Errc::conflict, "the template is of another version of QEMU");
    auto without_ram = ignore_shared_memory(true), with_ram = ignore_shared_memory(false);
    co_await client->execute("migrate-set-capabilities", without_ram, call);
    MemoryStreamPtr plain;
    co_await load_memory(vm, plain, call);
    // A suspend saves all of it.
    co_await client->execute("migrate-set-capabilities", with_ram, call);
    passed(Effect::memory_loaded);
    // It is still the template's guest, as other copies may be too.
    co_await plug_network(vm, false, call);
    co_await client->execute("cont", no_arguments, call);
    passed(Effect::guest_continued);
    co_await give_identity(vm, source->record(), call);
    co_await plug_network(vm, true, call);
    vm->record.phase = VmState::running;
    vm->record.cloning = false;
    vm->record.launch = {"template", ""};
    co_await save(vm);
    passed(Effect::start_recorded);
}

/// Nothing that the template was known by is left.
Task<void> QemuProvider::give_identity(VmPtr vm, TemplateRecord source, Call call) {
    auto self = shared_from_this();
    co_await vm->agent->ping(call);
    co_await vm->agent->set_time(environment_.clock->wall_now(), call);
    auto identity = make_guest_identity(*environment_.random, vm->record.spec.name);
    if (source.files_suffice) {
        co_await vm->agent->write_files(identity_files(identity), call);
    } else {
        ExecRequest request;
        request.arguments = {"sh", "-s"};
        request.stdin_data = identity_script(identity);
        auto result = co_await vm->agent->exec(request, call);
        if (result.exit_code != 0)
            throw Error(Errc::provider, "the guest did not take its identity")
                .with_remote_message(result.stderr_data.substr(0, 2000));
    }
    // Until then all copies would draw the same random bytes.
    ExecRequest reseed;
    reseed.arguments = {reseed_path};
    auto reseeded = co_await vm->agent->exec(reseed, call);
    if (reseeded.exit_code != 0)
        throw Error(Errc::unsupported, "the guest did not reseed its random number generator: error " +
                                           std::to_string(reseeded.exit_code));
    if (!source.interface.empty()) co_await give_address(vm, source.interface, vm->record.spec.mac_address, call);
}

/// The cable of the network card, if there is one.
Task<void> QemuProvider::plug_network(VmPtr vm, bool in, Call call) {
    auto self = shared_from_this();
    if (vm->record.spec.network == NetworkMode::none) co_return;
    auto client = co_await qmp(vm, call);
    json link{{"name", "net0"}, {"up", in}};
    co_await client->execute("set_link", link, call);
}

Task<void> QemuProvider::install_reseed(VmPtr vm, Call call) {
    co_await vm->agent->write_file(reseed_path, reseed_program(), call);
    ExecRequest runnable;
    runnable.arguments = {"chmod", "0700", reseed_path};
    co_await vm->agent->exec(runnable, call);
}

/// The guest's name of its network card. @throws Error(unsupported)
Task<std::string> QemuProvider::interface_of(VmPtr vm, std::string address, Call call) {
    auto interfaces = co_await vm->agent->interfaces(call);
    for (const auto& found : interfaces)
        if (found.mac_address == address && found.name.size() < 16 && !found.name.starts_with("-"))
            co_return found.name;
    throw Error(Errc::unsupported, "the guest does not know its network card");
}

/// The address of the network card is a part of the devices' state: the guest's driver changes it, and QEMU tells.
Task<void> QemuProvider::give_address(VmPtr vm, std::string interface, std::string address, Call call) {
    auto self = shared_from_this();
    ExecRequest request;
    request.arguments = {"ip", "link", "set", "dev", interface, "address", address};
    auto result = co_await vm->agent->exec(request, call);
    auto client = co_await qmp(vm, call);
    auto cards = co_await client->execute("query-rx-filter", no_arguments, call);
    auto same = [&address](const json& card) {
        auto found = card.is_object() ? card.value("main-mac", "") : std::string();
        auto lower = [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); };
        return std::equal(found.begin(), found.end(), address.begin(), address.end(), lower);
    };
    if (result.exit_code != 0 || !cards.is_array() || cards.size() != 1 || !same(cards.front()))
        throw Error(Errc::unsupported, "the guest did not take the address of its network card")
            .with_remote_message(result.stderr_data.substr(0, 500));
}

}  // namespace infrastructure_sdk::qemu
