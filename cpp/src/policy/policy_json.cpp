#include "policy/policy_records.hpp"

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {

using nlohmann::json;

namespace {

json names_of(const std::vector<DecisionPoint>& points) {
    auto names = json::array();
    for (auto point : points) names.push_back(name_of(point));
    return names;
}

template <class Read>
auto stored(const char* what, Read read) {
    try {
        return read();
    } catch (const json::exception& error) {
        throw Error(Errc::store, std::string("a stored ") + what + " cannot be read: " + error.what());
    } catch (const Error& error) {
        throw Error(Errc::store, std::string("a stored ") + what + " cannot be read: " + error.message());
    }
}

}  // namespace

void to_json(json& document, const PolicyIdentity& identity) {
    document = {{"name", identity.name},
                {"version", identity.version},
                {"author", identity.author},
                {"sha256", identity.sha256}};
}

void to_json(json& document, const PolicyStatus& status) {
    document = status.identity;
    document.update({{"source", status.source},
                     {"mode", name_of(status.mode)},
                     {"canary_tenants", status.canary_tenants},
                     {"points", names_of(status.points)},
                     {"enabled", status.enabled},
                     {"rolled_back", status.rolled_back},
                     {"breaker", status.breaker},
                     {"asked", status.asked},
                     {"decided", status.decided},
                     {"shadowed", status.shadowed},
                     {"overruled", status.overruled},
                     {"failed", status.failed},
                     {"last_failure", status.last_failure},
                     {"last_failure_at", status.last_failure_at ? json(to_rfc3339(*status.last_failure_at)) : json()},
                     {"suspensions", status.suspensions},
                     {"came_back", status.came_back},
                     {"overdue", status.overdue},
                     {"missing_protections", status.missing_protections}});
}

void to_json(json& document, const BuiltinPolicy& policy) {
    document = {{"name", policy.name},
                {"source", "builtin:" + policy.name},
                {"description", policy.description},
                {"points", names_of(policy.points)},
                {"settings", json::parse(policy.settings_schema)}};
}

void to_json(json& document, const PolicyStop& stop) {
    document = {{"policy", stop.policy},
                {"sha256", stop.sha256},
                {"at", to_rfc3339(stop.at)},
                {"suspends", stop.suspends},
                {"came_back", stop.came_back}};
}

PolicyStop policy_stop_from_json(const json& document) {
    return stored("stop by a policy", [&] {
        return PolicyStop{document.at("policy").get<std::string>(), document.at("sha256").get<std::string>(),
                          parse_rfc3339(document.at("at").get<std::string>()), document.at("suspends").get<bool>(),
                          document.at("came_back").get<bool>()};
    });
}

void to_json(json& document, const PolicyBook& book) {
    document = {{"enabled", book.enabled},
                {"rolled_back_sha256", book.rolled_back_sha256},
                {"loaded_sha256", book.loaded_sha256}};
}

PolicyBook policy_book_from_json(const json& document) {
    return stored("policy", [&] {
        PolicyBook book;
        book.enabled = document.at("enabled").get<bool>();
        book.rolled_back_sha256 = document.at("rolled_back_sha256").get<std::string>();
        book.loaded_sha256 = document.at("loaded_sha256").get<std::string>();
        return book;
    });
}

}  // namespace infrastructure_sdk
