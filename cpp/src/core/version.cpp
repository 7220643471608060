#include <infrastructure_sdk/version.hpp>

namespace infrastructure_sdk {

const char* version() noexcept { return INFRASTRUCTURE_SDK_VERSION; }

}  // namespace infrastructure_sdk
