#include "webhooks/webhook_worker.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/sha256.hpp"
#include <infrastructure_sdk/http/url.hpp>
#include <infrastructure_sdk/version.hpp>

namespace infrastructure_sdk {

using nlohmann::json;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t page = 256;
/// Events that nobody wants move the stored cursor this seldom.
constexpr std::uint64_t cursor_step = 1000;
constexpr Duration after_a_fault = 5s;

Put put_of(const Delivery& delivery) { return {delivery_kind, delivery.id, json(delivery).dump(), std::nullopt}; }

}  // namespace

std::string to_text(const WebhookRecord& record) {
    json document{{"cursor", record.cursor},
                  {"address", record.address},
                  {"disabled_at", record.disabled_at ? json(to_rfc3339(*record.disabled_at)) : json(nullptr)},
                  {"disabled_reason", record.disabled_reason}};
    return document.dump();
}

WebhookRecord webhook_record_from(const std::string& text) {
    try {
        auto document = json::parse(text);
        WebhookRecord record;
        record.cursor = document.at("cursor").get<std::uint64_t>();
        record.address = document.at("address").get<std::string>();
        if (const auto& at = document.at("disabled_at"); !at.is_null())
            record.disabled_at = parse_rfc3339(at.get<std::string>());
        record.disabled_reason = document.at("disabled_reason").get<std::string>();
        return record;
    } catch (const json::exception& error) {
        throw Error(Errc::store, std::string("a stored webhook cannot be read: ") + error.what());
    }
}

WebhookWorker::WebhookWorker(Environment environment, std::shared_ptr<Store> store, const WebhookEngineOptions& options,
                             Webhook webhook, std::shared_ptr<HttpTransport> transport)
    : environment_(environment),
      store_(std::move(store)),
      options_(options),
      webhook_(std::move(webhook)),
      transport_(std::move(transport)),
      writing_(environment.executor),
      queue_(options.attempts_at_once),
      changed_(environment.executor) {}

void WebhookWorker::log(LogLevel level, std::string message, std::vector<LogField> more) const {
    more.insert(more.begin(), LogField("webhook", webhook_.name));
    environment_.logger->log(level, "webhooks", std::move(message), std::move(more));
}

double WebhookWorker::chance() {
    std::uint8_t bytes[4];
    environment_.random->fill(bytes);
    auto number = bytes[0] | bytes[1] << 8 | bytes[2] << 16 | static_cast<std::uint32_t>(bytes[3]) << 24;
    return static_cast<double>(static_cast<std::uint32_t>(number)) / 4294967295.0;
}

WebhookStatus WebhookWorker::status() const {
    auto count = [&](DeliveryState state) {
        return static_cast<std::size_t>(std::count_if(finished_.begin(), finished_.end(),
                                                      [&](const auto& entry) { return entry.second == state; }));
    };
    WebhookStatus status;
    status.name = webhook_.name;
    status.url = parse_http_url(webhook_.url).shown();
    status.events = webhook_.events;
    status.max_attempts = webhook_.max_attempts;
    status.timeout = webhook_.timeout;
    status.disabled_at = record_.disabled_at;
    status.disabled_reason = record_.disabled_reason;
    status.cursor = record_.cursor;
    status.pending = queue_.size();
    status.delivered = count(DeliveryState::delivered);
    status.dead = count(DeliveryState::dead);
    status.last_attempt_at = last_attempt_at_;
    status.last_status = last_status_;
    status.last_error = last_error_;
    return status;
}

Task<void> WebhookWorker::restore(std::optional<WebhookRecord> stored, std::uint64_t log_end) {
    auto address = sha256_hex(webhook_.url);
    bool is_new = !stored;
    record_ = stored.value_or(WebhookRecord{log_end, address, std::nullopt, {}});
    bool moved = record_.address != address;
    if (moved) {
        record_.address = address;
        record_.disabled_at.reset();
        record_.disabled_reason.clear();
    }
    stored_cursor_ = record_.cursor;
    if (!is_new && !moved) co_return;
    Batch batch;
    batch.puts.push_back({webhook_kind, webhook_.name, to_text(record_), std::nullopt});
    co_await store_->commit(std::move(batch));
}

