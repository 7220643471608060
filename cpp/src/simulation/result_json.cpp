// Results as documents. Only exact numbers go in, and one division each brings them to seconds or money.
#include <algorithm>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/simulation/simulation.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

constexpr int result_schema = 1;

double seconds(Duration length) { return static_cast<double>(length.count()) / 1e9; }
double money(std::int64_t micros) { return static_cast<double>(micros) / 1e6; }

json document_of(const SimulatedOutcome& outcome) {
    return {{"ran_seconds", seconds(outcome.ran)},
            {"used_seconds", seconds(outcome.used)},
            {"missed_seconds", seconds(outcome.missed)},
            {"waited_seconds", seconds(outcome.waited)},
            {"cost", money(outcome.cost_micros)},
            {"sessions", outcome.sessions},
            {"lost", outcome.lost},
            {"cold_starts", outcome.cold_starts},
            {"warm_starts", outcome.warm_starts},
            {"resumes", outcome.resumes},
            {"suspensions", outcome.suspensions},
            {"suspended_in_use", outcome.suspended_in_use},
            {"wanted_again", outcome.wanted_again},
            {"wrongly_suspended", outcome.wrongly_suspended()},
            {"denied", outcome.denied},
            {"gave_up", outcome.gave_up},
            {"failed", outcome.failed}};
}

json document_of(const WaitingTimes& waits) {
    return {{"count", waits.count},
            {"p50_seconds", seconds(waits.p50)},
            {"p95_seconds", seconds(waits.p95)},
            {"p99_seconds", seconds(waits.p99)},
            {"longest_seconds", seconds(waits.longest)},
            {"total_seconds", seconds(waits.total)}};
}

json document_of(const PolicyIdentity& identity) {
    return {{"name", identity.name},
            {"version", identity.version},
            {"author", identity.author},
            {"sha256", identity.sha256}};
}

json hours_of(const std::vector<SimulatedHour>& hours) {
    json ran = json::array(), used = json::array(), baseline = json::array();
    // As numbers of sessions: seconds of an hour.
    auto mean = [](Duration length) { return static_cast<double>(length.count() / 1'000'000) / 3'600'000.0; };
    for (const auto& hour : hours) {
        ran.push_back(mean(hour.ran));
        used.push_back(mean(hour.used));
        baseline.push_back(mean(hour.baseline));
    }
    return {{"ran", std::move(ran)}, {"used", std::move(used)}, {"baseline", std::move(baseline)}};
}

json line_of(const SimulatedSession& session) {
    auto line = document_of(session.outcome);
    line["user"] = session.user_id;
    line["tenant"] = session.tenant;
    line["template"] = session.template_name;
    line["start"] = to_rfc3339(session.start);
    line["baseline_ran_seconds"] = seconds(session.baseline_ran);
    line["baseline_cost"] = money(session.baseline_cost_micros);
    line["ended"] = session.ended;
    return line;
}

std::string text_of(const json& document) { return document.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace

std::string to_json(const SimulationResult& result, bool with_sessions) {
    json document{{"schema", result_schema},
                  {"policy", result.policy},
                  {"seed", result.seed},
                  {"start", to_rfc3339(result.start)},
                  {"length_seconds", seconds(result.length)},
                  {"currency", result.currency},
                  {"total", document_of(result.total)},
                  {"planned_sessions", result.sessions.size()},
                  {"existed_seconds", seconds(result.existed)},
                  {"waits", document_of(result.waits)},
                  {"start_waits", document_of(result.start_waits)},
                  {"resume_waits", document_of(result.resume_waits)},
                  {"hours", hours_of(result.hours)},
                  {"notes", result.notes}};
    document["baseline"] = {{"ran_seconds", seconds(result.baseline_ran)},
                            {"cost", money(result.baseline_cost_micros)}};
    document["saved"] = {{"seconds", seconds(result.baseline_ran - result.total.ran)},
                         {"money", money(result.baseline_cost_micros - result.total.cost_micros)}};
    auto& identities = document["identities"] = json::array();
    for (const auto& identity : result.identities) identities.push_back(document_of(identity));
    auto& decisions = document["decisions"] = json::array();
    for (const auto& entry : result.decisions)
        decisions.push_back({{"point", name_of(entry.point)},
                             {"answer", entry.answer},
                             {"count", entry.count},
                             {"shadowed", entry.shadowed},
                             {"overruled", entry.overruled}});
    if (with_sessions) {
        auto& lines = document["sessions"] = json::array();
        for (const auto& session : result.sessions) lines.push_back(line_of(session));
    }
    return text_of(document);
}

std::string comparison_json(const SimulationResult& before, const SimulationResult& after) {
    const auto differences = compare(before, after);
    json document{{"schema", result_schema},
                  {"before", before.policy},
                  {"after", after.policy},
                  {"currency", after.currency},
                  {"planned_sessions", after.sessions.size()},
                  {"ran_seconds", seconds(after.total.ran - before.total.ran)},
                  {"cost", money(after.total.cost_micros - before.total.cost_micros)}};
    auto& lines = document["sessions"] = json::array();
    for (const auto& difference : differences) {
        const auto& session = after.sessions[difference.index];
        lines.push_back({{"index", difference.index},
                         {"user", session.user_id},
                         {"start", to_rfc3339(session.start)},
                         {"before", document_of(difference.before)},
                         {"after", document_of(difference.after)}});
    }
    return text_of(document);
}

}  // namespace infrastructure_sdk
