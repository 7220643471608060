#include <array>
#include <string>

#include "core/did_you_mean.hpp"
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

template <class Value>
struct NameRow {
    Value value;
    const char* name;
};
constexpr std::array<NameRow<Firmware>, 3> firmwares{
    {{Firmware::bios, "bios"}, {Firmware::uefi, "uefi"}, {Firmware::secure_boot, "secure_boot"}}};
constexpr std::array<NameRow<Encryption>, 3> encryptions{
    {{Encryption::off, "off"}, {Encryption::memory, "memory"}, {Encryption::all, "all"}}};
constexpr std::array<NameRow<SnapshotMode>, 2> snapshot_modes{
    {{SnapshotMode::disk, "disk"}, {SnapshotMode::memory, "memory"}}};
constexpr std::array<NameRow<ClockBase>, 2> clock_bases{{{ClockBase::utc, "utc"}, {ClockBase::localtime, "localtime"}}};

template <class Rows, class Value>
const char* name_in(const Rows& rows, Value value) noexcept {
    for (const auto& row : rows)
        if (row.value == value) return row.name;
    return "";
}

template <class Rows>
auto find_in(const Rows& rows, const std::string& name, const char* field) {
    std::string allowed;
    for (const auto& row : rows) {
        if (row.name == name) return row.value;
        allowed += (allowed.empty() ? "" : ", ") + std::string(row.name);
    }
    throw Error(Errc::validation, std::string(field) + ": '" + name + "' is not allowed; allowed: " + allowed,
                {{"field", field}, {"value", name}, {"allowed", allowed}});
}

struct Enlightenment {
    std::string name;
    std::vector<std::string> needs;
};
const std::vector<Enlightenment> enlightenments{{"relaxed", {}},
                                                {"vapic", {}},
                                                {"spinlocks", {}},
                                                {"vpindex", {}},
                                                {"runtime", {}},
                                                {"time", {}},
                                                {"synic", {"vpindex"}},
                                                {"stimer", {"synic", "time"}},
                                                {"stimer-direct", {"stimer"}},
                                                {"tlbflush", {"vpindex"}},
                                                {"ipi", {"vpindex"}},
                                                {"frequencies", {}},
                                                {"reenlightenment", {"frequencies"}},
                                                {"reset", {}}};

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

const char* name_of(Firmware firmware) noexcept { return name_in(firmwares, firmware); }
Firmware parse_firmware(const std::string& name) { return find_in(firmwares, name, "firmware"); }
const char* name_of(Encryption encryption) noexcept { return name_in(encryptions, encryption); }
Encryption parse_encryption(const std::string& name) { return find_in(encryptions, name, "encryption"); }
const char* name_of(SnapshotMode mode) noexcept { return name_in(snapshot_modes, mode); }
SnapshotMode parse_snapshot_mode(const std::string& name) { return find_in(snapshot_modes, name, "mode"); }
const char* name_of(ClockBase base) noexcept { return name_in(clock_bases, base); }
ClockBase parse_clock_base(const std::string& name) { return find_in(clock_bases, name, "clock"); }

const std::vector<std::string>& hyperv_enlightenments() {
    static const auto names = [] {
        std::vector<std::string> all;
        for (const auto& row : enlightenments) all.push_back(row.name);
        return all;
    }();
    return names;
}

std::vector<std::string> needs_of_enlightenment(const std::string& name) {
    for (const auto& row : enlightenments)
        if (row.name == name) return row.needs;
    return {};
}

const std::vector<std::string>& network_mode_names() {
    static const std::vector<std::string> names{"none", "isolated", "internet", "bridge"};
    return names;
}

const char* name_of(NetworkMode mode) noexcept { return network_mode_names()[static_cast<std::size_t>(mode)].c_str(); }

NetworkMode parse_network_mode(const std::string& name) {
    const auto& names = network_mode_names();
    for (std::size_t i = 0; i < names.size(); ++i)
        if (name == names[i]) return static_cast<NetworkMode>(i);
    const auto guess = did_you_mean(name, names);
    throw Error(Errc::validation,
                "network.mode: '" + name + "' is not allowed; allowed: none, isolated, internet, bridge" +
                    (guess.empty() ? std::string() : "; did you mean '" + guess + "'?"),
                {{"field", "network.mode"},
                 {"value", name},
                 {"allowed", "none, isolated, internet, bridge"},
                 {"did_you_mean", guess}});
}

bool is_interface_name(const std::string& name) noexcept {
    constexpr const char* allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return !name.empty() && name.size() <= 15 && name != "." && name != ".." && name.front() != '-' &&
           name.find_first_not_of(allowed) == std::string::npos;
}

}  // namespace infrastructure_sdk
