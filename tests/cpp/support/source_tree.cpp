#include "support/source_tree.hpp"

namespace infrastructure_sdk::test {

std::filesystem::path source_root() { return INFRASTRUCTURE_SDK_SOURCE_DIR; }

}  // namespace infrastructure_sdk::test
