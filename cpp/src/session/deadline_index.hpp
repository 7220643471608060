#pragma once
// Which session is due next, without looking at the others. Pure.

#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

/// `Time` is WallTime or MonotonicTime.
template <class Time>
class DeadlineIndex {
public:
    DeadlineIndex() = default;
    DeadlineIndex(const DeadlineIndex&) = delete;
    DeadlineIndex& operator=(const DeadlineIndex&) = delete;

    /// nullopt = none any more. True when the earliest deadline is another one now.
    bool set(const std::string& id, std::optional<Time> when) {
        const auto before = next();
        const auto known = by_id_.find(id);
        if (known == by_id_.end()) {
            if (!when) return false;
            const auto added = by_id_.emplace(id, *when).first;
            by_time_.insert(&*added);
        } else if (when == known->second) {
            return false;
        } else {
            auto entry = by_time_.extract(&*known);
            if (when) {
                known->second = *when;
                by_time_.insert(std::move(entry));
            } else {
                by_id_.erase(known);
            }
        }
        return next() != before;
    }
    bool has(const std::string& id) const { return by_id_.contains(id); }
    std::optional<Time> at(const std::string& id) const {
        auto known = by_id_.find(id);
        return known == by_id_.end() ? std::nullopt : std::optional(known->second);
    }
    std::optional<Time> next() const {
        if (by_time_.empty()) return std::nullopt;
        return (*by_time_.begin())->second;
    }
    std::optional<std::string> first_due(Time now) const {
        if (by_time_.empty() || (*by_time_.begin())->second > now) return std::nullopt;
        return (*by_time_.begin())->first;
    }
    /// The sessions whose deadline is not after `now`, earliest first; of equal ones the smaller id.
    std::vector<std::string> due(Time now) const {
        std::vector<std::string> ids;
        for (const auto* entry : by_time_) {
            if (entry->second > now) break;
            ids.push_back(entry->first);
        }
        return ids;
    }

private:
    using Entry = std::pair<const std::string, Time>;
    struct Earlier {
        bool operator()(const Entry* a, const Entry* b) const {
            return a->second != b->second ? a->second < b->second : a->first < b->first;
        }
    };

    std::unordered_map<std::string, Time> by_id_;
    std::set<const Entry*, Earlier> by_time_;  // those of `by_id_`
};

}  // namespace infrastructure_sdk
