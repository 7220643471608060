#include "core/ed25519.hpp"

#include <memory>

#include <openssl/evp.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Context = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

Key private_key(const std::array<std::uint8_t, 32>& secret) {
    Key key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, secret.data(), secret.size()), EVP_PKEY_free);
    if (!key) throw Error(Errc::internal, "an Ed25519 key cannot be made");
    return key;
}

}  // namespace

std::array<std::uint8_t, 32> ed25519_public_key(const std::array<std::uint8_t, 32>& secret) {
    auto key = private_key(secret);
    std::array<std::uint8_t, 32> half{};
    std::size_t size = half.size();
    if (EVP_PKEY_get_raw_public_key(key.get(), half.data(), &size) != 1)
        throw Error(Errc::internal, "an Ed25519 key cannot be made");
    return half;
}

std::string ed25519_sign(const std::array<std::uint8_t, 32>& secret, std::string_view message) {
    auto key = private_key(secret);
    Context context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    std::string signature(64, '\0');
    std::size_t size = signature.size();
    if (!context || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) != 1 ||
        EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, bytes_of(message),
                       message.size()) != 1)
        throw Error(Errc::internal, "an Ed25519 signature cannot be made");
    return signature;
}

bool ed25519_verify(const std::array<std::uint8_t, 32>& public_key, std::string_view message,
                    std::string_view signature) {
    if (signature.size() != 64) return false;
    Key key(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, public_key.data(), public_key.size()),
            EVP_PKEY_free);
    Context context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    return key && context && EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
           EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(message), message.size()) ==
               1;
}

}  // namespace infrastructure_sdk
