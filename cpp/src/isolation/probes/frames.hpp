#pragma once
// Ethernet frames that probes send, and what they read of those that come back. Pure. Sources: RFC 826 (ARP), RFC 791
// (IPv4), RFC 768 (UDP), RFC 9293 (TCP), RFC 792 (ICMP).

#include <cstdint>
#include <optional>
#include <string>

namespace infrastructure_sdk::isolation::frames {

/// Six bytes; from "52:54:00:12:34:56". nullopt for anything else.
std::optional<std::string> mac_bytes(const std::string& text);
/// Four bytes; from "10.0.2.15". nullopt for anything else.
std::optional<std::string> address_bytes(const std::string& text);

/// Both as bytes.
struct Endpoint {
    std::string mac, address;
};
const std::string& broadcast();

/// Who has the target's address? `sender` is written into the packet, `source` into the frame.
std::string arp_request(const std::string& source, const Endpoint& sender, const std::string& address);
/// "I have this address", unasked and to everybody.
std::string arp_claim(const std::string& source, const Endpoint& sender);
/// The first packet of a connection.
std::string tcp_open(const Endpoint& from, const Endpoint& to, std::uint16_t from_port, std::uint16_t to_port,
                     std::uint32_t sequence);
std::string udp(const Endpoint& from, const Endpoint& to, std::uint16_t from_port, std::uint16_t to_port,
                const std::string& payload);

/// True for an ARP answer that tells this address to `to`.
bool answers_arp(const std::string& frame, const std::string& to, const std::string& address);

/// What came back for a packet.
enum class Reply { none, opened, refused };
/// Of a frame for the guest: the answer to the TCP packet with these ports and sequence, or an ICMP message that the
/// packet with these ports could not be delivered. @param address whom the packet was for
Reply reply_to(const std::string& frame, const std::string& address, std::uint16_t from_port, std::uint16_t to_port,
               std::optional<std::uint32_t> sequence);

}  // namespace infrastructure_sdk::isolation::frames
