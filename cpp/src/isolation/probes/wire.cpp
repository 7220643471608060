#include "isolation/probes/wire.hpp"

#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::isolation {
namespace {

Error no_wire(const std::string& interface, const char* doing) {
    return Error(Errc::provider, "no packet socket at " + interface + ": " + doing + ": " + std::strerror(errno),
                 {{"interface", interface}});
}

/// What one look takes at most.
constexpr int most_frames_in_a_look = 4096;

/// By the kernel, since it was asked last.
bool nothing_dropped(int fd) {
    tpacket_stats counts{};
    socklen_t size = sizeof counts;
    return ::getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &counts, &size) == 0 && counts.tp_drops == 0;
}

}  // namespace

Wire::Wire(const std::string& interface)
    : fd_(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL))) {
    if (fd_ < 0) throw no_wire(interface, "opening");
    index_ = static_cast<int>(::if_nametoindex(interface.c_str()));
    sockaddr_ll place{};
    place.sll_family = AF_PACKET;
    place.sll_protocol = htons(ETH_P_ALL);
    place.sll_ifindex = index_;
    if (index_ != 0 && ::bind(fd_, reinterpret_cast<sockaddr*>(&place), sizeof place) == 0) return;
    auto error = no_wire(interface, "binding");
    ::close(fd_);
    throw error;
}

Wire::~Wire() { ::close(fd_); }

void Wire::send(const std::string& frame) {
    if (::send(fd_, frame.data(), frame.size(), MSG_DONTWAIT) != static_cast<ssize_t>(frame.size()))
        throw no_wire(std::to_string(index_), "sending");
}

std::vector<std::string> Wire::received() {
    std::vector<std::string> frames;
    char bytes[2048];
    for (int i = 0; i < most_frames_in_a_look; ++i) {
        sockaddr_ll from{};
        socklen_t size = sizeof from;
        auto got = ::recvfrom(fd_, bytes, sizeof bytes, MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&from), &size);
        if (got < 0) {
            lost_ = lost_ || !nothing_dropped(fd_);
            return frames;
        }
        if (from.sll_pkttype != PACKET_OUTGOING) frames.emplace_back(bytes, static_cast<std::size_t>(got));
    }
    lost_ = true;
    return frames;
}

}  // namespace infrastructure_sdk::isolation
