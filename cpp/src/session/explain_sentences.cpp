#include <infrastructure_sdk/session/explain.hpp>

#include <infrastructure_sdk/duration.hpp>

#include "session/clock_rules.hpp"

namespace infrastructure_sdk {
namespace {

using Sentences = std::vector<std::string>;

std::string moment(WallTime time) { return to_rfc3339(time).substr(0, 19) + "Z"; }

std::string length(Duration duration) {
    return to_string(std::chrono::floor<std::chrono::seconds>(duration < Duration::zero() ? -duration : duration));
}

/// "at T (in 5m)", "at T (5m ago)".
std::string at(WallTime time, WallTime now) {
    const auto distance = time > now ? "in " + length(time - now) : length(now - time) + " ago";
    return "at " + moment(time) + " (" + distance + ")";
}

const SignalReading* find(const std::vector<SignalReading>& readings, ActivitySignal signal) {
    for (const auto& reading : readings)
        if (reading.signal == signal) return &reading;
    return nullptr;
}

std::string shown(const SignalReading& reading) {
    return std::string(name_of(reading.signal)) + " (" + reading.detail + ")";
}

std::string listed(const std::vector<SignalReading>& readings, SignalSet signals) {
    std::string text;
    for (auto signal : signals.list())
        if (const auto* reading = find(readings, signal)) text += (text.empty() ? "" : ", ") + shown(*reading);
    return text;
}

std::string listed(const std::vector<SignalReading>& readings) {
    std::string text;
    for (const auto& reading : readings) text += (text.empty() ? "" : ", ") + shown(reading);
    return text;
}

void say_quiet(Sentences& out, const Explanation& e) {
    const auto& verdict = *e.verdict;
    const auto& timeout = e.inputs.settings.idle_timeout;
    const auto since = "since " + moment(verdict.quiet_since) + " (" + length(e.inputs.now - verdict.quiet_since) + ")";
    switch (verdict.state) {
        case IdleState::observing:
            out.push_back("Nothing has happened " + since +
                          (timeout ? "; that is shorter than idle_timeout (" + to_string(*timeout) + ")."
                                   : "; no idle_timeout is set, so that idleness never ends it."));
            break;
        case IdleState::armed:
            out.push_back("Nothing has happened " + since + ", a whole idle_timeout (" + to_string(*timeout) +
                          "). The warning was given " + at(verdict.since, e.inputs.now) + "; the look at " +
                          moment(verdict.next_look) + " decides.");
            break;
        case IdleState::due:
            out.push_back("Nothing has happened " + since + ", longer than idle_timeout (" + to_string(*timeout) +
                          "), and a look after the warning confirmed it: it is idle.");
            break;
        case IdleState::busy:
        case IdleState::unknown: break;
    }
    if (const auto* connection = find(e.readings, ActivitySignal::connection);
        connection && connection->state == SignalReading::State::active)
        out.push_back("Somebody is connected (" + connection->detail +
                      "). A connection without input is presence, not activity.");
}

void say_use(Sentences& out, const Explanation& e) {
    if (!e.verdict) {
        out.push_back("Nobody has looked at its use yet.");
        return;
    }
    const auto& verdict = *e.verdict;
    if (verdict.state == IdleState::busy) out.push_back("It is in use: " + listed(e.readings, verdict.active) + ".");
    else if (verdict.state == IdleState::unknown)
        out.push_back("Whether it is in use is not known since " + moment(verdict.since) + ": " +
                      listed(e.readings, verdict.missing) + ". What is not known never ends a session.");
    else say_quiet(out, e);
    if (!verdict.unseen.empty() && verdict.state != IdleState::unknown)
        out.push_back("Not seen, and not needed for the verdict: " + listed(e.readings, verdict.unseen) + ".");
}

void say_idle_suspension(Sentences& out, const Explanation& e) {
    const auto& timeout = e.inputs.settings.idle_timeout;
    if (!*e.reproduced || !e.verdict || !timeout) {
        const auto instead = e.verdict ? std::string("; they say ") + name_of(e.verdict->state) : ": there are none";
        out.push_back("The recorded samples do not lead to that verdict again" + instead + ".");
        return;
    }
    out.push_back("Nothing had happened since " + moment(e.verdict->quiet_since) + ", longer than idle_timeout (" +
                  to_string(*timeout) + "); a look after the warning confirmed it.");
}

void say_last_transition(Sentences& out, const Explanation& e) {
    const auto& last = e.inputs.last_transition;
    if (!last) {
        out.push_back(std::string("It is ") + name_of(e.inputs.state) + ".");
        return;
    }
    out.push_back(std::string("It is ") + name_of(e.inputs.state) + ": it went from " + name_of(last->from) + " to " +
                  name_of(last->to) + " " + at(last->at, e.inputs.now) + ", reason: " + last->reason + ".");
    if (e.reproduced && last->to != SessionState::active) say_idle_suspension(out, e);
    if (!last->readings.empty()) out.push_back("Seen then: " + listed(last->readings) + ".");
}

std::string moved_by(ClockKind clock) {
    switch (clock) {
        case ClockKind::ttl: return "extend moves it, use does not";
        case ClockKind::idle_timeout: return "at the earliest, and only when the looks until then find it quiet";
        case ClockKind::disconnect_timeout: return "unless a client connects";
        case ClockKind::retention: return "unless it is resumed";
    }
    return {};
}

void say_deadlines(Sentences& out, const Explanation& e) {
    const bool over = e.inputs.state == SessionState::terminating || e.inputs.state == SessionState::terminated;
    if (e.deadlines.empty() && !over) out.push_back("No clock is running: only a request ends it.");
    for (const auto& deadline : e.deadlines) {
        const bool cuts_off = deadline.action == OnExpiry::disconnect;
        out.push_back(std::string(name_of(deadline.clock)) + " " + name_of(deadline.action) +
                      (cuts_off ? "s its clients " : "s it ") + at(deadline.at, e.inputs.now) + ", " +
                      moved_by(deadline.clock) + ".");
    }
}

std::string compared(const WhatIf& what_if) {
    if (!what_if.due_at_now) return "; as it is, it has not become idle";
    if (*what_if.due_at == *what_if.due_at_now) return ", as it is";
    const bool sooner = *what_if.due_at < *what_if.due_at_now;
    return ", " + length(*what_if.due_at_now - *what_if.due_at) + (sooner ? " sooner" : " later");
}

void say_what_if(Sentences& out, const WhatIf& what_if) {
    auto text = "With idle_timeout " + to_string(what_if.idle_timeout) + " ";
    if (what_if.due_at) text += "it would have become idle at " + moment(*what_if.due_at) + compared(what_if) + ".";
    else
        text += "it would not have become idle by the last look (" + std::string(name_of(what_if.state)) +
                "); at the earliest at " + moment(what_if.earliest) + ".";
    out.push_back(std::move(text));
}

}  // namespace

std::vector<std::string> sentences_of(const Explanation& explanation) {
    Sentences out;
    say_last_transition(out, explanation);
    if (explanation.inputs.state == SessionState::active) say_use(out, explanation);
    say_deadlines(out, explanation);
    for (const auto& what_if : explanation.what_ifs) say_what_if(out, what_if);
    return out;
}

}  // namespace infrastructure_sdk
