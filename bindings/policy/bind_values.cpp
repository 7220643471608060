// The classes of requests and decisions. They cannot be changed: neither their objects nor, for a policy that would lie
// about others, the classes.

#include <functional>

#include "policy/bind_policy.hpp"
#include "policy/values.hpp"
#include <infrastructure_sdk/policy/policy_host.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
using namespace py::literals;
namespace {

// What an attribute looks like. Overloads for each type of field.
py::object show(const std::string& text) {
    auto* made = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
    if (!made) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(made);
}
py::object show(double value) { return py::float_(value); }
py::object show(std::int64_t value) { return py::int_(value); }
py::object show(bool value) { return py::bool_(value); }
py::object show(WallTime time) { return to_datetime(time); }
py::object show(Duration length) { return py::float_(to_seconds(length)); }
py::object name_object(const char* name) { return py::reinterpret_steal<py::object>(PyUnicode_InternFromString(name)); }
py::object show(SessionAction action) { return name_object(name_of(action)); }
py::object show(AdmitDecision::Action action) { return name_object(name_of(action)); }
py::object show(const std::map<std::string, std::string>& map) {
    py::dict dict;
    for (const auto& [key, value] : map) dict[show(key)] = show(value);
    return py::reinterpret_steal<py::object>(PyDictProxy_New(dict.ptr()));
}
py::object show(const std::vector<std::string>& items) {
    py::tuple tuple(items.size());
    for (std::size_t i = 0; i < items.size(); ++i) tuple[i] = show(items[i]);
    return tuple;
}
py::object show(const std::vector<PlaceCandidate>& items) {
    py::tuple tuple(items.size());
    for (std::size_t i = 0; i < items.size(); ++i) tuple[i] = py::cast(items[i]);
    return tuple;
}
template <class T>
py::object show(const std::optional<T>& value) {
    return value ? show(*value) : py::none();
}

/// A class whose objects compare by value, are told by their fields and do not change.
template <class T>
class Frozen {
public:
    Frozen(py::module_& module, const char* name, const char* doc) : class_(module, name, py::is_final(), doc) {}

    template <class M>
    Frozen& field(const char* name, M T::* member, const char* doc) {
        names_.emplace_back(name);
        if constexpr (std::is_same_v<M, PolicySession> || std::is_same_v<M, PolicyUsage>)
            class_.def_property_readonly(
                name, [member](const T& self) -> const M& { return self.*member; },
                py::return_value_policy::reference_internal, doc);
        else class_.def_property_readonly(name, [member](const T& self) { return show(self.*member); }, doc);
        return *this;
    }

    template <class... Extra>
    Frozen& init(Extra&&... extra) {
        class_.def(std::forward<Extra>(extra)...);
        return *this;
    }

    /// Of requests: the point, and JSON that goes there and back.
    Frozen& request() {
        class_
            .def_property_readonly(
                "point", [](const T& self) { return name_object(name_of(point_of(PolicyRequest(self)))); },
                "The decision point that it belongs to.")
            .def("to_json", [](const T& self) { return to_json(PolicyRequest(self)); }, "One line, keys sorted.");
        return *this;
    }
    Frozen& decision() {
        class_.def("to_json", [](const T& self) { return to_json(PolicyDecision(self)); }, "One line, keys sorted.");
        return *this;
    }

