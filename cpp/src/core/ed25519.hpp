#pragma once
// Ed25519 (RFC 8032) keys from 32 secret bytes, and signatures with them. Thread-safe.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace infrastructure_sdk {

/// @throws Error(internal) when the library cannot.
std::array<std::uint8_t, 32> ed25519_public_key(const std::array<std::uint8_t, 32>& secret);
/// 64 bytes; the same for the same message. @throws Error(internal) when the library cannot.
std::string ed25519_sign(const std::array<std::uint8_t, 32>& secret, std::string_view message);
bool ed25519_verify(const std::array<std::uint8_t, 32>& public_key, std::string_view message,
                    std::string_view signature);

}  // namespace infrastructure_sdk
