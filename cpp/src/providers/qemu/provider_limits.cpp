// Limits of a VM: planned before its record is written, made before its process runs, taken away after its death.

#include "providers/qemu/control_groups.hpp"
#include "providers/qemu/cpu_placement.hpp"
#include "providers/qemu/host_memory.hpp"
#include "providers/qemu/memory_model.hpp"
#include "providers/qemu/provider.hpp"

namespace infrastructure_sdk::qemu {

void QemuProvider::check_spec(const VmSpec& spec) const {
    check_host(spec, host_);
    check_network(spec);
    const bool kvm = accelerator_.name == "kvm";
    check_free_memory(spec.memory_bytes + memory_overhead(spec, kvm, options_.translation_cache_mib), look_at_memory());
    if (spec.pin_cpus) (void)place_cpus(look_at_cpus(), taken_cpus(spec.id), spec.cpu_count);
}

LimitBasis QemuProvider::basis_of(const VmSpec& spec) const {
    return {offers_, installation_, memory_ceiling(spec, accelerator_.name == "kvm", options_.translation_cache_mib),
            refusal_of_limits(network_host_)};
}

/// Into the record that is written next: what is made afterwards is known.
/// @throws Error(capacity) when its CPUs cannot be pinned any more
void QemuProvider::intend_limits(VmPtr vm) {
    const auto& spec = vm->record.spec;
    vm->record.host_cpus.clear();
    if (spec.pin_cpus) vm->record.host_cpus = place_cpus(look_at_cpus(), taken_cpus(spec.id), spec.cpu_count);
    vm->limits = plan_limits(vm->record.spec, basis_of(vm->record.spec));
    vm->record.limits = vm->limits.limits;
    vm->record.groups.clear();
    for (const auto& group : vm->limits.groups) vm->record.groups.push_back(group.folder);
}

/// What cannot be made is told of in the log and in the VM's status; the VM starts all the same.
Task<void> QemuProvider::make_groups_of(VmPtr vm) {
    auto self = shared_from_this();
    auto plan = vm->limits;
    auto work = [plan]() mutable {
        make_groups(plan);
        return plan;
    };
    plan = co_await run_blocking(environment_.blocking, work);
    vm->record.limits = plan.limits;
    vm->record.groups.clear();
    for (const auto& group : plan.groups) vm->record.groups.push_back(group.folder);
    for (const auto& limit : plan.limits)
        if (limit.enforced_by.empty())
            environment_.logger->log(
                LogLevel::warning, "vm.qemu", "a limit does not hold a VM",
                {{"vm", vm->record.spec.id.value}, {"resource", limit.resource}, {"reason", limit.reason}});
}

/// After the death of its processes; tells when the kernel killed one for want of memory.
Task<void> QemuProvider::release_groups(VmPtr vm) {
    vm->record.host_cpus.clear();
    if (vm->record.groups.empty()) co_return;
    auto self = shared_from_this();
    auto groups = vm->record.groups;
    auto work = [groups] {
        const bool killed = killed_for_memory(groups) > 0;
        return std::pair(killed, remove_groups(groups));
    };
    auto [killed, stayed] = co_await run_blocking(environment_.blocking, work);
    if (killed) vm->last_event = "MemoryLimitReached";
    vm->record.groups = stayed;
    for (const auto& folder : stayed)
        environment_.logger->log(LogLevel::warning, "vm.qemu", "a VM's control group could not be removed",
                                 {{"vm", vm->record.spec.id.value}, {"path", folder}});
}

}  // namespace infrastructure_sdk::qemu
