#include <infrastructure_sdk/webhooks/webhook_engine.hpp>

#include <algorithm>
#include <map>
#include <tuple>

#include <nlohmann/json.hpp>

#include "core/async_tools.hpp"
#include "core/did_you_mean.hpp"
#include "webhooks/webhook_worker.hpp"

namespace infrastructure_sdk {

using nlohmann::json;

using WorkerPtr = std::shared_ptr<WebhookWorker>;

struct WebhookEngine::Impl {
    Impl(Environment e, std::shared_ptr<Store> s, WebhookEngineOptions o)
        : environment(std::move(e)), store(std::move(s)), options(std::move(o)), tasks(environment.executor) {}

    Environment environment;
    std::shared_ptr<Store> store;
    WebhookEngineOptions options;
    std::map<std::string, std::shared_ptr<HttpTransport>> transports;  // by CA file
    std::map<std::string, WorkerPtr> workers;                          // by name
    TaskGroup tasks;
    bool closed = false;

    Task<std::vector<Delivery>> read_deliveries();
    Task<std::uint64_t> log_end();
    const WorkerPtr& need(const std::string& name) const;
    static Task<void> stop_at(std::shared_ptr<Impl> impl, Call until);
};

Task<std::vector<Delivery>> WebhookEngine::Impl::read_deliveries() {
    std::vector<Delivery> found;
    std::string after;
    for (;;) {
        auto page = co_await store->list(delivery_kind, after);
        for (const auto& record : page) found.push_back(delivery_from_json(json::parse(record.json, nullptr, false)));
        if (page.empty()) co_return found;
        after = page.back().id;
    }
}

Task<std::uint64_t> WebhookEngine::Impl::log_end() {
    EventQuery query;
    for (;;) {
        auto page = co_await store->events(query);
        if (page.empty()) co_return query.after;
        query.after = page.back().sequence;
    }
}

const WorkerPtr& WebhookEngine::Impl::need(const std::string& name) const {
    if (auto it = workers.find(name); it != workers.end()) return it->second;
    std::vector<std::string> names;
    for (const auto& entry : workers) names.push_back(entry.first);
    auto guess = did_you_mean(name, names);
    throw Error(Errc::not_found,
                "there is no webhook '" + name + "'" + (guess.empty() ? "" : "; did you mean '" + guess + "'?"),
                {{"field", "webhook"}, {"value", name}, {"did_you_mean", guess}});
}

/// What is under way then is stopped; it will be sent again.
Task<void> WebhookEngine::Impl::stop_at(std::shared_ptr<Impl> impl, Call until) {
    co_await impl->environment.clock->sleep_until(until.deadline.when(), until.stop);
    impl->tasks.stop_source().request_stop();
}

WebhookEngine::WebhookEngine(Environment environment, std::shared_ptr<Store> store, WebhookEngineOptions options)
    : impl_(std::make_shared<Impl>(std::move(environment), std::move(store), std::move(options))) {}
WebhookEngine::~WebhookEngine() = default;

Task<void> WebhookEngine::start() {
    auto impl = impl_;
    if (impl->options.webhooks.empty()) co_return;
    std::optional<std::uint64_t> end;
    std::vector<WorkerPtr> fresh;
    for (const auto& webhook : impl->options.webhooks) {
        auto& transport = impl->transports[webhook.ca_file];
        if (!transport) transport = impl->options.make_transport(webhook.ca_file);
        auto worker =
            std::make_shared<WebhookWorker>(impl->environment, impl->store, impl->options, webhook, transport);
        auto record = co_await impl->store->get(webhook_kind, webhook.name);
        std::optional<WebhookRecord> stored;
        if (record) stored = webhook_record_from(record->json);
        if (!stored && !end) end = co_await impl->log_end();
        co_await worker->restore(std::move(stored), end.value_or(0));
        impl->workers[webhook.name] = worker;
    }
    auto deliveries = co_await impl->read_deliveries();
    std::stable_sort(deliveries.begin(), deliveries.end(),
                     [](const Delivery& a, const Delivery& b) { return a.finished_at < b.finished_at; });
    for (const auto& delivery : deliveries)
        if (auto it = impl->workers.find(delivery.webhook); it != impl->workers.end()) it->second->restore(delivery);
    for (const auto& entry : impl->workers) entry.second->run(impl->tasks);
}

Task<std::vector<WebhookStatus>> WebhookEngine::list() {
    auto impl = impl_;
    std::vector<WebhookStatus> all;
    for (const auto& webhook : impl->options.webhooks)
        if (auto it = impl->workers.find(webhook.name); it != impl->workers.end()) all.push_back(it->second->status());
    co_return all;
}

Task<std::vector<Delivery>> WebhookEngine::deliveries(DeliveryFilter filter) {
    auto impl = impl_;
    auto found = co_await impl->read_deliveries();
    std::erase_if(found, [&](const Delivery& delivery) {
        return (filter.webhook && delivery.webhook != *filter.webhook) ||
               (filter.state && delivery.state != *filter.state);
    });
    std::sort(found.begin(), found.end(), [](const Delivery& a, const Delivery& b) {
        return std::tie(a.created_at, a.id) > std::tie(b.created_at, b.id);
    });
    if (found.size() > filter.limit) found.resize(filter.limit);
    co_return found;
}

Task<Delivery> WebhookEngine::redeliver(std::string id) {
    auto impl = impl_;
    auto record = co_await impl->store->get(delivery_kind, id);
    if (!record)
        throw Error(Errc::not_found, "there is no delivery '" + id + "'; `infra-sdk webhook deliveries` shows them",
                    {{"field", "delivery"}, {"value", id}});
    auto worker = impl->need(delivery_from_json(json::parse(record->json, nullptr, false)).webhook);
    co_return co_await worker->redeliver(std::move(*record));
}

Task<Delivery> WebhookEngine::test(std::string name, Call call) {
    auto impl = impl_;
    auto worker = impl->need(name);
    co_return co_await worker->test(call);
}

Task<void> WebhookEngine::close() {
    auto impl = impl_;
    if (impl->closed) co_return;
    impl->closed = true;
    for (const auto& entry : impl->workers) entry.second->drain();
    TaskGroup timer(impl->environment.executor);
    auto end = Deadline::after(*impl->environment.clock, impl->options.close_patience);
    Call until{end, timer.stop_source().get_token()};
    timer.spawn(impl->environment.logger, "ending deliveries", Impl::stop_at(impl, until));
    co_await impl->tasks.join();
    timer.stop_source().request_stop();
    co_await timer.join();
    for (const auto& entry : impl->transports) co_await entry.second->close();
}

}  // namespace infrastructure_sdk
