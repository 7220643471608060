// What a workload and a model may hold, and the model's document.
#include <algorithm>
#include <array>

#include "simulation/fields.hpp"
#include <infrastructure_sdk/simulation/workload.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr std::array<const char*, 3> use_names{"work", "background", "open"};
constexpr Duration longest = std::chrono::hours(87600);

void check_length(const std::string& field, Duration value, Duration least, Duration most) {
    const auto shown = (value < Duration::zero() ? "-" : "") + to_string(value < Duration::zero() ? -value : value);
    if (value < least || value > most)
        refuse_field(field, shown, to_string(least) + " to " + to_string(most) + " is allowed");
}

/// Sums with lengths stay within 64 bits of nanoseconds.
void check_time(const std::string& field, WallTime value) {
    constexpr WallTime first{std::chrono::sys_days(std::chrono::year(1970) / 1 / 1)};
    constexpr WallTime last{std::chrono::sys_days(std::chrono::year(2201) / 1 / 1)};
    if (value < first || value >= last) refuse_field(field, to_rfc3339(value), "a year of 1970 to 2200 is needed");
}

void check_name(const std::string& field, const std::string& value, bool may_be_empty) {
    const bool printable =
        std::none_of(value.begin(), value.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if ((value.empty() && !may_be_empty) || value.size() > 128 || !printable)
        refuse_field(field, json(value).dump(-1, ' ', true, json::error_handler_t::replace),
                     "1 to 128 characters without control characters are needed");
}

void check_planned(const PlannedSession& planned, const std::string& where) {
    check_name(where + "user", planned.user_id, false);
    check_name(where + "tenant", planned.tenant, true);
    check_name(where + "template", planned.template_name, true);
    check_time(where + "start", planned.start);
    check_length(where + "length", planned.length, 1ns, longest);
    Duration before{};
    for (const auto& use : planned.uses) {
        const auto field = where + "activity";
        if (use.at < before)
            refuse_field(field, std::string(name_of(use.kind)) + "@" + to_string(use.at),
                         "segments come in the order of time and do not overlap");
        check_length(field, use.length, 1ns, longest);
        if (use.at > planned.length - use.length)
            refuse_field(field, std::string(name_of(use.kind)) + "@" + to_string(use.at) + "+" + to_string(use.length),
                         "segments lie within the session's length, " + to_string(planned.length));
        before = use.at + use.length;
    }
}

struct LengthRow {
    const char* name;
    Duration FleetModel::* field;
    Duration least;
    Duration most;
};
const std::vector<LengthRow>& length_rows() {
    static const std::vector<LengthRow> rows{
        {"length", &FleetModel::length, 1h, longest},
        {"day_start", &FleetModel::day_start, 0s, 24h},
        {"day_start_spread", &FleetModel::day_start_spread, 0s, 12h},
        {"day_length", &FleetModel::day_length, 1min, 24h},
        {"day_length_spread", &FleetModel::day_length_spread, 0s, 12h},
        {"lunch_at", &FleetModel::lunch_at, 0s, 24h},
        {"lunch_length", &FleetModel::lunch_length, 0s, 12h},
        {"work_stretch", &FleetModel::work_stretch, 1min, 24h},
        {"break_length", &FleetModel::break_length, 10s, 24h},
        {"meeting_length", &FleetModel::meeting_length, 10s, 24h},
        {"background_length", &FleetModel::background_length, 1min, 240h},
        {"forgotten_tab_length", &FleetModel::forgotten_tab_length, 1min, 240h},
    };
    return rows;
}

struct ShareRow {
    const char* name;
    double FleetModel::* field;
};
constexpr std::array<ShareRow, 6> share_rows{{{"attendance", &FleetModel::attendance},
                                              {"weekend_attendance", &FleetModel::weekend_attendance},
                                              {"meeting_share", &FleetModel::meeting_share},
                                              {"background_share", &FleetModel::background_share},
                                              {"forgotten_tab_share", &FleetModel::forgotten_tab_share},
                                              {"forgotten_session_share", &FleetModel::forgotten_session_share}}};

std::string signed_text(Duration value) {
    return value < Duration::zero() ? "-" + to_string(-value) : to_string(value);
}

}  // namespace

