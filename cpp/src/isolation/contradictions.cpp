// A report's own evidence against its own statuses and score.

#include <cmath>
#include <deque>
#include <set>

#include "isolation/statement.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::isolation {
namespace {

using nlohmann::json;

/// The enumerator of this name. @throws Error(validation)
template <class T>
T named(const json& name, std::initializer_list<T> all) {
    for (auto value : all)
        if (name == name_of(value)) return value;
    throw Error(Errc::validation, "there is no such word: " + name.dump());
}

Strength strength_of(const json& name) {
    return named(name, {Strength::e0, Strength::e1, Strength::e2, Strength::e3, Strength::e4});
}

Evidence evidence_of(const json& item) {
    Evidence evidence;
    item.at("id").get_to(evidence.id);
    item.at("check_id").get_to(evidence.check_id);
    item.at("session_id").get_to(evidence.session_id);
    item.at("instance_epoch").get_to(evidence.instance_epoch);
    item.at("source").get_to(evidence.source);
    item.at("vantage").get_to(evidence.vantage);
    item.at("sha256").get_to(evidence.sha256);
    evidence.strength = strength_of(item.at("strength"));
    evidence.collected_at = parse_rfc3339(item.at("collected_at").get<std::string>());
    evidence.ttl = parse_duration(item.at("ttl").get<std::string>(), "ttl");
    return evidence;
}

/// Makes the findings of a document again, by the rules that every finding is made by. Owns their definitions, which
/// are the document's: a report outlives the catalogue that it was made with.
class FindingsReader {
public:
    Finding read(const json& item) {
        const auto& check = definition_of(item);
        auto status = item.at("status").get<std::string>();
        std::vector<Evidence> evidence;
        for (const auto& each : item.at("evidence")) evidence.push_back(evidence_of(each));
        if (status == "pass") return Finding::pass(check, std::move(evidence), "");
        if (status == "not_applicable") return Finding::not_applicable(check, std::move(evidence), "");
        if (status == "unknown") return Finding::unknown(check, "", std::move(evidence));
        if (status == "fail" || status == "waived") return Finding::fail(check, std::move(evidence), "");
        throw Error(Errc::validation, "there is no such status: " + status);
    }

private:
    const CheckDefinition& definition_of(const json& item) {
        CheckDefinition check{};
        check.id = kept(item.at("check_id"));
        check.layer =
            named(item.at("layer"), {Layer::compute, Layer::network, Layer::storage, Layer::runtime, Layer::memory});
        check.severity =
            named(item.at("severity"), {Severity::low, Severity::medium, Severity::high, Severity::critical});
        check.floor = strength_of(item.at("floor"));
        check.root_cause = kept(item.at("root_cause"));
        check.title = check.fix = check.controls = "";
        return definitions_.emplace_back(check);
    }
    const char* kept(const json& text) { return texts_.emplace_back(text.get<std::string>()).c_str(); }

    std::deque<std::string> texts_;
    std::deque<CheckDefinition> definitions_;
};

bool waiver_holds(const json& report, const std::string& check, WallTime at) {
    for (const auto& waiver : report.at("waivers"))
        if (waiver.at("check_id") == check &&
            (waiver.at("session_id") == "" || waiver.at("session_id") == report.at("session_id")) &&
            at < parse_rfc3339(waiver.at("expires_at").get<std::string>()))
            return true;
    return false;
}

void compare(const json& report, const char* field, double computed, std::vector<std::string>& wrong) {
    if (std::abs(report.at(field).get<double>() - computed) > 1e-9)
        wrong.push_back(std::string(field) + " is " + report.at(field).dump() + ", the findings make " +
                        json(computed).dump());
}

}  // namespace

std::vector<std::string> contradictions(const json& report) {
    std::vector<std::string> wrong;
    FindingsReader reader;
    std::vector<Finding> findings;
    std::set<std::string> ids;
    auto at = parse_rfc3339(report.at("created_at").get<std::string>());
    for (const auto& item : report.at("findings")) {
        findings.push_back(reader.read(item));
        const auto& finding = findings.back();
        std::string id = finding.check().id, status = item.at("status");
        if (!ids.insert(id).second) wrong.push_back(id + " is there twice");
        if (status == "waived" ? !waiver_holds(report, id, at) : status != name_of(finding.status()))
            wrong.push_back(id + " is " + status +
                            (status == "waived" ? " without a waiver" : ", its evidence is not enough: ") +
                            finding.reason());
        for (const auto& evidence : finding.evidence())
            if (evidence.session_id != report.at("session_id") ||
                evidence.instance_epoch != report.at("instance_epoch"))
                wrong.push_back(id + " rests on evidence of another subject: " + evidence.id);
    }
    auto computed = score(findings, at);
    compare(report, "lower", computed.lower, wrong);
    compare(report, "upper", computed.upper, wrong);
    compare(report, "coverage", computed.coverage, wrong);
    compare(report, "confidence", computed.confidence, wrong);
    if (report.at("verdict") != name_of(computed.verdict))
        wrong.push_back("verdict is " + report.at("verdict").dump() + ", the findings make " +
                        name_of(computed.verdict));
    return wrong;
}

}  // namespace infrastructure_sdk::isolation
