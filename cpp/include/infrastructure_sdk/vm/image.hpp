#pragma once
// Images as the core sees them: read-only manifests made by `infra-sdk image build|import`.

#include <string>
#include <vector>

#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk {

/// Reads `<directory>/<name>/manifest.json` (schema 1). Paths in it are relative and may not leave the image's folder.
/// @throws Error(not_found) with the command that makes the image, Error(validation) on a bad manifest or name.
ImageFiles load_image(const std::string& directory, const std::string& name);

}  // namespace infrastructure_sdk
