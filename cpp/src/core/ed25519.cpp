#include "core/ed25519.hpp"

#include <memory>

#include <openssl/evp.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {

std::array<std::uint8_t, 32> ed25519_public_key(const std::array<std::uint8_t, 32>& secret) {
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
        EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, secret.data(), secret.size()), EVP_PKEY_free);
    std::array<std::uint8_t, 32> half{};
    std::size_t size = half.size();
    if (!key || EVP_PKEY_get_raw_public_key(key.get(), half.data(), &size) != 1)
        throw Error(Errc::internal, "an Ed25519 key cannot be made");
    return half;
}

}  // namespace infrastructure_sdk