void WebhookWorker::restore(const Delivery& delivery) {
    remember(delivery);
    if (delivery.state == DeliveryState::pending) queue_.add(delivery.id, delivery.session_id, delivery.due_at);
    else finished_.emplace_back(delivery.id, delivery.state);
}

void WebhookWorker::remember(const Delivery& delivery) {
    if (!delivery.last_attempt_at || (last_attempt_at_ && *last_attempt_at_ > *delivery.last_attempt_at)) return;
    last_attempt_at_ = delivery.last_attempt_at;
    last_status_ = delivery.last_status;
    last_error_ = delivery.last_error;
}

void WebhookWorker::forget(const std::string& id) {
    std::erase_if(finished_, [&](const auto& entry) { return entry.first == id; });
}

/// The finished delivery that goes when another one is finished.
std::optional<std::string> WebhookWorker::surplus() const {
    if (finished_.size() < options_.kept || finished_.empty()) return std::nullopt;
    return finished_.front().first;
}

void WebhookWorker::run(TaskGroup& tasks) {
    tasks.spawn(environment_.logger, "reading events for webhook " + webhook_.name, read(shared_from_this()));
    tasks.spawn(environment_.logger, "sending to webhook " + webhook_.name, send(shared_from_this(), &tasks));
}

void WebhookWorker::drain() {
    draining_ = true;
    stop_reading_.request_stop();
    changed_.notify_all();
}

Task<void> WebhookWorker::pause(Duration length) {
    Call until{Deadline::after(*environment_.clock, length), stop_reading_.get_token()};
    co_await environment_.clock->sleep_until(until.deadline.when(), until.stop);
}

/// Waits for events; when nobody writes any more, for the end.
Task<std::vector<Event>> WebhookWorker::next_events() {
    EventQuery query{record_.cursor, std::nullopt, page};
    bool closed = false;
    try {
        Call until{Deadline(), stop_reading_.get_token()};
        if (!draining_) co_return co_await options_.next_events(query, until);
    } catch (const Error& error) {
        if (error.errc() != Errc::cancelled) throw;
        closed = !draining_;
    }
    while (closed && !draining_) co_await changed_.wait();
    co_return co_await store_->events(query);
}

Task<void> WebhookWorker::read(std::shared_ptr<WebhookWorker> self) {
    for (;;) {
        bool may_read = !self->record_.disabled_at && self->queue_.size() < self->options_.most_pending;
        if (!may_read) {
            if (self->draining_) break;
            co_await self->changed_.wait();
            continue;
        }
        bool fault = false;
        try {
            auto events = co_await self->next_events();
            if (events.empty() && self->draining_) break;
            co_await self->record(std::move(events));
        } catch (const Error& error) {
            if (error.errc() == Errc::cancelled) throw;
            fault = true;
            self->log(LogLevel::error, "events cannot be read or deliveries recorded", {{"detail", error.message()}});
        }
        if (fault && self->draining_) break;
        if (fault) co_await self->pause(after_a_fault);
    }
    self->reader_done_ = true;
    self->changed_.notify_all();
}

/// The deliveries and the cursor behind their events, in one transaction.
Task<void> WebhookWorker::record(std::vector<Event> events) {
    if (events.empty()) co_return;
    Call no_limit;
    auto held = co_await writing_.lock(*environment_.clock, no_limit, "recording a webhook");
    Batch batch;
    std::vector<Delivery> planned;
    auto next = record_;
    for (const auto& event : events) {
        next.cursor = event.sequence;
        if (!wants(webhook_, event)) continue;
        planned.push_back(plan_delivery(webhook_, event, now()));
        batch.puts.push_back(put_of(planned.back()));
    }
    if (!planned.empty() || next.cursor >= stored_cursor_ + cursor_step || draining_) {
        batch.puts.push_back({webhook_kind, webhook_.name, to_text(next), std::nullopt});
        co_await store_->commit(std::move(batch));
        stored_cursor_ = next.cursor;
    }
    record_ = next;
    for (const auto& delivery : planned) queue_.add(delivery.id, delivery.session_id, delivery.due_at);
    if (!planned.empty()) changed_.notify_all();
}

