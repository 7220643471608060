#include <infrastructure_sdk/simulation/simulation.hpp>

#include <algorithm>

#include "core/async_tools.hpp"
#include "core/seeded_random.hpp"
#include "simulation/decision_counts.hpp"
#include "simulation/forgetful_store.hpp"
#include "simulation/person.hpp"
#include <infrastructure_sdk/virtual_runtime.hpp>

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;

/// Everything that one run owns, in the order in which it may be let go of.
class Simulation {
public:
    Simulation(const Workload& workload, const SimulatedPolicy& policy, const SimulationOptions& options)
        : workload_(workload),
          policy_(policy),
          options_(options),
          tally_(workload, options.came_back_within),
          host_(provider_options()),
          runtime_(runtime_options()) {}
    ~Simulation() {
        runtime_.halt();
        engine_.reset();
        policies_.reset();
    }

    SimulationResult run() {
        open();
        begin();
        advance();
        return result();
    }

private:
    SimulatorOptions provider_options() const {
        auto provider = options_.provider;
        provider.seed = SeededRandom(options_.seed).next();
        provider.slow_by_user = true;
        return provider;
    }
    VirtualRuntimeOptions runtime_options() const {
        VirtualRuntimeOptions runtime;
        runtime.seed = options_.seed;
        runtime.start = workload_.start;
        return runtime;
    }

    SessionEngineOptions engine_options() {
        SessionEngineOptions engine;
        engine.clocks = policy_.clocks;
        engine.idleness = policy_.idleness;
        // Looks that would say nothing new may be left out, so they may lie far apart.
        engine.idleness.thresholds.longest_gap = std::chrono::hours(87600);
        // Nobody sets the wall clock of a simulation.
        engine.wall_clock_check = std::chrono::hours(87600);
        engine.templates = options_.templates;
        give_time(engine);
        engine.limits = policy_.limits;
        engine.pools = policy_.pools;
        engine.currency = options_.currency;
        engine.load_image = [](const std::string& name) {
            ImageFiles image;
            image.name = name;
            return image;
        };
        if (!options_.leave_out_looks) return engine;
        engine.use_steady_until = [this](const VmId& vm) {
            const auto* lived = tally_.of_vm(vm);
            const auto now = runtime_.environment().clock->monotonic_now();
            // What a look has seen goes on only if the use has been this one since the look before.
            const bool settled = lived && now - policy_.idleness.sample_interval >= lived->steady_since;
            return settled ? lived->steady_until : MonotonicTime::min();
        };
        return engine;
    }

    /// Whatever times a simulation is given, no verb fails for want of it: one in a while takes ten times as long.
    void give_time(SessionEngineOptions& engine) const {
        const auto& provider = options_.provider;
        constexpr int ample = 20;
        const auto boot = 2 * provider.boot_time + ample * (provider.create_time + provider.start_time);
        for (auto& [name, source] : engine.templates) source.boot_timeout = std::max(source.boot_timeout, boot);
        engine.suspend_timeout = std::max(engine.suspend_timeout, ample * provider.suspend_time);
        engine.resume_timeout = std::max(engine.resume_timeout, ample * provider.resume_time);
        engine.terminate_timeout = std::max(engine.terminate_timeout, ample * provider.stop_time);
    }

    /// Hosts that were given come first, then the policy's own sources; all are loaded here.
    PolicyEngineOptions policy_options() {
        auto asked = policy_.policies;
        std::vector<PolicySource> sources(policy_.hosts.size());
        sources.insert(sources.end(), asked.sources.begin(), asked.sources.end());
        for (std::size_t i = 0; i < sources.size(); ++i) sources[i].source = numbered(i);
        asked.sources = std::move(sources);
        asked.on_judged = [this](const PolicyJudgement& judged) { counts_.add(judged); };
        asked.make_hosts = [this](PolicySource source, Call call) { return load(std::move(source), std::move(call)); };
        return asked;
    }

    static std::string numbered(std::size_t index) { return "simulated:" + std::to_string(index); }

    Task<std::vector<std::shared_ptr<PolicyHost>>> load(PolicySource source, Call call) {
        std::size_t index = 0;
        while (numbered(index) != source.source) ++index;
        std::vector<std::shared_ptr<PolicyHost>> hosts;
        if (index < policy_.hosts.size()) hosts.push_back(policy_.hosts[index]);
        else hosts = co_await load_own(policy_.policies.sources.at(index - policy_.hosts.size()), std::move(call));
        for (auto& host : hosts) host = make_borrowed_host(std::move(host));
        co_return hosts;
    }

