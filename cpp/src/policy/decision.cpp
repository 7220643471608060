#include <infrastructure_sdk/policy/policy_host.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>

#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr std::array<const char*, decision_point_count> point_names{"admit",    "place",  "size",      "idle",
                                                                    "schedule", "budget", "isolation", "interruption"};
constexpr std::array<const char*, 5> session_action_names{"standard", "keep", "disconnect", "suspend", "terminate"};
constexpr std::array<const char*, 2> admit_action_names{"standard", "deny"};
constexpr std::array<const char*, 5> outcome_names{"decided", "failed", "timed_out", "invalid", "refused"};

template <class Enum, std::size_t count>
Enum parse(const std::array<const char*, count>& names, const char* field, const std::string& name) {
    for (std::size_t i = 0; i < count; ++i)
        if (name == names[i]) return static_cast<Enum>(i);
    std::string allowed;
    for (const char* each : names) allowed += (allowed.empty() ? "" : ", ") + std::string(each);
    throw Error(Errc::validation, std::string(field) + ": '" + name + "' is not allowed; " + allowed,
                {{"field", field}, {"value", name}, {"allowed", allowed}});
}

[[noreturn]] void refuse(const char* field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::policy, std::string(field) + ": '" + value + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

template <class Number>
std::string number(Number value) {
    std::ostringstream text;
    text << value;
    return text.str();
}

template <class Enum>
void check_enum(const char* field, Enum value, std::size_t count) {
    auto at = static_cast<std::size_t>(value);
    if (at >= count) refuse(field, std::to_string(at), "one of its enumerators");
}

template <class Number>
void check_size(const char* field, const std::optional<Number>& value, Number has) {
    if (!value) return;
    const auto most = static_cast<double>(has) * policy_size_factor, asked = static_cast<double>(*value);
    if (!std::isfinite(asked) || asked <= 0 || asked > most)
        refuse(field, number(*value), "above 0, at most " + number(most));
}

struct Checks {
    const PolicyRequest& request;

    void operator()(const AdmitDecision& decision) const {
        check_enum("action", decision.action, admit_action_names.size());
    }
    void operator()(const PlaceDecision& decision) const {
        const auto& candidates = std::get<PlaceRequest>(request).candidates;
        std::string names;
        for (const auto& candidate : candidates) {
            if (decision.candidate.empty() || candidate.name == decision.candidate) return;
            names += (names.empty() ? "" : ", ") + candidate.name;
        }
        if (!decision.candidate.empty()) refuse("candidate", decision.candidate, "one of: " + names);
    }
    void operator()(const SizeDecision& decision) const {
        const auto& session = session_of(request);
        check_size("cpu_cores", decision.cpu_cores, session.cpu_cores);
        check_size("memory_bytes", decision.memory_bytes, session.memory_bytes);
    }
    void operator()(const SessionDecision& decision) const {
        check_enum("action", decision.action, session_action_names.size());
        if (!decision.ask_again_after) return;
        auto refuse_it = [&](const char* allowed) {
            refuse("ask_again_after", number(std::chrono::duration<double>(*decision.ask_again_after).count()),
                   allowed);
        };
        const bool rests = decision.action == SessionAction::keep || decision.action == SessionAction::standard;
        if (!rests) refuse_it("with the actions keep and standard only");
        if (*decision.ask_again_after < Duration::zero()) refuse_it("0 or more seconds");
    }
};

}  // namespace

const char* name_of(DecisionPoint point) noexcept { return point_names[static_cast<std::size_t>(point)]; }
const char* name_of(SessionAction action) noexcept { return session_action_names[static_cast<std::size_t>(action)]; }
const char* name_of(AdmitDecision::Action action) noexcept {
    return admit_action_names[static_cast<std::size_t>(action)];
}
PolicyAnswer not_decided(PolicyAnswer::Outcome outcome, DecisionPoint point, std::string detail) {
    if (detail.size() > policy_text_limit) {
        auto end = policy_text_limit;
        while (end > 0 && (static_cast<unsigned char>(detail[end]) & 0xc0) == 0x80) --end;
        detail.resize(end);
    }
    PolicyAnswer answer;
    answer.outcome = outcome;
    answer.decision = standard_decision(point);
    answer.detail = std::move(detail);
    return answer;
}

const char* name_of(PolicyAnswer::Outcome outcome) noexcept { return outcome_names[static_cast<std::size_t>(outcome)]; }

DecisionPoint parse_decision_point(const std::string& name) { return parse<DecisionPoint>(point_names, "point", name); }
SessionAction parse_session_action(const std::string& name) {
    return parse<SessionAction>(session_action_names, "action", name);
}
AdmitDecision::Action parse_admit_action(const std::string& name) {
    return parse<AdmitDecision::Action>(admit_action_names, "action", name);
}

static_assert(std::variant_size_v<PolicyRequest> == decision_point_count);

DecisionPoint point_of(const PolicyRequest& request) noexcept { return static_cast<DecisionPoint>(request.index()); }

const PolicySession& session_of(const PolicyRequest& request) noexcept {
    return std::visit([](const auto& asked) -> const PolicySession& { return asked.session; }, request);
}

PolicyDecision standard_decision(DecisionPoint point) {
    switch (point) {
        case DecisionPoint::admit: return AdmitDecision{};
        case DecisionPoint::place: return PlaceDecision{};
        case DecisionPoint::size: return SizeDecision{};
        default: return SessionDecision{};
    }
}

std::string action_of(const PolicyDecision& decision) {
    if (auto admit = std::get_if<AdmitDecision>(&decision)) return name_of(admit->action);
    if (auto place = std::get_if<PlaceDecision>(&decision)) return place->candidate.empty() ? "standard" : "place";
    if (auto size = std::get_if<SizeDecision>(&decision))
        return size->cpu_cores || size->memory_bytes ? "resize" : "standard";
    return name_of(std::get<SessionDecision>(decision).action);
}

bool is_standard(const PolicyDecision& decision) noexcept {
    if (auto admit = std::get_if<AdmitDecision>(&decision)) return admit->action == AdmitDecision::Action::standard;
    if (auto place = std::get_if<PlaceDecision>(&decision)) return place->candidate.empty();
    if (auto size = std::get_if<SizeDecision>(&decision)) return !size->cpu_cores && !size->memory_bytes;
    return std::get<SessionDecision>(decision).action == SessionAction::standard;
}

const std::string& reason_of(const PolicyDecision& decision) noexcept {
    return std::visit([](const auto& given) -> const std::string& { return given.reason; }, decision);
}

void check(const PolicyDecision& decision, const PolicyRequest& request) {
    const auto point = point_of(request);
    if (decision.index() != standard_decision(point).index()) {
        constexpr std::array names{"AdmitDecision", "PlaceDecision", "SizeDecision", "SessionDecision"};
        refuse("decision", names[decision.index()],
               std::string(names[standard_decision(point).index()]) + " at " + name_of(point));
    }
    const auto length = reason_of(decision).size();
    if (length > policy_text_limit)
        refuse("reason", std::to_string(length) + " bytes", "at most " + std::to_string(policy_text_limit));
    std::visit(Checks{request}, decision);
}

}  // namespace infrastructure_sdk
