#include <infrastructure_sdk/isolation/isolation_engine.hpp>

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "core/async_tools.hpp"
#include "isolation/facts.hpp"
#include "isolation/procfs.hpp"

namespace infrastructure_sdk {
namespace {

using isolation::Facts;
using nlohmann::json;

std::string dumped(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

Fact seen(std::string name, std::string source, std::string locator, const json& value, WallTime now) {
    return {std::move(name), std::move(source), std::move(locator), "node", dumped(value), "", now};
}

Fact blind(std::string name, std::string source, std::string locator, std::string why, WallTime now) {
    return {std::move(name), std::move(source), std::move(locator), "node", "", std::move(why), now};
}

/// The facts of one process and its directory. Blocking, no clock of its own.
std::vector<Fact> collect_host_facts(std::int64_t pid, std::string directory, WallTime now) {
    std::vector<Fact> facts;
    auto base = "/proc/" + std::to_string(pid);
    auto text = [&](const char* name, const char* source, std::string path) {
        auto content = isolation::read_text(path);
        facts.push_back(content ? seen(name, source, path, *content, now)
                                : blind(name, source, path, "it cannot be read", now));
    };
    auto statuses = isolation::read_thread_statuses(pid);
    facts.push_back(statuses ? seen("proc.threads", "procfs", base + "/task/*/status", *statuses, now)
                             : blind("proc.threads", "procfs", base + "/task/*/status", "it cannot be read", now));
    text("proc.ksm", "procfs", base + "/ksm_stat");
    text("proc.limits", "procfs", base + "/limits");
    text("proc.locks", "procfs", "/proc/locks");
    text("sys.ksm_run", "sysfs", "/sys/kernel/mm/ksm/run");
    text("sys.core_pattern", "procfs", "/proc/sys/kernel/core_pattern");

    auto files = isolation::read_open_files(pid);
    if (files) {
        auto list = json::array();
        for (const auto& file : *files)
            list.push_back({{"fd", file.number},
                            {"target", file.target},
                            {"inode", file.inode},
                            {"writable", file.writable},
                            {"regular", file.regular}});
        facts.push_back(seen("proc.files", "procfs", base + "/fd", list, now));
    } else {
        facts.push_back(blind("proc.files", "procfs", base + "/fd", "it cannot be read", now));
    }

    auto tcp = isolation::read_text(base + "/net/tcp");
    auto listening = tcp ? isolation::parse_listening_inodes(*tcp) : std::nullopt;
    auto tcp6 = isolation::read_text(base + "/net/tcp6");
    // A kernel without IPv6 has no such file.
    auto listening6 =
        tcp6 ? isolation::parse_listening_inodes(*tcp6) : std::optional<std::vector<std::uint64_t>>(std::in_place);
    if (files && listening && listening6) {
        auto list = json::array();
        listening->insert(listening->end(), listening6->begin(), listening6->end());
        for (const auto& file : *files)
            for (auto inode : *listening)
                if (file.target == "socket:[" + std::to_string(inode) + "]") list.push_back(file.target);
        facts.push_back(seen("proc.listeners", "procfs", base + "/net/tcp{,6} and fd", list, now));
    } else {
        facts.push_back(blind("proc.listeners", "procfs", base + "/net/tcp{,6} and fd", "it cannot be read", now));
    }

    auto entries = directory.empty() ? std::nullopt : isolation::read_directory(directory);
    if (entries) {
        auto list = json::array();
        for (const auto& entry : *entries)
            list.push_back({{"name", entry.name},
                            {"mode", entry.mode},
                            {"uid", entry.uid},
                            {"is_directory", entry.is_directory},
                            {"has_acl", entry.has_acl}});
        facts.push_back(seen("file.directory", "file-stat", directory, list, now));
    } else {
        facts.push_back(blind("file.directory", "file-stat", directory, "it cannot be read", now));
    }
    return facts;
}

struct Identity {
    std::int64_t pid = 0;
    std::string vm_uuid;
    std::string epoch;
};

/// nullopt unless all four parts are there.
std::optional<Identity> identity_of(const Fact& fact) {
    auto value = json::parse(fact.json, nullptr, false);
    auto positive = [&value](const char* key) {
        return value.contains(key) && value[key].is_number_unsigned() && value[key] > 0;
    };
    auto boot = isolation::text_at(value, "boot_id"), uuid = isolation::text_at(value, "vm_uuid");
    if (!fact.could_not_look.empty() || !boot || boot->empty() || !uuid || uuid->empty() || !positive("pid") ||
        !positive("start_time_ticks"))
        return std::nullopt;
    Identity identity{value["pid"].get<std::int64_t>(), *uuid, {}};
    identity.epoch = *boot + "/" + std::to_string(identity.pid) + "/" +
                     std::to_string(value["start_time_ticks"].get<std::uint64_t>()) + "/" + *uuid;
    return identity;
}

Task<void> collect_into(std::shared_ptr<Facts> facts, std::shared_ptr<EvidenceSource> source, std::string name,
                        Call call) {
    auto fact = co_await source->collect(name, call);
    fact.name = name;
    facts->add(std::move(fact));
}

/// Replaces the neighbour's entry, which says "could not look" until then.
Task<void> collect_neighbour(std::shared_ptr<json> list, std::size_t position, IsolationSubject neighbour, Call call) {
    auto fact = co_await neighbour.source->collect("qmp:query-rx-filter", call);
    json entry{{"session", neighbour.session_id}};
    auto value = json::parse(fact.json, nullptr, false);
    if (!fact.could_not_look.empty() || !value.is_array()) {
        entry["could_not_look"] = fact.could_not_look.empty() ? "what was read makes no sense" : fact.could_not_look;
    } else {
        entry["macs"] = json::array();
        // A device without an address stays in the list: the check sees that it does not know it.
        for (const auto& item : value)
            entry["macs"].push_back(item.is_object() && item.contains("main-mac") ? item["main-mac"] : json());
    }
    (*list)[position] = std::move(entry);
}

}  // namespace

IsolationEngine::IsolationEngine(Environment environment) : environment_(std::move(environment)) {}
IsolationEngine::~IsolationEngine() = default;

Task<IsolationReport> IsolationEngine::validate(IsolationSubject subject, std::vector<IsolationSubject> neighbours,
                                                std::vector<Layer> layers, Call call) {
    auto environment = environment_;
    auto started = environment.clock->monotonic_now();
    auto facts = std::make_shared<Facts>();
    facts->session_id = subject.session_id;
    auto identity = co_await subject.source->collect("process.identity", call);
    auto known = identity_of(identity);
    if (known) facts->epoch = known->epoch;
    // Evidence of another VM is no evidence.
    bool ours = known && known->vm_uuid == subject.vm_id.value;

    std::set<std::string> wanted;
    for (const auto& check : isolation::checks())
        if (layers.empty() || std::find(layers.begin(), layers.end(), check.definition.layer) != layers.end())
            wanted.insert(check.definition.facts.begin(), check.definition.facts.end());

    if (ours) {
        auto paths = co_await subject.source->collect("process.paths", call);
        auto directory = isolation::text_at(json::parse(paths.json, nullptr, false), "vm_directory").value_or("");
        TaskGroup group(environment.executor);
        for (const auto& name : wanted)
            if (name.starts_with("qmp:") || name.starts_with("qom:") || name.starts_with("process."))
                group.spawn(environment.logger, "collect " + name, collect_into(facts, subject.source, name, call));
        auto others = std::make_shared<json>(json::array());
        if (wanted.contains("neighbours.macs"))
            for (const auto& neighbour : neighbours) {
                others->push_back({{"session", neighbour.session_id}, {"could_not_look", "nobody collected it"}});
                group.spawn(environment.logger, "collect a neighbour",
                            collect_neighbour(others, others->size() - 1, neighbour, call));
            }
        auto pid = known->pid;
        auto now = environment.clock->wall_now();
        auto work = [pid, directory, now] { return collect_host_facts(pid, directory, now); };
        auto host = co_await run_blocking(environment.blocking, work);
        for (auto& fact : host) facts->add(std::move(fact));
        co_await group.join();
        facts->add(seen("neighbours.macs", "qmp", "qmp:query-rx-filter of every other session", *others, now));
        auto again = co_await subject.source->collect("process.identity", call);
        auto same = identity_of(again);
        ours = same && same->epoch == known->epoch;
    }
    check(Call{Deadline(), call.stop, std::string()}, *environment.clock, "an isolation report");

    IsolationReport report;
    report.id = make_uuid(*environment.random);
    report.session_id = subject.session_id;
    report.vm_id = subject.vm_id.value;
    report.instance_epoch = facts->epoch;
    for (const auto& check : isolation::checks()) {
        if (!layers.empty() && std::find(layers.begin(), layers.end(), check.definition.layer) == layers.end())
            continue;
        if (ours) {
            report.findings.push_back(check.judge(check.definition, *facts));
        } else {
            auto why = identity.could_not_look.empty() ? std::string("the VM's identity changed or is another's")
                                                       : identity.could_not_look;
            report.findings.push_back(Finding::unknown(check.definition, "could not look at the VM's process: " + why));
        }
    }
    std::sort(report.findings.begin(), report.findings.end(),
              [](const Finding& a, const Finding& b) { return std::string(a.check().id) < b.check().id; });
    report.created_at = environment.clock->wall_now();
    report.score = score(report.findings, report.created_at);
    report.layers = layer_scores(report.findings, report.created_at);
    report.recommendations = isolation::recommendations(report.findings, report.created_at);
    report.elapsed = environment.clock->monotonic_now() - started;
    co_return report;
}

}  // namespace infrastructure_sdk
