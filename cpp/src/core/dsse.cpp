#include "core/dsse.hpp"

#include <nlohmann/json.hpp>

#include "core/base64.hpp"
#include "core/ed25519.hpp"

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

std::optional<std::string> text_of(const json& object, const char* key) {
    auto found = object.find(key);
    if (found == object.end() || !found->is_string()) return std::nullopt;
    return found->get<std::string>();
}

std::optional<std::string> bytes_of(const json& object, const char* key) {
    auto text = text_of(object, key);
    return text ? base64_decode(*text) : std::nullopt;
}

}  // namespace

std::string dsse_pae(std::string_view type, std::string_view body) {
    std::string text = "DSSEv1 " + std::to_string(type.size()) + " ";
    text.append(type).append(" ").append(std::to_string(body.size())).append(" ").append(body);
    return text;
}

DsseEnvelope dsse_sign(std::string type, std::string payload, const Ed25519Key& secret) {
    auto signature = ed25519_sign(secret, dsse_pae(type, payload));
    return {std::move(type), std::move(payload), {{key_id_of(ed25519_public_key(secret)), signature}}};
}

std::string dsse_text(const DsseEnvelope& envelope) {
    auto signatures = json::array();
    for (const auto& item : envelope.signatures)
        signatures.push_back({{"keyid", item.key_id}, {"sig", base64_encode(item.signature)}});
    json document{{"payload", base64_encode(envelope.payload)},
                  {"payloadType", envelope.payload_type},
                  {"signatures", signatures}};
    return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::optional<DsseEnvelope> parse_dsse(std::string_view text) {
    auto document = json::parse(text, nullptr, false);
    if (!document.is_object()) return std::nullopt;
    auto payload = bytes_of(document, "payload");
    auto type = text_of(document, "payloadType");
    auto signatures = document.find("signatures");
    if (!payload || !type || signatures == document.end() || !signatures->is_array()) return std::nullopt;
    DsseEnvelope envelope{*type, *payload, {}};
    for (const auto& item : *signatures) {
        if (!item.is_object()) return std::nullopt;
        auto key_id = text_of(item, "keyid");
        auto signature = bytes_of(item, "sig");
        if (!key_id || !signature) return std::nullopt;
        envelope.signatures.push_back({*key_id, *signature});
    }
    if (dsse_text(envelope) != text) return std::nullopt;
    return envelope;
}

}  // namespace infrastructure_sdk
