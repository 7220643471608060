// The classes of requests and decisions. They cannot be changed: neither their objects nor, for a policy that would lie
// about others, the classes.

#include "policy/bind_policy.hpp"
#include "policy/fields.hpp"
#include <infrastructure_sdk/policy/policy_host.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
using namespace py::literals;
namespace {

using Text = std::string;

void bind_session(py::module_& module) {
    PolicySession initial;
    initial.state = "active";
    initial.cpu_cores = 1;
    Frozen<PolicySession>(module, "PolicySession", "What a policy is told of a session.", initial)
        .required<&PolicySession::id>("id", "Empty when it does not exist yet.")
        .required<&PolicySession::user_id>("user_id", "Whose it is.")
        .optional<&PolicySession::tenant>("tenant", "Empty = none.")
        .optional<&PolicySession::template_name>("template_name", "What it was made from.")
        .optional<&PolicySession::session_type>("session_type", "\"desktop\", ...")
        .optional<&PolicySession::state>("state", "\"active\", ...")
        .optional<&PolicySession::cpu_cores>("cpu_cores", "Virtual processors.")
        .optional<&PolicySession::memory_bytes>("memory_bytes", "Memory.")
        .optional<&PolicySession::disk_bytes>("disk_bytes", "Disk.")
        .optional<&PolicySession::gpu_count>("gpu_count", "GPUs.")
        .optional<&PolicySession::gpu_type>("gpu_type", "Empty = any.")
        .optional<&PolicySession::tags>("tags", "Cannot be changed.")
        .required<&PolicySession::created_at>("created_at", "UTC.")
        .optional<&PolicySession::last_activity_at>("last_activity_at", "UTC; None = never seen.")
        .optional<&PolicySession::expires_at>("expires_at", "UTC; None = never.")
        .optional<&PolicySession::price_per_hour>("price_per_hour", "While it runs, in the configured currency.")
        .done();
    Frozen<PolicyUsage>(module, "PolicyUsage", "How much is in use when the request is made.")
        .optional<&PolicyUsage::sessions_of_user>("sessions_of_user", "That are not terminated.")
        .optional<&PolicyUsage::sessions_of_tenant>("sessions_of_tenant", "0 without a tenant.")
        .optional<&PolicyUsage::sessions>("sessions", "Of everybody.")
        .optional<&PolicyUsage::gpus_of_user>("gpus_of_user", "GPUs of the user.")
        .optional<&PolicyUsage::gpus>("gpus", "GPUs of everybody.")
        .done();
    Frozen<PlaceCandidate>(module, "PlaceCandidate", "Somewhere a VM can be put.")
        .required<&PlaceCandidate::name>("name", "What a decision names.")
        .optional<&PlaceCandidate::free_cpu_cores>("free_cpu_cores", "Free processors.")
        .optional<&PlaceCandidate::free_memory_bytes>("free_memory_bytes", "Free memory.")
        .optional<&PlaceCandidate::spot>("spot", "May be taken away.")
        .optional<&PlaceCandidate::price_per_hour>("price_per_hour", "In the configured currency.")
        .optional<&PlaceCandidate::labels>("labels", "Cannot be changed.")
        .done();
}

void bind_creation(py::module_& module) {
    Frozen<AdmitRequest>(module, "AdmitRequest", "May this session be created?")
        .required<&AdmitRequest::now>("now", "UTC.")
        .required<&AdmitRequest::session>("session", "As it would be.")
        .optional<&AdmitRequest::usage>("usage", "What there is already.")
        .done_as<PolicyRequest>();
    Frozen<PlaceRequest>(module, "PlaceRequest", "Where is it put?")
        .required<&PlaceRequest::now>("now", "UTC.")
        .required<&PlaceRequest::session>("session", "As it would be.")
        .required<&PlaceRequest::candidates>("candidates", "All of them fit.")
        .done_as<PolicyRequest>();
    Frozen<SizeRequest>(module, "SizeRequest", "How large is it made?")
        .required<&SizeRequest::now>("now", "UTC.")
        .required<&SizeRequest::session>("session", "With the size that it would have.")
        .done_as<PolicyRequest>();
}

void bind_use(py::module_& module) {
    Frozen<IdleRequest>(module, "IdleRequest", "The idle clock has run out: what now?")
        .required<&IdleRequest::now>("now", "UTC.")
        .required<&IdleRequest::session>("session", "Which one.")
        .required<&IdleRequest::quiet_for>("quiet_for", "Seconds.")
        .optional<&IdleRequest::idle_timeout>("idle_timeout", "Seconds.")
        .optional<&IdleRequest::connections>("connections", "Display clients and forwarded connections.")
        .optional<&IdleRequest::use_fully_seen>("use_fully_seen", "False: a wanted signal could not be looked at.")
        .optional<&IdleRequest::standard>("standard", "What the engine would do.")
        .done_as<PolicyRequest>();
    Frozen<ScheduleRequest>(module, "ScheduleRequest", "Do the hours say something about it?")
        .required<&ScheduleRequest::now>("now", "UTC.")
        .required<&ScheduleRequest::session>("session", "Which one.")
        .optional<&ScheduleRequest::quiet_for>("quiet_for", "Seconds; None = not watched or not seen.")
        .done_as<PolicyRequest>();
    Frozen<BudgetRequest>(module, "BudgetRequest", "What about the money?")
        .required<&BudgetRequest::now>("now", "UTC.")
        .required<&BudgetRequest::session>("session", "Which one.")
        .optional<&BudgetRequest::spent_by_session>("spent_by_session", "This month.")
        .optional<&BudgetRequest::spent_by_user>("spent_by_user", "This month, all sessions.")
        .optional<&BudgetRequest::spent_by_tenant>("spent_by_tenant", "This month; 0 without a tenant.")
        .optional<&BudgetRequest::limit_of_user>("limit_of_user", "The smallest that applies; None = no limit.")
        .optional<&BudgetRequest::limit_of_tenant>("limit_of_tenant", "None = no limit.")
        .optional<&BudgetRequest::currency>("currency", "Of all amounts.")
        .done_as<PolicyRequest>();
}

void bind_trouble(py::module_& module) {
    Frozen<IsolationRequest>(module, "IsolationRequest", "Its isolation was looked at: what follows?")
        .required<&IsolationRequest::now>("now", "UTC.")
        .required<&IsolationRequest::session>("session", "Which one.")
        .required<&IsolationRequest::verdict>("verdict", "isolated, degraded, unproven or not_isolated.")
        .optional<&IsolationRequest::score_lower>("score_lower", "0 to 100.")
        .optional<&IsolationRequest::score_upper>("score_upper", "0 to 100.")
        .optional<&IsolationRequest::failed_checks>("failed_checks", "Ids, sorted.")
        .optional<&IsolationRequest::is_start>("is_start", "The gate before the session becomes active.")
        .optional<&IsolationRequest::standard>("standard", "What the engine would do.")
        .done_as<PolicyRequest>();
    Frozen<InterruptionRequest>(module, "InterruptionRequest", "The host will take resources away.")
        .required<&InterruptionRequest::now>("now", "UTC.")
        .required<&InterruptionRequest::session>("session", "Which one.")
        .required<&InterruptionRequest::kind>("kind", "disk_full or memory_pressure.")
        .optional<&InterruptionRequest::deadline>("deadline", "UTC; None = not known.")
        .optional<&InterruptionRequest::standard>("standard", "What the engine would do.")
        .done_as<PolicyRequest>();
}

void bind_decisions(py::module_& module) {
    Frozen<AdmitDecision>(module, "AdmitDecision", "The answer to AdmitRequest.")
        .optional<&AdmitDecision::action>("action", "standard or deny.")
        .optional<&AdmitDecision::reason>("reason", "Of a denial it is what the user reads.")
        .done_as<PolicyDecision>();
    Frozen<PlaceDecision>(module, "PlaceDecision", "The answer to PlaceRequest.")
        .optional<&PlaceDecision::candidate>("candidate", "The name of one of them; empty = standard.")
        .optional<&PlaceDecision::reason>("reason", "For people.")
        .done_as<PolicyDecision>();
    Frozen<SizeDecision>(module, "SizeDecision", "The answer to SizeRequest.")
        .optional<&SizeDecision::cpu_cores>("cpu_cores", "None = standard.")
        .optional<&SizeDecision::memory_bytes>("memory_bytes", "None = standard.")
        .optional<&SizeDecision::reason>("reason", "For people.")
        .done_as<PolicyDecision>();
    Frozen<SessionDecision>(module, "SessionDecision", "The answer about a running session.")
        .optional<&SessionDecision::action>("action", "standard, keep, disconnect, suspend or terminate.")
        .optional<&SessionDecision::reason>("reason", "For people.")
        .optional<&SessionDecision::ask_again_after>(
            "ask_again_after", "With keep, and with standard at schedule and budget: seconds; None = at the next look.")
        .done_as<PolicyDecision>();
}

PolicyRequest need_request(const py::object& request) {
    if (auto found = request_from(request)) return *found;
    throw Error(Errc::validation, "request must be one of the request classes, e.g. IdleRequest",
                {{"field", "request"}, {"allowed", "a request"}});
}

}  // namespace

