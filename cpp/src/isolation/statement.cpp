#include "isolation/statement.hpp"

#include "core/sha256.hpp"
#include "isolation/json_fields.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/version.hpp>

namespace infrastructure_sdk::isolation {
namespace {

using nlohmann::json;

constexpr const char* statement_type = "https://in-toto.io/Statement/v1";

std::string canonical(const json& document) { return document.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string statement(const std::string& subject, const std::string& digest, const char* type, const json& predicate) {
    return canonical({{"_type", statement_type},
                      {"subject", json::array({{{"name", subject}, {"digest", {{"sha256", digest}}}}})},
                      {"predicateType", type},
                      {"predicate", predicate}});
}

bool get(const json& object, const char* key, WallTime& into) {
    std::string text;
    if (!fields::get(object, key, text)) return false;
    try {
        into = parse_rfc3339(text);
    } catch (const Error&) {
        return false;
    }
    return true;
}

}  // namespace

std::string subject_digest(const std::string& session_id, const std::string& vm_id, const std::string& instance_epoch) {
    return sha256_hex(canonical({{"session_id", session_id}, {"vm_id", vm_id}, {"instance_epoch", instance_epoch}}));
}

std::string report_statement(const IsolationReport& report, const ChainPlace& place, const SigningMoment& moment) {
    json predicate{{"sequence", place.sequence},
                   {"previous", place.previous},
                   {"signed_at", to_rfc3339(moment.wall)},
                   {"monotonic_ns", static_cast<std::uint64_t>(moment.monotonic.time_since_epoch().count())},
                   {"boot_id", moment.boot_id},
                   {"collector", std::string("infrastructure-sdk ") + version()},
                   {"report", report}};
    return statement("session/" + report.session_id,
                     subject_digest(report.session_id, report.vm_id, report.instance_epoch), report_predicate,
                     predicate);
}

std::string rotation_statement(const Ed25519Key& from, const Ed25519Key& to, WallTime now) {
    json predicate{{"from", key_id_of(from)}, {"public_key", public_pem(to)}, {"rotated_at", to_rfc3339(now)}};
    return statement("key", key_id_of(to), rotation_predicate, predicate);
}

std::string anchor_statement(const std::vector<AnchoredChain>& chains, WallTime now) {
    auto list = json::array();
    for (const auto& chain : chains)
        list.push_back(
            {{"session_id", chain.session_id}, {"first", chain.first}, {"last", chain.last}, {"digest", chain.digest}});
    json predicate{{"chains", list}, {"anchored_at", to_rfc3339(now)}};
    return statement("chains", sha256_hex(canonical(list)), anchor_predicate, predicate);
}

std::string waiver_statement(const Waiver& waiver) {
    json predicate{
        {"id", waiver.id},         {"check_id", waiver.check_id},       {"session_id", waiver.session_id},
        {"reason", waiver.reason}, {"approved_by", waiver.approved_by}, {"expires_at", to_rfc3339(waiver.expires_at)}};
    return statement("waiver/" + waiver.id, sha256_hex(canonical(predicate)), waiver_predicate, predicate);
}

std::optional<Statement> parse_statement(const std::string& payload) {
    auto document = json::parse(payload, nullptr, false);
    if (!document.is_object() || canonical(document) != payload) return std::nullopt;
    Statement found;
    std::string type, digest;
    auto subjects = fields::at(document, "subject"), predicate = fields::at(document, "predicate");
    if (!fields::get(document, "_type", type) || type != statement_type || !predicate || !predicate->is_object() ||
        !fields::get(document, "predicateType", found.predicate_type) || !subjects || !subjects->is_array() ||
        subjects->size() != 1)
        return std::nullopt;
    found.subject = subjects->front();
    found.predicate = *predicate;
    auto digests = fields::at(found.subject, "digest");
    if (!digests || !fields::get(*digests, "sha256", digest)) return std::nullopt;
    return found;
}

std::optional<SignedReport> signed_report_of(const Statement& statement) {
    const auto& predicate = statement.predicate;
    SignedReport found;
    std::uint64_t monotonic = 0;
    auto report = fields::at(predicate, "report");
    std::string session, vm, epoch;
    if (statement.predicate_type != report_predicate || !report ||
        !fields::get(predicate, "sequence", found.place.sequence) || found.place.sequence == 0 ||
        !fields::get(predicate, "previous", found.place.previous) || !get(predicate, "signed_at", found.moment.wall) ||
        !fields::get(predicate, "monotonic_ns", monotonic) ||
        !fields::get(predicate, "boot_id", found.moment.boot_id) || !fields::get(*report, "session_id", session) ||
        !fields::get(*report, "vm_id", vm) || !fields::get(*report, "instance_epoch", epoch))
        return std::nullopt;
    if (statement.subject.at("digest").at("sha256") != subject_digest(session, vm, epoch) ||
        statement.subject.value("name", "") != "session/" + session)
        return std::nullopt;
    found.moment.monotonic = MonotonicTime(Duration(static_cast<Duration::rep>(monotonic)));
    found.report = *report;
    return found;
}

std::optional<Ed25519Key> rotated_key_of(const Statement& statement) {
    std::string pem;
    if (statement.predicate_type != rotation_predicate || !fields::get(statement.predicate, "public_key", pem))
        return std::nullopt;
    try {
        auto keys = parse_public_pem(pem, "public_key");
        if (keys.size() != 1 || statement.subject.at("digest").at("sha256") != key_id_of(keys.front()))
            return std::nullopt;
        return keys.front();
    } catch (const Error&) {
        return std::nullopt;
    }
}

std::optional<std::vector<AnchoredChain>> anchored_chains_of(const Statement& statement) {
    auto list = fields::at(statement.predicate, "chains");
    if (statement.predicate_type != anchor_predicate || !list) return std::nullopt;
    return fields::each<AnchoredChain>(*list, [](const json& item, AnchoredChain& chain) {
        return fields::get(item, "session_id", chain.session_id) && fields::get(item, "first", chain.first) &&
               fields::get(item, "last", chain.last) && fields::get(item, "digest", chain.digest);
    });
}

std::optional<Waiver> waiver_of(const Statement& statement) {
    Waiver waiver;
    const auto& predicate = statement.predicate;
    if (statement.predicate_type != waiver_predicate || !fields::get(predicate, "id", waiver.id) ||
        !fields::get(predicate, "check_id", waiver.check_id) ||
        !fields::get(predicate, "session_id", waiver.session_id) || !fields::get(predicate, "reason", waiver.reason) ||
        !fields::get(predicate, "approved_by", waiver.approved_by) || !get(predicate, "expires_at", waiver.expires_at))
        return std::nullopt;
    return waiver;
}

}  // namespace infrastructure_sdk::isolation
