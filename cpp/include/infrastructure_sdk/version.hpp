#pragma once

namespace infrastructure_sdk {

/// "0.1.0"
const char* version() noexcept;

}  // namespace infrastructure_sdk
