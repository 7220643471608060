#pragma once
// Bytes to lines, pure. QMP and the guest agent speak one JSON document a line.

#include <string>
#include <string_view>
#include <vector>

namespace infrastructure_sdk::qemu {

class LineSplitter {
public:
    explicit LineSplitter(std::size_t limit_bytes) : limit_(limit_bytes) {}
    /// Complete lines, without line ends and without the 0xFF bytes of guest-sync-delimited; empty ones are dropped.
    /// After `overflown()` nothing more comes.
    std::vector<std::string> feed(std::string_view bytes);
    bool overflown() const { return overflown_; }

private:
    std::size_t limit_;
    std::string rest_;
    bool overflown_ = false;
};

}  // namespace infrastructure_sdk::qemu
