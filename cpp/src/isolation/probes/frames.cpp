#include "isolation/probes/frames.hpp"

#include <charconv>
#include <vector>

namespace infrastructure_sdk::isolation::frames {
namespace {

constexpr std::size_t ethernet_bytes = 14, least_address_bytes = 20;
constexpr char arp = '\x06', icmp = 1, tcp_protocol = 6, udp_protocol = 17;

void add16(std::string& to, std::uint32_t value) {
    to += static_cast<char>(value >> 8 & 255);
    to += static_cast<char>(value & 255);
}
void add32(std::string& to, std::uint32_t value) {
    add16(to, value >> 16);
    add16(to, value & 0xffff);
}
std::uint32_t get16(const std::string& from, std::size_t at) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(from[at])) << 8 |
           static_cast<unsigned char>(from[at + 1]);
}
std::uint32_t get32(const std::string& from, std::size_t at) { return get16(from, at) << 16 | get16(from, at + 2); }

/// RFC 1071.
std::uint32_t checksum(std::string bytes) {
    if (bytes.size() % 2 != 0) bytes += '\0';
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < bytes.size(); i += 2) sum += get16(bytes, i);
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

void put16(std::string& into, std::size_t at, std::uint32_t value) {
    into[at] = static_cast<char>(value >> 8 & 255);
    into[at + 1] = static_cast<char>(value & 255);
}

/// Numbers between separators, each below 256.
std::optional<std::string> numbers(const std::string& text, char separator, int base, std::size_t count) {
    std::string bytes;
    const char *at = text.data(), *end = at + text.size();
    while (bytes.size() < count) {
        unsigned value = 0;
        auto [next, error] = std::from_chars(at, end, value, base);
        if (error != std::errc() || value > 255 || next - at > 3) return std::nullopt;
        bytes += static_cast<char>(value);
        at = next;
        if (bytes.size() < count && (at == end || *at++ != separator)) return std::nullopt;
    }
    return at == end ? std::optional(bytes) : std::nullopt;
}

std::string arp_packet(const std::string& source, const Endpoint& sender, const std::string& target_mac,
                       const std::string& target, std::uint32_t operation) {
    std::string frame = broadcast() + source + "\x08" + arp;
    add16(frame, 1);       // Ethernet
    add16(frame, 0x0800);  // IPv4
    add16(frame, 0x0604);
    add16(frame, operation);
    return frame + sender.mac + sender.address + target_mac + target;
}

std::string packet(const Endpoint& from, const Endpoint& to, char protocol, const std::string& body) {
    std::string header = "\x45";
    header += '\0';
    add16(header, static_cast<std::uint32_t>(20 + body.size()));
    add32(header, 0);  // no fragments
    header += '\x40';  // hops
    header += protocol;
    add16(header, 0);
    header += from.address + to.address;
    put16(header, 10, checksum(header));
    std::string kind("\x08\x00", 2);
    return to.mac + from.mac + kind + header + body;
}

/// Where the body of an IPv4 packet begins; 0 = it is none, or is cut off.
std::size_t body_at(const std::string& bytes, std::size_t packet_at) {
    if (bytes.size() < packet_at + least_address_bytes || static_cast<unsigned char>(bytes[packet_at]) >> 4 != 4)
        return 0;
    auto length = static_cast<std::size_t>(bytes[packet_at] & 15) * 4;
    return length < least_address_bytes || bytes.size() < packet_at + length + 8 ? 0 : packet_at + length;
}

bool is_kind(const std::string& frame, std::uint32_t kind) {
    return frame.size() >= ethernet_bytes && get16(frame, 12) == kind;
}

}  // namespace

std::optional<std::string> mac_bytes(const std::string& text) { return numbers(text, ':', 16, 6); }
std::optional<std::string> address_bytes(const std::string& text) { return numbers(text, '.', 10, 4); }

const std::string& broadcast() {
    static const std::string address(6, '\xff');
    return address;
}

std::string arp_request(const std::string& source, const Endpoint& sender, const std::string& address) {
    return arp_packet(source, sender, std::string(6, '\0'), address, 1);
}
std::string arp_claim(const std::string& source, const Endpoint& sender) {
    return arp_packet(source, sender, broadcast(), sender.address, 2);
}

std::string tcp_open(const Endpoint& from, const Endpoint& to, std::uint16_t from_port, std::uint16_t to_port,
                     std::uint32_t sequence) {
    std::string body;
    add16(body, from_port);
    add16(body, to_port);
    add32(body, sequence);
    add32(body, 0);
    add16(body, 0x5002);  // five words, SYN
    add16(body, 1024);
    add32(body, 0);
    std::string pseudo = from.address + to.address;
    add16(pseudo, static_cast<unsigned char>(tcp_protocol));
    add16(pseudo, static_cast<std::uint32_t>(body.size()));
    put16(body, 16, checksum(pseudo + body));
    return packet(from, to, tcp_protocol, body);
}

std::string udp(const Endpoint& from, const Endpoint& to, std::uint16_t from_port, std::uint16_t to_port,
                const std::string& payload) {
    std::string body;
    add16(body, from_port);
    add16(body, to_port);
    add16(body, static_cast<std::uint32_t>(8 + payload.size()));
    add16(body, 0);  // no checksum
    return packet(from, to, udp_protocol, body + payload);
}

bool answers_arp(const std::string& frame, const std::string& to, const std::string& address) {
    return is_kind(frame, 0x0806) && frame.size() >= 42 && get16(frame, 20) == 2 && frame.substr(28, 4) == address &&
           frame.substr(0, 6) == to;
}

Reply reply_to(const std::string& frame, const std::string& address, std::uint16_t from_port, std::uint16_t to_port,
               std::optional<std::uint32_t> sequence) {
    auto body = is_kind(frame, 0x0800) ? body_at(frame, ethernet_bytes) : 0;
    if (body == 0) return Reply::none;
    auto protocol = frame[ethernet_bytes + 9];
    if (protocol == icmp && frame[body] == 3) {
        // Unreachable: the packet that was not delivered follows.
        auto inner = body + 8;
        auto quoted = body_at(frame, inner);
        bool ours = quoted != 0 && frame.substr(inner + 16, 4) == address && get16(frame, quoted) == from_port &&
                    get16(frame, quoted + 2) == to_port;
        return ours ? Reply::refused : Reply::none;
    }
    if (protocol != tcp_protocol || !sequence || frame.size() < body + 20) return Reply::none;
    bool ours = frame.substr(ethernet_bytes + 12, 4) == address && get16(frame, body) == to_port &&
                get16(frame, body + 2) == from_port && get32(frame, body + 8) == *sequence + 1;
    if (!ours) return Reply::none;
    auto flags = static_cast<unsigned char>(frame[body + 13]);
    if ((flags & 0x04) != 0) return Reply::refused;
    return (flags & 0x12) == 0x12 ? Reply::opened : Reply::none;
}

}  // namespace infrastructure_sdk::isolation::frames
