#include "isolation/collection.hpp"

#include <algorithm>
#include <iterator>

#include "core/async_tools.hpp"
#include "isolation/readings.hpp"

namespace infrastructure_sdk::isolation {
namespace {

using nlohmann::json;

/// One that does not answer must not hold up the report.
constexpr Duration patience = std::chrono::seconds(2);
constexpr Duration last_patience = std::chrono::seconds(1);

bool is_of_source(const std::string& name) {
    for (const char* prefix : {"qmp:", "hmp:", "qom:", "qomlist:", "process.", "agent."})
        if (name.starts_with(prefix)) return name != "process.identity" && name != "process.paths";
    return false;
}

struct Identity {
    std::int64_t pid = 0;
    std::uint64_t start_time_ticks = 0;
    std::string vm_uuid;
    std::string epoch;
};

/// nullopt unless all four parts are there.
std::optional<Identity> identity_of(const Fact& fact) {
    auto value = json::parse(fact.json, nullptr, false);
    auto positive = [&value](const char* key) {
        return value.contains(key) && value[key].is_number_unsigned() && value[key] > 0;
    };
    auto boot = text_at(value, "boot_id"), uuid = text_at(value, "vm_uuid");
    if (!fact.could_not_look.empty() || !boot || boot->empty() || !uuid || uuid->empty() || !positive("pid") ||
        !positive("start_time_ticks"))
        return std::nullopt;
    Identity identity{value["pid"].get<std::int64_t>(), value["start_time_ticks"].get<std::uint64_t>(), *uuid, {}};
    identity.epoch =
        *boot + "/" + std::to_string(identity.pid) + "/" + std::to_string(identity.start_time_ticks) + "/" + *uuid;
    return identity;
}

/// A fact without an instance is of the one whose identity was read before and is read again after it.
void add(Facts& facts, Fact fact) {
    if (fact.instance.empty()) fact.instance = facts.epoch;
    facts.add(std::move(fact));
}

Task<void> collect_one(std::shared_ptr<Facts> facts, std::shared_ptr<EvidenceSource> source, std::string name,
                       Call call) {
    auto fact = co_await source->collect(name, call);
    fact.name = name;
    add(*facts, std::move(fact));
}

Task<void> collect_blocking(std::shared_ptr<Facts> facts, Executor blocking, ProcessSubject process,
                            std::set<std::string> wanted) {
    auto work = [process, wanted] {
        auto found = collect_process(process, wanted);
        auto of_host = collect_host(wanted, process.now, *process.round);
        std::move(of_host.begin(), of_host.end(), std::back_inserter(found));
        return found;
    };
    auto found = co_await run_blocking(blocking, work);
    for (auto& held : found) facts->add(std::move(held), facts->epoch);
}

}  // namespace

std::optional<std::string> epoch_of(const Fact& identity) {
    auto known = identity_of(identity);
    return known ? std::optional(known->epoch) : std::nullopt;
}

Wanted wanted_by(const std::vector<Layer>& layers) {
    Wanted wanted;
    const std::string prefix = "neighbours:";
    for (const auto& check : checks()) {
        const auto& layer = check.definition.layer;
        if (!layers.empty() && std::find(layers.begin(), layers.end(), layer) == layers.end()) continue;
        for (const auto& name : check.definition.facts)
            if (name.starts_with(prefix)) wanted.of_neighbours.insert(name.substr(prefix.size()));
            else wanted.own.insert(name);
    }
    // These only add to the picture of another.
    if (wanted.own.contains("nft.ruleset"))
        for (const char* name : {"iptables.rules", "sys.uplinks", "process.promises"}) wanted.own.insert(name);
    if (wanted.own.contains("sys.init_namespaces")) wanted.own.insert("sys.our_namespaces");
    return wanted;
}

Task<void> collect(Environment environment, std::shared_ptr<Facts> into, IsolationSubject subject,
                   std::set<std::string> wanted, std::shared_ptr<DigestCache> digests,
                   std::shared_ptr<RoundReadings> round, Call call) {
    auto source = subject.source;
    into->session_id = subject.session_id;
    into->platform = source->platform();
    if (into->platform != "local") co_return;
    auto soon = call.within(Deadline::after(*environment.clock, patience));
    auto identity = co_await source->collect("process.identity", soon);
    auto known = identity_of(identity);
    bool ours = known && (subject.vm_id.value.empty() || known->vm_uuid == subject.vm_id.value);
    if (known) into->epoch = known->epoch;
    if (!ours) {
        into->broken =
            identity.could_not_look.empty() ? "the VM's identity changed or is another's" : identity.could_not_look;
        co_return;
    }
    identity.name = "process.identity";
    add(*into, std::move(identity));
    auto paths = co_await source->collect("process.paths", soon);
    paths.name = "process.paths";
    auto parsed = json::parse(paths.json, nullptr, false);
    ProcessSubject process{known->pid, text_at(parsed, "vm_directory").value_or(""),
                           true,       environment.clock->wall_now(),
                           digests,    known->start_time_ticks,
                           round};
    auto folder = parsed.is_discarded() ? std::nullopt : read_paths(parsed);
    process.folder_declared = !folder || folder->has_value();
    add(*into, std::move(paths));

    TaskGroup group(environment.executor);
    for (const auto& name : wanted) {
        if (is_of_source(name))
            group.spawn(environment.logger, "collect " + name, collect_one(into, source, name, soon));
        if (name.starts_with("probe."))
            add(*into, {name, "probe", name, "node", "", "no probe was run", process.now, {}});
    }
    group.spawn(environment.logger, "collect facts of the host",
                collect_blocking(into, environment.blocking, std::move(process), wanted));
    co_await group.join();
    auto last = call.within(Deadline::after(*environment.clock, last_patience));
    auto again = co_await source->collect("process.identity", last);
    auto same = identity_of(again);
    if (!same || same->epoch != known->epoch) into->broken = "the VM's identity changed or is another's";
}

}  // namespace infrastructure_sdk::isolation
