#include "providers/qemu/network.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <mutex>
#include <optional>
#include <sstream>

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "providers/qemu/descriptors.hpp"
#include "providers/qemu/net_namespace.hpp"
#include "providers/qemu/process.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

constexpr const char* tun_device = "/dev/net/tun";

std::string text_of(const char* path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

bool can_open(const char* path) {
    const int fd = ::open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
}

bool succeeds(const std::vector<std::string>& command) {
    try {
        run_tool(command);
        return true;
    } catch (const Error&) {
        return false;
    }
}

/// Why the kernel or nft does not take rules of our kinds.
std::string refusal_of_rules(const std::string& nft_program, const VmLimits& limits) {
    std::string rules;
    for (auto mode : {NetworkMode::internet, NetworkMode::bridge}) {
        VmSpec sample;
        sample.network = mode;
        sample.limits = limits;
        sample.mac_address = "02:00:00:00:00:01";
        rules += packet_rules(sample, "isdk00000000000", {"192.0.2.1"});
    }
    try {
        run_tool({nft_program, "-c", rules});
    } catch (const Error& error) {
        const auto& told = error.remote_message();
        return told.empty() ? std::string(error.message()) : told.substr(0, told.find('\n'));
    }
    return {};
}

/// All interfaces of this thread's namespace by name, and their IPv4 addresses.
struct Interfaces {
    std::set<std::string> names, addresses;
    bool up = false;  ///< the one that was asked for
};
Interfaces interfaces(const std::string& wanted = {}) {
    Interfaces found;
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0) throw Error(Errc::provider, std::string("getifaddrs: ") + std::strerror(errno));
    for (auto* entry = list; entry; entry = entry->ifa_next) {
        found.names.insert(entry->ifa_name);
        if (entry->ifa_name == wanted) found.up = (entry->ifa_flags & IFF_UP) != 0;
        if (!entry->ifa_addr || entry->ifa_addr->sa_family != AF_INET) continue;
        char text[INET_ADDRSTRLEN] = {};
        ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr, text, sizeof text);
        found.addresses.insert(text);
    }
    ::freeifaddrs(list);
    return found;
}

std::set<std::string> bridges_of(const std::string& ip_program) {
    std::set<std::string> names;
    const auto list =
        nlohmann::json::parse(tool_output({ip_program, "-json", "link", "show", "type", "bridge"}), nullptr, false);
    if (!list.is_array()) return names;
    for (const auto& link : list)
        if (link.is_object() && link.contains("ifname") && link["ifname"].is_string())
            names.insert(link["ifname"].get<std::string>());
    return names;
}

void carry_out(const std::vector<NetworkStep>& steps, const ProcessIdentity* process) {
    for (const auto& step : steps) {
        std::unique_ptr<NetworkVisit> visit;
        if (step.inside) visit = visit_network(*process);
        run_tool(step.words);
    }
}

}  // namespace

NetworkHost look_at_network() {
    NetworkHost host;
    host.root = ::geteuid() == 0;
    host.ip_program = find_program("ip");
    host.bridge_program = find_program("bridge");
    host.nft_program = find_program("nft");
    host.tun = can_open(tun_device);
    if (host.root && !host.nft_program.empty()) {
        const auto unshare = find_program("unshare"), nothing = find_program("true");
        host.namespaces = !unshare.empty() && succeeds({unshare, "--net", nothing});
        host.nft_refusal = refusal_of_rules(host.nft_program, {});
        VmLimits limited;
        limited.network_bytes_per_second = 1 << 20;
        host.limit_refusal = refusal_of_rules(host.nft_program, limited);
    }
    refresh(host, false);
    return host;
}

void refresh(NetworkHost& host, bool with_bridges) {
    host.forwards = text_of("/proc/sys/net/ipv4/ip_forward").starts_with("1");
    host.resolvers = resolvers_in(text_of("/etc/resolv.conf"));
    if (with_bridges && !host.ip_program.empty()) host.bridges = bridges_of(host.ip_program);
}

std::set<std::string> resolvers_in(const std::string& resolv_conf) {
    std::set<std::string> found;
    std::istringstream lines(resolv_conf);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string key, address;
        in_addr number{};
        if (!(words >> key >> address) || key != "nameserver") continue;
        if (::inet_pton(AF_INET, address.c_str(), &number) != 1) continue;
        if ((ntohl(number.s_addr) >> 24) != 127) found.insert(address);
    }
    return found;
}

void load_rules(const NetworkHost& host, const std::string& rules) { run_tool({host.nft_program, rules}); }

std::size_t remove_stale_rules(const NetworkHost& host, const std::string& prefix) {
    const auto listed = nlohmann::json::parse(tool_output({host.nft_program, "-j", "list", "tables"}), nullptr, false);
    const auto stale = stale_interfaces(listed, prefix, interfaces().names);
    for (const auto& interface : stale) load_rules(host, without_packet_rules(interface));
    return stale.size();
}

bool is_up(const std::string& interface) { return interfaces(interface).up; }

void remove_interface(const NetworkHost& host, const std::string& interface) {
    if (!interfaces().names.contains(interface)) return;
    try {
        run_tool({host.ip_program, "link", "delete", interface});
    } catch (const Error&) {
        // The kernel takes away what a VM's process had some time after its end.
        if (interfaces().names.contains(interface)) throw;
    }
}

int make_tap(const std::string& interface) {
    auto refuse = [&](const char* doing) {
        throw Error(Errc::provider, "the tap " + interface + " cannot be made: " + doing + ": " + std::strerror(errno),
                    {{"interface", interface}});
    };
    const int fd = ::open(tun_device, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) refuse(tun_device);
    ifreq request{};
    std::strncpy(request.ifr_name, interface.c_str(), IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (::ioctl(fd, TUNSETIFF, &request) != 0) {
        const int why = errno;
        ::close(fd);
        errno = why;
        refuse("TUNSETIFF");
    }
    return fd;
}

void connect_port(const NetworkHost& host, const std::string& interface, const std::string& bridge) {
    carry_out(port_steps(host, interface, bridge), nullptr);
}

void connect_uplink(const NetworkHost& host, const std::string& interface, const ProcessIdentity& process) {
    // An address is free until the interface that gets it is there.
    static std::mutex choosing;
    std::lock_guard one_at_a_time(choosing);
    const auto addresses = uplink_addresses({process.vm_uuid}, interfaces().addresses);
    Descriptors files;
    const int here = files.add(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!visit_network(process)->is_away())
        throw Error(Errc::provider, "the VM has no network namespace of its own", {{"vm", process.vm_uuid}});
    const auto home = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(here);
    try {
        carry_out(uplink_steps(host, interface, addresses, home), &process);
    } catch (...) {
        try {
            remove_interface(host, interface);
        } catch (const Error&) {
            // It ends with the VM.
        }
        throw;
    }
}

}  // namespace infrastructure_sdk::qemu
