#include <infrastructure_sdk/isolation/isolation_engine.hpp>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "core/async_tools.hpp"
#include "isolation/collection.hpp"
#include "isolation/own_checks.hpp"
#include "isolation/probes/probe_run.hpp"

namespace infrastructure_sdk {
namespace {

using isolation::Facts;
using FactsPtr = std::shared_ptr<Facts>;

bool is_of(const CheckDefinition& check, const std::vector<Layer>& layers) {
    return layers.empty() || std::find(layers.begin(), layers.end(), check.layer) != layers.end();
}

IsolationReport report_of(const Environment& environment, const IsolationSubject& subject, const Facts& facts,
                          const std::vector<Layer>& layers, std::vector<Finding> own, MonotonicTime started) {
    IsolationReport report;
    report.id = make_uuid(*environment.random);
    report.session_id = subject.session_id;
    report.vm_id = subject.vm_id.value;
    report.instance_epoch = facts.epoch;
    for (const auto& check : isolation::checks()) {
        if (!is_of(check.definition, layers)) continue;
        report.findings.push_back(isolation::judge(check, facts));
    }
    std::move(own.begin(), own.end(), std::back_inserter(report.findings));
    std::stable_sort(report.findings.begin(), report.findings.end(), [](const Finding& a, const Finding& b) {
        return std::string_view(a.check().id) < std::string_view(b.check().id);
    });
    report.created_at = environment.clock->wall_now();
    report.score = score(report.findings, report.created_at);
    report.layers = layer_scores(report.findings, report.created_at);
    report.recommendations = isolation::recommendations(report.findings, report.created_at);
    report.elapsed = environment.clock->monotonic_now() - started;
    return report;
}

/// What own checks read besides.
void add_wanted(isolation::Wanted& wanted, const std::vector<isolation::RegisteredCheck>& checks,
                const std::vector<Layer>& layers) {
    const std::string prefix = "neighbours:";
    for (const auto& check : checks)
        for (const auto& name : check.definition->facts)
            if (!is_of(*check.definition, layers)) continue;
            else if (name.starts_with(prefix)) wanted.of_neighbours.insert(name.substr(prefix.size()));
            else wanted.own.insert(name);
}

/// Own checks that are at work, of all reports. One that never answers keeps its thread, so there are few threads for
/// them, and nobody asks it again.
class OwnCheckDesk {
public:
    explicit OwnCheckDesk(Executor executor) : changed(std::move(executor)) {}
    Signal changed;
    bool is_free(const CheckDefinition* check) const { return std::ssize(asked_) < most && !asked_.contains(check); }
    /// Why nobody waits for it; nullopt = an answer may be had.
    std::optional<std::string> hopeless(const CheckDefinition* check) const {
        auto own = asked_.find(check);
        if (own != asked_.end() && own->second) return "the check has not answered yet what it was asked before";
        auto late = std::count_if(asked_.begin(), asked_.end(), [](const auto& entry) { return entry.second; });
        if (late < most) return std::nullopt;
        return "other checks that never answered hold all threads that there are for own checks";
    }
    void begin(const CheckDefinition* check) { asked_[check] = false; }
    void is_late(const CheckDefinition* check) {
        if (asked_.contains(check)) asked_[check] = true;
    }
    void ended(const CheckDefinition* check) {
        asked_.erase(check);
        changed.notify_all();
    }

private:
    static constexpr std::ptrdiff_t most = 2;
    std::map<const CheckDefinition*, bool> asked_;  // -> it is late
};

/// What was asked for one report.
struct Asked {
    isolation::RegisteredCheck check;
    std::optional<OwnVerdict> answer;
    bool began = false;
};
using Questions = std::vector<std::shared_ptr<Asked>>;

Task<void> ask(Environment environment, std::shared_ptr<OwnCheckDesk> desk, std::shared_ptr<Asked> asked,
               OwnFacts facts, Call soon) {
    const auto* definition = asked->check.definition;
    while (!desk->is_free(definition)) {
        if (soon.deadline.expired(*environment.clock) || soon.stop.stop_requested()) co_return;
        co_await desk->changed.wait(*environment.clock, soon);
    }
    desk->begin(definition);
    asked->began = true;
    auto check = asked->check;
    auto work = [check, facts] { return isolation::answer_of(check, facts); };
    asked->answer = co_await run_blocking(environment.blocking, work);
    desk->ended(definition);
}

/// The findings of own checks: each by itself, all at once.
Task<std::vector<Finding>> own_findings(Environment environment, std::vector<isolation::RegisteredCheck> checks,
                                        std::shared_ptr<const Facts> facts, std::shared_ptr<OwnCheckDesk> desk,
                                        Call call) {
    constexpr Duration patience = std::chrono::seconds(5);
    std::vector<Finding> findings;
    Questions questions;
    auto soon = call.within(Deadline::after(*environment.clock, patience));
    TaskGroup group(environment.executor);
    for (auto& check : checks) {
        auto question = isolation::question_for(check, *facts);
        if (question.blind) {
            findings.push_back(std::move(*question.blind));
            continue;
        }
        auto asked = std::make_shared<Asked>();
        asked->check = check;
        questions.push_back(asked);
        if (auto why = desk->hopeless(check.definition)) asked->answer = OwnVerdict{FindingStatus::unknown, *why};
        else group.spawn(environment.logger, "own check", ask(environment, desk, asked, question.facts, soon));
    }
    auto missing = [&] {
        return std::any_of(questions.begin(), questions.end(), [](const auto& one) { return !one->answer; });
    };
    while (missing() && !soon.deadline.expired(*environment.clock) && !call.stop.stop_requested())
        co_await desk->changed.wait(*environment.clock, soon);
    const OwnVerdict silent{FindingStatus::unknown, "the check itself gave no answer in five seconds"};
    for (const auto& asked : questions) {
        if (!asked->answer && asked->began) desk->is_late(asked->check.definition);
        findings.push_back(isolation::finding_of(asked->check, *facts, asked->answer.value_or(silent)));
    }
    co_return findings;
}

/// A child's error reaches nobody: it becomes a reason, and a cancellation is told.
Task<void> collect_child(Environment environment, FactsPtr facts, IsolationSubject subject, std::set<std::string> names,
                         std::shared_ptr<isolation::DigestCache> digests,
                         std::shared_ptr<isolation::RoundReadings> round, std::shared_ptr<bool> cancelled, Call call) {
    facts->session_id = subject.session_id;
    try {
        co_await isolation::collect(environment, facts, subject, names, digests, round, call);
    } catch (const Error& error) {
        facts->broken = error.message();
        if (error.errc() == Errc::cancelled) *cancelled = true;
    }
}

/// The facts of every subject, each with all others as its neighbours. The first `judged` need all facts, the others
/// only what is compared.
Task<std::vector<FactsPtr>> collect_all(Environment environment, std::vector<IsolationSubject> subjects,
                                        std::size_t judged, isolation::Wanted wanted,
                                        std::shared_ptr<isolation::DigestCache> digests, Call call) {
    std::vector<FactsPtr> all;
    auto cancelled = std::make_shared<bool>(false);
    auto round = std::make_shared<isolation::RoundReadings>();
    TaskGroup group(environment.executor);
    auto everything = wanted.own;
    everything.insert(wanted.of_neighbours.begin(), wanted.of_neighbours.end());
    for (std::size_t i = 0; i < subjects.size(); ++i) {
        all.push_back(std::make_shared<Facts>());
        const auto& names = i < judged ? everything : wanted.of_neighbours;
        group.spawn(environment.logger, "collect the facts of " + subjects[i].session_id,
                    collect_child(environment, all.back(), subjects[i], names, digests, round, cancelled, call));
    }
    co_await group.join();
    if (*cancelled) throw Error(Errc::cancelled, "an isolation report was cancelled");
    co_return all;
}

/// A subject's facts together with its neighbours.
Facts with_neighbours(const std::vector<FactsPtr>& all, std::size_t own, WallTime now) {
    Facts facts = *all[own];
    facts.looked_at = now;
    facts.neighbours.emplace();
    for (std::size_t i = 0; i < all.size(); ++i)
        if (i != own) facts.neighbours->push_back(all[i]);
    return facts;
}

/// Facts of probes, by the epoch of whom they are of.
class ProbeMemory {
public:
    void keep(const std::string& epoch, const std::vector<Fact>& facts) {
        for (const auto& fact : facts) known_[epoch][fact.name] = fact;
    }
    /// Into the facts of that instance, and out of the memory what is too old for everybody.
    void remind(Facts& facts, WallTime now) {
        for (auto& [epoch, known] : known_)
            std::erase_if(known, [&](const auto& entry) { return now - entry.second.collected_at > longest; });
        std::erase_if(known_, [](const auto& entry) { return entry.second.empty(); });
        auto known = known_.find(facts.epoch);
        if (known == known_.end()) return;
        for (const auto& [name, fact] : known->second) facts.add(fact);
    }

private:
    static constexpr Duration longest = std::chrono::minutes(30);  // twice the longest ttl of a probe
    std::map<std::string, std::map<std::string, Fact>> known_;
};

}  // namespace

struct IsolationEngine::Impl {
    explicit Impl(const Executor& executor) : probing(executor), desk(std::make_shared<OwnCheckDesk>(executor)) {}
    std::shared_ptr<isolation::DigestCache> digests = std::make_shared<isolation::DigestCache>();
    /// One VM at a time: probes of two would see each other. Looks go on beside them.
    AsyncMutex probing;
    ProbeMemory probed;
    std::shared_ptr<OwnCheckDesk> desk;
    std::vector<isolation::RegisteredCheck> own_checks;

