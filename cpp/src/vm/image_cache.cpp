#include "vm/image_cache.hpp"

#include <sys/stat.h>

namespace infrastructure_sdk {

/// Empty when one of them is missing.
std::string ImageCache::identity_of(const std::string& manifest, const ImageFiles& image) {
    std::string identity;
    for (const auto* path : {&manifest, &image.kernel, &image.initrd, &image.disk, &image.disc}) {
        if (path->empty()) continue;
        struct stat status{};
        if (::lstat(path->c_str(), &status) != 0) return {};
        for (auto number :
             {static_cast<long long>(status.st_dev), static_cast<long long>(status.st_ino),
              static_cast<long long>(status.st_size), static_cast<long long>(status.st_mtim.tv_sec),
              static_cast<long long>(status.st_mtim.tv_nsec), static_cast<long long>(status.st_ctim.tv_sec),
              static_cast<long long>(status.st_ctim.tv_nsec)})
            identity.append(reinterpret_cast<const char*>(&number), sizeof number);
    }
    return identity;
}

ImageFiles ImageCache::load(const std::string& directory, const std::string& name) {
    auto manifest = directory + "/" + name + "/manifest.json";
    auto known = entries_.find(manifest);
    if (known != entries_.end() && !known->second.identity.empty() &&
        known->second.identity == identity_of(manifest, known->second.image))
        return known->second.image;
    Entry entry;
    entry.image = load_image(directory, name);
    entry.identity = identity_of(manifest, entry.image);
    return entries_.insert_or_assign(manifest, std::move(entry)).first->second.image;
}

}  // namespace infrastructure_sdk
