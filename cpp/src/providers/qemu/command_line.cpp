#include "providers/qemu/command_line.hpp"

#include "providers/qemu/network_plan.hpp"

namespace infrastructure_sdk::qemu {
namespace {

using Line = std::vector<std::string>;

void add(Line& line, std::string option, std::string value) {
    line.push_back(std::move(option));
    line.push_back(std::move(value));
}

/// A file that is only read, by the descriptor that it is inherited under.
void add_inherited_file(Line& line, int descriptor, int set, const std::string& node) {
    add(line, "-add-fd", "fd=" + std::to_string(descriptor) + ",set=" + std::to_string(set));
    add(line, "-blockdev",
        R"({"driver":"file","node-name":")" + node + R"(-file","filename":"/dev/fdset/)" + std::to_string(set) +
            R"(","read-only":true})");
}

void add_raw(Line& line, const std::string& node, bool read_only) {
    add(line, "-blockdev",
        R"({"driver":"raw","node-name":")" + node + R"(","file":")" + node + R"(-file")" +
            (read_only ? R"(,"read-only":true})" : "}"));
}

/// The node of the disk for its device: below it a filter, where the disk is limited.
std::string add_disk_limits(Line& line, const VmLimits& limits) {
    if (limits.disk_iops == 0 && limits.disk_bytes_per_second == 0) return "disk";
    std::string most;
    auto limit = [&most](const char* name, std::uint64_t value) {
        if (value > 0) most += (most.empty() ? "\"" : ",\"") + std::string(name) + "\":" + std::to_string(value);
    };
    limit("iops-total", limits.disk_iops);
    limit("bps-total", limits.disk_bytes_per_second);
    add(line, "-object", R"({"qom-type":"throttle-group","id":"disk-limits","limits":{)" + most + "}}");
    add(line, "-blockdev",
        R"({"driver":"throttle","node-name":"disk-limited","throttle-group":"disk-limits","file":"disk"})");
    return "disk-limited";
}

/// QEMU reads the pipe once, when it starts.
void add_key(Line& line, const std::string& id, int descriptor) {
    add(line, "-object", "secret,id=" + id + ",file=/proc/self/fd/" + std::to_string(descriptor));
}

std::string encrypted_by(const std::string& id) {
    return R"(,"encrypt":{"format":"luks","key-secret":")" + id + R"("})";
}

bool is_for_windows(const VmSpec& spec) { return !spec.enlightenments.empty(); }

std::string machine_of(const VmSpec& spec) {
    auto machine = spec.machine + ",mem-merge=off,dump-guest-core=off";
    // Windows has the clock of Hyper-V; the HPET would only cost exits.
    if (is_for_windows(spec)) machine += ",hpet=off";
    // The variables may be written from system management mode alone: so the guest cannot enrol keys.
    if (spec.firmware == Firmware::secure_boot) machine += ",smm=on";
    if (spec.firmware != Firmware::bios) machine += ",pflash0=firmware-code,pflash1=firmware-variables";
    return machine;
}

/// Empty = QEMU's default. Windows needs SSE4.2, which the default processor of emulation has not.
std::string processor_of(const VmSpec& spec, bool kvm) {
    if (!kvm) return is_for_windows(spec) ? "max" : "";
    std::string processor = "host";
    for (const auto& name : spec.enlightenments) processor += ",hv-" + name + (name == "spinlocks" ? "=0x1fff" : "=on");
    return processor;
}

std::string clock_of(const VmSpec& spec) {
    // Windows counts on every tick of the clock: those that a busy host missed are made up for.
    return std::string("base=") + name_of(spec.clock) + (is_for_windows(spec) ? ",driftfix=slew" : "");
}

void add_firmware(Line& line, const VmSpec& spec) {
    if (spec.firmware == Firmware::bios) return;
    if (spec.firmware == Firmware::secure_boot) add(line, "-global", "driver=cfi.pflash01,property=secure,value=on");
    // OVMF cannot resume from S3 with system management mode under every accelerator.
    add(line, "-global", "ICH9-LPC.disable_s3=1");
    add_inherited_file(line, inherited::firmware, 2, "firmware-code");
    add_raw(line, "firmware-code", true);
    add(line, "-blockdev",
        std::string(R"({"driver":"file","node-name":"firmware-variables-file","filename":")") + file_name::firmware +
            R"("})");
    add_raw(line, "firmware-variables", false);
}

void add_tpm(Line& line) {
    add(line, "-chardev", "socket,id=tpm,fd=" + std::to_string(inherited::tpm));
    add(line, "-tpmdev", "emulator,id=tpm0,chardev=tpm");
    add(line, "-device", "tpm-crb,tpmdev=tpm0");
}

/// Windows has the driver of a CD drive before it has those of the disc; kernels of clouds may have that of virtio
/// alone.
void add_disc(Line& line, const VmSpec& spec) {
    add_inherited_file(line, inherited::disc, 3, "disc");
    add_raw(line, "disc", true);
    add(line, "-device", is_for_windows(spec) ? "ide-cd,drive=disc,bus=ide.0" : "virtio-blk-pci,drive=disc");
}

}  // namespace

