// What QEMU tells of a guest unasked: panics, a watchdog that was not fed, a disk without space.

#include <sys/statvfs.h>

#include "providers/qemu/cpu_placement.hpp"
#include "providers/qemu/provider.hpp"

namespace infrastructure_sdk::qemu {

using nlohmann::json;
namespace {

/// A guest goes on when there is room for more than its next write.
constexpr std::uint64_t space_to_go_on = 64ull << 20;

/// What may have changed what isolates the VM. Source: qemu.org/docs/master/interop/qemu-qmp-ref.html
bool is_suspicious(const std::string& event) {
    for (const char* kind :
         {"VNC_CONNECTED", "VNC_INITIALIZED", "SPICE_CONNECTED", "DEVICE_DELETED", "DEVICE_TRAY_MOVED",
          "NIC_RX_FILTER_CHANGED", "MIGRATION", "STOP", "RESUME", "NETDEV_STREAM_CONNECTED"})
        if (event == kind) return true;
    return event.starts_with("BLOCK_");
}

std::uint64_t free_bytes(const std::string& folder) {
    struct statvfs space{};
    return ::statvfs(folder.c_str(), &space) == 0 ? static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize : 0;
}

}  // namespace

void QemuProvider::take_event(VmPtr vm, const json& event) {
    const auto name = event.value("event", std::string());
    const auto data = event.value("data", json::object());
    if (suspect_ && is_suspicious(name)) suspect_(vm->record.spec.id);
    if (!data.is_object()) return;
    if (name == "GUEST_PANICKED") vm->last_event = "GuestPanicked";
    if (name == "WATCHDOG") vm->last_event = "GuestHung";
    // A guest that reboots ends, since its process does; one that panicked may do so without a word.
    if (name == "SHUTDOWN" && data.value("guest", false) && vm->last_event.empty())
        vm->last_event = data.value("reason", std::string()) == "guest-reset" ? "GuestRebooted" : "GuestShutdown";
    if (name == "BLOCK_IO_ERROR" && data.value("action", std::string()) == "stop") expect_space(vm);
}

/// QEMU has stopped the guest before anything was lost; it goes on when there is space.
void QemuProvider::expect_space(VmPtr vm) {
    if (vm->waits_for_space || closing_) return;
    vm->waits_for_space = true;
    tasks_.spawn(environment_.logger, "wait for space for VM " + vm->record.spec.id.value, await_space(vm));
}

Task<void> QemuProvider::await_space(VmPtr vm) {
    auto self = shared_from_this();
    const auto stop = tasks_.stop_source().get_token();
    const auto& id = vm->record.spec.id;
    if (handler_)
        handler_({id, VmState::paused, "DiskFull",
                  "the host's disk is full: the guest is stopped, unharmed, and goes on when there is space"});
    constexpr Duration pause = std::chrono::seconds(1);
    auto folder = vms_;
    auto look = [folder] { return free_bytes(folder); };
    constexpr Duration patience = std::chrono::seconds(10);
    for (;;) {
        co_await environment_.clock->sleep_until(environment_.clock->monotonic_now() + pause, stop);
        if (stop.stop_requested() || closing_ || !vm->alive) break;
        if (co_await run_blocking(environment_.blocking, look) < space_to_go_on) continue;
        bool goes_on = false;
        Call call{Deadline::after(*environment_.clock, patience), stop, std::string()};
        try {
            goes_on = co_await continue_after_error(vm, call);
        } catch (const Error& error) {
            environment_.logger->log(LogLevel::warning, "vm.qemu", "a VM that was stopped could not go on",
                                     {{"vm", id.value}, {"detail", error.message()}});
            continue;
        }
        if (goes_on && handler_)
            handler_({id, VmState::running, "DiskHasSpace", "there is space again: the guest goes on"});
        break;
    }
    vm->waits_for_space = false;
}

/// False = somebody else stopped it, or let it go on.
Task<bool> QemuProvider::continue_after_error(VmPtr vm, Call call) {
    auto guard = co_await turn(vm, call, "letting a VM go on");
    if (!vm->alive) co_return false;
    auto status = co_await query_status(vm, call);
    if (status != "io-error" || vm->record.phase != VmState::running) co_return false;
    auto client = co_await qmp(vm, call);
    co_await client->execute("cont", no_arguments, call);
    co_return true;
}

/// Each CPU of the guest on the CPU of the host that was chosen for it.
Task<void> QemuProvider::pin_cpus(VmPtr vm, Call call) {
    if (vm->record.host_cpus.empty()) co_return;
    auto client = co_await qmp(vm, call);
    auto cpus = co_await client->execute("query-cpus-fast", no_arguments, call);
    const auto threads = vcpu_threads(cpus).value_or(std::vector<std::int64_t>());
    const auto trouble = pin_threads(threads, vm->record.host_cpus);
    if (trouble.empty()) co_return;
    vm->record.host_cpus.clear();
    environment_.logger->log(LogLevel::warning, "vm.qemu", "a VM's CPUs are not pinned",
                             {{"vm", vm->record.spec.id.value}, {"detail", trouble}});
}

/// Of all VMs that run or are about to.
std::set<int> QemuProvider::taken_cpus(const VmId& but) const {
    std::set<int> taken;
    for (const auto& [id, vm] : known_)
        if (id != but) taken.insert(vm->record.host_cpus.begin(), vm->record.host_cpus.end());
    return taken;
}

}  // namespace infrastructure_sdk::qemu
