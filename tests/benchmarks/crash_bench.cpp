// Seeded deaths of the owner: how many, and what was wrong afterwards.
//
//     crash_bench [--provider simulator|qemu] [--trials N] [--json]
//     crash_bench --race [--seeds N] [--json]
//
// On the simulator a death ends a virtual process. With qemu it is a real one: a child owns a state directory with
// real VMs and is killed by SIGKILL; the next owner recovers and everything is looked for in /proc and on the disk.
// `--race` has N callers ask for L places while the owner dies: places of users and tenants, GPUs, money; then it
// compares the account of money with a naive one after every step of random stories.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include <sys/stat.h>

#include "rows.hpp"
#include "support/money_story.hpp"
#include "support/race.hpp"
#include "support/real_owner.hpp"
#include "support/story.hpp"

namespace {

using namespace infrastructure_sdk;
using namespace infrastructure_sdk::test;

struct Tally {
    std::size_t deaths = 0;
    std::size_t sessions = 0;
    std::map<std::string, std::size_t> wrong{{"orphan", 0}, {"double VM", 0}, {"lost", 0},
                                             {"stuck", 0},  {"failed", 0},    {"other", 0}};

    void count(const std::string& where, const std::vector<std::string>& faults) {
        for (const auto& fault : faults) {
            auto kind = fault.substr(0, fault.find(':'));
            if (kind.starts_with("orphan")) kind = "orphan";
            ++wrong[wrong.contains(kind) ? kind : "other"];
            std::fprintf(stderr, "%s: %s\n", where.c_str(), fault.c_str());
        }
    }
    std::size_t sum() const {
        std::size_t all = 0;
        for (const auto& entry : wrong) all += entry.second;
        return all;
    }
};

/// Stories until the owner has died `trials` times. Every second one is on a host with faults.
Tally on_the_simulator(std::size_t trials) {
    Tally tally;
    const SimulatorFaults faults{50'000, 50'000, 20'000, 30'000, 20'000, 50'000, 0};
    for (std::uint64_t seed = 1; tally.deaths < trials; ++seed) {
        Story story(seed, seed % 2 ? SimulatorFaults{} : faults, 10);
        for (int i = 0; i < 60 && tally.deaths + story.deaths < trials; ++i) story.act();
        auto found = story.end();
        tally.deaths += story.deaths;
        tally.sessions += story.known.size();
        tally.count("seed " + std::to_string(seed), found);
    }
    return tally;
}

/// Each death at the next point by name. Every third owner finds the work of a dead one and dies over it as well.
class OnQemu {
public:
    explicit OnQemu(std::size_t trials) : trials_(trials) {}

    Tally run() {
        constexpr std::size_t deaths_in_one_directory = 5;
        while (tally_.deaths < trials_) {
            TemporaryDirectory state;
            ::chmod(state.path().c_str(), 0711);
            known_.clear();
            for (std::size_t i = 0; i < deaths_in_one_directory && tally_.deaths < trials_; ++i) die(state.path());
            RealOwner last(state.path(), images_.path(), [] {});
            last.recover();
            tally_.count("at the end", last.end_all());
            tally_.count("at the end", leavings_of(last, state.path()));
            suspends_undone_ += count_events(last, "session.lifecycle.suspend_failed");
        }
        for (const auto& name : names_)
            if (!reached_.contains(name)) std::fprintf(stderr, "not reached: %s\n", name.c_str());
        return tally_;
    }

    /// Suspends that were cut off and ended with a session that is active again: allowed, but not what was asked for.
    std::size_t suspends_undone() const { return suspends_undone_; }
    std::size_t points() const { return names_.size(); }
    std::size_t points_reached() const {
        std::size_t count = 0;
        for (const auto& name : names_) count += reached_.contains(name) ? 1 : 0;
        return count;
    }

private:
    static std::size_t count_events(RealOwner& owner, const std::string& type) {
        EventQuery query;
        std::size_t count = 0;
        for (auto page = owner.run(owner.engine().events(query)); !page.empty();
             page = owner.run(owner.engine().events(query))) {
            query.after = page.back().sequence;
            for (const auto& event : page) count += event.type == type ? 1 : 0;
        }
        return count;
    }

    /// Takes over what the child has told; true when it died.
    bool take(const Death& death, const std::string& where) {
        known_.insert(known_.end(), death.acknowledged.begin(), death.acknowledged.end());
        tally_.sessions += death.acknowledged.size();
        if (!death.trouble.empty()) tally_.count(where, {"trouble: " + death.trouble});
        if (death.reached) ++tally_.deaths;
        return death.reached;
    }

