#include <infrastructure_sdk/isolation/isolation_engine.hpp>

#include <algorithm>
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

/// What the asked have answered; those that never do keep their threads, and nobody waits for them.
struct Answers {
    explicit Answers(const Executor& executor) : changed(executor) {}
    Signal changed;
    std::vector<std::optional<OwnVerdict>> given;
};

Task<void> ask(Environment environment, isolation::RegisteredCheck check, OwnFacts facts,
               std::shared_ptr<Answers> answers, std::size_t place) {
    auto work = [check, facts] { return isolation::answer_of(check, facts); };
    answers->given[place] = co_await run_blocking(environment.blocking, work);
    answers->changed.notify_all();
}

/// The findings of own checks: each by itself, all at once.
Task<std::vector<Finding>> own_findings(Environment environment, std::vector<isolation::RegisteredCheck> checks,
                                        std::shared_ptr<const Facts> facts, Call call) {
    constexpr Duration patience = std::chrono::seconds(5);
    std::vector<Finding> findings;
    std::vector<isolation::RegisteredCheck> asked;
    auto answers = std::make_shared<Answers>(environment.executor);
    TaskGroup group(environment.executor);
    for (auto& check : checks) {
        auto question = isolation::question_for(check, *facts);
        if (question.blind) {
            findings.push_back(std::move(*question.blind));
            continue;
        }
        answers->given.emplace_back();
        asked.push_back(check);
        group.spawn(environment.logger, "own check",
                    ask(environment, check, question.facts, answers, asked.size() - 1));
    }
    auto soon = call.within(Deadline::after(*environment.clock, patience));
    auto missing = [&] {
        return std::any_of(answers->given.begin(), answers->given.end(), [](const auto& one) { return !one; });
    };
    while (missing() && !soon.deadline.expired(*environment.clock) && !call.stop.stop_requested())
        co_await answers->changed.wait(*environment.clock, soon);
    const OwnVerdict silent{FindingStatus::unknown, "the check itself gave no answer in five seconds"};
    for (std::size_t i = 0; i < asked.size(); ++i)
        findings.push_back(isolation::finding_of(asked[i], *facts, answers->given[i].value_or(silent)));
    co_return findings;
}

/// A child's error reaches nobody: it becomes a reason, and a cancellation is told.
Task<void> collect_child(Environment environment, FactsPtr facts, IsolationSubject subject, std::set<std::string> names,
                         std::shared_ptr<isolation::DigestCache> digests, std::shared_ptr<bool> cancelled, Call call) {
    facts->session_id = subject.session_id;
    try {
        co_await isolation::collect(environment, facts, subject, names, digests, call);
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
    TaskGroup group(environment.executor);
    auto everything = wanted.own;
    everything.insert(wanted.of_neighbours.begin(), wanted.of_neighbours.end());
    for (std::size_t i = 0; i < subjects.size(); ++i) {
        all.push_back(std::make_shared<Facts>());
        const auto& names = i < judged ? everything : wanted.of_neighbours;
        group.spawn(environment.logger, "collect the facts of " + subjects[i].session_id,
                    collect_child(environment, all.back(), subjects[i], names, digests, cancelled, call));
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

/// Probes change a VM for a moment, which no other look shall see: looks together, or one VM's probes alone.
class Turns {
public:
    explicit Turns(Executor executor) : changed_(std::move(executor)) {}
    Task<void> look(const Clock& clock, Call call) {
        while (probing_) {
            check(call, clock, "waiting for a probe");
            co_await changed_.wait(clock, call);
        }
        ++looking_;
    }
    void looked() {
        --looking_;
        changed_.notify_all();
    }
    Task<void> probe(const Clock& clock, Call call) {
        while (probing_ || looking_ > 0) {
            check(call, clock, "waiting for other looks");
            co_await changed_.wait(clock, call);
        }
        probing_ = true;
    }
    void probed() {
        probing_ = false;
        changed_.notify_all();
    }

private:
    Signal changed_;
    std::size_t looking_ = 0;
    bool probing_ = false;
};

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
    explicit Impl(const Executor& executor) : turns(executor) {}
    std::shared_ptr<isolation::DigestCache> digests = std::make_shared<isolation::DigestCache>();
    Turns turns;
    ProbeMemory probed;
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
        co_await turns.probe(*environment.clock, call);
        std::exception_ptr trouble;
        try {
            auto found = co_await isolation::run_probes(environment, subject, std::move(others), names, call);
            probed.keep(subject.facts->epoch, found);
        } catch (const Error&) {
            trouble = std::current_exception();
        }
        turns.probed();
        if (trouble) std::rethrow_exception(trouble);
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
    co_await impl->turns.look(*environment.clock, call);
    std::vector<FactsPtr> all;
    std::exception_ptr trouble;
    try {
        all = co_await collect_all(environment, subjects, judged, wanted, impl->digests, call);
    } catch (const Error&) {
        trouble = std::current_exception();
    }
    impl->turns.looked();
    if (trouble) std::rethrow_exception(trouble);
    for (std::size_t i = 0; i < judged && !probed.empty(); ++i)
        co_await impl->probe(environment, subjects, all, i, probed, call);
    check(Call{Deadline(), call.stop, std::string()}, *environment.clock, "an isolation report");
    std::vector<IsolationReport> reports;
    for (std::size_t i = 0; i < judged; ++i) {
        auto facts = std::make_shared<Facts>(with_neighbours(all, i, environment.clock->wall_now()));
        impl->probed.remind(*facts, environment.clock->wall_now());
        auto own = co_await own_findings(environment, impl->own_of(layers), facts, call);
        reports.push_back(report_of(environment, subjects[i], *facts, layers, std::move(own), started));
    }
    co_return reports;
}

}  // namespace infrastructure_sdk
