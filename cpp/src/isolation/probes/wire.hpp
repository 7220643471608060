#pragma once
// Frames at an interface of the host, by a packet socket. Blocking, and quick. Source: man 7 packet.

#include <string>
#include <vector>

namespace infrastructure_sdk::isolation {

class Wire {
public:
    /// @throws Error(provider) without the right to, or when there is no such interface
    explicit Wire(const std::string& interface);
    ~Wire();
    Wire(const Wire&) = delete;
    Wire& operator=(const Wire&) = delete;
    /// @throws Error(provider)
    void send(const std::string& frame);
    /// What came in since the last call; the interface's own sendings are not among it.
    std::vector<std::string> received();
    /// Something came in that `received` did not give: there was too much of it.
    bool lost() const { return lost_; }

private:
    int fd_ = -1;
    int index_ = 0;
    bool lost_ = false;
};

}  // namespace infrastructure_sdk::isolation
