// Rules without code.
#include <algorithm>
#include <functional>
#include <span>

#include <nlohmann/json.hpp>

#include "config/value.hpp"
#include "core/did_you_mean.hpp"
#include "core/sha256.hpp"
#include "policy/office_hours.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/policy/policy_engine.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using enum ConfigType;
using Settings = std::map<std::string, std::string>;  // canonical texts; "" = unset
using Rule = std::function<PolicyDecision(const PolicyRequest&)>;

constexpr const char* prefix = "builtin:";

constexpr ConfigField hours_fields[] = {
    {"hours", list, "[\"mon-fri 08:00-18:00\"]", "", "", "", "", "When sessions may run: days and times of the week."},
    {"utc_offset", text, "+00:00", "", "", "", "", "How far the hours are ahead of UTC, such as +01:00.",
     "[+-](0[0-9]|1[0-4]):[0-5][0-9]"},
    {"action", choice, "suspend", "", "", "disconnect|suspend|terminate", "",
     "What happens to a running session outside of them."},
    {"quiet_for", duration, "10m", "0s", "24h", "", "",
     "Only to sessions that were quiet so long. 0s: to all. Sessions whose use is not watched are never quiet."},
    {"deny", boolean, "false", "", "", "", "", "Whether new sessions are denied outside of them."},
    {"except_tag", text, "", "", "", "", "", "Sessions with this tag (key=value) are left alone.", "[^=]+=.*"},
    {"tenants", list, "[]", "", "", "", "", "For sessions of these tenants only. Empty: for all."},
};

constexpr ConfigField keep_fields[] = {
    {"tag", text, "keep=true", "", "", "", "", "Which sessions: those with this tag (key=value).", "[^=]+=.*"},
    {"quiet_for", duration, "3h", "0s", "720h", "", "",
     "An idle session is kept until it was quiet so long. 0s: as long as it lives."},
};

constexpr ConfigField budget_fields[] = {
    {"of", choice, "user", "", "", "user|tenant", "", "Whose monthly money limit counts."},
    {"suspend_at", number, "0.9", "0", "1", "", "", "Which share of the limit, spent this month, suspends a session."},
    {"terminate_at", number, "", "0", "1", "", "", "Which share of it terminates one. Unset: none does."},
};

bool has_tag(const PolicySession& session, const std::string& tag) {
    if (tag.empty()) return false;
    auto equals = tag.find('=');
    auto found = session.tags.find(tag.substr(0, equals));
    return found != session.tags.end() && found->second == tag.substr(equals + 1);
}

std::vector<std::string> list_of(const std::string& text) { return json::parse(text).get<std::vector<std::string>>(); }

Rule business_hours(const Settings& settings) {
    std::vector<policy::Hours> hours;
    for (const auto& text : list_of(settings.at("hours"))) hours.push_back(policy::parse_hours(text));
    if (hours.empty())
        throw Error(Errc::validation, "hours: '[]' is not allowed; at least one",
                    {{"field", "hours"}, {"value", "[]"}, {"allowed", "at least one"}});
    const auto offset = policy::parse_utc_offset(settings.at("utc_offset"));
    const auto action = parse_session_action(settings.at("action"));
    const auto quiet_for = parse_duration(settings.at("quiet_for"), "quiet_for");
    const bool denies = settings.at("deny") == "true";
    const auto except = settings.at("except_tag");
    const auto tenants = list_of(settings.at("tenants"));
    return [=](const PolicyRequest& request) -> PolicyDecision {
        const auto& session = session_of(request);
        const bool named =
            tenants.empty() || std::find(tenants.begin(), tenants.end(), session.tenant) != tenants.end();
        const bool concerns = named && !has_tag(session, except);
        if (auto admit = std::get_if<AdmitRequest>(&request)) {
            const bool denied = denies && concerns && !policy::is_within(hours, offset, admit->now);
            if (!denied) return AdmitDecision{};
            return AdmitDecision{AdmitDecision::Action::deny, "sessions can be started within business hours only"};
        }
        const auto& asked = std::get<ScheduleRequest>(request);
        if (!concerns) return SessionDecision{SessionAction::standard, "", std::chrono::hours(24)};
        const auto left = policy::left_within(hours, offset, asked.now);
        if (left > Duration::zero()) return SessionDecision{SessionAction::standard, "", left};
        const bool is_quiet = asked.quiet_for && *asked.quiet_for >= quiet_for;
        if (is_quiet || quiet_for == Duration::zero()) return SessionDecision{action, "outside of business hours", {}};
        // Use begins the quiet anew, which takes longer.
        std::optional<Duration> again;
        if (asked.quiet_for) again = quiet_for - *asked.quiet_for;
        return SessionDecision{SessionAction::standard, "", again};
    };
}

Rule keep_tagged(const Settings& settings) {
    const auto tag = settings.at("tag");
    const auto quiet_for = parse_duration(settings.at("quiet_for"), "quiet_for");
    return [=](const PolicyRequest& request) -> PolicyDecision {
        const auto& idle = std::get<IdleRequest>(request);
        const bool for_ever = quiet_for == Duration::zero();
        if (!has_tag(idle.session, tag) || (!for_ever && idle.quiet_for >= quiet_for)) return SessionDecision{};
        const Duration again = for_ever ? std::chrono::hours(1) : quiet_for - idle.quiet_for;
        return SessionDecision{SessionAction::keep, "it has the tag " + tag, again};
    };
}

