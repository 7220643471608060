// Makes up a fleet: who comes when, works how long, and what is forgotten.
#include <algorithm>
#include <array>

#include "simulation/chance.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/simulation/workload.hpp>

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;
constexpr Duration day = 24h;
constexpr Duration minute = 1min;

/// Whole seconds read better, and no look of the engine falls between.
Duration seconds_of(Duration length) { return std::chrono::duration_cast<std::chrono::seconds>(length); }

int weekday_of(WallTime local_midnight) {
    auto days = std::chrono::floor<std::chrono::days>(local_midnight);
    return static_cast<int>(std::chrono::weekday(days).iso_encoding());
}

/// One user's month: days are made in order and gathered into sessions.
class UserPlan {
public:
    UserPlan(const FleetModel& model, std::size_t number, std::uint64_t seed)
        : model_(model), chance_(stream_seed(seed, number)) {
        auto digits = std::to_string(number + 1);
        auto width = std::max<std::size_t>(4, std::to_string(model.users).size());
        user_ = "user-" + std::string(width - std::min(width, digits.size()), '0') + digits;
        if (model.tenants > 0) tenant_ = "tenant-" + std::to_string(number % model.tenants + 1);
    }

    void append_to(std::vector<PlannedSession>& sessions) {
        const auto end = model_.start + model_.length;
        // The first local midnight may lie before the start.
        auto local = std::chrono::floor<std::chrono::days>(model_.start + model_.utc_offset);
        for (WallTime midnight = WallTime(local) - model_.utc_offset; midnight < end; midnight += day)
            if (comes(midnight)) live_day(midnight, sessions);
        finish(sessions);
        std::erase_if(sessions, [&](const PlannedSession& planned) {
            return planned.user_id == user_ && (planned.start < model_.start || planned.start >= end);
        });
    }

private:
    bool comes(WallTime midnight) {
        const auto& days = model_.working_days;
        const bool works = std::find(days.begin(), days.end(), weekday_of(midnight + model_.utc_offset)) != days.end();
        return chance_.share(works ? model_.attendance : model_.weekend_attendance);
    }

    void live_day(WallTime midnight, std::vector<PlannedSession>& sessions) {
        auto from = midnight + model_.day_start + seconds_of(chance_.around_zero(model_.day_start_spread));
        const auto length =
            std::max(minute, model_.day_length + seconds_of(chance_.around_zero(model_.day_length_spread)));
        const auto until = from + length;
        if (open_ && from < used_until_ + minute) from = used_until_ + minute;
        if (from >= until) return;
        if (!open_) begin(from);
        ++days_used_;
        work(from, until, midnight + model_.lunch_at);
        evening();
        if (days_used_ >= model_.session_days) finish(sessions);
    }

    /// Stretches of work with breaks, a meeting now and then, and one lunch.
    void work(WallTime at, WallTime until, WallTime lunch) {
        bool ate = model_.lunch_length == Duration::zero() || lunch < at;
        while (at < until) {
            auto stop = std::min(until, at + seconds_of(chance_.exponential(model_.work_stretch)));
            if (!ate && stop > lunch) stop = std::max(at + minute, lunch);
            add(at, std::min(stop, until), UseKind::work);
            const bool lunch_now = !ate && stop >= lunch;
            ate = ate || lunch_now;
            const bool meets = chance_.share(model_.meeting_share);
            const auto mean = lunch_now ? model_.lunch_length : meets ? model_.meeting_length : model_.break_length;
            at = stop + std::max<Duration>(1s, seconds_of(chance_.exponential(mean)));
        }
    }

    /// What goes on when the user has left: a job that was started before, then a screen that stays connected.
    void evening() {
        const auto at = used_until_;
        const bool job = chance_.share(model_.background_share);
        const auto job_length = seconds_of(chance_.exponential(model_.background_length));
        const bool tab = chance_.share(model_.forgotten_tab_share);
        const auto tab_length = seconds_of(chance_.exponential(model_.forgotten_tab_length));
        if (job) add(at, at + job_length, UseKind::background);
        if (!tab) return;
        // People who come in the morning find the tab, at the latest.
        add(used_until_, std::min(used_until_ + tab_length, at + 13h), UseKind::open);
    }

    void begin(WallTime at) {
        open_ = true;
        planned_ = {};
        planned_.user_id = user_;
        planned_.tenant = tenant_;
        planned_.start = at;
        days_used_ = 0;
    }
    void add(WallTime from, WallTime until, UseKind kind) {
        if (until <= from) return;
        planned_.uses.push_back({from - planned_.start, until - from, kind});
        used_until_ = until;
    }
    void finish(std::vector<PlannedSession>& sessions) {
        if (!open_) return;
        open_ = false;
        planned_.ended_by_user = !chance_.share(model_.forgotten_session_share);
        planned_.length = used_until_ - planned_.start + minute;
        sessions.push_back(std::move(planned_));
    }

    const FleetModel& model_;
    Chance chance_;
    std::string user_;
    std::string tenant_;
    PlannedSession planned_;
    bool open_ = false;
    std::size_t days_used_ = 0;
    WallTime used_until_{};
};

}  // namespace

Workload synthesize(const FleetModel& model, std::uint64_t seed, const std::function<bool()>& go_on) {
    check(model);
    Workload workload{model.start, model.length, {}, {}};
    constexpr std::size_t breath = 256;
    for (std::size_t i = 0; i < model.users; ++i) {
        if (i % breath == 0 && go_on && !go_on()) throw Error(Errc::cancelled, "the making of a fleet was stopped");
        std::vector<PlannedSession> own;
        UserPlan(model, i, seed).append_to(own);
        for (auto& planned : own) workload.sessions.push_back(std::move(planned));
    }
    std::stable_sort(workload.sessions.begin(), workload.sessions.end(),
                     [](const auto& a, const auto& b) { return a.start < b.start; });
    return workload;
}

}  // namespace infrastructure_sdk
