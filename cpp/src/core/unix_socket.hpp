#pragma once
// Unix sockets whose path may be longer than the kernel's 108 bytes: reached through /proc/self/fd/<directory>.

#include <string>

namespace infrastructure_sdk {

/// A listening, close-on-exec, mode 0600 socket at `path`; a stale file there is replaced. Returns the descriptor.
/// @throws Error(provider)
int listen_unix(const std::string& path);
/// A connected, non-blocking, close-on-exec descriptor. Returns -1 and sets errno (ENOENT, ECONNREFUSED, ...) on
/// failure.
int connect_unix(const std::string& path);

}  // namespace infrastructure_sdk
