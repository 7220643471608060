// Seeded sequences against a model that keeps a list and computes everything from it.

#include "session/admission.hpp"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "session/amounts.hpp"
#include "support/print_limits.hpp"

namespace infrastructure_sdk {
namespace {

using S = LimitScope;

class Model {
public:
    explicit Model(std::vector<Limit> limits) : limits(std::move(limits)) {}

    static bool counts(const Reservation& reservation, S scope, const std::string& subject) {
        if (scope == S::host) return true;
        if (reservation.warm) return false;
        const auto& own = scope == S::user     ? reservation.user_id
                          : scope == S::tenant ? reservation.tenant
                                               : reservation.template_name;
        return !own.empty() && own == subject;
    }

    std::int64_t in_use(S scope, const std::string& subject, LimitResource resource,
                        const std::string& but = {}) const {
        std::int64_t sum = 0;
        for (const auto& reservation : list)
            if (reservation.session_id != but && counts(reservation, scope, subject))
                sum += reservation.amounts.of(resource);
        return sum;
    }

    const Limit* limit_on(S scope, const std::string& subject, LimitResource resource) const {
        const Limit* best = nullptr;
        for (const auto& limit : limits) {
            if (limit.scope != scope || limit.resource != resource) continue;
            if (limit.subject == subject || (limit.subject == "*" && !best)) best = &limit;
        }
        return best;
    }

    std::optional<Denial> check(const Reservation& wanted) const {
        for (auto scope : limit_scopes)
            for (auto resource : limit_resources) {
                auto subject = scope == S::user        ? wanted.user_id
                               : scope == S::tenant    ? wanted.tenant
                               : scope == S::template_ ? wanted.template_name
                                                       : "";
                if (!counts(wanted, scope, subject)) continue;
                const auto* limit = limit_on(scope, subject, resource);
                auto others = in_use(scope, subject, resource, wanted.session_id);
                auto grows = wanted.amounts.of(resource) > in_use(scope, subject, resource) - others;
                if (!limit || !grows || others + wanted.amounts.of(resource) <= limit->value) continue;
                return denial(*limit, subject, others, wanted);
            }
        return std::nullopt;
    }

    void put(const Reservation& reservation) {
        release(reservation.session_id);
        list.push_back(reservation);
    }

    void release(const std::string& id) {
        std::erase_if(list, [&](const Reservation& held) { return held.session_id == id; });
    }

    std::vector<Limit> limits;
    std::vector<Reservation> list;

private:
    Denial denial(const Limit& limit, const std::string& subject, std::int64_t others,
                  const Reservation& wanted) const {
        Denial result{limit, subject, others, wanted.amounts.of(limit.resource), {}, 0};
        std::vector<std::pair<std::int64_t, std::string>> holders;
        for (const auto& held : list)
            if (held.session_id != wanted.session_id && counts(held, limit.scope, subject))
                if (auto amount = held.amounts.of(limit.resource)) holders.emplace_back(-amount, held.session_id);
        std::sort(holders.begin(), holders.end());
        result.holder_count = holders.size();
        holders.resize(std::min<std::size_t>(holders.size(), 10));
        for (const auto& [amount, id] : holders) result.holders.push_back(id);
        return result;
    }
};

class Dice {
public:
    explicit Dice(std::uint64_t seed) : random_(seed) {}
    std::int64_t below(std::int64_t end) {
        return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(end));
    }
    bool one_in(std::int64_t n) { return below(n) == 0; }

    std::string subject(S scope) {
        static const std::vector<std::string> names[]{
            {"alice", "bob", "carol"}, {"physics", "art", ""}, {""}, {"tiny", "win", ""}};
        return names[static_cast<std::size_t>(scope)][static_cast<std::size_t>(below(scope == S::host ? 1 : 3))];
    }

    Reservation reservation() {
        Reservation result{"s" + std::to_string(below(30)), subject(S::user), subject(S::tenant),
                           subject(S::template_),           one_in(4),        {}};
        for (auto resource : limit_resources) result.amounts.of(resource) = one_in(3) ? 0 : below(10);
        return result;
    }