    /// Those of these layers.
    std::vector<isolation::RegisteredCheck> own_of(const std::vector<Layer>& layers) const {
        std::vector<isolation::RegisteredCheck> found;
        for (const auto& check : own_checks)
            if (is_of(*check.definition, layers)) found.push_back(check);
        return found;
    }

    /// One subject, and what was found into the memory.
    Task<void> probe(Environment environment, std::vector<IsolationSubject> subjects, std::vector<FactsPtr> all,
                     std::size_t own, std::set<std::string> names, Call call) {
        isolation::ProbeSite subject{std::make_shared<Facts>(with_neighbours(all, own, environment.clock->wall_now())),
                                     subjects[own].source};
        std::vector<isolation::ProbeSite> others;
        for (std::size_t i = 0; i < all.size(); ++i)
            if (i != own) others.push_back({all[i], subjects[i].source});
        auto turn = co_await probing.lock(*environment.clock, call, "waiting for a probe");
        auto found = co_await isolation::run_probes(environment, subject, std::move(others), names, call);
        probed.keep(subject.facts->epoch, found);
    }
};

IsolationEngine::IsolationEngine(Environment environment)
    : environment_(environment), impl_(std::make_shared<Impl>(environment.executor)) {}
IsolationEngine::~IsolationEngine() = default;

void IsolationEngine::add_check(const OwnCheck& check) {
    impl_->own_checks.push_back(isolation::registered(check, impl_->own_checks));
}

Task<IsolationReport> IsolationEngine::validate(IsolationSubject subject, std::vector<IsolationSubject> neighbours,
                                                std::vector<Layer> layers, Call call) {
    std::vector<IsolationSubject> subjects{std::move(subject)};
    auto reports = co_await audit(std::move(subjects), std::move(neighbours), std::move(layers), call);
    co_return std::move(reports.front());
}

Task<std::vector<IsolationReport>> IsolationEngine::audit(std::vector<IsolationSubject> subjects,
                                                          std::vector<IsolationSubject> neighbours,
                                                          std::vector<Layer> layers, Call call) {
    std::vector<std::string> none;
    co_return co_await audit_with_probes(std::move(subjects), std::move(neighbours), std::move(layers), std::move(none),
                                         call);
}

Task<std::vector<IsolationReport>> IsolationEngine::audit_with_probes(std::vector<IsolationSubject> subjects,
                                                                      std::vector<IsolationSubject> neighbours,
                                                                      std::vector<Layer> layers,
                                                                      std::vector<std::string> probes, Call call) {
    auto environment = environment_;
    auto impl = impl_;
    auto started = environment.clock->monotonic_now();
    auto wanted = isolation::wanted_by(layers);
    add_wanted(wanted, impl->own_checks, layers);
    auto probed = isolation::probes_of(probes);
    if (!probed.empty()) {
        auto needed = isolation::wanted_by_probes();
        wanted.own.merge(needed.own);
        wanted.of_neighbours.merge(needed.of_neighbours);
    }
    const auto judged = subjects.size();
    subjects.insert(subjects.end(), neighbours.begin(), neighbours.end());
    auto all = co_await collect_all(environment, subjects, judged, wanted, impl->digests, call);
    for (std::size_t i = 0; i < judged && !probed.empty(); ++i)
        co_await impl->probe(environment, subjects, all, i, probed, call);
    check(Call{Deadline(), call.stop, std::string()}, *environment.clock, "an isolation report");
    std::vector<IsolationReport> reports;
    for (std::size_t i = 0; i < judged; ++i) {
        auto facts = std::make_shared<Facts>(with_neighbours(all, i, environment.clock->wall_now()));
        impl->probed.remind(*facts, environment.clock->wall_now());
        auto own = co_await own_findings(environment, impl->own_of(layers), facts, impl->desk, call);
        reports.push_back(report_of(environment, subjects[i], *facts, layers, std::move(own), started));
    }
    co_return reports;
}

}  // namespace infrastructure_sdk
