// Policies, options and workloads as documents.
#include <array>

#include "session/clock_rules.hpp"
#include "simulation/fields.hpp"
#include <infrastructure_sdk/simulation/simulation.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

constexpr std::array<ClockKind, 4> clock_kinds{ClockKind::ttl, ClockKind::idle_timeout, ClockKind::disconnect_timeout,
                                               ClockKind::retention};

constexpr Duration ten_years = std::chrono::hours(87600);
constexpr Duration a_day = std::chrono::hours(24);
constexpr Duration a_second = std::chrono::seconds(1);

std::string with_sign(Duration value) { return value < Duration::zero() ? "-" + to_string(-value) : to_string(value); }

void read_bounded(Fields& fields, const char* key, Duration& into, Duration least, Duration most) {
    auto read = into;
    fields.read(key, read);
    // What is not in the document is not judged.
    if (read != into && (read < least || read > most))
        refuse_field(fields.name(key), with_sign(read), to_string(least) + " to " + to_string(most) + " is allowed");
    into = read;
}

void read_clocks(Fields& fields, SessionClocks& clocks) {
    for (auto kind : clock_kinds) {
        auto& limit = clock_of(clocks, kind).limit;
        auto length = limit.value_or(Duration::zero());
        read_bounded(fields, name_of(kind), length, Duration::zero(), ten_years);
        if (length == Duration::zero()) limit.reset();
        else limit = length;
    }
    if (const auto* actions = fields.find("on_expiry")) {
        Fields by_clock(*actions, "on_expiry");
        for (auto kind : clock_kinds) {
            std::string action;
            by_clock.read(name_of(kind), action);
            if (!action.empty()) clock_of(clocks, kind).on_expiry = parse_on_expiry(action);
        }
        by_clock.finish();
    }
    check(clocks);
}

std::string list_document(const char* key, const json& list) { return json{{key, list}}.dump(); }

/// How many in a million.
std::uint32_t millionths(double share) { return static_cast<std::uint32_t>(share * 1'000'000 + 0.5); }

std::map<std::string, Template> read_templates(const json& list) {
    if (!list.is_array()) refuse_field("templates", Fields::shown(list), "a list of template documents is needed");
    std::map<std::string, Template> templates;
    for (const auto& document : list) {
        auto read = parse_template(document.dump(), "templates");
        templates[read.name] = read;
    }
    return templates;
}

Workload read_lines(Fields& fields, const json& text, bool is_log) {
    if (!text.is_string()) refuse_field(is_log ? "events" : "trace", Fields::shown(text), "a text is needed");
    std::string source = is_log ? "events" : "trace";
    std::string format = "csv";
    fields.read("source", source);
    if (is_log) return workload_from_events(parse_event_lines(text.get<std::string>(), source));
    fields.read("format", format);
    if (format == "csv") return parse_trace_csv(text.get<std::string>(), source);
    if (format == "jsonl") return parse_trace_jsonl(text.get<std::string>(), source);
    refuse_field("format", format, "csv or jsonl is allowed");
}

}  // namespace

Workload workload_from_json(const std::string& text, std::uint64_t seed, const std::function<bool()>& go_on) {
    const auto document = parse_object(text, "workload");
    Fields fields(document, "");
    const auto* fleet = fields.find("fleet");
    const auto* trace = fields.find("trace");
    const auto* events = fields.find("events");
    if ((fleet != nullptr) + (trace != nullptr) + (events != nullptr) != 1)
        refuse_field("workload", "", "one of fleet, trace and events is needed");
    auto workload = fleet ? synthesize(fleet_model_from_json(fleet->dump()), seed, go_on)
                          : read_lines(fields, trace ? *trace : *events, events != nullptr);
    fields.finish();
    return workload;
}

SimulatedPolicy simulated_policy_from_json(const std::string& text) {
    const auto document = parse_object(text, "policy");
    Fields fields(document, "");
    SimulatedPolicy policy;
    fields.read("name", policy.name);
    read_clocks(fields, policy.clocks);
    read_bounded(fields, "sample_interval", policy.idleness.sample_interval, a_second, a_day);
    fields.read("arming_delay", policy.idleness.arming_delay);
    if (const auto* limits = fields.find("limits"))
        policy.limits = parse_limits(list_document("limits", *limits), "limits");
    if (const auto* pools = fields.find("pools")) policy.pools = parse_pools(list_document("pools", *pools), "pools");
    if (const auto* policies = fields.find("policies"))
        policy.policies.sources = parse_policies(list_document("policies", *policies), "policies");
    read_bounded(fields, "schedule_interval", policy.policies.schedule_interval, a_second, a_day);
    read_bounded(fields, "budget_interval", policy.policies.budget_interval, a_second, a_day);
    fields.finish();
    check(policy.idleness);
    return policy;
}

SimulationOptions simulation_options_from_json(const std::string& text) {
    const auto document = parse_object(text, "options");
    Fields fields(document, "");
    SimulationOptions options;
    read_bounded(fields, "came_back_within", options.came_back_within, Duration::zero(), ten_years);
    read_bounded(fields, "retry_after", options.retry_after, a_second, ten_years);
    fields.read("default_template", options.default_template);
    fields.read("currency", options.currency);
    read_bounded(fields, "boot_time", options.provider.boot_time, Duration::zero(), a_day);
    read_bounded(fields, "start_time", options.provider.start_time, Duration::zero(), a_day);
    read_bounded(fields, "suspend_time", options.provider.suspend_time, Duration::zero(), a_day);
    read_bounded(fields, "resume_time", options.provider.resume_time, Duration::zero(), a_day);
    double slow = options.provider.faults.slow / 1e6;
    fields.read_share("slow_share", slow);
    options.provider.faults.slow = millionths(slow);
    fields.read_count("concurrent_boots", options.provider.concurrent_boots);
    if (const auto* templates = fields.find("templates")) {
        options.templates = read_templates(*templates);
        if (!document.contains("default_template") && !options.templates.empty())
            options.default_template = options.templates.begin()->first;
    }
    fields.finish();
    return options;
}

}  // namespace infrastructure_sdk