    void done() {
        class_
            .def(
                "__eq__",
                [](const T& self, const py::object& other) -> py::object {
                    if (!py::isinstance<T>(other)) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
                    return py::bool_(self == other.cast<const T&>());
                },
                "other"_a)
            .def("__repr__", [names = names_, name = std::string(py::str(class_.attr("__name__")))](py::object self) {
                std::string text = name + "(";
                for (const auto& field : names)
                    text += (text.back() == '(' ? "" : ", ") + field + "=" +
                            std::string(py::repr(self.attr(field.c_str())));
                return text + ")";
            });
        class_.attr("__match_args__") = py::tuple(py::cast(names_));
        reinterpret_cast<PyTypeObject*>(class_.ptr())->tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
        PyType_Modified(reinterpret_cast<PyTypeObject*>(class_.ptr()));
    }

private:
    py::class_<T> class_;
    std::vector<std::string> names_;
};

using Text = std::string;
using Integer = std::int64_t;
using Tags = std::map<std::string, std::string>;
using MaybeMoment = std::optional<Moment>;
using MaybeSeconds = std::optional<double>;

std::optional<WallTime> time_of(const MaybeMoment& moment) { return moment ? std::optional(moment->at) : std::nullopt; }
std::optional<Duration> length_of(MaybeSeconds seconds, const char* field) {
    return seconds ? std::optional(from_seconds(*seconds, field)) : std::nullopt;
}

void bind_session(py::module_& module) {
    Frozen<PolicySession>(module, "PolicySession", "What a policy is told of a session.")
        .init(py::init([](Text id, Text user_id, Moment created_at, Text tenant, Text template_name, Text session_type,
                          Text state, double cpu_cores, Integer memory_bytes, Integer disk_bytes, Integer gpu_count,
                          Text gpu_type, Tags tags, MaybeMoment last_activity_at, MaybeMoment expires_at,
                          double price_per_hour) {
                  return PolicySession{id,
                                       user_id,
                                       tenant,
                                       template_name,
                                       session_type,
                                       state,
                                       cpu_cores,
                                       memory_bytes,
                                       disk_bytes,
                                       gpu_count,
                                       gpu_type,
                                       tags,
                                       created_at.at,
                                       time_of(last_activity_at),
                                       time_of(expires_at),
                                       price_per_hour};
              }),
              py::kw_only(), "id"_a, "user_id"_a, "created_at"_a, "tenant"_a = "", "template_name"_a = "",
              "session_type"_a = "", "state"_a = "active", "cpu_cores"_a = 1.0, "memory_bytes"_a = 0,
              "disk_bytes"_a = 0, "gpu_count"_a = 0, "gpu_type"_a = "", "tags"_a = Tags(),
              "last_activity_at"_a = py::none(), "expires_at"_a = py::none(), "price_per_hour"_a = 0.0)
        .field("id", &PolicySession::id, "Empty when it does not exist yet.")
        .field("user_id", &PolicySession::user_id, "Whose it is.")
        .field("tenant", &PolicySession::tenant, "Empty = none.")
        .field("template_name", &PolicySession::template_name, "What it was made from.")
        .field("session_type", &PolicySession::session_type, "\"desktop\", ...")
        .field("state", &PolicySession::state, "\"active\", ...")
        .field("cpu_cores", &PolicySession::cpu_cores, "Virtual processors.")
        .field("memory_bytes", &PolicySession::memory_bytes, "Memory.")
        .field("disk_bytes", &PolicySession::disk_bytes, "Disk.")
        .field("gpu_count", &PolicySession::gpu_count, "GPUs.")
        .field("gpu_type", &PolicySession::gpu_type, "Empty = any.")
        .field("tags", &PolicySession::tags, "Cannot be changed.")
        .field("created_at", &PolicySession::created_at, "UTC.")
        .field("last_activity_at", &PolicySession::last_activity_at, "UTC; None = never seen.")
        .field("expires_at", &PolicySession::expires_at, "UTC; None = never.")
        .field("price_per_hour", &PolicySession::price_per_hour, "While it runs, in the configured currency.")
        .done();
    Frozen<PolicyUsage>(module, "PolicyUsage", "How much is in use when the request is made.")
        .init(py::init([](Integer of_user, Integer of_tenant, Integer all, Integer gpus_of_user, Integer gpus) {
                  return PolicyUsage{of_user, of_tenant, all, gpus_of_user, gpus};
              }),
              py::kw_only(), "sessions_of_user"_a = 0, "sessions_of_tenant"_a = 0, "sessions"_a = 0,
              "gpus_of_user"_a = 0, "gpus"_a = 0)
        .field("sessions_of_user", &PolicyUsage::sessions_of_user, "That are not terminated.")
        .field("sessions_of_tenant", &PolicyUsage::sessions_of_tenant, "0 without a tenant.")
        .field("sessions", &PolicyUsage::sessions, "Of everybody.")
        .field("gpus_of_user", &PolicyUsage::gpus_of_user, "GPUs of the user.")
        .field("gpus", &PolicyUsage::gpus, "GPUs of everybody.")
        .done();
    Frozen<PlaceCandidate>(module, "PlaceCandidate", "Somewhere a VM can be put.")
        .init(py::init([](Text name, double cores, Integer memory, bool spot, double price, Tags labels) {
                  return PlaceCandidate{name, cores, memory, spot, price, labels};
              }),
              py::kw_only(), "name"_a, "free_cpu_cores"_a = 0.0, "free_memory_bytes"_a = 0, "spot"_a = false,
              "price_per_hour"_a = 0.0, "labels"_a = Tags())
        .field("name", &PlaceCandidate::name, "What a decision names.")
        .field("free_cpu_cores", &PlaceCandidate::free_cpu_cores, "Free processors.")
        .field("free_memory_bytes", &PlaceCandidate::free_memory_bytes, "Free memory.")
        .field("spot", &PlaceCandidate::spot, "May be taken away.")
        .field("price_per_hour", &PlaceCandidate::price_per_hour, "In the configured currency.")
        .field("labels", &PlaceCandidate::labels, "Cannot be changed.")
        .done();
}

void bind_creation(py::module_& module) {
    Frozen<AdmitRequest>(module, "AdmitRequest", "May this session be created?")
        .init(py::init([](Moment now, PolicySession session, PolicyUsage usage) {
                  return AdmitRequest{now.at, session, usage};
              }),
              py::kw_only(), "now"_a, "session"_a, "usage"_a = PolicyUsage())
        .field("now", &AdmitRequest::now, "UTC.")
        .field("session", &AdmitRequest::session, "As it would be.")
        .field("usage", &AdmitRequest::usage, "What there is already.")
        .request()
        .done();
    Frozen<PlaceRequest>(module, "PlaceRequest", "Where is it put?")
        .init(py::init([](Moment now, PolicySession session, std::vector<PlaceCandidate> candidates) {
                  return PlaceRequest{now.at, session, candidates};
              }),
              py::kw_only(), "now"_a, "session"_a, "candidates"_a)
        .field("now", &PlaceRequest::now, "UTC.")
        .field("session", &PlaceRequest::session, "As it would be.")
        .field("candidates", &PlaceRequest::candidates, "All of them fit.")
        .request()
        .done();
    Frozen<SizeRequest>(module, "SizeRequest", "How large is it made?")
        .init(py::init([](Moment now, PolicySession session) { return SizeRequest{now.at, session}; }), py::kw_only(),
              "now"_a, "session"_a)
        .field("now", &SizeRequest::now, "UTC.")
        .field("session", &SizeRequest::session, "With the size that it would have.")
        .request()
        .done();
}

void bind_use(py::module_& module) {
    Frozen<IdleRequest>(module, "IdleRequest", "The idle clock has run out: what now?")
        .init(py::init([](Moment now, PolicySession session, double quiet_for, double idle_timeout, Integer connections,
                          bool seen, const Text& standard) {
                  return IdleRequest{now.at,
                                     session,
                                     from_seconds(quiet_for, "quiet_for"),
                                     from_seconds(idle_timeout, "idle_timeout"),
                                     connections,
                                     seen,
                                     parse_session_action(standard)};
              }),
              py::kw_only(), "now"_a, "session"_a, "quiet_for"_a, "idle_timeout"_a = 0.0, "connections"_a = 0,
              "use_fully_seen"_a = true, "standard"_a = "suspend")
        .field("now", &IdleRequest::now, "UTC.")
        .field("session", &IdleRequest::session, "Which one.")
        .field("quiet_for", &IdleRequest::quiet_for, "Seconds.")
        .field("idle_timeout", &IdleRequest::idle_timeout, "Seconds.")
        .field("connections", &IdleRequest::connections, "Display clients and forwarded connections.")
        .field("use_fully_seen", &IdleRequest::use_fully_seen, "False: a wanted signal could not be looked at.")
        .field("standard", &IdleRequest::standard, "What the engine would do.")
        .request()
        .done();
    Frozen<ScheduleRequest>(module, "ScheduleRequest", "Do the hours say something about it?")
        .init(py::init([](Moment now, PolicySession session, MaybeSeconds quiet_for) {
                  return ScheduleRequest{now.at, session, length_of(quiet_for, "quiet_for")};
              }),
              py::kw_only(), "now"_a, "session"_a, "quiet_for"_a = py::none())
        .field("now", &ScheduleRequest::now, "UTC.")
        .field("session", &ScheduleRequest::session, "Which one.")
        .field("quiet_for", &ScheduleRequest::quiet_for, "Seconds; None = not watched or not seen.")
        .request()
        .done();
    Frozen<BudgetRequest>(module, "BudgetRequest", "What about the money?")
        .init(py::init([](Moment now, PolicySession session, double by_session, double by_user, double by_tenant,
                          std::optional<double> of_user, std::optional<double> of_tenant, Text currency) {
                  return BudgetRequest{now.at, session, by_session, by_user, by_tenant, of_user, of_tenant, currency};
              }),
              py::kw_only(), "now"_a, "session"_a, "spent_by_session"_a = 0.0, "spent_by_user"_a = 0.0,
              "spent_by_tenant"_a = 0.0, "limit_of_user"_a = py::none(), "limit_of_tenant"_a = py::none(),
              "currency"_a = "")
        .field("now", &BudgetRequest::now, "UTC.")
        .field("session", &BudgetRequest::session, "Which one.")
        .field("spent_by_session", &BudgetRequest::spent_by_session, "This month.")
        .field("spent_by_user", &BudgetRequest::spent_by_user, "This month, all sessions.")
        .field("spent_by_tenant", &BudgetRequest::spent_by_tenant, "This month; 0 without a tenant.")
        .field("limit_of_user", &BudgetRequest::limit_of_user, "The smallest that applies; None = no limit.")
        .field("limit_of_tenant", &BudgetRequest::limit_of_tenant, "None = no limit.")
        .field("currency", &BudgetRequest::currency, "Of all amounts.")
        .request()
        .done();
}

void bind_trouble(py::module_& module) {
    Frozen<IsolationRequest>(module, "IsolationRequest", "Its isolation was looked at: what follows?")
        .init(py::init([](Moment now, PolicySession session, Text verdict, double lower, double upper,
                          std::vector<Text> failed, bool is_start, const Text& standard) {
                  return IsolationRequest{now.at, session, verdict,  lower,
                                          upper,  failed,  is_start, parse_session_action(standard)};
              }),
              py::kw_only(), "now"_a, "session"_a, "verdict"_a, "score_lower"_a = 0.0, "score_upper"_a = 0.0,
              "failed_checks"_a = std::vector<Text>(), "is_start"_a = false, "standard"_a = "keep")
        .field("now", &IsolationRequest::now, "UTC.")
        .field("session", &IsolationRequest::session, "Which one.")
        .field("verdict", &IsolationRequest::verdict, "isolated, degraded, unproven or not_isolated.")
        .field("score_lower", &IsolationRequest::score_lower, "0 to 100.")
        .field("score_upper", &IsolationRequest::score_upper, "0 to 100.")
        .field("failed_checks", &IsolationRequest::failed_checks, "Ids, sorted.")
        .field("is_start", &IsolationRequest::is_start, "The gate before the session becomes active.")
        .field("standard", &IsolationRequest::standard, "What the engine would do.")
        .request()
        .done();
    Frozen<InterruptionRequest>(module, "InterruptionRequest", "The host will take resources away.")
        .init(py::init([](Moment now, PolicySession session, Text kind, MaybeMoment deadline, const Text& standard) {
                  return InterruptionRequest{now.at, session, kind, time_of(deadline), parse_session_action(standard)};
              }),
              py::kw_only(), "now"_a, "session"_a, "kind"_a, "deadline"_a = py::none(), "standard"_a = "keep")
        .field("now", &InterruptionRequest::now, "UTC.")
        .field("session", &InterruptionRequest::session, "Which one.")
        .field("kind", &InterruptionRequest::kind, "disk_full or memory_pressure.")
        .field("deadline", &InterruptionRequest::deadline, "UTC; None = not known.")
        .field("standard", &InterruptionRequest::standard, "What the engine would do.")
        .request()
        .done();
}

void bind_decisions(py::module_& module) {
    Frozen<AdmitDecision>(module, "AdmitDecision", "The answer to AdmitRequest.")
        .init(
            py::init([](const Text& action, Text reason) { return AdmitDecision{parse_admit_action(action), reason}; }),
            py::kw_only(), "action"_a = "standard", "reason"_a = "")
        .field("action", &AdmitDecision::action, "standard or deny.")
        .field("reason", &AdmitDecision::reason, "Of a denial it is what the user reads.")
        .decision()
        .done();
    Frozen<PlaceDecision>(module, "PlaceDecision", "The answer to PlaceRequest.")
        .init(py::init([](Text candidate, Text reason) { return PlaceDecision{candidate, reason}; }), py::kw_only(),
              "candidate"_a = "", "reason"_a = "")
        .field("candidate", &PlaceDecision::candidate, "The name of one of them; empty = standard.")
        .field("reason", &PlaceDecision::reason, "For people.")
        .decision()
        .done();
    Frozen<SizeDecision>(module, "SizeDecision", "The answer to SizeRequest.")
        .init(py::init([](std::optional<double> cores, std::optional<Integer> memory, Text reason) {
                  return SizeDecision{cores, memory, reason};
              }),
              py::kw_only(), "cpu_cores"_a = py::none(), "memory_bytes"_a = py::none(), "reason"_a = "")
        .field("cpu_cores", &SizeDecision::cpu_cores, "None = standard.")
        .field("memory_bytes", &SizeDecision::memory_bytes, "None = standard.")
        .field("reason", &SizeDecision::reason, "For people.")
        .decision()
        .done();
    Frozen<SessionDecision>(module, "SessionDecision", "The answer about a running session.")
        .init(py::init([](const Text& action, Text reason, MaybeSeconds again) {
                  return SessionDecision{parse_session_action(action), reason, length_of(again, "ask_again_after")};
              }),
              py::kw_only(), "action"_a = "standard", "reason"_a = "", "ask_again_after"_a = py::none())
        .field("action", &SessionDecision::action, "standard, keep, disconnect, suspend or terminate.")
        .field("reason", &SessionDecision::reason, "For people.")
        .field("ask_again_after", &SessionDecision::ask_again_after, "With keep: seconds; None = at the next look.")
        .decision()
        .done();
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
