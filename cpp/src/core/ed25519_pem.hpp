#pragma once
// Ed25519 keys as PEM texts (RFC 8410, as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them).

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <infrastructure_sdk/secret.hpp>

namespace infrastructure_sdk {

using Ed25519Key = std::array<std::uint8_t, 32>;

/// SHA-256 of the DER form (SubjectPublicKeyInfo), lower-case hex.
std::string key_id_of(const Ed25519Key& public_key);
std::string public_pem(const Ed25519Key& public_key);
Secret private_pem(const Ed25519Key& secret);
/// Every key of a text that holds one or more. @throws Error(validation) that names `field` when there is none, or one
/// is of another kind.
std::vector<Ed25519Key> parse_public_pem(std::string_view text, const std::string& field);
/// The secret bytes. @throws Error(validation) that names `field`, never the text.
Ed25519Key parse_private_pem(const Secret& text, const std::string& field);

}  // namespace infrastructure_sdk
