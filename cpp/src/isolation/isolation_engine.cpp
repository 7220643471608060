#include <infrastructure_sdk/isolation/isolation_engine.hpp>

#include <algorithm>
#include <set>

#include "core/async_tools.hpp"
#include "isolation/collection.hpp"

namespace infrastructure_sdk {
namespace {

using isolation::Facts;
using FactsPtr = std::shared_ptr<Facts>;

IsolationReport report_of(const Environment& environment, const IsolationSubject& subject, const Facts& facts,
                          const std::vector<Layer>& layers, MonotonicTime started) {
    IsolationReport report;
    report.id = make_uuid(*environment.random);
    report.session_id = subject.session_id;
    report.vm_id = subject.vm_id.value;
    report.instance_epoch = facts.epoch;
    for (const auto& check : isolation::checks()) {
        const auto& layer = check.definition.layer;
        if (!layers.empty() && std::find(layers.begin(), layers.end(), layer) == layers.end()) continue;
        report.findings.push_back(isolation::judge(check, facts));
    }
    report.created_at = environment.clock->wall_now();
    report.score = score(report.findings, report.created_at);
    report.layers = layer_scores(report.findings, report.created_at);
    report.recommendations = isolation::recommendations(report.findings, report.created_at);
    report.elapsed = environment.clock->monotonic_now() - started;
    return report;
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

}  // namespace

struct IsolationEngine::Impl {
    std::shared_ptr<isolation::DigestCache> digests = std::make_shared<isolation::DigestCache>();
};

IsolationEngine::IsolationEngine(Environment environment)
    : environment_(std::move(environment)), impl_(std::make_unique<Impl>()) {}
IsolationEngine::~IsolationEngine() = default;

Task<IsolationReport> IsolationEngine::validate(IsolationSubject subject, std::vector<IsolationSubject> neighbours,
                                                std::vector<Layer> layers, Call call) {
    std::vector<IsolationSubject> subjects{std::move(subject)};
    auto reports = co_await audit(std::move(subjects), std::move(neighbours), std::move(layers), call);
    co_return std::move(reports.front());
}

Task<std::vector<IsolationReport>> IsolationEngine::audit(std::vector<IsolationSubject> subjects,
                                                          std::vector<IsolationSubject> neighbours,
                                                          std::vector<Layer> layers, Call call) {
    auto environment = environment_;
    auto started = environment.clock->monotonic_now();
    auto wanted = isolation::wanted_by(layers);
    const auto judged = subjects.size();
    subjects.insert(subjects.end(), neighbours.begin(), neighbours.end());
    auto all = co_await collect_all(environment, subjects, judged, wanted, impl_->digests, call);
    check(Call{Deadline(), call.stop, std::string()}, *environment.clock, "an isolation report");
    std::vector<IsolationReport> reports;
    for (std::size_t i = 0; i < judged; ++i) {
        auto facts = with_neighbours(all, i, environment.clock->wall_now());
        reports.push_back(report_of(environment, subjects[i], facts, layers, started));
    }
    co_return reports;
}

}  // namespace infrastructure_sdk
