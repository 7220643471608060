#pragma once
// A random story about money: sessions with prices come, rest, go on and end while the clock jumps, months turn and the
// owner dies. After every step the engine's account is compared with the naive one. The seed decides all of it.

#include "core/seeded_random.hpp"
#include "support/money_model.hpp"

namespace infrastructure_sdk::test {

class MoneyStory {
public:
    explicit MoneyStory(std::uint64_t seed) : random_(seed), world_(seed, host(), limits()) {}

    /// What is wrong; empty = every account was exact after every step.
    std::vector<std::string> run(std::size_t steps) {
        for (std::size_t i = 0; i < steps && wrong_.empty(); ++i) {
            auto what = act();
            survive();
            compare("after step " + std::to_string(i) + ", " + what);
        }
        return std::move(wrong_);
    }
    std::size_t deaths() const { return deaths_; }
    std::size_t month_turns() const { return turns_; }
    std::size_t compared() const { return compared_; }
    std::size_t ended() const { return ended_; }

private:
    static SimulatorOptions host() {
        SimulatorOptions options;
        options.gpus = {{"a100", 3}};
        options.faults.fail = 20'000;
        return options;
    }
    /// Far above what is used, but for one that is met now and then.
    static std::vector<Limit> limits() {
        std::vector<Limit> all;
        constexpr std::int64_t much = 1'000'000'000'000;
        for (auto resource : {LimitResource::money_per_hour, LimitResource::money_per_month}) {
            all.push_back({LimitScope::host, "", resource, much});
            for (auto scope : {LimitScope::user, LimitScope::tenant, LimitScope::template_})
                all.push_back({scope, "*", resource, much});
        }
        all.push_back({LimitScope::user, "user-0", LimitResource::money_per_month, 300'000'000});
        return all;
    }

    WallTime now() { return world_.runtime().environment().clock->wall_now(); }

    std::string act() {
        if (random_.below(4) == 0) world_.points().arm(1 + random_.below(10));
        switch (random_.below(10)) {
            case 0:
            case 1:
            case 2: return create();
            case 3: return verb("suspend");
            case 4: return verb("resume");
            case 5: return verb("terminate");
            case 6: return verb("extend");
            case 7: return jump();
            case 8: world_.kill_owner(); return "a death";
            default: return wait();
        }
    }

    std::string create() {
        auto request = world_.request("user-" + std::to_string(random_.below(3)));
        request.tenant = random_.below(3) == 0 ? "" : random_.below(2) == 0 ? "physics" : "art";
        request.template_name = random_.below(4) == 0 ? "tiny" : random_.below(2) == 0 ? "paid" : "odd";
        if (random_.below(4) == 0) request.resources.gpu_count = 1;
        request.ttl = std::chrono::minutes(10 + random_.below(20 * 24 * 60));
        if (random_.below(4) == 0) request.on_expiry[ClockKind::ttl] = OnExpiry::suspend;
        Session made;
        if (world_.run(world_.engine().create(request, world_.call()), &made) && world_.last_code == Errc{})
            known_.push_back(made.id);
        settle();
        return "create";
    }

    std::string verb(const std::string& name) {
        if (known_.empty()) return "nothing";
        const auto& id = known_[random_.below(known_.size())];
        auto& engine = world_.engine();
        if (name == "suspend") world_.run(engine.suspend(id, world_.call()));
        if (name == "resume") world_.run(engine.resume(id, world_.call()));
        if (name == "terminate") {
            world_.run(engine.terminate(id, TerminationReason::request, world_.call()));
            ++ended_;
        }
        if (name == "extend") {
            auto by = std::chrono::hours(1 + random_.below(72));
            world_.run(engine.extend(id, by, world_.call()));
        }
        settle();
        return name;
    }

    /// Hours or days ahead, some back, or to the turn of the month.
    std::string jump() {
        auto before = month_of(now());
        auto by = std::chrono::minutes(random_.below(6 * 24 * 60)) - std::chrono::hours(30);
        auto turn = begin_of(before + std::chrono::months(1));
        if (random_.below(3) == 0)
            by = std::chrono::ceil<std::chrono::minutes>(turn - now()) + std::chrono::minutes(random_.below(120)) -
                 std::chrono::hours(1);
        world_.runtime().set_wall_time(now() + by);
        if (random_.below(2) == 0) settle();
        if (month_of(now()) != before) ++turns_;
        return "a jump of " + std::to_string(by.count()) + " minutes";
    }

    std::string wait() {
        auto before = month_of(now());
        world_.run_for(std::chrono::seconds(random_.below(5 * 24 * 3600)));
        if (world_.owner_lives() && month_of(now()) != before) ++turns_;
        return "a wait";
    }

    void settle() { world_.run_for(std::chrono::milliseconds(1 + random_.below(4000))); }

    void survive() {
        while (!world_.owner_lives()) {
            ++deaths_;
            world_.open();
        }
        // What is ready is done; no time passes.
        world_.run_for(std::chrono::nanoseconds(0));
    }

    void compare(const std::string& when) {
        world_.points().arm(0);
        std::vector<UsageLine> lines;
        world_.run(world_.engine().usage(), &lines);
        MoneyModel model(world_);
        std::map<std::pair<LimitScope, LimitResource>, std::map<std::string, std::int64_t>> seen;
        for (const auto& line : lines) seen[{line.limit.scope, line.limit.resource}][line.subject] = line.in_use;
        for (auto scope : {LimitScope::host, LimitScope::user, LimitScope::tenant, LimitScope::template_})
            for (const auto& subject : model.subjects(scope)) {
                if (subject.empty() && scope != LimitScope::host) continue;
                expect(seen[{scope, LimitResource::money_per_hour}][subject], model.hour(scope, subject),
                       std::string("money_per_hour of ") + name_of(scope) + " " + subject + " " + when);
                expect(seen[{scope, LimitResource::money_per_month}][subject], model.month(scope, subject, now()),
                       std::string("money_per_month of ") + name_of(scope) + " " + subject + " " + when);
            }
    }

    void expect(std::int64_t found, std::int64_t right, const std::string& what) {
        ++compared_;
        if (found != right)
            wrong_.push_back(what + " is " + std::to_string(found) + " and should be " + std::to_string(right));
    }

    SeededRandom random_;
    SimulatedWorld world_;
    std::vector<std::string> known_;
    std::vector<std::string> wrong_;
    std::size_t deaths_ = 0;
    std::size_t turns_ = 0;
    std::size_t compared_ = 0;
    std::size_t ended_ = 0;
};

}  // namespace infrastructure_sdk::test
