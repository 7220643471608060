#pragma once
// The streams into one VM that were given out and still live.

#include <algorithm>
#include <cstdint>
#include <vector>

#include <sys/socket.h>

#include <infrastructure_sdk/vm/guest_stream.hpp>

namespace infrastructure_sdk::qemu {

/// On the executor; the streams themselves may end on any thread.
class Connections {
public:
    void add(const GuestStreamPtr& stream) {
        count();
        streams_.push_back(stream);
    }
    std::uint32_t count() {
        std::erase_if(streams_, [](const auto& stream) { return stream.expired(); });
        return static_cast<std::uint32_t>(streams_.size());
    }
    /// Both ends see the end; who holds a stream lets go of it in its own time.
    void cut_off() {
        for (const auto& stream : streams_)
            if (auto living = stream.lock()) ::shutdown(living->descriptor(), SHUT_RDWR);
        streams_.clear();
    }

private:
    std::vector<std::weak_ptr<GuestStream>> streams_;
};

}  // namespace infrastructure_sdk::qemu
