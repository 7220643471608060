#pragma once
// Who may boot now: so many at once, in the order in which they were admitted. Pure.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

class BootQueue {
public:
    /// @param places 0 = any number
    explicit BootQueue(std::size_t places) : places_(places) {}

    /// Takes a place if one is free and nobody waits for it. False = none was taken.
    bool try_begin(const std::string& id) {
        if (!waiting_.empty() || !is_free()) return false;
        booting_.insert(id);
        return true;
    }
    /// It boots, whether there is a place or not: what was found so after a crash.
    void begin(const std::string& id) {
        forget(id);
        booting_.insert(id);
    }
    void wait(const std::string& id, WallTime since) {
        if (booting_.contains(id) || places_of_waiting_.contains(id)) return;
        auto place = waiting_.emplace(std::pair(since, arrivals_++), id).first;
        places_of_waiting_.emplace(id, place);
    }
    /// It boots or waits no longer. True = others may go on.
    bool leave(const std::string& id) {
        bool waited = forget(id);
        return booting_.erase(id) > 0 || waited;
    }
    /// The one that has waited longest, with a place taken for it.
    std::optional<std::string> next() {
        if (waiting_.empty() || !is_free()) return std::nullopt;
        const auto id = waiting_.begin()->second;
        begin(id);
        return id;
    }
    bool has_place(const std::string& id) const { return booting_.contains(id); }
    /// Those that boot and those that wait.
    std::size_t size() const { return booting_.size() + waiting_.size(); }

private:
    bool is_free() const { return places_ == 0 || booting_.size() < places_; }
    bool forget(const std::string& id) {
        auto found = places_of_waiting_.find(id);
        if (found == places_of_waiting_.end()) return false;
        waiting_.erase(found->second);
        places_of_waiting_.erase(found);
        return true;
    }

    std::size_t places_;
    std::set<std::string> booting_;
    using Line = std::map<std::pair<WallTime, std::uint64_t>, std::string>;  // by admission, then by arrival
    Line waiting_;
    std::unordered_map<std::string, Line::iterator> places_of_waiting_;
    std::uint64_t arrivals_ = 0;
};

}  // namespace infrastructure_sdk
