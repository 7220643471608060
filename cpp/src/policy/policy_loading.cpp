// Where policies come from, what is stored of them, and who is enabled.
#include <algorithm>
#include <regex>
#include <set>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/error.hpp>

#include "policy/policy_records.hpp"

namespace infrastructure_sdk {

using nlohmann::json;

namespace {

constexpr const char* builtin_prefix = "builtin:";

/// How long hosts may take to let go.
constexpr Duration patience = std::chrono::seconds(2);

[[noreturn]] void refuse(const PolicySource& source, const std::string& why) {
    throw Error(Errc::configuration, "policy '" + source.source + "': " + why,
                {{"field", "policy"}, {"value", source.source}});
}

void check_identity(const LoadedPolicy& policy) {
    static const std::regex name("[a-z0-9]([-_.a-z0-9]{0,61}[a-z0-9])?");
    const auto& identity = policy.identity;
    if (!std::regex_match(identity.name, name))
        refuse(policy.source, "its name '" + identity.name.substr(0, 100) +
                                  "' is not allowed; 1 to 63 of a-z, 0-9, '-', '_' and '.', such as idle-students");
    if (identity.version.size() > 100 || identity.author.size() > 200)
        refuse(policy.source, "its version or author is too long; at most 100 and 200 bytes");
    if (policy.points.empty()) refuse(policy.source, "it decides at no point");
}

void check_names(const std::vector<LoadedPolicyPtr>& policies) {
    std::map<std::string, std::string> seen;
    for (const auto& policy : policies) {
        auto [known, is_new] = seen.emplace(policy->identity.name, policy->source.source);
        if (!is_new)
            refuse(policy->source, "its name '" + policy->identity.name + "' is that of " + known->second + " too");
    }
}

struct Ended {
    explicit Ended(Executor executor) : changed(std::move(executor)) {}
    Signal changed;
    bool done = false;
};

Task<void> join(TaskGroup tasks, std::shared_ptr<Ended> ended) {
    co_await tasks.join();
    ended->done = true;
    ended->changed.notify_all();
}

Task<void> close_host(LoadedPolicyPtr policy) { co_await policy->host->close(); }

/// Lets it answer what it was asked before, for as long as anybody waits.
Task<void> retire(LoadedPolicyPtr policy, std::shared_ptr<Clock> clock, std::stop_token stop) {
    const auto latest = Deadline::after(*clock, policy->source.time_budget);
    Call wait{latest, stop, std::string()};
    while (policy->under_way > policy->overdue && !latest.expired(*clock) && !stop.stop_requested())
        co_await policy->came_back.wait(*clock, wait);
    co_await policy->host->close();
}

}  // namespace

Task<std::vector<LoadedPolicyPtr>> PolicyEngine::Impl::load_source(PolicySource source, Call call) {
    if (source.time_budget == Duration::zero()) source.time_budget = options.time_budget;
    if (source.memory_budget_bytes == 0) source.memory_budget_bytes = options.memory_budget_bytes;
    std::vector<std::shared_ptr<PolicyHost>> hosts;
    if (source.source.starts_with(builtin_prefix)) hosts.push_back(make_builtin_policy(source));
    else if (options.make_hosts) hosts = co_await options.make_hosts(source, call);
    else refuse(source, "only built-in rules can be loaded here, such as builtin:business-hours");
    if (hosts.empty()) refuse(source, "there is no policy in it");
    std::vector<LoadedPolicyPtr> loaded;
    for (auto& host : hosts) {
        loaded.push_back(std::make_shared<LoadedPolicy>(std::move(host), source, options.breaker, env.executor));
        check_identity(*loaded.back());
    }
    co_return loaded;
}

/// All or none.
Task<std::vector<LoadedPolicyPtr>> PolicyEngine::Impl::load(std::vector<PolicySource> sources, Call call) {
    std::vector<LoadedPolicyPtr> all;
    std::exception_ptr error;
    try {
        for (const auto& source : sources) {
            auto some = co_await load_source(source, call);
            all.insert(all.end(), some.begin(), some.end());
        }
        check_names(all);
        if (closed) throw Error(Errc::cancelled, "the policy engine is closed");
    } catch (...) {
        error = std::current_exception();
    }
    if (!error) co_return all;
    for (const auto& policy : all) tasks.spawn(env.logger, "close a policy", close_host(policy));
    std::rethrow_exception(error);
}

namespace {

template <class Take>
Task<void> each_record(std::shared_ptr<Store> store, std::string kind, Take take) {
    constexpr std::size_t chunk = 1000;
    std::string after;
    for (;;) {
        auto records = co_await store->list(kind, after, chunk);
        for (const auto& record : records) take(record);
        if (records.size() < chunk) co_return;
        after = records.back().id;
    }
}

}  // namespace

Task<void> PolicyEngine::Impl::restore() {
    auto take_book = [this](const Record& record) {
        books[record.id] = policy_book_from_json(json::parse(record.json));
    };
    co_await each_record(store, std::string(policy_kind), take_book);
    auto take_state = [this](const Record& record) {
        auto slash = record.id.find('/');
        if (slash != std::string::npos)
            books[record.id.substr(slash + 1)].states[record.id.substr(0, slash)] = record.json;
    };
    co_await each_record(store, std::string(policy_state_kind), take_state);
    auto take_stop = [this](const Record& record) {
        auto stop = policy_stop_from_json(json::parse(record.json));
        stop_limit->note(stop.at);
        stops[record.id] = std::move(stop);
    };
    co_await each_record(store, std::string(policy_stop_kind), take_stop);
}

/// From now on these are asked. Tells of each that was not loaded last in this version.
Task<void> PolicyEngine::Impl::replace(std::vector<LoadedPolicyPtr> loaded) {
    Batch batch;
    for (const auto& policy : loaded) {
        auto& book = book_of(*policy);
        if (!policy->identity.sha256.empty() && book.loaded_sha256 == policy->identity.sha256) continue;
        book.loaded_sha256 = policy->identity.sha256;
        write_book(policy->identity.name, batch);
        json data{
            {"policy", policy->identity}, {"source", policy->source.source}, {"mode", name_of(policy->source.mode)}};
        batch.events.push_back(
            event_of(*policy, "policy.loaded", data.dump(-1, ' ', false, json::error_handler_t::replace)));
    }
    ++revision;
    auto before = std::exchange(policies, std::move(loaded));
    for (auto& asked : by_point) asked.clear();
    for (const auto& policy : policies)
        for (auto point : std::set<DecisionPoint>(policy->points.begin(), policy->points.end()))
            by_point[static_cast<std::size_t>(point)].push_back(policy);
    for (const auto& policy : before) {
        policy->retired = true;
        tasks.spawn(env.logger, "close a policy", retire(policy, env.clock, tasks.stop_source().get_token()));
    }
    if (!batch.events.empty()) co_await store->commit(std::move(batch));
}

void PolicyEngine::Impl::write_book(const std::string& name, Batch& batch) const {
    batch.puts.push_back({policy_kind, name, json(books.at(name)).dump(), std::nullopt});
}

Event PolicyEngine::Impl::event_of(const LoadedPolicy& policy, const char* type, std::string data) const {
    return {0, now(), type, policy.identity.name, "", "", std::move(data)};
}

Task<void> PolicyEngine::open(Call call) {
    auto impl = impl_;
    co_await impl->restore();
    auto loaded = co_await impl->load(impl->options.sources, call);
    co_await impl->replace(std::move(loaded));
}

Task<std::vector<PolicyStatus>> PolicyEngine::reload(std::vector<PolicySource> sources, Call call) {
    auto impl = impl_;
    auto wanted = impl->options;
    wanted.sources = sources;
    policy::check(wanted);
    auto loaded = co_await impl->load(sources, call);
    impl->options.sources = std::move(sources);
    co_await impl->replace(std::move(loaded));
    std::vector<PolicyStatus> all;
    for (const auto& policy : impl->policies) all.push_back(impl->status_of(*policy));
    co_return all;
}

LoadedPolicyPtr PolicyEngine::Impl::find(const std::string& name) const {
    auto it = std::find_if(policies.begin(), policies.end(),
                           [&](const auto& policy) { return policy->identity.name == name; });
    return it == policies.end() ? nullptr : *it;
}

LoadedPolicyPtr PolicyEngine::Impl::need(const std::string& name) const {
    if (auto found = find(name)) return found;
    std::string known;
    for (const auto& policy : policies) known += (known.empty() ? "" : ", ") + policy->identity.name;
    throw Error(Errc::not_found,
                "there is no policy '" + name + "'; known: " + (known.empty() ? std::string("none") : known),
                {{"field", "policy"}, {"value", name}, {"allowed", known}});
}

PolicyStatus PolicyEngine::Impl::status_of(const LoadedPolicy& policy) const {
    PolicyStatus status;
    status.identity = policy.identity;
    status.source = policy.source.source;
    status.mode = policy.source.mode;
    status.canary_tenants = policy.source.canary_tenants;
    status.points = policy.points;
    status.enabled = books.at(policy.identity.name).enabled;
    status.rolled_back = is_rolled_back(policy);
    status.breaker = policy::name_of(policy.breaker.state(env.clock->monotonic_now()));
    status.asked = policy.asked;
    status.decided = policy.decided;
    status.shadowed = policy.shadowed;
    status.overruled = policy.overruled;
    status.failed = policy.failed;
    status.last_failure = policy.last_failure;
    status.last_failure_at = policy.last_failure_at;
    status.overdue = overdue_of(policy);
    status.missing_protections = policy.host->missing_protections();
    std::tie(status.suspensions, status.came_back) = stopped_by(policy);
    return status;
}

std::vector<PolicyStatus> PolicyEngine::list() const {
    std::vector<PolicyStatus> all;
    for (const auto& policy : impl_->policies) all.push_back(impl_->status_of(*policy));
    return all;
}

PolicyStatus PolicyEngine::status(const std::string& name) const { return impl_->status_of(*impl_->need(name)); }

Task<PolicyStatus> PolicyEngine::set_enabled(std::string name, bool enabled, Call call) {
    auto impl = impl_;
    auto policy = impl->need(name);
    auto& book = impl->book_of(*policy);
    book.enabled = enabled;
    ++impl->revision;
    if (enabled) {
        book.rolled_back_sha256.clear();
        policy->breaker.note_success();
    }
    Batch batch;
    impl->write_book(name, batch);
    json data{{"policy", policy->identity}};
    auto event = impl->event_of(*policy, enabled ? "policy.enabled" : "policy.disabled", data.dump());
    event.correlation_id = call.correlation_id;
    batch.events.push_back(std::move(event));
    co_await impl->store->commit(std::move(batch));
    co_return impl->status_of(*policy);
}

Task<void> PolicyEngine::close() {
    auto impl = impl_;
    if (std::exchange(impl->closed, true)) co_return;
    impl->tasks.stop_source().request_stop();
    for (auto& asked : impl->by_point) asked.clear();
    for (const auto& policy : impl->policies) impl->tasks.spawn(impl->env.logger, "close a policy", close_host(policy));
    auto ended = std::make_shared<Ended>(impl->env.executor);
    asio::co_spawn(impl->env.executor, join(impl->tasks, ended), asio::detached);
    auto latest = Deadline::after(*impl->env.clock, patience);
    Call wait(latest);
    while (!ended->done && !latest.expired(*impl->env.clock)) co_await ended->changed.wait(*impl->env.clock, wait);
}

}  // namespace infrastructure_sdk
