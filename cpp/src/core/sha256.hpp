#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace infrastructure_sdk {

/// Lower-case hex.
std::string sha256_hex(std::string_view bytes);
/// Of a whole open file, read from its start with pread; the offset does not move. @throws Error(provider)
std::string sha256_hex_of_file(int fd);

/// SHA-256 of an open file while another process still appends to it. Used by one thread at a time.
class GrowingFileDigest {
public:
    explicit GrowingFileDigest(int fd);
    ~GrowingFileDigest();
    /// Takes in what is there by now, 64 MiB at most, and starts to bring it to disk. False = there was nothing new.
    /// @throws Error(provider)
    bool advance();
    /// Lower-case hex of all that was taken in. Call it once.
    std::string finish();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace infrastructure_sdk
