// The shell around doctor_rules: looks at the host.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/async_tools.hpp"
#include "providers/qemu/accelerator.hpp"
#include "providers/qemu/control_groups.hpp"
#include "providers/qemu/doctor_rules.hpp"
#include "providers/qemu/host_check.hpp"
#include "providers/qemu/host_memory.hpp"
#include "providers/qemu/network.hpp"
#include "providers/qemu/process.hpp"
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/vm/image.hpp>

namespace infrastructure_sdk::qemu {
namespace fs = std::filesystem;
namespace {

std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

ProgramFact look_at_program(const std::string& wanted, const std::string& package) {
    ProgramFact fact{wanted, package, false, {}, {}};
    const auto path = find_program(wanted);
    fact.found = !path.empty();
    if (!fact.found) return fact;
    try {
        const auto text = tool_output({path, "--version"});
        fact.version = text.substr(0, text.find('\n'));
    } catch (const Error& error) {
        fact.trouble = error.message();
    }
    return fact;
}

DeviceAccess look_at_kvm() {
    if (::access("/dev/kvm", F_OK) != 0) return DeviceAccess::absent;
    return ::access("/dev/kvm", R_OK | W_OK) == 0 ? DeviceAccess::granted : DeviceAccess::refused;
}

std::optional<std::uint64_t> free_bytes(const std::string& directory) {
    fs::path existing = directory;
    std::error_code error;
    while (!existing.empty() && !fs::exists(existing, error)) existing = existing.parent_path();
    struct statvfs space{};
    if (::access(existing.c_str(), W_OK) != 0 || ::statvfs(existing.c_str(), &space) != 0) return std::nullopt;
    return static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
}

std::optional<std::uint64_t> number_in(const std::string& path) {
    std::istringstream text(first_line(path));
    std::uint64_t value = 0;
    if (text >> value) return value;
    return std::nullopt;
}

std::vector<std::string> look_at_swaps() {
    std::ifstream file("/proc/swaps");
    std::vector<std::string> names;
    std::string line;
    std::getline(file, line);  // the heading
    while (std::getline(file, line)) names.push_back(line.substr(0, line.find_first_of(" \t")));
    return names;
}

std::optional<bool> is_clock_synchronized() {
    timex clock{};  // no mode: only read
    const int state = ::adjtimex(&clock);
    if (state < 0) return std::nullopt;
    return state != TIME_ERROR && (clock.status & STA_UNSYNC) == 0;
}

void look_at_kernel(DoctorFacts& facts) {
    facts.groups = look_at_groups();
    facts.user_namespaces = number_in("/proc/sys/user/max_user_namespaces");
    facts.user_namespaces_restricted = number_in("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1 ||
                                       number_in("/proc/sys/kernel/unprivileged_userns_clone") == 0;
    facts.ksm = first_line("/sys/kernel/mm/ksm/run");
    facts.swaps = look_at_swaps();
    const auto memory = look_at_memory();
    facts.memory_bytes = memory.total_bytes;
    facts.memory_available_bytes = memory.available_bytes;
    facts.memory_pressure = memory.pressure;
    facts.cpus = static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
    facts.clock_synchronized = is_clock_synchronized();
    facts.clock_source = first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    facts.gpu = judge_gpus(look_at_gpus());
}

DoctorFacts look(const QemuOptions& options) {
    DoctorFacts facts;
    facts.uid = ::geteuid();
    facts.root = facts.uid == 0;
    facts.qemu = look_at_program(options.qemu_binary, "qemu-system-x86");
    facts.qemu_img = look_at_program(options.qemu_img_binary, "qemu-utils");
    facts.kvm = look_at_kvm();
    const auto host = look_at_host(options.firmware_directory, options.tpm_binary);
    if (host.secure_boot) facts.firmware = host.secure_boot->code;
    facts.tpm_program = host.tpm_program;
    facts.state_directory = options.state_directory;
    facts.state_free_bytes = free_bytes(options.state_directory);
    try {
        facts.image_version = load_image(options.probe_image_directory, "linux-tiny").version;
    } catch (const Error& error) {
        facts.image_trouble = error.message();
    }
    const auto network = look_at_network();
    for (auto mode : {NetworkMode::none, NetworkMode::isolated, NetworkMode::internet, NetworkMode::bridge})
        facts.networks[name_of(mode)] = refusal_of(mode, "", network);
    look_at_kernel(facts);
    return facts;
}

}  // namespace
}  // namespace infrastructure_sdk::qemu

namespace infrastructure_sdk {

Task<std::vector<DoctorLine>> qemu_doctor(Environment environment, QemuOptions options, Call call) {
    auto work = [options] { return qemu::look(options); };
    auto facts = co_await run_blocking(environment.blocking, work);
    const auto program = qemu::find_program(options.qemu_binary);
    if (!program.empty() && facts.qemu.trouble.empty()) {
        auto accelerator = co_await qemu::choose_accelerator(environment, options, program, facts.qemu.version, call);
        facts.accelerator = accelerator.name;
        facts.accelerator_reason = accelerator.reason;
    }
    co_return qemu::judge_host(facts);
}

void to_json(nlohmann::json& document, const DoctorLine& line) {
    document = {{"name", line.name},
                {"status", line.status},
                {"detail", line.detail},
                {"meaning", line.meaning},
                {"advice", line.advice}};
}

}  // namespace infrastructure_sdk
