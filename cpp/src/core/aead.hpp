#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <infrastructure_sdk/secret.hpp>

namespace infrastructure_sdk {

using Bytes = std::span<const std::uint8_t>;

inline Bytes bytes_of(std::string_view text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

/// AES-256-GCM (NIST SP 800-38D) under one key. A nonce must never be used twice under a key.
/// One thread at a time.
class Aead {
public:
    static constexpr std::size_t key_bytes = 32, nonce_bytes = 12, tag_bytes = 16;
    using Nonce = std::array<std::uint8_t, nonce_bytes>;

    /// @throws Error(internal) when the key has another length.
    explicit Aead(const Secret& key);
    ~Aead();
    Aead(Aead&&) noexcept;

    /// Writes `plain.size() + tag_bytes` bytes to `out`, the tag last.
    void seal(const Nonce& nonce, Bytes context, Bytes plain, std::uint8_t* out);
    /// Writes `sealed.size() - tag_bytes` bytes to `out`. False = it is not what was sealed under this key, nonce and
    /// context; `out` is then of no use.
    [[nodiscard]] bool open(const Nonce& nonce, Bytes context, Bytes sealed, std::uint8_t* out);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace infrastructure_sdk