Task<void> WebhookWorker::send(std::shared_ptr<WebhookWorker> self, TaskGroup* tasks) {
    auto& clock = *self->environment_.clock;
    for (;;) {
        Call call{Deadline(), tasks->stop_source().get_token()};
        bool enabled = !self->record_.disabled_at;
        if (enabled && !call.stop.stop_requested())
            while (auto id = self->queue_.begin(self->now()))
                tasks->spawn(self->environment_.logger, "delivering " + *id, attempt(self, *id, call));
        auto due = enabled ? self->queue_.next_due() : std::nullopt;
        bool rests = self->queue_.under_way() == 0 && self->reader_done_;
        if (self->draining_ && (call.stop.stop_requested() || (rests && (!due || *due > self->now())))) break;
        // A minute at most, because the wall clock may be set.
        if (due) {
            auto left = std::clamp<Duration>(*due - self->now(), 1ms, 1min);
            call.deadline = Deadline::after(clock, left);
        }
        co_await self->changed_.wait(clock, call);
    }
}

/// One attempt, its outcome recorded. When that is not known, the delivery stays as it is and is tried again.
Task<void> WebhookWorker::attempt(std::shared_ptr<WebhookWorker> self, std::string id, Call call) {
    bool fault = false;
    try {
        auto record = co_await self->store_->get(delivery_kind, id);
        if (record) {
            auto delivery = delivery_from_json(json::parse(record->json, nullptr, false));
            auto outcome = co_await self->post(delivery, call);
            co_await self->settle(std::move(delivery), std::move(outcome));
        } else {
            self->queue_.finish(id);
        }
    } catch (const Error& error) {
        fault = true;
        if (error.errc() != Errc::cancelled)
            self->log(LogLevel::error, "the outcome of a delivery is not recorded; it will be sent again",
                      {{"delivery", id}, {"detail", error.message()}});
    }
    if (fault) self->queue_.retry(id, self->now() + after_a_fault);
    self->changed_.notify_all();
}

/// @throws Error(cancelled) when the outcome is not known because everything ends.
Task<AttemptOutcome> WebhookWorker::post(Delivery delivery, Call call) {
    AttemptOutcome outcome;
    auto seconds = std::chrono::floor<std::chrono::seconds>(now()).time_since_epoch().count();
    HttpRequest request;
    request.method = "POST";
    request.url = webhook_.url;
    request.repeatable = true;  // receivers know it by its id
    request.headers.add("Content-Type", "application/json");
    request.headers.add("User-Agent", std::string("infrastructure-sdk/") + version());
    request.headers.add("webhook-id", delivery.id);
    request.headers.add("webhook-timestamp", std::to_string(seconds));
    request.headers.add("webhook-signature", webhook_signature(webhook_, delivery.id, seconds, delivery.body));
    request.body = delivery.body;
    auto limited = call.within(Deadline::after(*environment_.clock, webhook_.timeout));
    try {
        auto stream = co_await transport_->open(std::move(request), limited);
        outcome.status = stream->head().status;
        if (auto wait = stream->head().headers.find("Retry-After"))
            outcome.retry_after = parse_retry_after(*wait, now());
        // Read to its end a short answer leaves the connection for the next delivery; what it says does not matter.
        constexpr std::size_t most = 64 << 10;
        for (std::size_t got = 0; got < most;) {
            auto bytes = co_await stream->next(limited);
            if (bytes.empty()) break;
            got += bytes.size();
        }
    } catch (const Error& error) {
        if (error.errc() == Errc::cancelled && outcome.status == 0) throw;
        outcome.error = error.message();
    }
    co_return outcome;
}

