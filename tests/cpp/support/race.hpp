#pragma once
// N callers for L places, while the owner dies: what each was told, and who is in at the end.

#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/seeded_random.hpp"
#include "session/amounts.hpp"
#include "support/story.hpp"

namespace infrastructure_sdk::test {

/// What the places are made of: a limit, or the GPUs of the host.
struct RaceKind {
    const char* name;
    LimitScope scope;
    LimitResource resource;
    std::int64_t each;   ///< what one session takes
    std::int64_t slack;  ///< what the limit is above that of all places; less than one
    bool gpu;            ///< every session asks for one
    const char* holder;  ///< as a denial names it
};
inline constexpr std::array<RaceKind, 7> race_kinds{{
    {"sessions of a user", LimitScope::user, LimitResource::sessions, 1, 0, false, "user 'alice'"},
    {"sessions of a tenant", LimitScope::tenant, LimitResource::sessions, 1, 0, false, "tenant 'physics'"},
    {"gpus of a tenant", LimitScope::tenant, LimitResource::gpu, 1, 0, true, "tenant 'physics'"},
    {"gpus of the host", LimitScope::host, LimitResource::gpu, 1, 0, true, "the host's 'a100'"},
    {"money per hour of a tenant", LimitScope::tenant, LimitResource::money_per_hour, 500'000, 499'999, false,
     "tenant 'physics'"},
    {"money per hour of a template", LimitScope::template_, LimitResource::money_per_hour, 1'500'000, 0, true,
     "template 'paid'"},
    // What an ended session has cost is not given back, so there has to be room for some minutes of it.
    {"money per month of a user", LimitScope::user, LimitResource::money_per_month, 500'000, 490'000, false,
     "user 'alice'"},
}};

/// The seed decides what the places are, how many callers there are for how many of them, and at which points the owner
/// dies. Those who got no answer ask again. Then one place is given back and all that were refused ask once more.
class Race {
public:
    explicit Race(std::uint64_t seed)
        : random_(seed),
          kind_(race_kinds[seed % race_kinds.size()]),
          places_(1 + random_.below(4)),
          callers_(places_ + 1 + random_.below(8)),
          world_(seed, host(), limits()),
          told_(std::make_shared<Told>()) {}

    /// What is wrong; empty = exactly as many got in as there are places.
    std::vector<std::string> run() {
        ask(callers_);
        expect_full("after the race");
        give_back();
        ask(callers_ - places_);
        expect_full("after one place was given back");
        for (auto& fault : world_.faults(told_->in)) wrong_.push_back(std::move(fault));
        for (auto& fault : wrong_) fault = std::string(kind_.name) + ": " + fault;
        return std::move(wrong_);
    }

    const RaceKind& kind() const { return kind_; }
    std::size_t deaths() const { return deaths_; }
    std::size_t refused() const { return told_->denials.size(); }

private:
    struct Told {
        std::vector<std::string> in;
        std::vector<Error> denials;
        std::size_t answers = 0;
    };

    bool is_of_host() const { return kind_.scope == LimitScope::host; }
    std::int64_t all_places() const { return static_cast<std::int64_t>(places_) * kind_.each; }

    SimulatorOptions host() const {
        SimulatorOptions options;
        options.gpus = {{"a100", is_of_host() ? static_cast<std::int64_t>(places_) : 64}, {"t4", 64}};
        return options;
    }
    std::vector<Limit> limits() const {
        if (is_of_host()) return {};
        return {{kind_.scope, kind_.scope == LimitScope::template_ ? "paid" : "*", kind_.resource,
                 all_places() + kind_.slack}};
    }
    SessionRequest request() {
        auto request = world_.request("alice");
        request.tenant = "physics";
        request.ttl = std::chrono::hours(1);
        if (kind_.resource != LimitResource::sessions) request.template_name = "paid";
        if (kind_.gpu) request.resources.gpu_type = "a100";
        return request;
    }

    static Task<void> call_once(SimulatedWorld* world, SessionRequest request, std::shared_ptr<Told> told) {
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
                group.spawn(nullptr, "caller", call_once(&world_, request(), told_));
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
        world_.run(world_.engine().can_create(request()), &denial);
        std::set<std::string> holders(ids.begin(), ids.end());
        bool right = denial && denial->in_use == all_places() + denial->spent &&
                     std::set<std::string>(denial->holders.begin(), denial->holders.end()) == holders;
        if (!right) wrong_.push_back("the dry run does not name who holds the places " + when);
        if (right) check_text(denial->to_error());
    }

    /// Limit, usage and holders, in words for people and in fields for programs.
    void check_text(const Error& denial) {
        const auto& context = denial.context();
        auto amount = [&](std::int64_t value) { return amount_text(kind_.resource, value); };
        auto spent = is_money(kind_.resource) ? parse_amount(kind_.resource, context.at("spent"), "spent") : 0;
        auto unit = is_money(kind_.resource) ? std::string(" USD") : std::string();
        auto limit = amount(all_places() + kind_.slack), in_use = amount(all_places() + spent);
        auto code = is_money(kind_.resource) ? Errc::budget_exceeded
                    : is_of_host()           ? Errc::capacity
                                             : Errc::quota_exceeded;
        bool fields = denial.errc() == code && context.at("limit") == limit && context.at("in_use") == in_use &&
                      context.at("holder_count") == std::to_string(places_);
        auto says = [&](const std::string& words) { return denial.message().find(words) != std::string::npos; };
        bool words = says(std::string("limit of ") + kind_.holder) &&
                     says("is " + limit + unit + ": " + in_use + unit + " in use, " + amount(kind_.each) + unit +
                          " requested") &&
                     says("held by " + context.at("holders")) && !context.at("holders").empty() &&
                     says("what would help: " + context.at("help"));
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
    const RaceKind& kind_;
    std::size_t places_;
    std::size_t callers_;
    SimulatedWorld world_;
    std::shared_ptr<Told> told_;
    std::size_t deaths_ = 0;
    std::vector<std::string> wrong_;
};

}  // namespace infrastructure_sdk::test
