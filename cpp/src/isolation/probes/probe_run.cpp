#include "isolation/probes/probe_run.hpp"

#include "core/async_tools.hpp"
#include "isolation/probes/host_probes.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::isolation {
namespace {

/// Whatever happens, a probe ends.
constexpr Duration patience = std::chrono::seconds(4);

struct Row {
    const char* check;
    std::vector<std::string> facts;
};
const std::vector<Row>& rows() {
    static const std::vector<Row> table{
        {"MEM-03", {"probe.memory"}},
        {"NET-03", {"probe.gate"}},
        {"NET-04", {"probe.gate", "probe.guests"}},
        {"NET-05", {"probe.gate", "probe.metadata"}},
        {"NET-07", {"probe.gate", "probe.host"}},
        {"NET-11", {"probe.gate", "probe.spoofing"}},
        {"RUN-08", {"probe.sockets"}},
        {"RUN-09", {"probe.admission"}},
        {"STO-05", {"probe.disks"}},
        {"STO-09", {"probe.leftovers"}},
    };
    return table;
}

bool is_of_network(const std::string& name) {
    for (const char* network : {"probe.gate", "probe.guests", "probe.metadata", "probe.host", "probe.spoofing"})
        if (name == network) return true;
    return false;
}

/// A uuid without what is the same in all of them.
std::string nonce_of(const Environment& environment) {
    auto uuid = make_uuid(*environment.random);
    return uuid.substr(0, 8) + uuid.substr(24, 8);
}

}  // namespace

std::set<std::string> probes_of(const std::vector<std::string>& check_ids) {
    std::set<std::string> names;
    for (const auto& id : check_ids) {
        bool known = false;
        std::string allowed;
        for (const auto& row : rows()) {
            allowed += (allowed.empty() ? "" : ", ") + std::string(row.check);
            if (id != row.check) continue;
            known = true;
            names.insert(row.facts.begin(), row.facts.end());
        }
        if (!known)
            throw Error(Errc::validation, "probes: no probe is there for '" + id + "'; allowed: " + allowed,
                        {{"field", "probes"}, {"value", id}, {"allowed", allowed}});
    }
    return names;
}

Wanted wanted_by_probes() {
    return {{"hmp:info network", "proc.files", "proc.namespaces", "proc.sockets", "proc.threads", "file.directory",
             "sys.our_namespaces", "sys.taps"},
            {"hmp:info network", "proc.namespaces", "proc.threads", "sys.our_namespaces", "sys.taps"}};
}

Task<std::vector<Fact>> run_probes(Environment environment, ProbeSite subject, std::vector<ProbeSite> neighbours,
                                   std::set<std::string> wanted, Call call) {
    auto facts = subject.facts;
    auto soon = call.within(Deadline::after(*environment.clock, patience));
    ProbeOutcomes outcomes;
    auto nonce = nonce_of(environment);
    auto at_host = [facts, nonce] { return probe_host(*facts, nonce); };
    bool host = false, network = false;
    for (const auto& name : wanted) (is_of_network(name) ? network : host) = true;
    if (!facts->broken.empty()) host = network = false;
    if (host) outcomes = co_await run_blocking(environment.blocking, at_host);
    if (network) {
        auto more = co_await probe_network(environment, subject, std::move(neighbours), soon);
        outcomes.merge(more);
    }
    auto last = call.within(Deadline::after(*environment.clock, patience));
    auto identity = co_await subject.source->collect("process.identity", last);
    bool same = !facts->epoch.empty() && epoch_of(identity) == facts->epoch;
    std::vector<Fact> found;
    for (const auto& name : wanted) {
        Fact fact{name, "probe", name, "node", "", "", environment.clock->wall_now(), facts->epoch};
        auto outcome = outcomes.find(name);
        if (outcome == outcomes.end()) fact.could_not_look = facts->broken.empty() ? "no probe was run" : facts->broken;
        else if (!same) fact.could_not_look = "the VM's identity changed or is another's";
        else if (outcome->second.value.is_null()) fact.could_not_look = outcome->second.why;
        else fact.json = outcome->second.value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
        if (outcome != outcomes.end() && !outcome->second.locator.empty()) fact.locator = outcome->second.locator;
        found.push_back(std::move(fact));
    }
    co_return found;
}

}  // namespace infrastructure_sdk::isolation

namespace infrastructure_sdk {

const std::vector<std::string>& probed_checks() {
    static const std::vector<std::string> ids = [] {
        std::vector<std::string> list;
        for (const auto& row : isolation::rows()) list.emplace_back(row.check);
        return list;
    }();
    return ids;
}

}  // namespace infrastructure_sdk
