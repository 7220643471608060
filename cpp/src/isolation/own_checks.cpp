#include "isolation/own_checks.hpp"

#include <algorithm>
#include <deque>
#include <mutex>
#include <regex>

#include "isolation/collection.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::isolation {
namespace {

using nlohmann::json;

const std::string neighbours = "neighbours:";

[[noreturn]] void refuse(const char* field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, std::string(field) + ": '" + value + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

bool is_fact(const std::string& name) {
    if (name.starts_with("qmp:query-") || name.starts_with("hmp:info ")) return true;
    auto wanted = wanted_by({});
    // What is probed is not collected for others.
    return wanted.own.contains(name) && !name.starts_with("probe.");
}

/// Texts and definitions of the process's life: findings, and detectors of drift, point to them.
const CheckDefinition& keep(const OwnCheck& check) {
    static std::mutex mutex;
    static auto& texts = *new std::deque<std::string>;
    static auto& definitions = *new std::deque<CheckDefinition>;
    std::lock_guard alone(mutex);
    auto kept = [](const std::string& text) { return texts.emplace_back(text).c_str(); };
    CheckDefinition definition{};
    definition.id = kept(check.id);
    definition.layer = check.layer;
    definition.severity = check.severity;
    definition.floor = check.floor;
    definition.title = kept(check.title);
    definition.root_cause = kept(check.root_cause.empty() ? check.id : check.root_cause);
    definition.fix = kept(check.fix);
    definition.controls = kept(check.controls);
    definition.meaning = kept(check.meaning);
    definition.facts = check.facts;
    return definitions.emplace_back(std::move(definition));
}

}  // namespace

RegisteredCheck registered(const OwnCheck& check, const std::vector<RegisteredCheck>& others) {
    static const std::regex grammar("[A-Z][A-Z0-9]{0,15}(-[A-Z0-9]{1,16}){1,3}");
    if (!std::regex_match(check.id, grammar)) refuse("id", check.id, "allowed: e.g. ACME-01");
    for (const auto& known : check_catalogue())
        if (check.id == known.id) refuse("id", check.id, "the catalogue has a check of that name");
    for (const auto& other : others)
        if (check.id == other.definition->id) refuse("id", check.id, "there is an own check of that name");
    if (check.floor == Strength::e0) refuse("floor", "E0", "allowed: E1, E2, E3, E4");
    if (check.title.empty()) refuse("title", "", "it must say what a pass proves");
    if (check.facts.empty()) refuse("facts", "", "a check without evidence proves nothing");
    for (const auto& name : check.facts)
        if (!is_fact(name.starts_with(neighbours) ? name.substr(neighbours.size()) : name))
            refuse("facts", name, "allowed: a fact that a check of the catalogue reads, qmp:query-... or hmp:info ...");
    if (!check.judge) refuse("judge", "", "it must be a function");
    return {&keep(check), check.judge};
}

OwnQuestion question_for(const RegisteredCheck& check, const Facts& facts) {
    OwnQuestion question;
    auto blind = [&](const std::string& why) {
        if (!question.blind) question.blind = Finding::unknown(*check.definition, why);
    };
    for (const auto& name : check.definition->facts) {
        if (!name.starts_with(neighbours)) {
            auto value = facts.value(name);
            if (value) question.facts[name] = value->dump(-1, ' ', false, json::error_handler_t::replace);
            else blind(facts.why(name));
            continue;
        }
        auto of_others = json::object();
        if (!facts.neighbours) blind("could not look at " + name + ": nobody listed the other sessions");
        for (const auto& other : facts.neighbours ? *facts.neighbours : std::vector<std::shared_ptr<const Facts>>()) {
            auto fact = name.substr(neighbours.size());
            auto value = other->value(fact);
            if (value) of_others[other->session_id] = *value;
            else blind("a neighbour could not be looked at: " + other->session_id + ": " + other->why(fact));
        }
        question.facts[name] = of_others.dump(-1, ' ', false, json::error_handler_t::replace);
    }
    return question;
}

OwnVerdict answer_of(const RegisteredCheck& check, const OwnFacts& facts) {
    try {
        return check.judge(facts);
    } catch (const std::exception& error) {
        return {FindingStatus::unknown, std::string("the check itself failed: ") + error.what()};
    } catch (...) {
        return {FindingStatus::unknown, "the check itself failed"};
    }
}

Finding finding_of(const RegisteredCheck& check, const Facts& facts, const OwnVerdict& verdict) {
    const auto& definition = *check.definition;
    auto reason = verdict.reason.empty() ? std::string(definition.title) : verdict.reason;
    std::vector<Evidence> evidence;
    for (const auto& name : definition.facts)
        if (name.starts_with(neighbours))
            evidence.push_back(facts.neighbour_evidence(definition, name.substr(neighbours.size()), reason));
        else if (facts.value(name)) evidence.push_back(facts.evidence(definition, name, reason));
    if (verdict.status == FindingStatus::pass) return Finding::pass(definition, std::move(evidence), reason);
    if (verdict.status == FindingStatus::fail) return Finding::fail(definition, std::move(evidence), reason);
    if (verdict.status == FindingStatus::not_applicable)
        return Finding::not_applicable(definition, std::move(evidence), reason);
    return Finding::unknown(definition, reason, std::move(evidence));
}

}  // namespace infrastructure_sdk::isolation
