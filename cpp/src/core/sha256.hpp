#pragma once

#include <string>
#include <string_view>

namespace infrastructure_sdk {

/// Lower-case hex.
std::string sha256_hex(std::string_view bytes);
/// Of a whole open file, read from its start with pread; the offset does not move. @throws Error(provider)
std::string sha256_hex_of_file(int fd);

}  // namespace infrastructure_sdk
