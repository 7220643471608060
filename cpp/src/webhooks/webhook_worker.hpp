#pragma once
// One webhook: reads the event log from where it was, records deliveries, sends them. A shell around delivery_rules and
// delivery_queue.

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/async_tools.hpp"
#include "webhooks/delivery_queue.hpp"
#include "webhooks/delivery_rules.hpp"
#include <infrastructure_sdk/webhooks/webhook_engine.hpp>

namespace infrastructure_sdk {

inline constexpr const char* delivery_kind = "webhook_delivery";
inline constexpr const char* webhook_kind = "webhook";

/// What is stored of a webhook under its name.
struct WebhookRecord {
    std::uint64_t cursor = 0;
    std::string address;  ///< SHA-256 of the URL: another address is another receiver
    std::optional<WallTime> disabled_at;
    std::string disabled_reason;
};
std::string to_text(const WebhookRecord& record);
/// @throws Error(store)
WebhookRecord webhook_record_from(const std::string& json);

/// Used on the executor only. Its tasks belong to the group that it is given; their owner joins them.
class WebhookWorker : public std::enable_shared_from_this<WebhookWorker> {
public:
    WebhookWorker(Environment environment, std::shared_ptr<Store> store, const WebhookEngineOptions& options,
                  Webhook webhook, std::shared_ptr<HttpTransport> transport);

    const Webhook& webhook() const { return webhook_; }
    WebhookStatus status() const;

    /// Before `run`. `stored` is nullopt for a webhook that was never here: it begins after `log_end`.
    Task<void> restore(std::optional<WebhookRecord> stored, std::uint64_t log_end);
    /// Before `run`: a delivery that was stored, the oldest first.
    void restore(const Delivery& delivery);
    void run(TaskGroup& tasks);

    Task<Delivery> redeliver(Record record);
    Task<Delivery> test(Call call);

    /// Reads what is in the log and sends what is due, and then ends.
    void drain();

private:
    static Task<void> read(std::shared_ptr<WebhookWorker> self);
    static Task<void> send(std::shared_ptr<WebhookWorker> self, TaskGroup* tasks);
    static Task<void> attempt(std::shared_ptr<WebhookWorker> self, std::string id, Call call);
    Task<std::vector<Event>> next_events();
    Task<void> record(std::vector<Event> events);
    Task<AttemptOutcome> post(Delivery delivery, Call call);
    Task<void> settle(Delivery delivery, AttemptOutcome outcome);
    Task<void> enable();
    Task<void> pause(Duration length);
    double chance();
    WallTime now() const { return environment_.clock->wall_now(); }
    void log(LogLevel level, std::string message, std::vector<LogField> more) const;
    void remember(const Delivery& delivery);
    void forget(const std::string& id);
    std::optional<std::string> surplus() const;

    Environment environment_;
    std::shared_ptr<Store> store_;
    WebhookEngineOptions options_;
    Webhook webhook_;
    std::shared_ptr<HttpTransport> transport_;
    WebhookRecord record_;
    AsyncMutex writing_;  // one commit of it at a time
    std::uint64_t stored_cursor_ = 0;
    DeliveryQueue queue_;
    std::deque<std::pair<std::string, DeliveryState>> finished_;  // the oldest first
    std::optional<WallTime> last_attempt_at_;
    int last_status_ = 0;
    std::string last_error_;
    Signal changed_;
    std::stop_source stop_reading_;
    bool draining_ = false;
    bool reader_done_ = false;
};

}  // namespace infrastructure_sdk