    void die(const std::string& state) {
        const auto& point = names_[tried_++ % names_.size()];
        auto where = "after death at '" + point + "', seed " + std::to_string(seed_ + 1);
        // Not every story passes every point.
        constexpr int tries = 3;
        bool died = false;
        for (int i = 0; i < tries && !died; ++i) {
            ++seed_;
            died = take(live_and_die(state, images_.path(), seed_, point, seed_ % 4 == 0 ? 2 : 1), where);
        }
        if (died) ++reached_[point];
        if (seed_ % 3 == 0 && tally_.deaths < trials_)
            take(live_and_die(state, images_.path(), seed_, "", 1 + seed_ % 20), where + " and again in recovery");
        RealOwner next(state, images_.path(), [] {});
        next.recover();
        next.rest(std::chrono::minutes(2));
        tally_.count(where, faults_of(next, state, known_));
    }

    std::size_t trials_;
    std::uint64_t seed_ = 0;
    std::size_t tried_ = 0;
    std::size_t suspends_undone_ = 0;
    FirmwareImages images_;
    Tally tally_;
    std::vector<std::string> names_ = crash_point_names();
    std::map<std::string, std::size_t> reached_;
    std::vector<std::string> known_;
};

int race(std::uint64_t seeds, const Rows& rows) {
    std::size_t deaths = 0, refused = 0, wrong = 0;
    std::map<std::string, std::size_t> by_kind;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Race one(seed);
        for (const auto& fault : one.run()) {
            ++wrong;
            std::fprintf(stderr, "seed %llu: %s\n", static_cast<unsigned long long>(seed), fault.c_str());
        }
        deaths += one.deaths();
        refused += one.refused();
        ++by_kind[one.kind().name];
    }
    rows.add("crash.race.seeds", static_cast<double>(seeds), "count");
    for (const auto& [kind, count] : by_kind) {
        auto name = kind;
        std::replace(name.begin(), name.end(), ' ', '_');
        rows.add("crash.race.seeds." + name, static_cast<double>(count), "count");
    }
    rows.add("crash.race.deaths", static_cast<double>(deaths), "count");
    rows.add("crash.race.refused", static_cast<double>(refused), "count");
    rows.add("crash.race.wrong", static_cast<double>(wrong), "count");
    return wrong == 0 ? 0 : 1;
}

/// The account of money after every step of random stories, one for ten races.
int money(std::uint64_t seeds, const Rows& rows) {
    std::size_t deaths = 0, turns = 0, compared = 0, wrong = 0;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        MoneyStory story(seed);
        for (const auto& fault : story.run(60)) {
            ++wrong;
            std::fprintf(stderr, "seed %llu: %s\n", static_cast<unsigned long long>(seed), fault.c_str());
        }
        deaths += story.deaths();
        turns += story.month_turns();
        compared += story.compared();
    }
    rows.add("crash.money.stories", static_cast<double>(seeds), "count");
    rows.add("crash.money.deaths", static_cast<double>(deaths), "count");
    rows.add("crash.money.month_turns", static_cast<double>(turns), "count");
    rows.add("crash.money.accounts_compared", static_cast<double>(compared), "count");
    rows.add("crash.money.wrong", static_cast<double>(wrong), "count");
    return wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
    std::size_t trials = 0, seeds = 10'000;
    std::string provider = "simulator";
    bool as_json = false, is_race = false, good = true;
    for (int i = 1; i < count; ++i) {
        std::string word = arguments[i];
        auto value = [&] { return i + 1 < count ? arguments[++i] : (good = false, ""); };
        if (word == "--json") as_json = true;
        else if (word == "--race") is_race = true;
        else if (word == "--trials") trials = std::strtoul(value(), nullptr, 10);
        else if (word == "--seeds") seeds = std::strtoul(value(), nullptr, 10);
        else if (word == "--provider") provider = value();
        else good = false;
    }
    if (!good || (provider != "simulator" && provider != "qemu")) {
        std::fprintf(stderr,
                     "usage: crash_bench [--provider simulator|qemu] [--trials N] [--json]\n"
                     "       crash_bench --race [--seeds N] [--json]\n");
        return 2;
    }
    Rows rows(as_json);
    if (is_race) return race(seeds, rows) | money(1 + seeds / 10, rows);
    Tally tally;
    if (provider == "qemu") {
        OnQemu bench(trials ? trials : 200);
        tally = bench.run();
        rows.add("crash.points", static_cast<double>(bench.points()), "count");
        rows.add("crash.points_reached", static_cast<double>(bench.points_reached()), "count");
        rows.add("crash.suspends_undone", static_cast<double>(bench.suspends_undone()), "count");
    } else {
        tally = on_the_simulator(trials ? trials : 1000);
    }
    rows.add("crash.deaths", static_cast<double>(tally.deaths), "count");
    rows.add("crash.sessions", static_cast<double>(tally.sessions), "count");
    for (const auto& [kind, found] : tally.wrong) rows.add("crash." + kind, static_cast<double>(found), "count");
    return tally.sum() == 0 ? 0 : 1;
}
