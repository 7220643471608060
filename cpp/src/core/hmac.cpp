#include "core/hmac.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {

std::string hmac_sha256(std::string_view key, std::string_view message) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    const auto* data = reinterpret_cast<const unsigned char*>(message.data());
    if (!HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), data, message.size(), bytes, &size))
        throw Error(Errc::internal, "HMAC-SHA256 is not available");
    return std::string(reinterpret_cast<const char*>(bytes), size);
}

}  // namespace infrastructure_sdk
