#include "providers/qemu/command_line.hpp"

namespace infrastructure_sdk::qemu {

std::vector<std::string> command_line(const VmSpec& spec, const CommandLineOptions& options) {
    std::vector<std::string> line;
    auto add = [&line](std::string option, std::string value) {
        line.push_back(std::move(option));
        line.push_back(std::move(value));
    };
    auto descriptor = [](int fd) { return "/proc/self/fd/" + std::to_string(fd); };

    add("-name", "guest=" + spec.id.value + ",debug-threads=on");
    add("-uuid", spec.id.value);
    add("-machine", spec.machine + ",mem-merge=off,dump-guest-core=off");
    // The default translation cache is a gigabyte and the biggest cost of an emulated VM.
    add("-accel", options.accelerator == "kvm" ? "kvm"
                                               : "tcg,thread=" + std::string(spec.cpu_count > 1 ? "multi" : "single") +
                                                     ",tb-size=" + std::to_string(options.translation_cache_mib));
    if (options.accelerator == "kvm") add("-cpu", "host");
    add("-m", std::to_string(spec.memory_bytes >> 20));
    add("-smp", std::to_string(spec.cpu_count));
    line.insert(line.end(), {"-nodefaults", "-no-user-config", "-no-reboot"});
    add("-display", "none");
    add("-vga", spec.display ? "std" : "none");
    // Who may open the VM's directory may see its screen; nobody else.
    if (spec.display) add("-vnc", std::string("unix:") + file_name::vnc);
    add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    add("-rtc", "base=utc");
    add("-chardev", "socket,id=qmp,fd=" + std::to_string(inherited::qmp) + ",server=on,wait=off");
    add("-mon", "chardev=qmp,mode=control");
    add("-chardev", "socket,id=agent,fd=" + std::to_string(inherited::agent) + ",server=on,wait=off");
    add("-device", "virtio-serial-pci");
    add("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0");
    add("-chardev", std::string("file,id=serial,path=") + file_name::serial + ",append=on");
    add("-serial", "chardev:serial");
    add("-device", "pvpanic");
    add("-object", "rng-builtin,id=rng0");
    add("-device", "virtio-rng-pci,rng=rng0");
    if (!spec.image.kernel.empty()) {
        add("-kernel", descriptor(inherited::kernel));
        if (!spec.image.initrd.empty()) add("-initrd", descriptor(inherited::initrd));
        add("-append", spec.image.kernel_arguments + " isdk.hostname=" + spec.name);
    }
    if (!spec.image.disk.empty()) {
        add("-add-fd", "fd=" + std::to_string(inherited::base_disk) + ",set=1");
        add("-blockdev", R"({"driver":"file","node-name":"base-file","filename":"/dev/fdset/1","read-only":true})");
        add("-blockdev", R"({"driver":")" + spec.image.disk_format +
                             R"(","node-name":"base","file":"base-file","read-only":true)" +
                             (spec.image.disk_format == "qcow2" ? R"(,"backing":null})" : "}"));
        add("-blockdev",
            std::string(R"({"driver":"file","node-name":"disk-file","filename":")") + file_name::disk + R"("})");
        add("-blockdev", R"({"driver":"qcow2","node-name":"disk","file":"disk-file","backing":"base"})");
        add("-device", "virtio-blk-pci,drive=disk");
    }
    if (spec.network == NetworkMode::isolated) {
        // restrict=on: without it the guest reads what listens on the host's loopback.
        add("-netdev", "user,id=net0,restrict=on,ipv6=off");
        add("-device", "virtio-net-pci,netdev=net0,mac=" + spec.mac_address + ",romfile=");
    }
    // A pointer that knows places, as a viewer's does; the machine's own PS/2 mouse knows only ways. The keyboard is
    // PS/2.
    if (spec.display) add("-device", "virtio-tablet-pci");
    return line;
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
