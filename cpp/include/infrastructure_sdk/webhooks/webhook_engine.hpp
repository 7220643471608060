#pragma once
// Sends events to webhooks, at least once each.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/http/http.hpp>
#include <infrastructure_sdk/store/store.hpp>
#include <infrastructure_sdk/webhooks/webhook.hpp>

namespace infrastructure_sdk {

struct WebhookEngineOptions {
    std::vector<Webhook> webhooks;
    /// Waits for events after a sequence, as `SessionEngine::next_events` does.
    std::function<Task<std::vector<Event>>(EventQuery, Call)> next_events;
    /// A transport that trusts this CA file ("" = what the system trusts); one is made for each.
    std::function<std::shared_ptr<HttpTransport>(const std::string& ca_file)> make_transport;
    /// To one webhook at once.
    std::size_t attempts_at_once = 4;
    /// Not yet delivered, for each webhook; above it events wait in the log.
    std::size_t most_pending = 10'000;
    /// Finished deliveries that are kept, for each webhook; the oldest go first.
    std::size_t kept = 1'000;
    /// How long `close` goes on delivering what is due.
    Duration close_patience = std::chrono::seconds(2);
};

struct DeliveryFilter {
    std::optional<std::string> webhook;
    std::optional<DeliveryState> state;
    std::size_t limit = 100;
};

/// Each webhook is served by itself: a slow one holds up no other. For every event that one asks for, a delivery is
/// recorded before anything is sent, so none is lost when the process dies; one whose answer was not recorded is sent
/// again under the same id. First attempts for one session are made in the order of its events.
///
/// 2xx is success; 410 disables the webhook; all else is tried again, later and later, until `max_attempts` (10
/// attempts are about 24 hours). Retry-After of a 429 or 503 is kept to, up to 24 hours. A webhook with a new name
/// begins with the present; one that comes back under its name gets what it missed.
///
/// Every method must be awaited on the Environment's executor (any number at once).
class WebhookEngine {
public:
    WebhookEngine(Environment environment, std::shared_ptr<Store> store, WebhookEngineOptions options);
    ~WebhookEngine();

    /// Takes up what was left, and begins. @throws Error(store)
    Task<void> start();
    /// In the order of the document.
    Task<std::vector<WebhookStatus>> list();
    /// The newest first, of webhooks that are configured no more too. @throws Error(store)
    Task<std::vector<Delivery>> deliveries(DeliveryFilter filter);
    /// Begins again with the first attempt, at once and under the same id. One that is under way is left alone.
    /// @throws Error(not_found), Error(store)
    Task<Delivery> redeliver(std::string id);
    /// Sends one event of type "webhook.test", once, and completes when its outcome is known: look at `state` and
    /// `last_error`. Success enables a disabled webhook. @throws Error(not_found), Error(store), Error(timeout),
    /// Error(cancelled)
    Task<Delivery> test(std::string name, Call call);
    /// Delivers what is due for a while, then stops; the rest is sent after the next start.
    Task<void> close();

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace infrastructure_sdk
