// Traces of sessions: CSV and JSONL.
#include <algorithm>
#include <functional>
#include <optional>

#include "simulation/fields.hpp"
#include <infrastructure_sdk/simulation/workload.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

const std::vector<std::string> columns{"user", "start", "length", "activity", "tenant", "template", "ended"};

/// Where a value stands, for errors.
struct Place {
    std::string source;
    std::size_t line = 0;
    std::string at(const std::string& column) const {
        return source + ":" + std::to_string(line) + ": column '" + column + "'";
    }
};

/// An error about a value becomes one about its place.
template <class F>
auto at_place(const Place& place, const std::string& column, const std::string& value, F read) {
    try {
        return read();
    } catch (const Error& error) {
        auto allowed = error.context().find("allowed");
        refuse_field(place.at(column), value,
                     allowed == error.context().end() ? std::string(error.message()) : allowed->second);
    }
}

Duration read_length(const Place& place, const std::string& column, const std::string& text) {
    auto read = [&] { return parse_duration(text, column); };
    return at_place(place, column, text, read);
}

/// KIND@OFFSET+LENGTH
UseSegment read_segment(const Place& place, const std::string& word) {
    const auto at = word.find('@'), plus = word.find('+', at == std::string::npos ? 0 : at);
    if (at == std::string::npos || plus == std::string::npos)
        refuse_field(place.at("activity"), word, "KIND@OFFSET+LENGTH such as \"work@0s+50m\" is needed");
    auto read = [&] { return parse_use_kind(word.substr(0, at)); };
    UseSegment segment;
    segment.kind = at_place(place, "activity", word, read);
    segment.at = read_length(place, "activity", word.substr(at + 1, plus - at - 1));
    segment.length = read_length(place, "activity", word.substr(plus + 1));
    return segment;
}

std::vector<UseSegment> read_activity(const Place& place, const std::string& text) {
    std::vector<UseSegment> segments;
    for (std::size_t from = 0; from < text.size();) {
        const auto blank = std::min(text.find(' ', from), text.size());
        if (blank > from) segments.push_back(read_segment(place, text.substr(from, blank - from)));
        from = blank + 1;
    }
    return segments;
}

bool read_ended(const Place& place, const std::string& text) {
    if (text != "true" && text != "false") refuse_field(place.at("ended"), text, "true or false is needed");
    return text == "true";
}

void take(const Place& place, PlannedSession& planned, const std::string& column, const std::string& text) {
    if (column == "user") planned.user_id = text;
    else if (column == "tenant") planned.tenant = text;
    else if (column == "template") planned.template_name = text;
    else if (column == "start") planned.start = read_time(place.at("start"), text);
    else if (column == "length") planned.length = read_length(place, column, text);
    else if (column == "activity") planned.uses = read_activity(place, text);
    else if (column == "ended" && !text.empty()) planned.ended_by_user = read_ended(place, text);
}

/// The lines with their numbers from 1; a carriage return at the end is no part of a line.
void each_line(std::string_view text, const std::function<void(std::string_view, std::size_t)>& read) {
    for (std::size_t number = 1; !text.empty(); ++number) {
        const auto end = text.find('\n');
        auto line = text.substr(0, end);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (!line.empty()) read(line, number);
    }
}

/// The fields of one line of CSV (RFC 4180; a quoted field ends on its line).
std::vector<std::string> split_csv(const Place& place, std::string_view line) {
    std::vector<std::string> fields(1);
    bool quoted = false;
    for (std::size_t i = 0; i < line.size(); ++i) {
        const char c = line[i];
        if (quoted && c == '"' && i + 1 < line.size() && line[i + 1] == '"') fields.back() += line[++i];
        else if (c == '"' && (quoted || fields.back().empty())) quoted = !quoted;
        else if (c == ',' && !quoted) fields.emplace_back();
        else fields.back() += c;
    }
    if (quoted)
        refuse_field(place.source + ":" + std::to_string(place.line), std::string(line),
                     "a double quote is not closed");
    return fields;
}

std::vector<std::string> read_header(const Place& place, std::string_view line) {
    auto names = split_csv(place, line);
    std::string allowed = "columns are";
    for (const auto& column : columns) allowed += " " + column;
    const auto where = place.source + ":" + std::to_string(place.line) + ": header";
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (std::find(columns.begin(), columns.end(), names[i]) == columns.end())
            refuse_field(where, names[i], allowed);
        if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
            names.begin() + static_cast<std::ptrdiff_t>(i))
            refuse_field(where, names[i], "a column may stand there once");
    }
    for (const char* needed : {"user", "start", "length"})
        if (std::find(names.begin(), names.end(), needed) == names.end())
            refuse_field(where, std::string(line), std::string("column '") + needed + "' is missing; " + allowed);
    return names;
}

/// Checks each session at its line, sorts them and sets the horizon: from the first midnight to the last end.
class TraceBuilder {
public:
    explicit TraceBuilder(std::string source) : source_(std::move(source)) {}