Rule budget_guard(const Settings& settings) {
    const bool of_user = settings.at("of") == "user";
    const double suspend_at = std::stod(settings.at("suspend_at"));
    const auto& end = settings.at("terminate_at");
    const std::optional<double> terminate_at = end.empty() ? std::nullopt : std::optional(std::stod(end));
    return [=](const PolicyRequest& request) -> PolicyDecision {
        const auto& budget = std::get<BudgetRequest>(request);
        const auto limit = of_user ? budget.limit_of_user : budget.limit_of_tenant;
        const auto spent = of_user ? budget.spent_by_user : budget.spent_by_tenant;
        if (!limit || budget.session.price_per_hour <= 0) return SessionDecision{};
        const std::string reason =
            std::string("the month's budget of the ") + (of_user ? "user" : "tenant") + " is nearly spent";
        if (terminate_at && spent >= *terminate_at * *limit)
            return SessionDecision{SessionAction::terminate, reason, {}};
        if (spent >= suspend_at * *limit) return SessionDecision{SessionAction::suspend, reason, {}};
        return SessionDecision{};
    };
}

struct Builtin {
    const char* name;
    const char* description;
    std::vector<DecisionPoint> points;
    std::span<const ConfigField> fields;
    Rule (*make)(const Settings&);
};

const std::vector<Builtin>& builtins() {
    static const std::vector<Builtin> table{
        {"business-hours",
         "Sessions run within hours of the week.",
         {DecisionPoint::schedule, DecisionPoint::admit},
         hours_fields,
         business_hours},
        {"keep-tagged", "Idle sessions with a tag are kept longer.", {DecisionPoint::idle}, keep_fields, keep_tagged},
        {"budget-guard",
         "Sessions are suspended before the month's money is spent.",
         {DecisionPoint::budget},
         budget_fields,
         budget_guard},
    };
    return table;
}

const Builtin& find_builtin(const PolicySource& source) {
    auto name = source.source.substr(std::string(prefix).size());
    std::string known;
    std::vector<std::string> names;
    for (const auto& builtin : builtins()) {
        if (name == builtin.name) return builtin;
        names.push_back(builtin.name);
        known += (known.empty() ? "" : ", ") + names.back();
    }
    auto guess = did_you_mean(name, names);
    throw Error(Errc::configuration,
                "source: '" + source.source + "' is not allowed; built-in rules: " + known +
                    (guess.empty() ? "" : "; did you mean '" + std::string(prefix) + guess + "'?"),
                {{"field", "source"}, {"value", source.source}, {"allowed", known}, {"did_you_mean", guess}});
}

Settings read_settings(const Builtin& builtin, const PolicySource& source) {
    Settings settings;
    for (const auto& field : builtin.fields) settings[field.path] = field.default_text;
    auto document = parse_json(source.settings);
    ProblemList problems(source.source);
    problems.add(document);
    if (problems.empty() && document.root.kind != Node::Kind::map)
        problems.add({"settings", {}, "a mapping of settings", source.source, {}, "it is no mapping"});
    if (problems.empty())
        for (const auto& value : read_values(document.root, "settings.", builtin.fields, problems))
            settings[leaf_name(*value.field)] = value.text;
    if (auto all = problems.take(); !all.empty()) refuse_document("policy " + source.source, all);
    return settings;
}

class BuiltinHost final : public PolicyHost {
public:
    BuiltinHost(PolicyIdentity identity, std::vector<DecisionPoint> points, Rule rule)
        : identity_(std::move(identity)), points_(std::move(points)), rule_(std::move(rule)) {}

    const PolicyIdentity& identity() const override { return identity_; }
    std::vector<DecisionPoint> points() const override { return points_; }
    std::optional<PolicyAnswer> decide_now(const PolicyRequest& request, const std::string&) override {
        PolicyAnswer answer;
        answer.decision = rule_(request);
        return answer;
    }
    Task<PolicyAnswer> decide(PolicyRequest request, std::string state, Call) override {
        co_return *decide_now(request, state);
    }
    Task<void> close() override { co_return; }

private:
    PolicyIdentity identity_;
    std::vector<DecisionPoint> points_;
    Rule rule_;
};

}  // namespace

std::vector<BuiltinPolicy> builtin_policies() {
    std::vector<BuiltinPolicy> all;
    for (const auto& builtin : builtins()) {
        auto properties = json::object();
        for (const auto& field : builtin.fields) properties[field.path] = json::parse(value_schema(field));
        json schema{{"type", "object"}, {"additionalProperties", false}, {"properties", std::move(properties)}};
        all.push_back({builtin.name, builtin.description, builtin.points, schema.dump()});
    }
    return all;
}

std::shared_ptr<PolicyHost> make_builtin_policy(const PolicySource& source) {
    const auto& builtin = find_builtin(source);
    try {
        auto settings = read_settings(builtin, source);
        PolicyIdentity identity{source.name.empty() ? builtin.name : source.name, "1", "infrastructure-sdk",
                                sha256_hex(std::string(builtin.name) + "\n" + json(settings).dump())};
        return std::make_shared<BuiltinHost>(std::move(identity), builtin.points, builtin.make(settings));
    } catch (const Error& error) {
        auto context = error.context();
        throw Error(Errc::configuration, "policy '" + source.source + "': " + error.message(), std::move(context));
    }
}

}  // namespace infrastructure_sdk
