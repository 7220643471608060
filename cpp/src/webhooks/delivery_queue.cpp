#include "webhooks/delivery_queue.hpp"

#include <algorithm>
#include <iterator>

namespace infrastructure_sdk {

void DeliveryQueue::start(const std::string& id, Item& item) {
    waiting_.erase({item.due, id});
    item.begun = true;
    busy_.insert(item.subject);
    ++under_way_;
}

void DeliveryQueue::stop(Item& item) {
    item.begun = false;
    busy_.erase(busy_.find(item.subject));
    --under_way_;
}

void DeliveryQueue::add(const std::string& id, const std::string& subject, WallTime due) {
    if (items_.emplace(id, Item{subject, due}).second) waiting_.insert({due, id});
}

void DeliveryQueue::add_begun(const std::string& id, const std::string& subject) {
    add(id, subject, WallTime::min());
    start(id, items_.at(id));
}

bool DeliveryQueue::remove(const std::string& id) {
    auto it = items_.find(id);
    if (it == items_.end() || it->second.begun) return false;
    waiting_.erase({it->second.due, id});
    items_.erase(it);
    return true;
}

/// Nothing is ever put off for longer than a day.
void DeliveryQueue::notice_clock(WallTime now) {
    constexpr Duration longest = std::chrono::hours(24);
    if (held_until_ > now + longest) held_until_ = now;
    while (!waiting_.empty() && waiting_.rbegin()->first > now + longest) {
        auto last = waiting_.extract(std::prev(waiting_.end()));
        items_.at(last.value().second).due = last.value().first = now;
        waiting_.insert(std::move(last));
    }
}

std::optional<std::string> DeliveryQueue::begin(WallTime now) {
    notice_clock(now);
    if (under_way_ >= at_once_ || now < held_until_) return std::nullopt;
    for (const auto& [due, id] : waiting_) {
        if (due > now) break;
        auto& item = items_.at(id);
        if (!is_free(item)) continue;
        auto chosen = id;
        start(chosen, item);
        return chosen;
    }
    return std::nullopt;
}

void DeliveryQueue::finish(const std::string& id) {
    auto it = items_.find(id);
    stop(it->second);
    items_.erase(it);
}

void DeliveryQueue::retry(const std::string& id, WallTime due) {
    auto& item = items_.at(id);
    stop(item);
    item.due = due;
    waiting_.insert({due, id});
}

bool DeliveryQueue::is_under_way(const std::string& id) const {
    auto it = items_.find(id);
    return it != items_.end() && it->second.begun;
}

std::optional<WallTime> DeliveryQueue::next_due() const {
    if (under_way_ >= at_once_) return std::nullopt;
    for (const auto& [due, id] : waiting_)
        if (is_free(items_.at(id))) return std::max(due, held_until_);
    return std::nullopt;
}

}  // namespace infrastructure_sdk
