// Every labelled timeline of tests/data/idle_scenarios.json: its last verdict, what ends it, and over all of them how
// often idleness acts rightly (precision) and how much of what is idle it finds (recall).

#include <infrastructure_sdk/session/idleness.hpp>

#include <gtest/gtest.h>

#include <fstream>
#include <iostream>
#include <sstream>

#include <nlohmann/json.hpp>

#include "session/clock_rules.hpp"
#include "support/activity_script.hpp"
#include "support/source_tree.hpp"
#include <infrastructure_sdk/duration.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using test::ActivityScript;
using test::Doing;

struct Outcome {
    IdleState verdict = IdleState::unknown;
    std::string ends;  // "ttl terminates at 1h"
};

const std::vector<json>& scenarios() {
    static const std::vector<json> all = [] {
        std::ifstream file(test::source_root() / "tests/data/idle_scenarios.json");
        return json::parse(file).at("scenarios").get<std::vector<json>>();
    }();
    return all;
}

Duration duration(const json& object, const char* key, const char* fallback) {
    return parse_duration(object.value(key, std::string(fallback)), key);
}

/// Repeats are written out.
std::vector<json> segments_of(const json& timeline) {
    std::vector<json> result;
    for (const auto& item : timeline) {
        if (!item.contains("repeat")) {
            result.push_back(item);
            continue;
        }
        for (int i = 0; i < item["repeat"].get<int>(); ++i)
            for (const auto& inner : item["of"]) result.push_back(inner);
    }
    return result;
}

std::set<ActivitySignal> signals(const json& segment, const char* key) {
    std::set<ActivitySignal> result;
    for (const auto& name : segment.value(key, std::vector<std::string>{})) result.insert(parse_activity_signal(name));
    return result;
}

Doing doing_in(const json& segment) {
    static const std::set<std::string> known{"for",     "cpu",     "net",       "disk",    "input", "execs",
                                             "touches", "clients", "forwarded", "users",   "exec",  "holds",
                                             "agent",   "unseen",  "looks",     "restart", "reset", "extend"};
    for (const auto& item : segment.items())
        if (!known.contains(item.key())) throw std::runtime_error("unknown key in a segment: " + item.key());
    Doing doing;
    doing.cpu = segment.value("cpu", 0.0);
    doing.net = segment.value("net", 0.0);
    doing.disk = segment.value("disk", 0.0);
    doing.input = segment.value("input", 0.0);
    doing.execs = segment.value("execs", 0.0);
    doing.touches = segment.value("touches", 0.0);
    doing.clients = segment.value("clients", 0u);
    doing.forwarded = segment.value("forwarded", 0u);
    doing.users = segment.value("users", 0u);
    doing.exec = segment.value("exec", 0u);
    doing.holds = segment.value("holds", 0u);
    doing.agent = segment.value("agent", false);
    doing.unseen = signals(segment, "unseen");
    return doing;
}

/// "15m suspend"; "" = off.
void set_clock(SessionClock& clock, const std::string& text) {
    clock.limit.reset();
    std::istringstream words(text);
    std::string limit, action;
    if (!(words >> limit >> action)) return;
    clock.limit = parse_duration(limit, "limit");
    clock.on_expiry = parse_on_expiry(action);
}

/// What a detector that knows one signal only would see.
ActivitySample alone(const ActivitySample& sample, ActivitySignal signal) {
    ActivitySample result;
    result.at = sample.at;
    result.monotonic_at = sample.monotonic_at;
    result.execution_id = sample.execution_id;
    result.guest_cpu_ns = result.input_events = result.touches = 0;
    result.exec_in_flight = result.holds = result.vnc_clients = result.forwarded_connections = 0;
    if (signal == ActivitySignal::guest_cpu) result.guest_cpu_ns = sample.guest_cpu_ns;
    if (signal == ActivitySignal::input) result.input_events = sample.input_events;
    if (signal == ActivitySignal::exec) result.exec_in_flight = sample.exec_in_flight;
    if (signal == ActivitySignal::network) result.network_rx_bytes = sample.network_rx_bytes;
    if (signal == ActivitySignal::network) result.network_tx_bytes = sample.network_tx_bytes;
    // Such a detector takes presence for activity.
    if (signal == ActivitySignal::connection)
        result.holds = sample.vnc_clients.value_or(0) + sample.forwarded_connections.value_or(0);
    return result;
}

