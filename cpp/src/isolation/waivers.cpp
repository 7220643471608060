#include <infrastructure_sdk/isolation/waivers.hpp>

#include <algorithm>
#include <map>
#include <string_view>

#include "core/dsse.hpp"
#include "core/ed25519.hpp"
#include "isolation/json_fields.hpp"
#include "isolation/statement.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
namespace fields = isolation::fields;

[[noreturn]] void refuse(const std::string& field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, field + ": '" + value + "' is not allowed; allowed: " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

void check(const Waiver& waiver) {
    const auto& checks = check_catalogue();
    bool known = std::any_of(checks.begin(), checks.end(), [&](const auto& c) { return waiver.check_id == c.id; });
    if (!known) refuse("check_id", waiver.check_id, "the id of a check, such as MEM-01");
    if (waiver.id.empty()) refuse("id", "", "a name for the waiver");
    if (waiver.reason.empty()) refuse("reason", "", "why the failure is accepted");
    if (waiver.approved_by.empty()) refuse("approved_by", "", "who accepts it");
}

using Keys = std::map<std::string, Ed25519Key>;

Keys keys_of(const std::vector<std::string>& pems) {
    Keys keys;
    for (const auto& pem : pems)
        for (const auto& key : parse_public_pem(pem, "trusted_keys")) keys.emplace(key_id_of(key), key);
    return keys;
}

std::optional<Waiver> waiver_of(const std::string& line, const Keys& keys) {
    auto envelope = parse_dsse(line);
    if (!envelope || envelope->payload_type != isolation::statement_payload_type || envelope->signatures.size() != 1)
        return std::nullopt;
    const auto& signature = envelope->signatures.front();
    auto key = keys.find(signature.key_id);
    if (key == keys.end() ||
        !ed25519_verify(key->second, dsse_pae(envelope->payload_type, envelope->payload), signature.signature))
        return std::nullopt;
    auto statement = isolation::parse_statement(envelope->payload);
    return statement ? isolation::waiver_of(*statement) : std::nullopt;
}

}  // namespace

std::string sign_waiver(const Waiver& waiver, const Secret& private_key) {
    check(waiver);
    auto secret = parse_private_pem(private_key, "private_key");
    return dsse_text(dsse_sign(isolation::statement_payload_type, isolation::waiver_statement(waiver), secret)) + "\n";
}

std::vector<Waiver> read_waivers(const std::string& text, const std::string& name,
                                 const std::vector<std::string>& trusted_keys) {
    auto keys = keys_of(trusted_keys);
    std::vector<Waiver> waivers;
    std::string_view rest = text;
    for (std::size_t number = 1; !rest.empty(); ++number) {
        auto end = rest.find('\n');
        std::string line(rest.substr(0, end));
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (line.empty()) continue;
        auto waiver = waiver_of(line, keys);
        if (!waiver) refuse(name + ":" + std::to_string(number), "...", "a waiver signed by a trusted key");
        waivers.push_back(*waiver);
    }
    return waivers;
}

void apply_waivers(IsolationReport& report, const std::vector<Waiver>& waivers, WallTime now) {
    for (auto& finding : report.findings) {
        for (const auto& waiver : waivers) {
            if (finding.status() != FindingStatus::fail) break;
            finding = Finding::waived(finding, waiver, now);
            if (finding.status() == FindingStatus::waived) report.waivers.push_back(waiver);
        }
    }
}

}  // namespace infrastructure_sdk
