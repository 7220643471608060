#pragma once

#include <string>
#include <vector>

#include <infrastructure_sdk/deadline.hpp>
#include <infrastructure_sdk/vm/guest_stream.hpp>
#include <infrastructure_sdk/vm/input.hpp>

namespace infrastructure_sdk {

/// Every call may throw Error(not_ready, channel=display), Error(provider), Error(cancelled), Error(timeout).
class Display {
public:
    virtual ~Display() = default;
    /// PNG bytes of what the screen shows now.
    virtual Task<std::string> screenshot(Call call) = 0;
    /// Completes when the guest's keyboard took every key; pointer events are handed over. When it fails, or is
    /// stopped, no key is left pressed. @throws Error(not_ready) for a guest that does not take keys, within seconds.
    virtual Task<void> input(std::vector<InputEvent> events, Call call) = 0;
    /// A stream that speaks RFB (RFC 6143), the client's side. Completes when the server counts the client.
    /// @param alone refuse when somebody is connected. @throws Error(conflict), Error(unsupported, capability=console)
    virtual Task<GuestStreamPtr> console(bool alone, Call call) = 0;
};

}  // namespace infrastructure_sdk
