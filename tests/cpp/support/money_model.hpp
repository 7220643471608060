#pragma once
// What sessions cost, computed the naive way: from the events alone, interval by interval, with the C library's
// calendar.

#include <ctime>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "support/simulated_world.hpp"

namespace infrastructure_sdk::test {

class MoneyModel {
public:
    /// Reads everything that the owners have written.
    explicit MoneyModel(SimulatedWorld& world) {
        EventQuery all;
        all.limit = 1'000'000;
        VirtualRuntime reader;
        for (const auto& session : world.sessions()) sessions_[session.id].session = session;
        for (const auto& event : reader.run(world.disk().events(all)))
            if (auto story = sessions_.find(event.subject); story != sessions_.end()) story->second.take(event);
    }

    /// Of the sessions of a subject: accrued in the month of `now`, and to come until the ttl or the month's end.
    std::int64_t month(LimitScope scope, const std::string& subject, WallTime now) const {
        std::int64_t sum = 0;
        for (const auto& [id, story] : sessions_)
            if (belongs(story.session, scope, subject)) sum += story.cost(now);
        return sum;
    }
    /// What its sessions cost an hour now.
    std::int64_t hour(LimitScope scope, const std::string& subject) const {
        std::int64_t sum = 0;
        for (const auto& [id, story] : sessions_)
            if (belongs(story.session, scope, subject) && story.open) sum += story.price();
        return sum;
    }
    std::set<std::string> subjects(LimitScope scope) const {
        std::set<std::string> found;
        for (const auto& [id, story] : sessions_) found.insert(subject_of(story.session, scope));
        return found;
    }

private:
    struct Tale {
        Session session;
        std::vector<std::pair<WallTime, WallTime>> paid;
        std::optional<WallTime> open;

        std::int64_t price() const { return session.charge.price_per_hour_micros; }
        void take(const Event& event) {
            static const std::set<std::string> free{"suspended", "failed", "terminated"};
            auto to = nlohmann::json::parse(event.data).value("to", "");
            if (event.type == "session.lifecycle.created") open = event.time;
            if (to.empty() || event.type.rfind("session.lifecycle.", 0) != 0) return;
            if (free.contains(to) && open) {
                paid.emplace_back(*open, event.time);
                open.reset();
            } else if (!free.contains(to) && !open && to != "terminating") {
                open = event.time;
            }
        }
        std::int64_t cost(WallTime now) const {
            auto [begin, end] = month_around(now);
            auto all = paid;
            if (open) {
                const auto& ttl = session.clocks.ttl;
                bool ends = ttl.deadline && ttl.on_expiry != OnExpiry::disconnect;
                all.emplace_back(*open, std::max(now, ends ? *ttl.deadline : end));
            }
            __extension__ __int128 nanoseconds = 0;
            for (auto [from, until] : all) {
                from = std::max(from, begin);
                until = std::min(until, end);
                if (until > from) nanoseconds += (until - from).count();
            }
            return static_cast<std::int64_t>(nanoseconds * price() / 3'600'000'000'000);
        }
    };

    static std::pair<WallTime, WallTime> month_around(WallTime now) {
        std::time_t seconds = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
        std::tm date{};
        gmtime_r(&seconds, &date);
        std::tm first{};
        first.tm_year = date.tm_year;
        first.tm_mon = date.tm_mon;
        first.tm_mday = 1;
        auto next = first;
        ++next.tm_mon;
        return {WallTime(std::chrono::seconds(timegm(&first))), WallTime(std::chrono::seconds(timegm(&next)))};
    }
    static std::string subject_of(const Session& session, LimitScope scope) {
        switch (scope) {
            case LimitScope::user: return session.user_id;
            case LimitScope::tenant: return session.tenant;
            case LimitScope::template_: return session.template_name;
            case LimitScope::host: break;
        }
        return "";
    }
    static bool belongs(const Session& session, LimitScope scope, const std::string& subject) {
        return subject_of(session, scope) == subject;
    }

    std::map<std::string, Tale> sessions_;
};

}  // namespace infrastructure_sdk::test
