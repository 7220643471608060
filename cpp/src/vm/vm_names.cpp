#include <array>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk {
namespace {

struct StateRow {
    VmState state;
    const char* name;
};
constexpr std::array<StateRow, 12> states{{{VmState::creating, "creating"},
                                           {VmState::starting, "starting"},
                                           {VmState::running, "running"},
                                           {VmState::paused, "paused"},
                                           {VmState::suspending, "suspending"},
                                           {VmState::suspended, "suspended"},
                                           {VmState::stopping, "stopping"},
                                           {VmState::stopped, "stopped"},
                                           {VmState::deleting, "deleting"},
                                           {VmState::deleted, "deleted"},
                                           {VmState::failed, "failed"},
                                           {VmState::unknown, "unknown"}}};

}  // namespace

const char* name_of(VmState state) noexcept {
    for (const auto& row : states)
        if (row.state == state) return row.name;
    return "unknown";
}

VmState parse_vm_state(const std::string& name) {
    std::string allowed;
    for (const auto& row : states) {
        if (row.name == name) return row.state;
        allowed += (allowed.empty() ? "" : ", ") + std::string(row.name);
    }
    throw Error(Errc::validation, "'" + name + "' is not a VM state; allowed: " + allowed,
                {{"field", "state"}, {"value", name}, {"allowed", allowed}});
}

const char* name_of(NetworkMode mode) noexcept { return mode == NetworkMode::none ? "none" : "isolated"; }

}  // namespace infrastructure_sdk