class Playback {
public:
    explicit Playback(const json& scenario, std::optional<ActivitySignal> only = {})
        : only_(only), every_(duration(scenario, "every", "1m")) {
        auto rules = scenario.value("clocks", json::object());
        set_clock(clocks_.idle_timeout, rules.value("idle_timeout", "15m suspend"));
        set_clock(clocks_.ttl, rules.value("ttl", ""));
        set_clock(clocks_.disconnect_timeout, rules.value("disconnect_timeout", ""));
        settings_.idle_timeout = clocks_.idle_timeout.limit;
        settings_.sample_interval = every_;
        settings_.arming_delay = duration(scenario, "arming_delay", "1m");
        check(settings_);
        check(clocks_);
        clocks_ = start_clocks(clocks_, script_.start());
        note_active(clocks_, script_.start());
        auto segments = segments_of(scenario.at("timeline"));
        see(script_.look(doing_in(segments.front())));
        for (const auto& segment : segments)
            if (outcome.ends.empty()) play(segment);
    }

    Outcome outcome;

private:
    void play(const json& segment) {
        const auto doing = doing_in(segment);
        if (segment.value("restart", false)) script_.restart();
        for (auto signal : signals(segment, "reset")) script_.reset(signal);
        if (segment.contains("extend"))
            extend(clocks_, duration(segment, "extend", ""), script_.start() + script_.elapsed());
        const auto end = script_.elapsed() + duration(segment, "for", "");
        while (script_.elapsed() < end && outcome.ends.empty()) {
            script_.pass(every_, doing);
            if (segment.value("looks", true)) see(script_.look(doing));
        }
    }

    void see(const ActivitySample& sample) {
        const auto verdict = detector_.observe(only_ ? alone(sample, *only_) : sample, settings_);
        outcome.verdict = verdict.state;
        note_activity(clocks_, verdict.quiet_since);
        if (sample.vnc_clients && sample.forwarded_connections)
            note_clients(clocks_, *sample.vnc_clients + *sample.forwarded_connections > 0, sample.at);
        if (auto deadline = expired(clocks_, SessionState::active, sample.at))
            end(deadline->clock, deadline->action, deadline->at);
        else if (verdict.state == IdleState::due)
            end(ClockKind::idle_timeout, clocks_.idle_timeout.on_expiry, sample.at);
    }

    void end(ClockKind clock, OnExpiry action, WallTime at) {
        outcome.ends = std::string(name_of(clock)) + " " + name_of(action) + "s at " + to_string(at - script_.start());
    }

    std::optional<ActivitySignal> only_;
    Duration every_;
    ActivityScript script_;
    IdleDetector detector_;
    IdleSettings settings_;
    SessionClocks clocks_;
};

bool idleness_acted(const Outcome& outcome) { return outcome.ends.starts_with(name_of(ClockKind::idle_timeout)); }

TEST(IdleScenarios, EachEndsAsLabelled) {
    for (const auto& scenario : scenarios()) {
        SCOPED_TRACE(scenario.at("name").get<std::string>());
        const auto outcome = Playback(scenario).outcome;
        EXPECT_EQ(name_of(outcome.verdict), scenario.at("verdict").get<std::string>());
        EXPECT_EQ(outcome.ends, scenario.value("ends", ""));
    }
}

TEST(IdleScenarios, PrecisionAndRecallAreOneOnTheLabelledSet) {
    int right = 0, wrong = 0, missed = 0, left_alone = 0;
    for (const auto& scenario : scenarios()) {
        const bool acted = idleness_acted(Playback(scenario).outcome), should = scenario.at("suspend");
        EXPECT_EQ(acted, should) << scenario.at("name");
        ++(acted ? (should ? right : wrong) : (should ? missed : left_alone));
    }
    const double precision = static_cast<double>(right) / (right + wrong);
    const double recall = static_cast<double>(right) / (right + missed);
    std::cout << "idle scenarios: " << scenarios().size() << " (" << right + missed << " idle), precision " << precision
              << ", recall " << recall << ", wrongly suspended " << wrong << ", left running " << missed << "\n";
    EXPECT_EQ(precision, 1.0);
    EXPECT_EQ(recall, 1.0);
    EXPECT_GE(right + missed, 20);
    EXPECT_GE(left_alone + wrong, 20);
}

TEST(IdleScenarios, NoSignalAloneIsEnough) {
    for (auto signal : {ActivitySignal::connection, ActivitySignal::input, ActivitySignal::guest_cpu,
                        ActivitySignal::network, ActivitySignal::exec}) {
        int wrong = 0, missed = 0;
        for (const auto& scenario : scenarios()) {
            const bool acted = idleness_acted(Playback(scenario, signal).outcome), should = scenario.at("suspend");
            wrong += acted && !should;
            missed += should && !acted;
        }
        std::cout << "with " << name_of(signal) << " alone: wrongly suspended " << wrong << ", left running " << missed
                  << "\n";
        EXPECT_GT(wrong, 0) << name_of(signal);
    }
}

TEST(IdleScenarios, AreAtLeastFortyWithNamesOfTheirOwn) {
    std::set<std::string> names;
    for (const auto& scenario : scenarios()) names.insert(scenario.at("name"));
    EXPECT_EQ(names.size(), scenarios().size());
    EXPECT_GE(names.size(), 40u);
}

}  // namespace
}  // namespace infrastructure_sdk
