// Making templates: a donor is a VM of nobody. It boots, settles, tries what every copy will be asked, and becomes the
// template when its process has ended.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <sys/stat.h>
#include <unistd.h>

#include "providers/qemu/command_line.hpp"
#include "providers/qemu/debris.hpp"
#include "providers/qemu/descriptors.hpp"
#include "providers/qemu/ignore_shared.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/provider.hpp"
#include "providers/qemu/reseed_program.hpp"
#include "vm/guest_identity.hpp"

namespace infrastructure_sdk::qemu {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr Duration retry_after = std::chrono::minutes(10);
constexpr std::size_t most_at_hand = 4;

std::string identity_of_program(const std::string& path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0) return path;
    json parts{path, status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
    return parts.dump();
}

std::string random_address(Random& random) {
    auto digits = make_uuid(random);
    // Locally administered, for one card.
    std::string address = "02";
    for (std::size_t i = 0; i < 5; ++i) address += ":" + digits.substr(24 + 2 * i, 2);
    return address;
}

}  // namespace

/// For all VMs of the same kind; made if need be. @throws Error, with why there is none
Task<RamTemplatePtr> QemuProvider::template_for(VmPtr vm, Call within) {
    auto self = shared_from_this();
    CommandLineOptions options{accelerator_.name, options_.translation_cache_mib};
    TemplateRecord wanted;
    const auto& spec = vm->record.spec;
    // The processor of a host may have changed at its start.
    auto host = accelerator_.name == "kvm" ? boot_id() : std::string();
    wanted.key = template_key(spec, options, vm->record.image_identity, identity_of_program(program_), host);
    wanted.image = spec.image.name;
    wanted.memory_bytes = spec.memory_bytes;
    auto guard = co_await templating_.lock(*environment_.clock, within, "waiting for a template");
    for (const auto& known : at_hand_)
        if (known->record().key.digest == wanted.key.digest) co_return keep_at_hand(known);
    const auto folder = template_folder_;
    auto look = [folder, digest = wanted.key.digest] { return folder.find(digest); };
    auto found = co_await run_blocking(environment_.blocking, look);
    if (found && found->refused.empty()) {
        auto load = [folder, record = *found] { return folder.load(record); };
        co_return keep_at_hand(co_await run_blocking(environment_.blocking, load));
    }
    if (found && environment_.clock->wall_now() < found->retry_at)
        throw Error(Errc::unsupported, "there is no template: " + found->refused);
    std::exception_ptr failure;
    try {
        co_return keep_at_hand(co_await build_template(vm, wanted, within));
    } catch (const Error& error) {
        if (error.errc() == Errc::cancelled) throw;
        // A host without room is asked anew each time.
        if (error.errc() == Errc::capacity) throw;
        failure = std::current_exception();
        wanted.refused = error.message();
        wanted.retry_at =
            environment_.clock->wall_now() + (error.errc() == Errc::unsupported ? std::chrono::hours(24) : retry_after);
    }
    auto refuse = [folder, wanted] {
        folder.refuse(wanted);
        return true;
    };
    co_await run_blocking(environment_.blocking, refuse);
    std::rethrow_exception(failure);
}

RamTemplatePtr QemuProvider::keep_at_hand(RamTemplatePtr used) {
    std::erase(at_hand_, used);
    at_hand_.insert(at_hand_.begin(), used);
    if (at_hand_.size() > most_at_hand) at_hand_.pop_back();
    return used;
}

Task<RamTemplatePtr> QemuProvider::build_template(VmPtr vm, TemplateRecord record, Call call) {
    auto self = shared_from_this();
    const auto folder = template_folder_;
    auto room = [folder, bytes = record.memory_bytes] { return folder.why_no_room(bytes); };
    auto why = co_await run_blocking(environment_.blocking, room);
    if (!why.empty()) throw Error(Errc::capacity, why);
    VmSpec spec = vm->record.spec;
    spec.id.value = make_uuid(*environment_.random);
    spec.name = "template";
    spec.owner_session.clear();
    spec.owner_user.clear();
    spec.encryption = Encryption::off;
    spec.mac_address = random_address(*environment_.random);
    environment_.logger->log(LogLevel::info, "vm.qemu", "a template is made", {{"image", record.image}});
    Descriptors descriptors;
    const int memory = descriptors.add(make_guest_memory(record.memory_bytes));
    RamTemplatePtr made;
    std::exception_ptr failure;
    try {
        co_await create_vm(spec, true, call);
        auto donor = co_await need(spec.id, call);
        if (donor->record.image_identity != vm->record.image_identity)
            throw Error(Errc::conflict, "the image was replaced meanwhile");
        co_await boot_donor(donor, memory, call);
        record = co_await rehearse_identity(donor, std::move(record), call);
        // Copies begin without a network, and have nothing of one to let go of.
        co_await plug_network(donor, false, call);
        co_await settle_guest(donor, call);
        auto begin = [folder, digest = record.key.digest] { return folder.begin(digest); };
        int state = descriptors.add(co_await run_blocking(environment_.blocking, begin));
        co_await save_devices(donor, state, call);
        co_await end(donor, call);
        auto disk = spec.image.disk.empty() ? std::string() : donor->path(file_name::disk);
        auto finish = [folder, record, memory, disk] { return folder.finish(record, memory, disk); };
        made = co_await run_blocking(environment_.blocking, finish);
    } catch (...) {
        failure = std::current_exception();
    }
    Call clean{Deadline::after(*environment_.clock, std::chrono::seconds(30))};
    co_await drop_donor(spec.id, clean);
    if (failure) {
        auto abandon = [folder, digest = record.key.digest] {
            folder.abandon(digest);
            return true;
        };
        co_await run_blocking(environment_.blocking, abandon);
        std::rethrow_exception(failure);
    }
    co_return made;
}

