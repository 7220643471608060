// What a decision through Python costs over a direct call, and whether hostile policies slow the engine down.
//
//     policy_bench [--json]      # from the project's folder, with PYTHONPATH set to the built package
//
// "direct" is a rule in C++ behind the same interface. "inline" is Python on the caller's thread, as in a simulation;
// "thread" and "process" are awaited one after the other, so they hold two wake-ups of a thread or a process; "thread
// in bulk" asks 100 at once. Median of rounds, microseconds of processor time of this program a decision (so without
// that of the process), which other load hardly changes; the reference of "over a direct call" is what is wanted at
// most.
//
// "pass" is a stand-in for a reconciler: every millisecond the engine's executor reads and writes requests for about as
// long as a look at a few sessions takes. Its 99th percentile, from when it was due to its end, is measured beside
// policies that loop, swallow interruptions, sleep, raise, leak and lie, against as many that behave and are asked as
// often; theirs against none. On few cores the engine waits for a time slice of whatever else computes, so on a loaded
// host all three are alike. Rounds take turns. "engine" is what sessions meet: the same hostile policies behind the
// policy engine, whose circuit breaker leaves them alone after some failures.

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include <infrastructure_sdk/detail/run.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/policy/policy_engine.hpp>
#include <infrastructure_sdk/policy/process_host.hpp>
#include <infrastructure_sdk/policy/python_host.hpp>
#include <infrastructure_sdk/policy/python_interpreter.hpp>

#include "core/async_tools.hpp"
#include "rows.hpp"
#include "simulation/forgetful_store.hpp"

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;
using HostPtr = std::shared_ptr<PolicyHost>;

constexpr const char* patient = R"(
from infrastructure_sdk.policy import IdleRequest, SessionDecision, keep, policy, suspend

@policy("idle", name="patient", version="1")
def patient(request: IdleRequest) -> SessionDecision:
    if request.session.tags.get("project") == "thesis" and request.quiet_for < 3 * 3600:
        return keep("a thesis runs", ask_again_after=600)
    return suspend("quiet")
)";
constexpr int rounds = 7, questions = 2000, passes = 1000;

/// The same rule without Python.
class DirectHost final : public PolicyHost {
public:
    const PolicyIdentity& identity() const override { return identity_; }
    std::vector<DecisionPoint> points() const override { return {DecisionPoint::idle}; }
    std::optional<PolicyAnswer> decide_now(const PolicyRequest& request, const std::string&) override {
        const auto& idle = std::get<IdleRequest>(request);
        auto tag = idle.session.tags.find("project");
        PolicyAnswer answer;
        if (tag != idle.session.tags.end() && tag->second == "thesis" && idle.quiet_for < 3h)
            answer.decision = SessionDecision{SessionAction::keep, "a thesis runs", 10min};
        else answer.decision = SessionDecision{SessionAction::suspend, "quiet", std::nullopt};
        return answer;
    }
    Task<PolicyAnswer> decide(PolicyRequest request, std::string state, Call) override {
        co_return *decide_now(request, state);
    }
    Task<void> close() override { co_return; }

private:
    PolicyIdentity identity_{"direct", "", "", ""};
};

IdleRequest question_about(const std::string& session) {
    static const WallTime now = parse_rfc3339("2026-03-02T09:30:00Z");
    IdleRequest request;
    request.now = now;
    request.session.id = session;
    request.session.user_id = "alice";
    request.session.tags = {{"project", "thesis"}, {"team", "physics"}};
    request.session.created_at = request.now - 2h;
    request.quiet_for = 31min;
    request.idle_timeout = 30min;
    return request;
}

double microseconds(Duration length) { return std::chrono::duration<double, std::micro>(length).count(); }

void need_decided(const PolicyAnswer& answer) {
    if (answer.outcome != PolicyAnswer::Outcome::decided) throw Error(Errc::internal, "no decision: " + answer.detail);
}

Task<void> ask_once(Environment environment, HostPtr host) {
    Call call(Deadline::after(*environment.clock, 10s));
    auto answer = co_await host->decide(question_about("s-1"), "", call);
    need_decided(answer);
}

double on_this_thread(HostPtr host) {
    PolicyRequest request = question_about("s-1");
    auto begun = cpu_seconds();
    for (int i = 0; i < questions; ++i) need_decided(*host->decide_now(request, ""));
    return (cpu_seconds() - begun) / questions * 1e6;
}

Task<double> one_by_one(Environment environment, HostPtr host) {
    auto begun = cpu_seconds();
    for (int i = 0; i < questions; ++i) co_await ask_once(environment, host);
    co_return (cpu_seconds() - begun) / questions * 1e6;
}