    std::vector<Limit> limits() {
        std::vector<Limit> result;
        for (auto scope : limit_scopes)
            for (auto resource : limit_resources)
                for (const std::string& name : {subject(scope), std::string(scope == S::host ? "" : "*")}) {
                    bool possible = (scope == S::host) == name.empty();
                    bool taken = std::any_of(result.begin(), result.end(), [&](const Limit& limit) {
                        return limit.scope == scope && limit.resource == resource && limit.subject == name;
                    });
                    if (possible && !taken && one_in(3)) result.push_back({scope, name, resource, below(60)});
                }
        return result;
    }

private:
    std::mt19937_64 random_;
};

void expect_same(const Admission& admission, const Model& model) {
    for (auto scope : limit_scopes)
        for (const char* subject : {"", "alice", "bob", "carol", "physics", "art", "tiny", "win", "*"}) {
            if ((scope == S::host) != (*subject == '\0')) continue;
            for (auto resource : limit_resources)
                ASSERT_EQ(admission.in_use(scope, subject).of(resource), model.in_use(scope, subject, resource))
                    << name_of(scope) << " " << subject << " " << name_of(resource);
        }
    for (const char* name : {"", "tiny", "win"})
        for (auto resource : limit_resources) {
            std::int64_t sum = 0;
            for (const auto& held : model.list)
                if (held.warm && held.template_name == name) sum += held.amounts.of(resource);
            ASSERT_EQ(admission.warm_in_use(name).of(resource), sum) << name << " " << name_of(resource);
        }
}

void expect_within_limits(const Admission& admission) {
    for (const auto& line : admission.usage()) ASSERT_LE(line.in_use, line.limit.value) << nlohmann::json(line).dump();
}

TEST(AdmissionProperty, VerdictsAndTotalsAreThoseOfTheModelAndNoLimitIsExceeded) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Dice dice(seed);
        Model model(dice.limits());
        Admission admission(model.limits);
        for (int step = 0; step < 400; ++step) {
            SCOPED_TRACE("step " + std::to_string(step));
            if (dice.one_in(4)) {
                auto id = dice.reservation().session_id;
                admission.release(id);
                model.release(id);
            } else {
                auto wanted = dice.reservation();
                auto expected = model.check(wanted);
                ASSERT_EQ(admission.check(wanted), expected) << (expected ? expected->message() : "fits");
                ASSERT_EQ(admission.reserve(wanted), expected);
                if (!expected) model.put(wanted);
            }
            ASSERT_NO_FATAL_FAILURE(expect_same(admission, model));
            ASSERT_NO_FATAL_FAILURE(expect_within_limits(admission));
        }
        for (const auto& held : std::vector(model.list)) admission.release(held.session_id);
        EXPECT_EQ(admission.in_use(S::host, ""), Amounts{});
    }
}

TEST(AdmissionProperty, TheSameHoldsWhileLimitsChangeAndWhatIsHeldIsRestored) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Dice dice(1000 + seed);
        Model model({});
        Admission admission({});
        for (int step = 0; step < 300; ++step) {
            SCOPED_TRACE("step " + std::to_string(step));
            auto wanted = dice.reservation();
            auto expected = model.check(wanted);
            ASSERT_EQ(admission.check(wanted), expected);
            if (dice.one_in(3)) {
                admission.restore(wanted);
                model.put(wanted);
            } else if (!admission.reserve(wanted)) {
                ASSERT_FALSE(expected);
                model.put(wanted);
            }
            if (dice.one_in(20)) {
                model.limits = dice.limits();
                admission.set_limits(model.limits);
            }
            if (dice.one_in(50)) admission = Admission(std::move(admission));
            ASSERT_NO_FATAL_FAILURE(expect_same(admission, model));
        }
    }
}

TEST(AdmissionProperty, ExactlyAsManyCallersGetInAsThereArePlaces) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        Dice dice(seed);
        const auto places = 1 + dice.below(50);
        Admission admission({{S::user, "alice", LimitResource::sessions, places}});
        std::int64_t admitted = 0, most_at_once = 0;
        std::vector<std::string> inside;
        for (int caller = 0; caller < 500; ++caller) {
            Reservation wanted{"s" + std::to_string(caller), "alice", "", "tiny", false, {}};
            wanted.amounts.sessions = 1;
            bool fits = !admission.check(wanted);
            ASSERT_EQ(!admission.reserve(wanted), fits);
            ASSERT_EQ(fits, std::cmp_less(inside.size(), places)) << "seed " << seed << " caller " << caller;
            if (fits) inside.push_back(wanted.session_id);
            admitted += fits;
            most_at_once = std::max(most_at_once, static_cast<std::int64_t>(inside.size()));
            if (caller > 250 && !inside.empty() && dice.one_in(3)) {
                std::swap(inside.back(), inside[static_cast<std::size_t>(dice.below(std::ssize(inside)))]);
                admission.release(inside.back());
                inside.pop_back();
            }
            if (caller == 250) {
                EXPECT_EQ(admitted, places);
            }
        }
        EXPECT_EQ(most_at_once, places);
        EXPECT_EQ(admission.in_use(S::user, "alice").sessions, std::ssize(inside));
    }
}

}  // namespace
}  // namespace infrastructure_sdk