Task<void> WebhookWorker::settle(Delivery delivery, AttemptOutcome outcome) {
    using Action = DeliveryVerdict::Action;
    auto verdict = judge(outcome, delivery.attempts + 1, delivery.max_attempts, chance());
    delivery = after_attempt(std::move(delivery), outcome, verdict, now());
    Call no_limit;
    auto held = co_await writing_.lock(*environment_.clock, no_limit, "recording a delivery");
    auto next = record_;
    Batch batch;
    batch.puts.push_back(put_of(delivery));
    if (verdict.action == Action::disable) {
        next.disabled_at = now();
        next.disabled_reason = "the receiver answered 410 Gone";
        batch.puts.push_back({webhook_kind, webhook_.name, to_text(next), std::nullopt});
    }
    bool finished = delivery.state != DeliveryState::pending;
    auto old = finished ? surplus() : std::nullopt;
    if (old) {
        batch.erases.push_back({delivery_kind, *old});
        finished_.pop_front();
    }
    co_await store_->commit(std::move(batch));
    remember(delivery);
    if (verdict.hold) queue_.hold(now() + verdict.delay);
    if (finished) {
        finished_.emplace_back(delivery.id, delivery.state);
        queue_.finish(delivery.id);
    } else {
        queue_.retry(delivery.id, delivery.due_at);
    }
    std::vector<LogField> fields{{"delivery", delivery.id},
                                 {"event", delivery.event_type},
                                 {"attempt", std::int64_t{delivery.attempts}},
                                 {"detail", delivery.last_error}};
    if (verdict.action == Action::delivered) log(LogLevel::debug, "delivered", std::move(fields));
    else if (verdict.action == Action::retry) log(LogLevel::info, "not delivered yet", std::move(fields));
    else log(LogLevel::warning, "given up", std::move(fields));
    if (verdict.action != Action::disable) co_return;
    record_ = next;
    log(LogLevel::warning, "disabled", {{"reason", record_.disabled_reason}});
}

Task<void> WebhookWorker::enable() {
    if (!record_.disabled_at) co_return;
    Call no_limit;
    auto held = co_await writing_.lock(*environment_.clock, no_limit, "recording a webhook");
    auto next = record_;
    next.disabled_at.reset();
    next.disabled_reason.clear();
    Batch batch;
    batch.puts.push_back({webhook_kind, webhook_.name, to_text(next), std::nullopt});
    co_await store_->commit(std::move(batch));
    record_ = next;
    log(LogLevel::info, "enabled again", {});
    changed_.notify_all();
}

Task<Delivery> WebhookWorker::redeliver(Record record) {
    auto delivery = delivery_from_json(json::parse(record.json, nullptr, false));
    if (queue_.is_under_way(delivery.id)) co_return delivery;
    // Out of the queue while it is written, so that no attempt writes it too.
    bool waited = queue_.remove(delivery.id);
    auto before = delivery.due_at;
    delivery.state = DeliveryState::pending;
    delivery.attempts = 0;
    delivery.max_attempts = webhook_.max_attempts;
    delivery.due_at = now();
    delivery.finished_at.reset();
    Batch batch;
    batch.puts.push_back({delivery_kind, delivery.id, json(delivery).dump(), record.version});
    std::exception_ptr problem;
    try {
        co_await store_->commit(std::move(batch));
    } catch (...) {
        problem = std::current_exception();
    }
    if (!problem || waited) queue_.add(delivery.id, delivery.session_id, problem ? before : delivery.due_at);
    if (problem) std::rethrow_exception(problem);
    forget(delivery.id);
    changed_.notify_all();
    co_return delivery;
}

Task<Delivery> WebhookWorker::test(Call call) {
    Event event;
    event.type = "webhook.test";
    event.time = now();
    auto delivery = plan_delivery(webhook_, event, now());
    // Unlike an event's, its id must be new each time.
    auto stored_as = delivery.id;
    delivery.id = "msg_" + std::string(12, '0') + "_" + make_uuid(*environment_.random);
    delivery.body.replace(delivery.body.find(stored_as), stored_as.size(), delivery.id);
    delivery.max_attempts = 1;
    Batch batch;
    batch.puts.push_back(put_of(delivery));
    co_await store_->commit(std::move(batch));
    queue_.add_begun(delivery.id, "");
    co_await attempt(shared_from_this(), delivery.id, call);
    auto record = co_await store_->get(delivery_kind, delivery.id);
    if (record) delivery = delivery_from_json(json::parse(record->json, nullptr, false));
    if (delivery.state == DeliveryState::pending) check(call, *environment_.clock, "testing a webhook");
    if (delivery.state == DeliveryState::delivered) co_await enable();
    co_return delivery;
}

}  // namespace infrastructure_sdk
