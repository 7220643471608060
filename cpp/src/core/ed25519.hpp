#pragma once
// Ed25519 (RFC 8032) keys from 32 secret bytes.

#include <array>
#include <cstdint>

namespace infrastructure_sdk {

/// @throws Error(internal) when the library cannot.
std::array<std::uint8_t, 32> ed25519_public_key(const std::array<std::uint8_t, 32>& secret);

}  // namespace infrastructure_sdk