Task<double> in_bulk(Environment environment, HostPtr host) {
    constexpr int at_once = 100;
    auto begun = cpu_seconds();
    for (int i = 0; i < questions; i += at_once) {
        TaskGroup group(environment.executor);
        for (int k = 0; k < at_once; ++k) group.spawn(environment.logger, "question", ask_once(environment, host));
        co_await group.join();
    }
    co_return (cpu_seconds() - begun) / questions * 1e6;
}

struct Hosts {
    HostPtr direct = std::make_shared<DirectHost>(), inlined, thread, process;
};

Task<void> measure_costs(Environment environment, const Rows* rows, Hosts hosts) {
    std::vector<double> direct, inlined, thread, bulk, process;
    for (int round = 0; round < rounds; ++round) {
        direct.push_back(on_this_thread(hosts.direct));
        inlined.push_back(on_this_thread(hosts.inlined));
        thread.push_back(co_await one_by_one(environment, hosts.thread));
        bulk.push_back(co_await in_bulk(environment, hosts.thread));
        process.push_back(co_await one_by_one(environment, hosts.process));
    }
    const auto base = median(direct);
    rows->add("policy.direct", base, "us");
    rows->add("policy.inline over a direct call", median(inlined) - base, "us", 5);
    rows->add("policy.thread over a direct call", median(thread) - base, "us");
    rows->add("policy.thread in bulk over direct", median(bulk) - base, "us", 5);
    rows->add("policy.process over a direct call", median(process) - base, "us");
}

/// Asks again and again until it is told to stop.
Task<void> pester(Environment environment, HostPtr host, std::string session, std::stop_token stop) {
    while (!stop.stop_requested()) {
        Call call(Deadline::after(*environment.clock, 50ms));
        co_await host->decide(question_about(session), "", call);
        co_await environment.clock->sleep_until(environment.clock->monotonic_now() + 2ms, stop);
    }
}

Task<double> p99_of_passes(Environment environment) {
    std::vector<double> times;
    PolicyRequest request = question_about("s-1");
    auto due = environment.clock->monotonic_now();
    for (int pass = 0; pass < passes; ++pass) {
        due += 1ms;
        co_await environment.clock->sleep_until(due, {});
        for (int i = 0; i < 5; ++i) request = policy_request_from_json(to_json(request));
        times.push_back(microseconds(environment.clock->monotonic_now() - due));
    }
    auto at = times.begin() + passes * 99 / 100;
    std::nth_element(times.begin(), at, times.end());
    co_return *at;
}

constexpr const char* attacks[] = {"endless_loop", "stubborn_loop", "long_sleep",  "error_without_text",
                                   "memory_leak",  "memory_bomb",   "no_decision", "endless_reason"};

/// One for each attack. About other sessions they decide as they should. @param package empty = in this process
Task<std::vector<HostPtr>> load_attackers(Environment environment, std::string source, std::string package) {
    std::vector<HostPtr> hosts;
    Call call(Deadline::after(*environment.clock, 60s));
    for (std::size_t i = 0; i < std::size(attacks); ++i) {
        if (package.empty()) {
            PythonPolicyOptions options;
            options.lint = false;
            PolicyText text{source, "hostile.py"};
            hosts.push_back(co_await load_python_policy(environment, text, options, call));
        } else {
            ProcessPolicyOptions options;
            options.package = package;
            hosts.push_back(co_await load_process_policy(environment, source, "hostile.py", options, call));
        }
    }
    co_return hosts;
}

/// Puts each host behind an engine of its own, as sessions meet it. @throws as PolicyEngine::open
Task<std::vector<std::shared_ptr<PolicyEngine>>> engines_over(Environment environment, std::vector<HostPtr> hosts) {
    std::vector<std::shared_ptr<PolicyEngine>> engines;
    for (const auto& host : hosts) {
        PolicyEngineOptions options;
        options.sources.emplace_back().source = "hostile.py";
        options.make_hosts = [host](PolicySource, Call) -> Task<std::vector<HostPtr>> {
            co_return std::vector<HostPtr>{host};
        };
        auto store = make_forgetful_store([](const Event&) {});
        engines.push_back(std::make_shared<PolicyEngine>(environment, store, std::move(options)));
        Call call;
        co_await engines.back()->open(call);
    }
    co_return engines;
}

/// As `pester`, by way of an engine.
Task<void> pester_engine(Environment environment, std::shared_ptr<PolicyEngine> engine, std::string session,
                         std::stop_token stop) {
    while (!stop.stop_requested()) {
        PolicyQuestion question;
        Call call;
        co_await engine->decide(question_about(session), question, call);
        co_await environment.clock->sleep_until(environment.clock->monotonic_now() + 2ms, stop);
    }
}

enum class Company { nobody, behaving, hostile };

