#include "providers/qemu/usernet.hpp"

#include <sstream>

namespace infrastructure_sdk::qemu {

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

}  // namespace infrastructure_sdk::qemu