    Task<std::vector<std::shared_ptr<PolicyHost>>> load_own(PolicySource source, Call call) {
        std::vector<std::shared_ptr<PolicyHost>> hosts;
        if (source.source.starts_with("builtin:")) hosts.push_back(make_builtin_policy(source));
        else if (policy_.policies.make_hosts) hosts = co_await policy_.policies.make_hosts(source, std::move(call));
        else
            throw Error(Errc::configuration, "policies: '" + source.source + "' is not allowed; nothing here loads it",
                        {{"field", "policies"}, {"value", source.source}});
        co_return hosts;
    }

    void open() {
        const auto& environment = runtime_.environment();
        auto listen = [this](const Event& event) { tally_.take(event); };
        auto store = make_forgetful_store(listen);
        auto options = engine_options();
        auto asked = policy_options();
        if (!asked.sources.empty()) {
            policies_ = std::make_shared<PolicyEngine>(environment, store, std::move(asked));
            runtime_.run(policies_->open(Call()));
            options.policies = policies_;
        }
        engine_ = std::make_unique<SessionEngine>(environment, store, make_simulator_provider(environment, host_),
                                                  std::move(options));
        runtime_.run(engine_->recover(Call()));
        scene_ = {environment, engine_.get(), &host_, &tally_, &options_, workload_.start};
    }

    void begin() {
        const auto& environment = runtime_.environment();
        people_ = std::make_unique<TaskGroup>(environment.executor);
        lived_.reserve(workload_.sessions.size());
        for (const auto& planned : workload_.sessions) {
            lived_.push_back(std::make_unique<LivedSession>(planned, environment.executor));
            people_->spawn(environment.logger, "a simulated person", guarded(this, lived_.back().get()));
        }
    }

    static Error of_person(const Error& error, const PlannedSession& planned) {
        auto context = error.context();
        context["user"] = planned.user_id;
        context["start"] = to_rfc3339(planned.start);
        return Error(error.errc(),
                     "session of " + planned.user_id + " from " + to_rfc3339(planned.start) + ": " +
                         std::string(error.message()),
                     std::move(context));
    }

    /// What goes wrong in a person's life is the simulation's own defect and ends it.
    static Task<void> guarded(Simulation* self, LivedSession* lived) {
        std::exception_ptr error;
        try {
            co_await live(&self->scene_, lived);
        } catch (const Error& raised) {
            error = std::make_exception_ptr(of_person(raised, *lived->planned));
        } catch (...) {
            error = std::current_exception();
        }
        if (error && !self->defect_) self->defect_ = error;
    }

    void advance() {
        constexpr int steps = 400;
        const auto began = runtime_.environment().clock->monotonic_now();
        for (int i = 1; i <= steps; ++i) {
            if (options_.progress && !options_.progress(static_cast<double>(i - 1) / steps))
                throw Error(Errc::cancelled, "the simulation was stopped");
            runtime_.run_until(began + workload_.length / steps * i);
            if (defect_) std::rethrow_exception(defect_);
        }
        runtime_.run_until(began + workload_.length);
        if (options_.progress) options_.progress(1);
    }

    SimulationResult result() {
        SimulationResult result;
        result.policy = policy_.name;
        if (policies_)
            for (const auto& status : policies_->list()) result.identities.push_back(status.identity);
        result.seed = options_.seed;
        result.start = workload_.start;
        result.length = workload_.length;
        result.currency = options_.currency;
        result.notes = workload_.notes;
        if (!policy_.pools.empty())
            result.notes.push_back(
                "Hours of a pool's units that wait for a session are not charged here: savings leave them out.");
        const auto horizon = workload_.start + workload_.length;
        for (auto& lived : lived_) {
            tally_.close(*lived, horizon);
            result.sessions.push_back(session_of(*lived));
            const auto& session = result.sessions.back();
            result.total += session.outcome;
            result.baseline_ran += session.baseline_ran;
            result.baseline_cost_micros += session.baseline_cost_micros;
        }
        result.hours = std::move(tally_.hours());
        for (const auto& lived : lived_)
            spread_over_hours(result.hours, workload_.start, lived->planned->start, baseline_end(*lived->planned),
                              &SimulatedHour::baseline);
        result.existed = tally_.existed;
        auto& starts = tally_.waits[0];
        auto& resumes = tally_.waits[1];
        std::vector<Duration> all = starts;
        all.insert(all.end(), resumes.begin(), resumes.end());
        if (result.total.denied + result.total.gave_up > 0)
            result.notes.push_back(
                "Hours that somebody was refused, or waited for in vain, count as saved; see denied, gave_up and "
                "missed.");
        result.waits = percentiles(all);
        result.start_waits = percentiles(starts);
        result.resume_waits = percentiles(resumes);
        result.decisions = counts_.list();
        return result;
    }

    /// Without any clock or policy it runs until its user ends it; a forgotten one to the horizon.
    WallTime baseline_end(const PlannedSession& planned) const {
        const auto horizon = workload_.start + workload_.length;
        return planned.ended_by_user ? std::min(horizon, planned.start + planned.length) : horizon;
    }

