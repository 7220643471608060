#include <infrastructure_sdk/session/explain.hpp>

#include <algorithm>

#include <nlohmann/json.hpp>

#include "session/activity_json.hpp"
#include "session/clock_rules.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

std::optional<WallTime> first_due(const ExplainInputs& inputs, const std::vector<IdleVerdict>& verdicts) {
    for (std::size_t i = 0; i < verdicts.size(); ++i)
        if (verdicts[i].state == IdleState::due) return inputs.samples[i].at;
    return std::nullopt;
}

/// The readings of the last sample, each against what was known of its counters before.
std::vector<SignalReading> last_readings(const ExplainInputs& inputs) {
    if (inputs.samples.empty()) return {};
    IdleDetector detector(inputs.before);
    for (std::size_t i = 0; i + 1 < inputs.samples.size(); ++i) detector.observe(inputs.samples[i], inputs.settings);
    return detector.readings(inputs.samples.back(), inputs.settings.thresholds);
}

}  // namespace

std::optional<WhatIf> what_if(const ExplainInputs& inputs, Duration idle_timeout) {
    auto settings = inputs.settings;
    settings.idle_timeout = idle_timeout;
    check(settings);
    if (inputs.samples.empty()) return std::nullopt;
    const auto verdicts = replay(inputs.samples, settings, inputs.before);
    const auto& last = verdicts.back();
    WhatIf result;
    result.idle_timeout = idle_timeout;
    result.state = last.state;
    result.due_at = first_due(inputs, verdicts);
    result.due_at_now = first_due(inputs, replay(inputs.samples, inputs.settings, inputs.before));
    // An armed session has been warned already; the others are warned first.
    const auto window_ends = std::max(last.quiet_since + idle_timeout, inputs.samples.back().at);
    result.earliest = last.state == IdleState::armed ? std::max(last.since + settings.arming_delay, last.next_look)
                                                     : window_ends + settings.arming_delay;
    return result;
}

Explanation explain(const ExplainInputs& inputs, const std::vector<Duration>& other_timeouts) {
    Explanation result;
    result.inputs = inputs;
    result.readings = last_readings(inputs);
    const auto verdicts = replay(inputs.samples, inputs.settings, inputs.before);
    if (!verdicts.empty()) result.verdict = verdicts.back();
    if (const auto& last = inputs.last_transition; last && last->reason == name_of(TerminationReason::idle))
        result.reproduced = result.verdict && result.verdict->state == IdleState::due;
    result.deadlines = deadlines(inputs.clocks, inputs.state);
    for (auto timeout : other_timeouts)
        if (auto answer = what_if(inputs, timeout)) result.what_ifs.push_back(*answer);
    result.sentences = sentences_of(result);
    return result;
}

void to_json(json& document, const TransitionRecord& record) {
    document = {{"at", to_rfc3339(record.at)},
                {"from", name_of(record.from)},
                {"to", name_of(record.to)},
                {"reason", record.reason},
                {"readings", record.readings}};
}

void to_json(json& document, const ExplainInputs& inputs) {
    document = {{"now", to_rfc3339(inputs.now)},
                {"state", name_of(inputs.state)},
                {"clocks", inputs.clocks},
                {"settings", inputs.settings},
                {"samples", inputs.samples},
                {"before", inputs.before},
                {"last_transition", inputs.last_transition ? json(*inputs.last_transition) : json(nullptr)}};
}

void to_json(json& document, const WhatIf& what_if) {
    auto time = [](const std::optional<WallTime>& value) { return value ? json(to_rfc3339(*value)) : json(nullptr); };
    document = {{"idle_timeout", to_string(what_if.idle_timeout)},
                {"state", name_of(what_if.state)},
                {"due_at", time(what_if.due_at)},
                {"due_at_now", time(what_if.due_at_now)},
                {"earliest", to_rfc3339(what_if.earliest)}};
}

void to_json(json& document, const Explanation& explanation) {
    document = {{"inputs", explanation.inputs},
                {"verdict", explanation.verdict ? json(*explanation.verdict) : json(nullptr)},
                {"readings", explanation.readings},
                {"reproduced", explanation.reproduced ? json(*explanation.reproduced) : json(nullptr)},
                {"deadlines", explanation.deadlines},
                {"what_if", explanation.what_ifs},
                {"sentences", explanation.sentences}};
}

ExplainInputs explain_inputs_from_json(const json& document) try {
    ExplainInputs inputs;
    inputs.now = parse_rfc3339(document.at("now"));
    inputs.state = parse_session_state(document.at("state"));
    inputs.clocks = session_clocks_from_json(document.at("clocks"));
    inputs.settings = idle_settings_from_json(document.at("settings"));
    for (const auto& sample : document.at("samples")) inputs.samples.push_back(activity_sample_from_json(sample));
    inputs.before = idle_memory_from_json(document.at("before"));
    if (const auto& last = document.at("last_transition"); !last.is_null()) {
        TransitionRecord record{parse_rfc3339(last.at("at")),
                                parse_session_state(last.at("from")),
                                parse_session_state(last.at("to")),
                                last.at("reason"),
                                {}};
        for (const auto& reading : last.at("readings")) record.readings.push_back(signal_reading_from_json(reading));
        inputs.last_transition = std::move(record);
    }
    return inputs;
} catch (const json::exception& error) {
    throw Error(Errc::validation, std::string("a stored explanation cannot be read: ") + error.what());
}

}  // namespace infrastructure_sdk