    void add(const Place& place, PlannedSession planned) {
        Workload alone{planned.start, planned.length, {std::move(planned)}, {}};
        try {
            check(alone);
        } catch (const Error& error) {
            // "sessions[0].length" is column "length" of this line.
            auto field = error.context().at("field");
            field = field.substr(field.find('.') == std::string::npos ? 0 : field.find('.') + 1);
            refuse_field(place.at(field), error.context().at("value"), error.context().at("allowed"));
        }
        workload_.sessions.push_back(std::move(alone.sessions.front()));
    }

    Workload finish() {
        auto& sessions = workload_.sessions;
        if (sessions.empty()) refuse_field(source_, "", "there is no session in it");
        std::stable_sort(sessions.begin(), sessions.end(),
                         [](const auto& a, const auto& b) { return a.start < b.start; });
        workload_.start = WallTime(std::chrono::floor<std::chrono::days>(sessions.front().start));
        for (const auto& planned : sessions)
            workload_.length = std::max(workload_.length, planned.start + planned.length - workload_.start);
        check(workload_);
        return std::move(workload_);
    }

private:
    std::string source_;
    Workload workload_;
};

std::string text_of(const Place& place, const std::string& column, const json& value) {
    if (value.is_string()) return value.get<std::string>();
    if (column == "ended" && value.is_boolean()) return value.get<bool>() ? "true" : "false";
    refuse_field(place.at(column), Fields::shown(value), "a text is needed");
}

std::vector<UseSegment> read_segments(const Place& place, const json& list) {
    std::vector<UseSegment> segments;
    for (const auto& item : list) {
        const bool fits = item.is_object() && item.size() == 3 && item.contains("kind") && item.contains("at") &&
                          item.contains("length");
        if (!fits) refuse_field(place.at("activity"), Fields::shown(item), R"({"kind", "at", "length"} is needed)");
        auto part = [&](const char* key) { return text_of(place, "activity", item.at(key)); };
        segments.push_back(read_segment(place, part("kind") + "@" + part("at") + "+" + part("length")));
    }
    return segments;
}

PlannedSession read_object(const Place& place, const json& object) {
    if (!object.is_object())
        refuse_field(place.source + ":" + std::to_string(place.line), Fields::shown(object), "a JSON object is needed");
    PlannedSession planned;
    for (const auto& [key, value] : object.items()) {
        if (key == "activity" && value.is_array()) {
            planned.uses = read_segments(place, value);
        } else if (key == "tags" && value.is_object()) {
            for (const auto& [name, tag] : value.items()) planned.tags[name] = text_of(place, "tags", tag);
        } else if (std::find(columns.begin(), columns.end(), key) == columns.end()) {
            refuse_field(place.at(key), Fields::shown(value),
                         "columns are user start length activity tenant template ended tags");
        } else {
            take(place, planned, key, text_of(place, key, value));
        }
    }
    for (const char* needed : {"user", "start", "length"})
        if (!object.contains(needed)) refuse_field(place.at(needed), "", "it is needed");
    return planned;
}

}  // namespace

Workload parse_trace_csv(std::string_view text, const std::string& source) {
    TraceBuilder builder(source);
    std::vector<std::string> header;
    each_line(text, [&](std::string_view line, std::size_t number) {
        const Place place{source, number};
        if (header.empty()) {
            header = read_header(place, line);
            return;
        }
        const auto fields = split_csv(place, line);
        if (fields.size() != header.size())
            refuse_field(
                source + ":" + std::to_string(number), std::string(line),
                std::to_string(header.size()) + " columns are needed, there are " + std::to_string(fields.size()));
        PlannedSession planned;
        for (std::size_t i = 0; i < fields.size(); ++i) take(place, planned, header[i], fields[i]);
        builder.add(place, std::move(planned));
    });
    return builder.finish();
}

Workload parse_trace_jsonl(std::string_view text, const std::string& source) {
    TraceBuilder builder(source);
    each_line(text, [&](std::string_view line, std::size_t number) {
        const Place place{source, number};
        const auto object = parse_object(line, source + ":" + std::to_string(number));
        builder.add(place, read_object(place, object));
    });
    return builder.finish();
}

std::vector<Event> parse_event_lines(std::string_view text, const std::string& source) {
    std::vector<Event> events;
    each_line(text, [&](std::string_view line, std::size_t number) {
        const auto where = source + ":" + std::to_string(number);
        const auto object = parse_object(line, where);
        Fields fields(object, where);
        Event event;
        fields.read_count("sequence", event.sequence);
        if (!fields.find("time")) refuse_field(fields.name("time"), "", "it is needed");
        fields.read("time", event.time);
        fields.read("type", event.type);
        fields.read("subject", event.subject);
        fields.read("execution_id", event.execution_id);
        fields.read("correlation_id", event.correlation_id);
        if (event.type.empty() || event.subject.empty())
            refuse_field(where, Fields::shown(object), "an event has a type and a subject");
        if (const auto* data = fields.find("data"))
            event.data = data->is_string() ? data->get<std::string>() : data->dump();
        fields.finish();
        events.push_back(std::move(event));
    });
    return events;
}

}  // namespace infrastructure_sdk
