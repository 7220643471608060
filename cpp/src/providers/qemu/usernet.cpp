#include "providers/qemu/usernet.hpp"

#include <charconv>
#include <sstream>
#include <string_view>

namespace infrastructure_sdk::qemu {
namespace {

/// One that a guest may have: the first three are the network, QEMU as a gateway and as a name server.
bool is_of_a_guest(std::string_view address) {
    constexpr std::string_view network = "10.0.2.";
    if (!address.starts_with(network)) return false;
    address.remove_prefix(network.size());
    int host = 0;
    auto [end, error] = std::from_chars(address.data(), address.data() + address.size(), host);
    return error == std::errc() && end == address.data() + address.size() && address.front() != '0' && host > 3 &&
           host < 255;
}

}  // namespace

std::vector<UsernetLine> parse_usernet(const std::string& text) {
    // "  TCP[HOST_FORWARD]  27  127.0.0.1 33557  10.0.2.15  7000     0     0"
    std::vector<UsernetLine> found;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        auto open = line.find("TCP["), close = line.find(']');
        if (open == std::string::npos || close == std::string::npos || close < open + 4) continue;
        std::istringstream words(line.substr(close + 1));
        UsernetLine entry;
        entry.state = line.substr(open + 4, close - open - 4);
        int descriptor = 0;
        if (words >> descriptor >> entry.source >> entry.source_port >> entry.target >> entry.target_port)
            found.push_back(std::move(entry));
    }
    return found;
}

std::string forward_target(const std::vector<GuestInterface>& interfaces, const std::string& mac_address) {
    for (const auto& found : interfaces) {
        if (found.mac_address != mac_address) continue;
        for (const auto& address : found.addresses) {
            auto plain = address.substr(0, address.find('/'));
            if (is_of_a_guest(plain)) return plain;
        }
    }
    return "10.0.2.15";
}

}  // namespace infrastructure_sdk::qemu
