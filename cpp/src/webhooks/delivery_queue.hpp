#pragma once
// Which delivery to one webhook is begun next. Pure: times are given.

#include <map>
#include <optional>
#include <set>
#include <string>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

/// At most so many at once; those that are due first go first, and among equals the smaller id; of one session never
/// two at once. What is due more than a day ahead is due now: the wall clock was set back.
class DeliveryQueue {
public:
    explicit DeliveryQueue(std::size_t at_once) : at_once_(at_once) {}

    /// Not in the queue yet. An empty subject excludes no other.
    void add(const std::string& id, const std::string& subject, WallTime due);
    /// As `add`, and begun already, whatever else is under way.
    void add_begun(const std::string& id, const std::string& subject);
    /// Takes out one that is not under way; false = there is none such.
    bool remove(const std::string& id);
    /// Nothing is begun before.
    void hold(WallTime until) { held_until_ = std::max(held_until_, until); }

    /// The next to begin; it is under way then.
    std::optional<std::string> begin(WallTime now);
    /// An attempt is over: it is done with, or waits again.
    void finish(const std::string& id);
    void retry(const std::string& id, WallTime due);

    bool is_under_way(const std::string& id) const;
    std::size_t under_way() const { return under_way_; }
    std::size_t size() const { return items_.size(); }
    /// When `begin` may give something; nullopt = not before another attempt is over.
    std::optional<WallTime> next_due() const;

private:
    struct Item {
        std::string subject;
        WallTime due;
        bool begun = false;
    };
    bool is_free(const Item& item) const { return item.subject.empty() || !busy_.contains(item.subject); }
    void start(const std::string& id, Item& item);
    void notice_clock(WallTime now);
    void stop(Item& item);

    std::size_t at_once_;
    std::size_t under_way_ = 0;
    WallTime held_until_ = WallTime::min();
    std::map<std::string, Item> items_;
    std::set<std::pair<WallTime, std::string>> waiting_;
    std::multiset<std::string> busy_;  // subjects
};

}  // namespace infrastructure_sdk
