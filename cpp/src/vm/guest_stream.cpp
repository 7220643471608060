#include <infrastructure_sdk/vm/guest_stream.hpp>

#include <unistd.h>

namespace infrastructure_sdk {

GuestStream::~GuestStream() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace infrastructure_sdk
