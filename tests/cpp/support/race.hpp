#pragma once
// N callers for L places, while the owner dies: what each was told, and who is in at the end.

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/seeded_random.hpp"
#include "support/story.hpp"

namespace infrastructure_sdk::test {

/// The seed decides how many callers there are for how many places, and at which points the owner dies. Those who got
/// no answer ask again. Then one place is given back and all that were refused ask once more.
class Race {
public:
    explicit Race(std::uint64_t seed)
        : random_(seed),
          places_(1 + random_.below(4)),
          callers_(places_ + 1 + random_.below(8)),
          world_(seed, {}, at_most(static_cast<std::int64_t>(places_))),
          told_(std::make_shared<Told>()) {}

    /// What is wrong; empty = exactly as many got in as there are places.
    std::vector<std::string> run() {
        ask(callers_);
        expect_full("after the race");
        give_back();
        ask(callers_ - places_);
        expect_full("after one place was given back");
        for (auto& fault : world_.faults(told_->in)) wrong_.push_back(std::move(fault));
        return std::move(wrong_);
    }

    std::size_t deaths() const { return deaths_; }
    std::size_t refused() const { return told_->denials.size(); }

private:
    struct Told {
        std::vector<std::string> in;
        std::vector<Error> denials;
        std::size_t answers = 0;
    };

    static Task<void> call_once(SimulatedWorld* world, std::shared_ptr<Told> told) {
        auto request = world->request("alice");
        auto call = world->call();
        try {
            auto session = co_await world->engine().create(request, call);
            told->in.push_back(session.id);
        } catch (const Error& error) {
            told->denials.push_back(error);
        }
        ++told->answers;
    }

    /// Until everybody has an answer.
    void ask(std::size_t callers) {
        told_->answers = 0;
        while (told_->answers < callers) {
            survive();
            if (random_.chance(700'000)) world_.points().arm(1 + random_.below(4 * places_));
            TaskGroup group(world_.runtime().environment().executor);
            for (auto left = callers - told_->answers; left > 0; --left)
                group.spawn(nullptr, "caller", call_once(&world_, told_));
            auto all = [](TaskGroup* crowd) -> Task<bool> {
                co_await crowd->join();
                co_return true;
            };
            world_.run(all(&group));
            for (const auto& denial : told_->denials) check_text(denial);
        }
        survive();
        world_.points().arm(0);
        world_.run_for(std::chrono::minutes(1));
        survive();
    }

    void survive() {
        while (!world_.owner_lives()) {
            ++deaths_;
            world_.open();
        }
    }

    std::vector<std::string> inside() {
        std::vector<std::string> ids;
        for (const auto& session : world_.sessions())
            if (session.state != SessionState::terminated) ids.push_back(session.id);
        return ids;
    }

    void expect_full(const std::string& when) {
        auto ids = inside();
        if (ids.size() != places_)
            wrong_.push_back(std::to_string(ids.size()) + " in for " + std::to_string(places_) + " places " + when);
        std::optional<Denial> denial;
        world_.run(world_.engine().can_create(world_.request("alice")), &denial);
        std::set<std::string> holders(ids.begin(), ids.end());
        bool right = denial && denial->in_use == static_cast<std::int64_t>(places_) &&
                     std::set<std::string>(denial->holders.begin(), denial->holders.end()) == holders;
        if (!right) wrong_.push_back("the dry run does not name who holds the places " + when);
        if (right) check_text(denial->to_error());
    }

    /// Limit, usage and holders, in words for people and in fields for programs.
    void check_text(const Error& denial) {
        auto number = std::to_string(places_);
        const auto& context = denial.context();
        bool fields = denial.errc() == Errc::quota_exceeded && context.at("limit") == number &&
                      context.at("in_use") == number && context.at("holder_count") == number;
        bool words =
            denial.message().find("limit of user 'alice'") != std::string::npos &&
            denial.message().find("is " + number + ": " + number + " in use, 1 requested") != std::string::npos &&
            denial.message().find("held by " + context.at("holders")) != std::string::npos &&
            !context.at("holders").empty();
        if (!fields || !words) wrong_.push_back("the denial does not say why: " + denial.message());
    }

    void give_back() {
        auto ids = inside();
        if (ids.empty()) return;
        auto id = ids[random_.below(ids.size())];
        auto ended = [&] {
            world_.run(world_.engine().terminate(id, TerminationReason::request, world_.call()));
            return world_.run(world_.engine().wait(id, SessionState::terminated, world_.call()));
        };
        world_.points().arm(random_.below(6));
        while (!ended()) survive();
        world_.points().arm(0);
    }

    SeededRandom random_;
    std::size_t places_;
    std::size_t callers_;
    SimulatedWorld world_;
    std::shared_ptr<Told> told_;
    std::size_t deaths_ = 0;
    std::vector<std::string> wrong_;
};

}  // namespace infrastructure_sdk::test
