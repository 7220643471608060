#pragma once
// A connected byte stream into a VM: its screen's VNC server or a port of the guest.

#include <memory>

namespace infrastructure_sdk {

/// A non-blocking socket, closed when this is destroyed. While it lives it counts as a client of its VM. Thread-safe to
/// destroy from any thread.
class GuestStream {
public:
    /// Takes the descriptor.
    explicit GuestStream(int descriptor) : descriptor_(descriptor) {}
    GuestStream(const GuestStream&) = delete;
    GuestStream& operator=(const GuestStream&) = delete;
    ~GuestStream();

    /// Owned by this; duplicate it to keep it longer.
    int descriptor() const noexcept { return descriptor_; }

private:
    int descriptor_;
};
using GuestStreamPtr = std::shared_ptr<GuestStream>;

}  // namespace infrastructure_sdk