    SimulatedSession session_of(const LivedSession& lived) const {
        const auto& planned = *lived.planned;
        SimulatedSession session;
        session.user_id = planned.user_id;
        session.tenant = planned.tenant;
        const bool known = options_.templates.contains(planned.template_name);
        session.template_name = known ? planned.template_name : options_.default_template;
        session.start = planned.start;
        session.outcome = lived.outcome;
        session.ended = lived.ended;
        session.baseline_ran = std::max<Duration>(0s, baseline_end(planned) - planned.start);
        session.baseline_cost_micros =
            cost_of(options_.templates.at(session.template_name).price_per_hour_micros, session.baseline_ran);
        return session;
    }

    const Workload& workload_;
    const SimulatedPolicy& policy_;
    const SimulationOptions& options_;
    DecisionCounts counts_;
    Tally tally_;
    SimulatedHost host_;
    std::vector<std::unique_ptr<LivedSession>> lived_;
    SimulatedScene scene_;
    std::exception_ptr defect_;
    VirtualRuntime runtime_;  // holds coroutines that look at all of the above
    std::unique_ptr<TaskGroup> people_;
    std::shared_ptr<PolicyEngine> policies_;
    std::unique_ptr<SessionEngine> engine_;
};

}  // namespace

SessionClocks simulated_clocks() {
    SessionClocks clocks;
    clocks.idle_timeout.limit = 30min;
    clocks.ttl.limit = std::chrono::hours(24 * 14);
    return clocks;
}

std::map<std::string, Template> simulated_templates() {
    Template desktop;
    desktop.name = desktop.image = "desktop";
    desktop.cpu = Quantity::from_milli(2000);
    desktop.memory = Quantity::from_milli((std::int64_t{4} << 30) * 1000);
    desktop.disk_size = Quantity::from_milli((std::int64_t{20} << 30) * 1000);
    desktop.price_per_hour_micros = 120'000;
    return {{"desktop", desktop}};
}

SimulatorOptions simulated_provider() {
    SimulatorOptions provider;
    provider.create_time = 1s;
    provider.start_time = 1s;
    provider.boot_time = 28s;
    provider.suspend_time = 3s;
    provider.resume_time = 5s;
    provider.stop_time = 1s;
    provider.faults.slow = 20'000;
    return provider;
}

SimulationResult simulate(const Workload& workload, const SimulatedPolicy& policy, const SimulationOptions& options) {
    check(workload);
    if (!options.templates.contains(options.default_template))
        throw Error(
            Errc::validation,
            "default_template: '" + options.default_template + "' is not allowed; it is not one of templates",
            {{"field", "default_template"}, {"value", options.default_template}, {"allowed", "one of templates"}});
    return Simulation(workload, policy, options).run();
}

SimulatedOutcome& SimulatedOutcome::operator+=(const SimulatedOutcome& other) {
    ran += other.ran;
    used += other.used;
    missed += other.missed;
    cost_micros += other.cost_micros;
    sessions += other.sessions;
    lost += other.lost;
    cold_starts += other.cold_starts;
    warm_starts += other.warm_starts;
    resumes += other.resumes;
    suspensions += other.suspensions;
    suspended_in_use += other.suspended_in_use;
    wanted_again += other.wanted_again;
    denied += other.denied;
    gave_up += other.gave_up;
    failed += other.failed;
    waited += other.waited;
    return *this;
}

std::vector<SessionDifference> compare(const SimulationResult& before, const SimulationResult& after) {
    auto refuse = [](const std::string& why) {
        throw Error(Errc::validation, "results: 'not comparable' is not allowed; " + why,
                    {{"field", "results"}, {"value", "not comparable"}, {"allowed", why}});
    };
    if (before.seed != after.seed) refuse("both must be of the same seed");
    if (before.currency != after.currency) refuse("both must be in the same currency");
    if (before.start != after.start || before.length != after.length || before.sessions.size() != after.sessions.size())
        refuse("both must be of the same workload");
    std::vector<SessionDifference> found;
    for (std::size_t i = 0; i < before.sessions.size(); ++i) {
        const auto& a = before.sessions[i];
        const auto& b = after.sessions[i];
        if (a.user_id != b.user_id || a.start != b.start) refuse("both must be of the same workload");
        if (a.outcome != b.outcome) found.push_back({i, a.outcome, b.outcome});
    }
    auto size = [](const SessionDifference& difference) {
        return std::chrono::abs(difference.after.ran - difference.before.ran);
    };
    std::stable_sort(found.begin(), found.end(), [&](const auto& a, const auto& b) { return size(a) > size(b); });
    return found;
}

}  // namespace infrastructure_sdk
