#include "providers/qemu/line_splitter.hpp"

#include <algorithm>

namespace infrastructure_sdk::qemu {

std::vector<std::string> LineSplitter::feed(std::string_view bytes) {
    std::vector<std::string> lines;
    if (overflown_) return lines;
    while (!bytes.empty()) {
        auto end = bytes.find('\n');
        rest_.append(bytes.substr(0, end));
        if (rest_.size() > limit_) {
            overflown_ = true;
            rest_.clear();
            return lines;
        }
        if (end == std::string_view::npos) break;
        bytes.remove_prefix(end + 1);
        std::erase_if(rest_, [](char c) { return c == '\xff' || c == '\r'; });
        if (!rest_.empty()) lines.push_back(std::move(rest_));
        rest_.clear();
    }
    return lines;
}

}  // namespace infrastructure_sdk::qemu