const char* name_of(UseKind kind) noexcept { return use_names[static_cast<std::size_t>(kind)]; }

UseKind parse_use_kind(const std::string& name) {
    for (std::size_t i = 0; i < use_names.size(); ++i)
        if (name == use_names[i]) return static_cast<UseKind>(i);
    refuse_field("kind", name, "allowed: work, background, open");
}

void check(const Workload& workload) {
    check_time("start", workload.start);
    check_length("length", workload.length, 1ns, longest);
    for (std::size_t i = 0; i < workload.sessions.size(); ++i)
        check_planned(workload.sessions[i], "sessions[" + std::to_string(i) + "].");
}

void check(const FleetModel& model) {
    constexpr std::size_t most = 1'000'000;
    if (model.users < 1 || model.users > most)
        refuse_field("fleet.users", std::to_string(model.users), "1 to 1000000 is allowed");
    if (model.session_days < 1 || model.session_days > 3650)
        refuse_field("fleet.session_days", std::to_string(model.session_days), "1 to 3650 is allowed");
    check_length("fleet.utc_offset", model.utc_offset, -14h, 14h);
    for (const auto& row : length_rows())
        check_length(std::string("fleet.") + row.name, model.*row.field, row.least, row.most);
    check_time("fleet.start", model.start);
    // Each is some hundred bytes of plan, and seconds of work for a million.
    constexpr std::size_t most_days = 4'000'000;
    const auto days = static_cast<std::size_t>((model.length + 24h - 1ns) / 24h);
    if (model.users > most_days / days)
        refuse_field("fleet.users", std::to_string(model.users),
                     "users times days up to 4000000 are allowed, these are " + std::to_string(model.users * days));
    for (const auto& row : share_rows)
        if (!(model.*row.field >= 0 && model.*row.field <= 1))
            refuse_field(std::string("fleet.") + row.name, json(model.*row.field).dump(), "0 to 1 is allowed");
    for (int day : model.working_days)
        if (day < 1 || day > 7)
            refuse_field("fleet.working_days", std::to_string(day), "1 (Monday) to 7 (Sunday) is allowed");
}

FleetModel fleet_model_from_json(const std::string& text) {
    const auto document = parse_object(text, "fleet");
    Fields fields(document, "fleet");
    FleetModel model;
    fields.read_count("users", model.users);
    fields.read_count("tenants", model.tenants);
    fields.read_count("session_days", model.session_days);
    fields.read("start", model.start);
    fields.read("utc_offset", model.utc_offset);
    for (const auto& row : length_rows()) fields.read(row.name, model.*row.field);
    for (const auto& row : share_rows) fields.read_share(row.name, model.*row.field);
    if (const auto* days = fields.find("working_days")) {
        const bool fits = days->is_array() && std::all_of(days->begin(), days->end(), [](const json& day) {
                              return day.is_number_integer() && day >= 1 && day <= 7;
                          });
        if (!fits) refuse_field("fleet.working_days", Fields::shown(*days), "a list of 1 (Monday) to 7 (Sunday)");
        model.working_days = days->get<std::vector<int>>();
    }
    fields.finish();
    check(model);
    return model;
}

std::string to_json(const FleetModel& model) {
    json document{{"users", model.users},
                  {"tenants", model.tenants},
                  {"session_days", model.session_days},
                  {"start", to_rfc3339(model.start)},
                  {"utc_offset", signed_text(model.utc_offset)},
                  {"working_days", model.working_days}};
    for (const auto& row : length_rows()) document[row.name] = to_string(model.*row.field);
    for (const auto& row : share_rows) document[row.name] = model.*row.field;
    return document.dump();
}

}  // namespace infrastructure_sdk
