#pragma once
// Images that were read already: many sessions are made from few of them.

#include <map>
#include <string>

#include <infrastructure_sdk/vm/image.hpp>

namespace infrastructure_sdk {

/// As `load_image`, but reads a manifest again only when it or one of its files is another one than before. Not
/// thread-safe.
class ImageCache {
public:
    /// @throws as `load_image`
    ImageFiles load(const std::string& directory, const std::string& name);

private:
    struct Entry {
        std::string identity;  ///< device, inode, size and times of the manifest and its files
        ImageFiles image;
    };
    static std::string identity_of(const std::string& manifest, const ImageFiles& image);
    std::map<std::string, Entry> entries_;  ///< by path of the manifest
};

}  // namespace infrastructure_sdk