void bind_policy_values(py::module_& module) {
    bind_session(module);
    bind_creation(module);
    bind_use(module);
    bind_trouble(module);
    bind_decisions(module);
    module.attr("policy_schema_version") = policy_schema_version;
    module.attr("standard_time_budget") = to_seconds(standard_time_budget);
    module.attr("standard_memory_budget") = standard_memory_budget;
    module.def(
        "policy_request_from_json", [](const Text& text) { return to_python(policy_request_from_json(text)); },
        "text"_a, "A request from its `to_json`.");
    module.def(
        "policy_decision_from_json",
        [](const Text& point, const Text& text) {
            return to_python(policy_decision_from_json(parse_decision_point(point), text));
        },
        "point"_a, "text"_a, "A decision of that point from its `to_json`.");
    module.def(
        "standard_decision",
        [](const py::object& request) { return to_python(standard_decision(point_of(need_request(request)))); },
        "request"_a, "The decision that leaves it to the engine.");
    module.def(
        "check_decision",
        [](const py::object& decision, const py::object& request) {
            auto found = decision_from(decision);
            if (!found)
                throw Error(
                    Errc::policy,
                    "a policy must return a decision, not " + Text(py::str(py::type::of(decision).attr("__name__"))),
                    {{"field", "decision"}, {"allowed", "the decision class of the point"}});
            check(*found, need_request(request));
        },
        "decision"_a, "request"_a, "Whether it can be carried out.");
}

}  // namespace infrastructure_sdk::bindings
