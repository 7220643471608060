#pragma once
// What a process under another user's id can do to a VM. Blocking: a child is forked, gives up its rights, tries, and
// ends.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace infrastructure_sdk::isolation {

struct ForeignTrial {
    unsigned uid = 65534;
    std::string folder;                ///< where the paths begin; the child's rights above it do not matter
    std::vector<std::string> sockets;  ///< relative paths; each is connected to, and let go
    std::vector<std::string> files;    ///< relative paths; each is opened for reading, and closed
    std::int64_t pid = 0;              ///< whose memory it asks for, at an address that holds none; 0 = nobody's
    /// The positive control: absolute paths of a socket and a file that everybody may use.
    std::string open_socket, open_file;
};

/// An errno each; 0 = it went through.
struct ForeignResult {
    int open_socket = 0, open_file = 0;
    int own_memory = 0;  ///< of reading itself: the control of `memory`
    int memory = 0;
    std::vector<int> sockets, files;
};
/// nullopt, with the reason in `why`, when there is no child to be had: only root can become somebody else.
std::optional<ForeignResult> try_as_foreigner(const ForeignTrial& trial, std::string& why);

}  // namespace infrastructure_sdk::isolation