/// One that stays is swept by the next owner.
Task<void> QemuProvider::drop_donor(VmId id, Call call) {
    try {
        co_await destroy(id, call);
    } catch (const Error& error) {
        environment_.logger->log(LogLevel::warning, "vm.qemu", "the VM that a template was made from stays",
                                 {{"vm", id.value}, {"detail", error.message()}});
    }
}

Task<void> QemuProvider::boot_donor(VmPtr vm, int memory, Call call) {
    auto self = shared_from_this();
    begin_start(vm, "template");
    co_await save(vm);
    co_await spawn(vm, false, -1, call, memory);
    vm->record.phase = VmState::running;
    co_await save(vm);
    co_await wait_ready(vm->record.spec.id, call);
    co_await settle_guest(vm, call);
}

/// Until the guest has nothing more to do of itself, or as if it were so after a while.
Task<void> QemuProvider::settle_guest(VmPtr vm, Call call) {
    auto self = shared_from_this();
    constexpr Duration window = std::chrono::milliseconds(400);
    constexpr int most_windows = 150, quiet_windows = 2;
    const auto busy = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK)) * 4 / 100;  // a tenth of the window
    if (!vm->alive) throw died(vm, "a template's VM ended");
    auto stat = "/proc/" + std::to_string(vm->record.process->pid) + "/stat";
    auto read = [stat] {
        std::ifstream file(stat);
        return cpu_ticks({std::istreambuf_iterator<char>(file), {}}).value_or(0);
    };
    auto before = co_await run_blocking(environment_.blocking, read);
    for (int i = 0, quiet = 0; i < most_windows && quiet < quiet_windows; ++i) {
        auto next = Deadline::after(*environment_.clock, window).earlier(call.deadline);
        co_await environment_.clock->sleep_until(next.when(), call.stop);
        check(call, *environment_.clock, "waiting for a template's guest to settle");
        if (!vm->alive) throw died(vm, "a template's VM ended");
        auto now = co_await run_blocking(environment_.blocking, read);
        quiet = now - before <= busy ? quiet + 1 : 0;
        before = now;
    }
}

/// What every copy will be asked: so it is known to work, and the guest has it at hand.
Task<TemplateRecord> QemuProvider::rehearse_identity(VmPtr vm, TemplateRecord record, Call call) {
    auto self = shared_from_this();
    auto client = co_await qmp(vm, call);
    auto version = co_await client->execute("query-version", no_arguments, call);
    record.qemu = version.dump();
    ExecRequest shell;
    shell.arguments = {"sh", "-s"};
    shell.stdin_data = identity_script(make_guest_identity(*environment_.random, vm->record.spec.name));
    ExecResult result;
    try {
        co_await install_reseed(vm, call);
        result = co_await vm->agent->exec(shell, call);
        if (vm->record.spec.network != NetworkMode::none) {
            record.interface = co_await interface_of(vm, vm->record.spec.mac_address, call);
            co_await give_address(vm, record.interface, random_address(*environment_.random), call);
        }
    } catch (const Error& error) {
        if (error.errc() != Errc::not_found) throw;
        result.exit_code = -1;
        result.stderr_data = error.message();
    }
    if (result.exit_code != 0)
        throw Error(Errc::unsupported,
                    "the guest cannot be given another identity: " + result.stderr_data.substr(0, 500));
    record.files_suffice = result.stdout_data.find(files_suffice) != std::string::npos;
    co_await give_identity(vm, record, call);
    ExecRequest nothing;
    nothing.arguments = {"true"};
    co_await vm->agent->exec(nothing, call);
    co_return record;
}

/// All but the RAM, which is in its file already. The guest's disk is complete when this is.
Task<void> QemuProvider::save_devices(VmPtr vm, int file, Call call) {
    auto self = shared_from_this();
    auto client = co_await qmp(vm, call);
    auto without_ram = ignore_shared_memory(true);
    co_await client->execute("migrate-set-capabilities", without_ram, call);
    co_await client->execute("stop", no_arguments, call);
    json name{{"fdname", "template"}};
    co_await client->execute("getfd", name, call, file);
    json target{{"uri", "fd:template"}};
    co_await client->execute("migrate", target, call);
    for (;;) {
        auto answer = co_await client->execute("query-migrate", no_arguments, call);
        auto status = answer.is_object() ? answer.value("status", "") : std::string();
        if (status == "completed") co_return;
        if (status == "failed" || status == "cancelled")
            throw Error(Errc::provider, "the state of a template's devices could not be saved (" + status + ")")
                .with_remote_message(answer.value("error-desc", ""));
        check(call, *environment_.clock, "saving a template");
        auto next = Deadline::after(*environment_.clock, std::chrono::milliseconds(2)).earlier(call.deadline);
        co_await environment_.clock->sleep_until(next.when(), call.stop);
    }
}

/// What a dead owner left: donors, and folders that are half made.
Task<void> QemuProvider::sweep_templates() {
    auto self = shared_from_this();
    auto work = [folder = template_folder_, vms = vms_] {
        folder.sweep();
        std::vector<VmId> donors;
        std::error_code error;
        for (const auto& entry : fs::directory_iterator(vms, error)) {
            auto name = entry.path().filename().string();
            if (!is_uuid(name)) continue;
            try {
                auto record = load_record(entry.path());
                if (record && record->donor) donors.push_back({name});
            } catch (const Error&) {
                // It is told when the VM is asked for.
            }
        }
        return donors;
    };
    auto donors = co_await run_blocking(environment_.blocking, work);
    Call clean{Deadline::after(*environment_.clock, std::chrono::seconds(30))};
    for (const auto& id : donors) co_await drop_donor(id, clean);
}

}  // namespace infrastructure_sdk::qemu
