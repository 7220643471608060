// The network of a VM: its rules are there before its interface is, and go after it.

#include <sys/stat.h>

#include "providers/qemu/descriptors.hpp"
#include "providers/qemu/network.hpp"
#include "providers/qemu/provider.hpp"

namespace infrastructure_sdk::qemu {
namespace {

std::string told(const Error& error) {
    return error.message() + (error.remote_message().empty() ? "" : ": " + error.remote_message());
}

}  // namespace

void QemuProvider::offer_networks() {
    network_host_ = look_at_network();
    // The folder keeps device and inode when it is renamed.
    struct stat folder{};
    ::stat(vms_.c_str(), &folder);
    network_prefix_ = network_prefix(std::to_string(folder.st_dev) + ":" + std::to_string(folder.st_ino));
    for (const auto& name : network_mode_names())
        capabilities_.networks[name] = refusal_of(parse_network_mode(name), "", network_host_);
}

void QemuProvider::check_network(const VmSpec& spec) const {
    if (spec.network != NetworkMode::internet && spec.network != NetworkMode::bridge) return;
    auto host = network_host_;
    refresh(host, spec.network == NetworkMode::bridge);
    const std::string mode = name_of(spec.network);
    if (const auto why = refusal_of(spec.network, spec.bridge, host); !why.empty())
        throw Error(Errc::unsupported, "network.mode: '" + mode + "' is not possible on this host: " + why,
                    {{"field", "network.mode"}, {"value", mode}, {"capability", "network"}, {"bridge", spec.bridge}});
}

/// Before the VM's process runs. @returns the descriptor of its tap, or -1 for a VM without one; the caller closes it.
Task<int> QemuProvider::prepare_network(VmPtr vm) {
    if (vm->record.network_interface.empty()) co_return -1;
    auto self = shared_from_this();
    auto work = [self, record = vm->record] {
        self->check_network(record.spec);
        const auto& host = self->network_host_;
        const auto& interface = record.network_interface;
        remove_interface(host, interface);
        if (record.spec.network != NetworkMode::bridge) return -1;
        load_rules(host, packet_rules(record.spec, interface, {}));
        self->passed(NetworkEffect::rules_loaded);
        Descriptors held;
        const int tap = held.add(make_tap(interface));
        connect_port(host, interface, record.spec.bridge);
        self->passed(NetworkEffect::tap_made);
        return held.release(tap);
    };
    co_return co_await run_blocking(environment_.blocking, work);
}

/// Of a process that lives. What is there already is left, but for the rules: they may have been flushed.
Task<void> QemuProvider::connect_network(VmPtr vm) {
    if (vm->record.network_interface.empty() || !vm->record.process) co_return;
    auto self = shared_from_this();
    auto work = [self, record = vm->record] {
        auto host = self->network_host_;
        refresh(host, false);
        const auto& interface = record.network_interface;
        load_rules(host, packet_rules(record.spec, interface, host.resolvers));
        self->passed(NetworkEffect::rules_loaded);
        if (record.spec.network != NetworkMode::internet || is_up(interface)) return true;
        remove_interface(host, interface);
        connect_uplink(host, interface, *record.process);
        self->passed(NetworkEffect::connected);
        return true;
    };
    co_await run_blocking(environment_.blocking, work);
}

/// Its owner may have died before it was connected. A VM whose network cannot be had again is looked at all the same,
/// but without an interface: its rules may be missing.
Task<void> QemuProvider::reconnect_network(VmPtr vm) {
    std::string trouble;
    try {
        co_await connect_network(vm);
    } catch (const Error& error) {
        trouble = told(error);
    }
    if (trouble.empty()) co_return;
    auto self = shared_from_this();
    auto work = [self, interface = vm->record.network_interface] {
        remove_interface(self->network_host_, interface);
        return true;
    };
    try {
        co_await run_blocking(environment_.blocking, work);
    } catch (const Error& error) {
        trouble += "; " + told(error);
    }
    environment_.logger->log(LogLevel::error, "vm.qemu", "a VM's network could not be connected again",
                             {{"vm", vm->record.spec.id.value}, {"detail", trouble}});
}

/// When it completes neither interface nor rules are there, or that was told in the log.
Task<void> QemuProvider::disconnect_network(VmPtr vm) {
    if (vm->record.network_interface.empty()) co_return;
    auto self = shared_from_this();
    auto work = [self, interface = vm->record.network_interface] {
        remove_interface(self->network_host_, interface);
        load_rules(self->network_host_, without_packet_rules(interface));
        self->passed(NetworkEffect::rules_removed);
        return true;
    };
    std::string trouble;
    try {
        co_await run_blocking(environment_.blocking, work);
    } catch (const Error& error) {
        trouble = told(error);
    }
    if (!trouble.empty())
        environment_.logger->log(LogLevel::error, "vm.qemu", "a VM's network could not be taken away",
                                 {{"vm", vm->record.spec.id.value}, {"detail", trouble}});
}

/// Rules whose VM ended while nobody looked.
Task<void> QemuProvider::sweep_networks() {
    if (!network_host_.root || network_host_.nft_program.empty()) co_return;
    auto self = shared_from_this();
    auto work = [self] { return remove_stale_rules(self->network_host_, self->network_prefix_); };
    std::string trouble;
    try {
        co_await run_blocking(environment_.blocking, work);
    } catch (const Error& error) {
        trouble = told(error);
    }
    if (!trouble.empty())
        environment_.logger->log(LogLevel::warning, "vm.qemu", "packet rules could not be looked at",
                                 {{"detail", trouble}});
}

}  // namespace infrastructure_sdk::qemu
