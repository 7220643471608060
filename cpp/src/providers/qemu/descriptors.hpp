#pragma once

#include <vector>

#include <unistd.h>

namespace infrastructure_sdk::qemu {

/// Descriptors that are closed when the block ends.
class Descriptors {
public:
    ~Descriptors() {
        for (int fd : fds_) ::close(fd);
    }
    int add(int fd) {
        if (fd >= 0) fds_.push_back(fd);
        return fd;
    }

    /// The caller closes it.
    int release(int fd) {
        std::erase(fds_, fd);
        return fd;
    }

private:
    std::vector<int> fds_;
};

}  // namespace infrastructure_sdk::qemu
