#pragma once
// Which session is due next, without looking at the others. Pure.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

/// `Time` is WallTime or MonotonicTime.
template <class Time>
class DeadlineIndex {
public:
    /// nullopt = none any more. True when the earliest deadline is another one now.
    bool set(const std::string& id, std::optional<Time> when) {
        auto before = next();
        if (auto known = by_id_.find(id); known != by_id_.end()) {
            if (when == known->second) return false;
            by_time_.erase({known->second, id});
            by_id_.erase(known);
        }
        if (when) {
            by_id_.emplace(id, *when);
            by_time_.emplace(*when, id);
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
        return by_time_.begin()->first;
    }
    std::optional<std::string> first_due(Time now) const {
        if (by_time_.empty() || by_time_.begin()->first > now) return std::nullopt;
        return by_time_.begin()->second;
    }
    /// The sessions whose deadline is not after `now`, earliest first.
    std::vector<std::string> due(Time now) const {
        std::vector<std::string> ids;
        for (const auto& [when, id] : by_time_) {
            if (when > now) break;
            ids.push_back(id);
        }
        return ids;
    }

private:
    std::set<std::pair<Time, std::string>> by_time_;
    std::map<std::string, Time> by_id_;
};

}  // namespace infrastructure_sdk
