#pragma once
// Dead Simple Signing Envelopes (DSSE v1): a payload, its type, and signatures over both. Pure.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/ed25519_pem.hpp"

namespace infrastructure_sdk {

struct DsseSignature {
    std::string key_id;
    std::string signature;  ///< bytes
};

struct DsseEnvelope {
    std::string payload_type;
    std::string payload;  ///< bytes
    std::vector<DsseSignature> signatures;
};

/// What is signed: "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body.
std::string dsse_pae(std::string_view type, std::string_view body);
/// One signature by `secret`, whose key id is that of its public half.
DsseEnvelope dsse_sign(std::string type, std::string payload, const Ed25519Key& secret);
/// JSON in one line with sorted keys and padded base64: one text for one envelope.
std::string dsse_text(const DsseEnvelope& envelope);
/// Only the text that `dsse_text` makes: any other spelling of the same envelope is nullopt, so that its digest is one.
std::optional<DsseEnvelope> parse_dsse(std::string_view text);

}  // namespace infrastructure_sdk
