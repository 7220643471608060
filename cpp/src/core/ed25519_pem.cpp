#include "core/ed25519_pem.hpp"

#include <algorithm>

#include "core/base64.hpp"
#include "core/sha256.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

// What stands before the 32 bytes in the DER forms; nothing in them depends on the key (RFC 8410, section 10).
constexpr std::string_view public_prefix("\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", 12);
constexpr std::string_view private_prefix("\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20", 16);

std::string der(std::string_view prefix, const Ed25519Key& key) {
    std::string text(prefix);
    text.append(reinterpret_cast<const char*>(key.data()), key.size());
    return text;
}

std::string pem(const std::string& label, const std::string& der_bytes) {
    return "-----BEGIN " + label + "-----\n" + base64_encode(der_bytes) + "\n-----END " + label + "-----\n";
}

[[noreturn]] void refuse(const std::string& field, const std::string& why, const std::string& allowed) {
    throw Error(Errc::validation, field + ": " + why + "; allowed: " + allowed,
                {{"field", field}, {"allowed", allowed}});
}

/// The keys of all blocks with this label; blocks of other kinds are refused.
std::vector<Ed25519Key> keys_of(std::string_view text, const std::string& label, std::string_view prefix,
                                const std::string& field, const std::string& allowed) {
    const std::string begin = "-----BEGIN " + label + "-----", end = "-----END " + label + "-----";
    std::vector<Ed25519Key> keys;
    for (std::size_t at = text.find("-----BEGIN"); at != std::string_view::npos; at = text.find("-----BEGIN", at)) {
        auto stop = text.find(end, at);
        if (!text.substr(at).starts_with(begin) || stop == std::string_view::npos)
            refuse(field, "it holds something else than whole Ed25519 keys", allowed);
        std::string body(text.substr(at + begin.size(), stop - at - begin.size()));
        std::erase_if(body, [](char c) { return c == '\n' || c == '\r' || c == ' ' || c == '\t'; });
        auto bytes = base64_decode(body);
        if (!bytes || bytes->size() != prefix.size() + 32 || !std::string_view(*bytes).starts_with(prefix))
            refuse(field, "it holds a key that is not Ed25519", allowed);
        std::copy_n(reinterpret_cast<const std::uint8_t*>(bytes->data()) + prefix.size(), 32,
                    keys.emplace_back().begin());
        at = stop + end.size();
    }
    if (keys.empty()) refuse(field, "it holds no key", allowed);
    return keys;
}

}  // namespace

std::string key_id_of(const Ed25519Key& public_key) { return sha256_hex(der(public_prefix, public_key)); }

std::string public_pem(const Ed25519Key& public_key) { return pem("PUBLIC KEY", der(public_prefix, public_key)); }

Secret private_pem(const Ed25519Key& secret) { return Secret(pem("PRIVATE KEY", der(private_prefix, secret))); }

std::vector<Ed25519Key> parse_public_pem(std::string_view text, const std::string& field) {
    return keys_of(text, "PUBLIC KEY", public_prefix, field, "Ed25519 public keys in PEM form");
}

Ed25519Key parse_private_pem(const Secret& text, const std::string& field) {
    const std::string allowed = "one Ed25519 private key in PEM form, not encrypted";
    auto keys = keys_of(text.reveal(), "PRIVATE KEY", private_prefix, field, allowed);
    if (keys.size() != 1) refuse(field, "it holds more than one key", allowed);
    return keys.front();
}

}  // namespace infrastructure_sdk
