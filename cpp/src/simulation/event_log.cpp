// From a recorded event log back to what people wanted.
#include <algorithm>
#include <map>
#include <optional>

#include "simulation/fields.hpp"
#include <infrastructure_sdk/simulation/workload.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

std::string text_in(const json& data, const char* key) {
    auto it = data.is_object() ? data.find(key) : data.end();
    return it == data.end() || !it->is_string() ? std::string() : it->get<std::string>();
}

/// Follows one session through its events.
class SessionStory {
public:
    explicit SessionStory(WallTime created) { planned_.start = created; }

    void take(const Event& event, const json& data) {
        last_ = event.time;
        const auto is = [&](const char* type) { return event.type == type; };
        if (is("session.lifecycle.created")) describe(data);
        else if (is("session.lifecycle.ready") || is("session.lifecycle.resumed")) use_from(event.time);
        else if (is("session.idle.armed")) use_until(quiet_since(data, event.time));
        else if (is("session.idle.disarmed")) use_from(event.time);
        else if (is("session.clients.connected")) note_clients(true, event.time);
        else if (is("session.clients.left")) note_clients(false, event.time);
        else if (is("session.lifecycle.suspending") || is("session.lifecycle.failed")) use_until(event.time);
        else if (is("session.lifecycle.terminating")) end(event.time, text_in(data, "cause"));
    }

    std::optional<PlannedSession> finish(WallTime log_end) {
        if (planned_.user_id.empty()) return std::nullopt;
        const auto end = ended_.value_or(std::max(last_, log_end));
        use_until(end);
        planned_.length = std::max<Duration>(std::chrono::seconds(1), end - planned_.start);
        planned_.ended_by_user = by_user_;
        return std::move(planned_);
    }

private:
    void describe(const json& data) {
        planned_.user_id = text_in(data, "user_id");
        planned_.tenant = text_in(data, "tenant");
        planned_.template_name = text_in(data, "template");
    }
    static WallTime quiet_since(const json& data, WallTime fallback) {
        const auto text = text_in(data, "quiet_since");
        return text.empty() ? fallback : std::min(fallback, parse_rfc3339(text));
    }
    UseKind kind() const { return told_of_clients_ && !connected_ ? UseKind::background : UseKind::work; }
    void use_from(WallTime time) {
        if (!using_) using_ = time;
    }
    void use_until(WallTime time) {
        if (using_ && time > *using_) planned_.uses.push_back({*using_ - planned_.start, time - *using_, kind()});
        using_.reset();
    }
    void note_clients(bool connected, WallTime time) {
        const bool was_used = using_.has_value();
        // What was before the first word of clients is a person who comes.
        use_until(time);
        connected_ = connected;
        told_of_clients_ = true;
        if (was_used) using_ = time;
    }
    void end(WallTime time, const std::string& cause) {
        use_until(time);
        ended_ = time;
        by_user_ = cause.empty() || cause == "request";
    }

    PlannedSession planned_;
    std::optional<WallTime> using_;
    std::optional<WallTime> ended_;
    WallTime last_{};
    bool by_user_ = false;
    bool connected_ = false;
    bool told_of_clients_ = false;
};

/// By their sequence; those without one, 0, stay where they are if none has one.
std::vector<Event> in_order(std::vector<Event> events) {
    std::stable_sort(events.begin(), events.end(),
                     [](const Event& a, const Event& b) { return a.sequence < b.sequence; });
    auto same = std::adjacent_find(events.begin(), events.end(), [](const Event& a, const Event& b) {
        return a.sequence != 0 && a.sequence == b.sequence;
    });
    if (same != events.end())
        refuse_field("events.sequence", std::to_string(same->sequence), "each event has a sequence of its own");
    return events;
}

}  // namespace

Workload workload_from_events(const std::vector<Event>& log) {
    const auto events = in_order(log);
    std::map<std::string, SessionStory> stories;
    std::vector<std::string> order;
    std::size_t unknown = 0;
    for (const auto& event : events) {
        if (!event.type.starts_with("session.")) continue;
        if (event.type == "session.lifecycle.created" && stories.try_emplace(event.subject, event.time).second)
            order.push_back(event.subject);
        auto story = stories.find(event.subject);
        if (story == stories.end()) ++unknown;
        else story->second.take(event, parse_object(event.data, "data of event " + std::to_string(event.sequence)));
    }
    Workload workload;
    for (const auto& id : order)
        if (auto planned = stories.at(id).finish(events.back().time)) workload.sessions.push_back(std::move(*planned));
    if (workload.sessions.empty()) refuse_field("events", std::to_string(events.size()), "no session begins in them");
    std::stable_sort(workload.sessions.begin(), workload.sessions.end(),
                     [](const auto& a, const auto& b) { return a.start < b.start; });
    workload.start = WallTime(std::chrono::floor<std::chrono::days>(workload.sessions.front().start));
    for (const auto& planned : workload.sessions)
        workload.length = std::max(workload.length, planned.start + planned.length - workload.start);
    workload.notes = {
        "A log does not tell who was denied, nor use while a session was suspended.",
        "Pauses shorter than the idle timeout that the log was recorded with look like use.",
        "How much was computed is not known: use counts as work, or as background with nobody connected."};
    if (unknown > 0)
        workload.notes.push_back(std::to_string(unknown) +
                                 " events of sessions that began before the log were passed over.");
    check(workload);
    return workload;
}

}  // namespace infrastructure_sdk
