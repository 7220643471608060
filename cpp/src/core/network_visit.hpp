#pragma once
// Sockets in another process's network namespace. Blocking.

#include <cstdint>
#include <functional>

namespace infrastructure_sdk {

/// This thread is in the process's network namespace until the end of the block; sockets stay where they were made.
class NetworkVisit {
public:
    /// @param is_it asked when the namespace is held: the number may be another process's by now
    /// @throws std::system_error without the right to, Error(not_ready) when `is_it` says no
    NetworkVisit(std::int64_t pid, const std::function<bool()>& is_it);
    // A pool's thread that stays in a guest's namespace would do other work there.
    ~NetworkVisit();
    NetworkVisit(const NetworkVisit&) = delete;
    NetworkVisit& operator=(const NetworkVisit&) = delete;
    /// False when the process is in ours.
    bool is_away() const { return own_ >= 0; }

private:
    int own_ = -1;
};

/// Brings up the loopback of the namespace that this thread is in; a new one has it down. False, with errno, when it
/// cannot.
bool raise_loopback();

}  // namespace infrastructure_sdk