std::vector<std::string> command_line(const VmSpec& spec, const CommandLineOptions& options) {
    std::vector<std::string> line;
    auto add = [&line](std::string option, std::string value) { qemu::add(line, std::move(option), std::move(value)); };
    auto descriptor = [](int fd) { return "/proc/self/fd/" + std::to_string(fd); };

    add("-name", "guest=" + spec.id.value + ",debug-threads=on");
    add("-uuid", spec.id.value);
    add("-machine", machine_of(spec));
    // The default translation cache is a gigabyte and the biggest cost of an emulated VM.
    const bool kvm = options.accelerator == "kvm";
    add("-accel", kvm ? "kvm"
                      : "tcg,thread=" + std::string(spec.cpu_count > 1 ? "multi" : "single") +
                            ",tb-size=" + std::to_string(options.translation_cache_mib));
    if (auto processor = processor_of(spec, kvm); !processor.empty()) add("-cpu", processor);
    if (kvm && is_for_windows(spec)) add("-global", "kvm-pit.lost_tick_policy=delay");
    add("-m", std::to_string(spec.memory_bytes >> 20));
    add("-smp", std::to_string(spec.cpu_count));
    line.insert(line.end(), {"-nodefaults", "-no-user-config", "-no-reboot"});
    add("-display", "none");
    add("-vga", spec.display ? "std" : "none");
    // Who may open the VM's directory may see its screen; nobody else.
    if (spec.display) add("-vnc", std::string("unix:") + file_name::vnc);
    add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    add("-rtc", clock_of(spec));
    add_firmware(line, spec);
    if (spec.tpm) add_tpm(line);
    add("-chardev", "socket,id=qmp,fd=" + std::to_string(inherited::qmp) + ",server=on,wait=off");
    add("-mon", "chardev=qmp,mode=control");
    add("-chardev", "socket,id=agent,fd=" + std::to_string(inherited::agent) + ",server=on,wait=off");
    add("-device", "virtio-serial-pci");
    add("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0");
    add("-chardev", std::string("file,id=serial,path=") + file_name::serial + ",append=on");
    add("-serial", "chardev:serial");
    add("-device", "pvpanic");
    if (spec.watchdog) {
        add("-device", "i6300esb");
        add("-action", "watchdog=poweroff");
    }
    add("-object", "rng-builtin,id=rng0");
    add("-device", "virtio-rng-pci,rng=rng0");
    if (!spec.image.kernel.empty()) {
        add("-kernel", descriptor(inherited::kernel));
        if (!spec.image.initrd.empty()) add("-initrd", descriptor(inherited::initrd));
        add("-append", spec.image.kernel_arguments + " isdk.hostname=" + spec.name);
    }
    if (!spec.image.disk.empty()) {
        if (options.base_encrypted) add_key(line, "base-key", inherited::base_key);
        if (options.disk_encrypted) add_key(line, "disk-key", inherited::disk_key);
        add_inherited_file(line, inherited::base_disk, 1, "base");
        add("-blockdev", R"({"driver":")" + spec.image.disk_format +
                             R"(","node-name":"base","file":"base-file","read-only":true)" +
                             (options.base_encrypted ? encrypted_by("base-key") : "") +
                             (spec.image.disk_format == "qcow2" ? R"(,"backing":null})" : "}"));
        add("-blockdev",
            std::string(R"({"driver":"file","node-name":"disk-file","filename":")") + file_name::disk + R"("})");
        add("-blockdev", R"({"driver":"qcow2","node-name":"disk","file":"disk-file","backing":"base")" +
                             (options.disk_encrypted ? encrypted_by("disk-key") : std::string()) + "}");
        // Out of space the guest is stopped until there is some; other errors are the guest's own to see.
        add("-device", "virtio-blk-pci,drive=" + add_disk_limits(line, spec.limits));
    }
    if (!spec.image.disc.empty()) add_disc(line, spec);
    if (spec.network != NetworkMode::none) {
        add("-netdev", netdev_of(spec.network));
        add("-device", "virtio-net-pci,netdev=net0,mac=" + spec.mac_address + ",romfile=");
    }
    // A pointer that knows places, as a viewer's does; the machine's own PS/2 mouse knows only ways. The keyboard is
    // PS/2.
    if (spec.display) add("-device", "virtio-tablet-pci");
    return line;
}

std::vector<std::string> tpm_command_line() {
    return {"socket",     "--tpm2",
            "--tpmstate", std::string("dir=") + file_name::tpm + ",mode=0600",
            "--ctrl",     "type=unixio,clientfd=" + std::to_string(inherited::tpm),
            "--terminate"};
}

std::vector<std::string> with_ram_file(std::vector<std::string> arguments, std::uint64_t memory_bytes, bool writes) {
    for (std::size_t i = 0; i + 1 < arguments.size(); ++i)
        if (arguments[i] == "-machine") arguments[i + 1] += ",memory-backend=pc.ram";
    // Named as the machine names its own RAM, so that a stream of memory fits both.
    add(arguments, "-object",
        "memory-backend-file,id=pc.ram,x-use-canonical-path-for-ramblock-id=off,size=" + std::to_string(memory_bytes) +
            ",mem-path=/proc/self/fd/" + std::to_string(inherited::ram) + ",share=" + (writes ? "on" : "off"));
    return arguments;
}

std::vector<std::string> incoming(std::vector<std::string> arguments) {
    arguments.push_back("-incoming");
    arguments.push_back("defer");
    return arguments;
}

bool names_vm(const std::vector<std::string>& arguments, const std::string& uuid) {
    if (arguments.empty() || arguments.front().find("qemu") == std::string::npos) return false;
    for (std::size_t i = 1; i + 1 < arguments.size(); ++i)
        if (arguments[i] == "-uuid") return arguments[i + 1] == uuid;
    return false;
}

}  // namespace infrastructure_sdk::qemu
