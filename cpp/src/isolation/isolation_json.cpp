#include <nlohmann/json.hpp>

#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/isolation/isolation.hpp>
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {

static void to_json(nlohmann::json& document, const Waiver& waiver) {
    document = {
        {"id", waiver.id},         {"check_id", waiver.check_id},       {"session_id", waiver.session_id},
        {"reason", waiver.reason}, {"approved_by", waiver.approved_by}, {"expires_at", to_rfc3339(waiver.expires_at)}};
}

void to_json(nlohmann::json& document, const Evidence& evidence) {
    document = {{"id", evidence.id},
                {"check_id", evidence.check_id},
                {"session_id", evidence.session_id},
                {"instance_epoch", evidence.instance_epoch},
                {"source", evidence.source},
                {"locator", evidence.locator},
                {"vantage", evidence.vantage},
                {"strength", name_of(evidence.strength)},
                {"collected_at", to_rfc3339(evidence.collected_at)},
                {"ttl", to_string(evidence.ttl)},
                {"sha256", evidence.sha256},
                {"excerpt", evidence.excerpt}};
}

void to_json(nlohmann::json& document, const Finding& finding) {
    const auto& check = finding.check();
    document = {{"check_id", check.id},
                {"layer", name_of(check.layer)},
                {"severity", name_of(check.severity)},
                {"title", check.title},
                {"status", name_of(finding.status())},
                {"reason", finding.reason()},
                {"floor", name_of(check.floor)},
                {"root_cause", check.root_cause},
                {"fix", check.fix},
                {"controls", check.controls},
                {"meaning", check.meaning},
                {"evidence", finding.evidence()}};
}

void to_json(nlohmann::json& document, const IsolationReport& report) {
    auto layers = nlohmann::json::array();
    for (const auto& layer : report.layers)
        layers.push_back({{"layer", name_of(layer.layer)}, {"lower", layer.lower}, {"upper", layer.upper}});
    document = {{"id", report.id},
                {"session_id", report.session_id},
                {"vm_id", report.vm_id},
                {"instance_epoch", report.instance_epoch},
                {"created_at", to_rfc3339(report.created_at)},
                {"elapsed", to_string(report.elapsed)},
                {"verdict", name_of(report.score.verdict)},
                {"lower", report.score.lower},
                {"upper", report.score.upper},
                {"coverage", report.score.coverage},
                {"confidence", report.score.confidence},
                {"layers", layers},
                {"findings", report.findings},
                {"recommendations", report.recommendations},
                {"waivers", report.waivers}};
}

}  // namespace infrastructure_sdk
