#include "core/aead.hpp"

#include <algorithm>

#include <openssl/evp.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using Cipher = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

Cipher cipher_for(const Secret& key, int encrypts) {
    Cipher cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
    const auto* bytes = reinterpret_cast<const unsigned char*>(key.reveal().data());
    if (key.reveal().size() != Aead::key_bytes)
        throw Error(Errc::internal, "a key of AES-256 has 32 bytes, not " + std::to_string(key.reveal().size()));
    if (!cipher || EVP_CipherInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, bytes, nullptr, encrypts) != 1)
        throw Error(Errc::internal, "AES-256-GCM is not available");
    return cipher;
}

/// Takes in the context, then turns `in` into `out`.
bool update(EVP_CIPHER_CTX* cipher, const Aead::Nonce& nonce, Bytes context, Bytes in, std::uint8_t* out) {
    int written = 0;
    return EVP_CipherInit_ex(cipher, nullptr, nullptr, nullptr, nonce.data(), -1) == 1 &&
           EVP_CipherUpdate(cipher, nullptr, &written, context.data(), static_cast<int>(context.size())) == 1 &&
           (in.empty() || EVP_CipherUpdate(cipher, out, &written, in.data(), static_cast<int>(in.size())) == 1);
}

}  // namespace

struct Aead::Impl {
    Cipher encryption;
    Cipher decryption;
};

Aead::Aead(const Secret& key) : impl_(new Impl{cipher_for(key, 1), cipher_for(key, 0)}) {}
Aead::~Aead() = default;
Aead::Aead(Aead&&) noexcept = default;

void Aead::seal(const Nonce& nonce, Bytes context, Bytes plain, std::uint8_t* out) {
    auto* cipher = impl_->encryption.get();
    int rest = 0;
    if (!update(cipher, nonce, context, plain, out) || EVP_CipherFinal_ex(cipher, out + plain.size(), &rest) != 1 ||
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, tag_bytes, out + plain.size()) != 1)
        throw Error(Errc::internal, "AES-256-GCM failed");
}

bool Aead::open(const Nonce& nonce, Bytes context, Bytes sealed, std::uint8_t* out) {
    if (sealed.size() < tag_bytes) return false;
    auto* cipher = impl_->decryption.get();
    auto body = sealed.first(sealed.size() - tag_bytes);
    std::array<std::uint8_t, tag_bytes> tag{};
    std::copy(sealed.end() - tag_bytes, sealed.end(), tag.begin());
    std::array<std::uint8_t, tag_bytes> nothing{};
    int rest = 0;
    return update(cipher, nonce, context, body, out) &&
           EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, tag_bytes, tag.data()) == 1 &&
           EVP_CipherFinal_ex(cipher, nothing.data(), &rest) == 1;
}

}  // namespace infrastructure_sdk