Task<double> p99_beside(Environment environment, std::vector<HostPtr> hosts, Company company) {
    TaskGroup group(environment.executor);
    for (std::size_t i = 0; company != Company::nobody && i < hosts.size(); ++i) {
        std::string session = company == Company::hostile ? attacks[i] : "somebody";
        group.spawn(environment.logger, session,
                    pester(environment, hosts[i], session, group.stop_source().get_token()));
    }
    auto found = co_await p99_of_passes(environment);
    group.stop_source().request_stop();
    co_await group.join();
    co_return found;
}

/// Each kind alone, with its rounds beside each other. @param behaving are others, which no attack has ended
Task<void> measure_hostile(Environment environment, const Rows* rows, std::string kind, std::vector<HostPtr> behaving,
                           std::vector<HostPtr> hostile) {
    std::vector<double> none, good, bad;
    for (int round = 0; round < rounds; ++round) {
        none.push_back(co_await p99_beside(environment, behaving, Company::nobody));
        good.push_back(co_await p99_beside(environment, behaving, Company::behaving));
        bad.push_back(co_await p99_beside(environment, hostile, Company::hostile));
    }
    rows->add("policy.pass p99 beside behaving " + kind, median(good), "us", median(none));
    rows->add("policy.pass p99 beside hostile " + kind, median(bad), "us", median(good));
    for (auto& host : behaving) co_await host->close();
    for (auto& host : hostile) co_await host->close();
}

/// What a reconciler feels of hostile policies: after some failures an engine leaves them alone. The first round, in
/// which they fail, is a row of its own.
Task<void> measure_engines(Environment environment, const Rows* rows, std::string kind, std::vector<HostPtr> hostile) {
    auto engines = co_await engines_over(environment, hostile);
    std::vector<HostPtr> nobody;
    std::vector<double> none, bad;
    for (int round = 0; round < rounds; ++round) {
        none.push_back(co_await p99_beside(environment, nobody, Company::nobody));
        TaskGroup group(environment.executor);
        for (std::size_t i = 0; i < engines.size(); ++i)
            group.spawn(environment.logger, attacks[i],
                        pester_engine(environment, engines[i], attacks[i], group.stop_source().get_token()));
        bad.push_back(co_await p99_of_passes(environment));
        group.stop_source().request_stop();
        co_await group.join();
    }
    rows->add("policy.engine p99 in the first second of hostile " + kind, bad.front(), "us", none.front());
    rows->add("policy.engine p99 beside hostile " + kind, median(bad), "us", median(none));
    for (auto& engine : engines) co_await engine->close();
}

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Error(Errc::not_found, "cannot read " + path + ": run it from the project's folder");
    return {std::istreambuf_iterator<char>(file), {}};
}

Task<void> measure(Environment environment, const Rows* rows, std::string package, std::string hostile) {
    Hosts hosts;
    PythonPolicyOptions options;
    ProcessPolicyOptions process_options;
    process_options.package = package;
    PolicyText text{patient, "patient.py"};
    Call call(Deadline::after(*environment.clock, 60s));
    hosts.inlined = make_inline_python_policy(text, options);
    hosts.thread = co_await load_python_policy(environment, text, options, call);
    hosts.process = co_await load_process_policy(environment, patient, "patient.py", process_options, call);
    co_await measure_costs(environment, rows, hosts);
    std::string in_this_process;
    auto good_processes = co_await load_attackers(environment, hostile, package);
    auto processes = co_await load_attackers(environment, hostile, package);
    co_await measure_hostile(environment, rows, "processes", good_processes, processes);
    processes = co_await load_attackers(environment, hostile, package);
    co_await measure_engines(environment, rows, "processes", processes);
    auto good_threads = co_await load_attackers(environment, hostile, in_this_process);
    auto threads = co_await load_attackers(environment, hostile, in_this_process);
    co_await measure_hostile(environment, rows, "threads", good_threads, threads);
    threads = co_await load_attackers(environment, hostile, in_this_process);
    co_await measure_engines(environment, rows, "threads", threads);
    co_await hosts.thread->close();
    co_await hosts.process->close();
}

}  // namespace
}  // namespace infrastructure_sdk

int main(int argc, char** argv) {
    using namespace infrastructure_sdk;
    const auto arguments = read_arguments(argc, argv, 0);
    const char* path = std::getenv("PYTHONPATH");
    if (!path) {
        std::fprintf(stderr, "PYTHONPATH must name the folder of the built package\n");
        return 2;
    }
    const std::string folders = path;
    PythonInterpreter python;
    Runtime runtime(make_stream_sink(LogFormat::text), LogLevel::error);
    const Rows rows(arguments.as_json);
    run(runtime, measure(runtime.environment(), &rows, folders.substr(0, folders.find(':')) + "/infrastructure_sdk",
                         read_file("tests/python/hostile_policy.py")));
    return 0;
}
