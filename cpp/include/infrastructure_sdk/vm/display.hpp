#pragma once

#include <string>

#include <infrastructure_sdk/deadline.hpp>

namespace infrastructure_sdk {

class Display {
public:
    virtual ~Display() = default;
    /// PNG bytes of what the screen shows now. @throws Error(not_ready, channel=display), Error(provider)
    virtual Task<std::string> screenshot(Call call) = 0;
};

}  // namespace infrastructure_sdk
