#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/isolation/drift.hpp>

#include "core/seeded_random.hpp"
#include "support/isolation_findings.hpp"
#include "support/simulated_world.hpp"

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using test::evidence_for;
using test::make_finding;
using test::SimulatedWorld;
using testing::ElementsAre;
using testing::IsEmpty;
using F = FindingStatus;

const WallTime looked_at = WallTime(std::chrono::hours(1));

/// A report whose first checks say this; there are no others.
IsolationReport report_with(const std::vector<F>& statuses, WallTime at = looked_at) {
    IsolationReport report;
    report.id = "r-1";
    report.instance_epoch = "boot/4711/99/uuid";
    for (std::size_t i = 0; i < statuses.size(); ++i) {
        const auto& check = check_catalogue().at(i);
        report.findings.push_back(make_finding(check, statuses[i], {evidence_for(check, at)}));
    }
    report.score = score(report.findings, at);
    return report;
}

std::vector<std::string> told(const std::optional<Drift>& drift) {
    std::vector<std::string> lines;
    if (drift)
        for (const auto& change : drift->changes)
            lines.push_back(change.check_id + " " + name_of(change.from) + " -> " + name_of(change.to));
    return lines;
}

class IsolationDrift : public testing::Test {
protected:
    std::vector<std::string> see(F status) { return told(detector_.observe(report_with({status}))); }
    std::string line(const char* change) const { return std::string(check_catalogue().at(0).id) + " " + change; }
    DriftDetector detector_;
};

TEST_F(IsolationDrift, TheFirstReportIsNoNews) {
    EXPECT_FALSE(detector_.has_looked());
    EXPECT_THAT(see(F::fail), IsEmpty());
    EXPECT_TRUE(detector_.has_looked());
    EXPECT_FALSE(detector_.is_failing()) << "it never was good";
    EXPECT_THAT(see(F::fail), IsEmpty());
}

TEST_F(IsolationDrift, AFailureIsToldAtOnceAndOnce) {
    see(F::pass);
    auto drift = detector_.observe(report_with({F::fail}));
    EXPECT_THAT(told(drift), ElementsAre(line("pass -> fail")));
    EXPECT_TRUE(drift->has_failure());
    EXPECT_FALSE(drift->is_restored());
    EXPECT_TRUE(detector_.is_failing());
    EXPECT_THAT(see(F::fail), IsEmpty());
    EXPECT_THAT(see(F::waived), IsEmpty()) << "accepted, and it fails all the same";
    auto back = detector_.observe(report_with({F::pass}));
    EXPECT_THAT(told(back), ElementsAre(line("waived -> pass")));
    EXPECT_TRUE(back->is_restored());
    EXPECT_FALSE(detector_.is_failing());
}

TEST_F(IsolationDrift, OneLookThatSawNothingIsNoNewsButTwoInARowAre) {
    see(F::pass);
    EXPECT_THAT(see(F::unknown), IsEmpty());
    EXPECT_THAT(see(F::pass), IsEmpty());
    EXPECT_THAT(see(F::unknown), IsEmpty());
    EXPECT_THAT(see(F::unknown), ElementsAre(line("pass -> unknown")));
    EXPECT_THAT(see(F::unknown), IsEmpty());
    EXPECT_FALSE(detector_.is_failing());
    EXPECT_THAT(see(F::fail), ElementsAre(line("unknown -> fail")));
    EXPECT_TRUE(detector_.is_failing());
}

TEST_F(IsolationDrift, AFailureThatIsNotSeenAnyMoreIsNotMended) {
    see(F::pass);
    see(F::fail);
    for (int i = 0; i < 3; ++i) EXPECT_THAT(see(F::unknown), IsEmpty());
    EXPECT_TRUE(detector_.is_failing());
    EXPECT_THAT(see(F::not_applicable), ElementsAre(line("fail -> not_applicable")));
    EXPECT_FALSE(detector_.is_failing());
}

/// Told changes follow each other without a gap, each is a change of rank, and what was told last agrees with what is.
TEST(IsolationDriftProperty, WhatIsToldIsAHistory) {
    constexpr F all[] = {F::pass, F::fail, F::unknown, F::not_applicable, F::waived};
    auto failing = [](F status) { return status == F::fail || status == F::waived; };
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        SeededRandom random(seed);
        DriftDetector detector;
        std::vector<std::vector<F>> told_of(4);
        std::vector<F> now(4);
        for (int look = 0; look < 40; ++look) {
            for (auto& status : now) status = all[random.below(std::size(all))];
            auto drift = detector.observe(report_with(now));
            if (look == 0) {
                for (std::size_t i = 0; i < now.size(); ++i) told_of[i].push_back(now[i]);
                ASSERT_FALSE(drift);
                continue;
            }
            for (const auto& change : drift ? drift->changes : std::vector<DriftChange>()) {
                auto check = std::find_if(check_catalogue().begin(), check_catalogue().end(),
                                          [&](const auto& one) { return one.id == change.check_id; });
                auto i = static_cast<std::size_t>(check - check_catalogue().begin());
                ASSERT_EQ(failing(change.from), failing(told_of[i].back())) << "seed " << seed;
                ASSERT_EQ(change.to, now[i]) << "seed " << seed;
                told_of[i].push_back(change.to);
            }
            for (std::size_t i = 0; i < now.size(); ++i) {
                const bool is_told = failing(told_of[i].back());
                ASSERT_TRUE(is_told || !failing(now[i])) << "seed " << seed;
                ASSERT_FALSE(is_told && now[i] == F::pass) << "seed " << seed;
            }
        }
    }
}

/// A world whose sessions are found to be as `statuses` says.
class WatchedIsolation : public testing::Test {
protected:
    WatchedIsolation() : world_(7) {
        world_.adjust = [this](SessionEngineOptions& options) {
            options.templates.at("tiny").on_drift = on_drift_;
            options.isolation_reports = [this](std::vector<Session> sessions,
                                               Call) -> Task<std::vector<IsolationReport>> {
                looks_.push_back(sessions.size());
                std::vector<IsolationReport> reports(
                    sessions.size(), report_with(statuses_, world_.runtime().environment().clock->wall_now()));
                co_return reports;
            };
        };
    }
    Session start(const std::string& user) {
        Session session;
        world_.run(world_.engine().create(world_.request(user), world_.call()), &session);
        world_.run(world_.engine().wait(session.id, SessionState::active, world_.call()), &session);
        return session;
    }
    SessionState state_of(const std::string& id) {
        Session session;
        world_.run(world_.engine().get(id), &session);
        return session.state;
    }
    std::vector<std::string> news() {
        std::vector<Event> events;
        world_.run(world_.engine().events({}), &events);
        std::vector<std::string> types;
        for (const auto& event : events)
            if (event.type.starts_with("session.isolation.")) types.push_back(event.type);
        return types;
    }
    DriftAction on_drift_ = DriftAction::report;
    std::vector<F> statuses_{F::pass, F::pass};
    std::vector<std::size_t> looks_;
    SimulatedWorld world_;
};

TEST_F(WatchedIsolation, OneLookServesAllSessions) {
    ASSERT_TRUE(world_.open());
    start("alice");
    start("bob");
    world_.run_for(std::chrono::seconds(61));
    ASSERT_GE(looks_.size(), 3u);
    EXPECT_EQ(looks_.back(), 2u);
    EXPECT_LE(looks_.size(), 5u) << "a first look for each, then one for both every 30 s";
    EXPECT_THAT(news(), ElementsAre("session.isolation.checked", "session.isolation.checked"));
}

TEST_F(WatchedIsolation, SuspicionIsLookedIntoWithinASecondAndNotMoreOftenThanThat) {
    ASSERT_TRUE(world_.open());
    auto session = start("alice");
    world_.run_for(std::chrono::seconds(10));
    const auto before = looks_.size();
    statuses_[1] = F::fail;
    for (int i = 0; i < 20; ++i) {
        world_.engine().suspect_isolation(session.vm_id);
        world_.run_for(std::chrono::milliseconds(50));
    }
    EXPECT_GE(looks_.size(), before + 1);
    EXPECT_LE(looks_.size(), before + 2);
    EXPECT_THAT(news(), ElementsAre("session.isolation.checked", "session.isolation.drifted"));
    world_.engine().suspect_isolation(VmId{"of nobody"});
    EXPECT_EQ(state_of(session.id), SessionState::active) << "the template asks for a report only";
    statuses_[1] = F::pass;
    world_.run_for(std::chrono::seconds(31));
    EXPECT_EQ(news().back(), "session.isolation.restored");
}

/// Looks at "alice" take long: her VM does not answer.
TEST_F(WatchedIsolation, ASessionThatIsSlowToLookAtKeepsNoOtherFromBeingHeard) {
    auto usual = world_.adjust;
    std::vector<std::set<std::string>> looked;
    world_.adjust = [&](SessionEngineOptions& options) {
        usual(options);
        auto look = options.isolation_reports;
        options.isolation_reports = [this, look, &looked](std::vector<Session> sessions,
                                                          Call call) -> Task<std::vector<IsolationReport>> {
            auto& users = looked.emplace_back();
            for (const auto& session : sessions) users.insert(session.user_id);
            auto& clock = *world_.runtime().environment().clock;
            if (users.contains("alice"))
                co_await clock.sleep_until(clock.monotonic_now() + std::chrono::seconds(3), call.stop);
            co_return co_await look(sessions, call);
        };
    };
    ASSERT_TRUE(world_.open());
    auto alice = start("alice");
    auto bob = start("bob");
    world_.run_for(std::chrono::seconds(32));
    looked.clear();
    world_.engine().suspect_isolation(alice.vm_id);
    world_.run_for(std::chrono::seconds(5));
    ASSERT_EQ(looked.size(), 1u);
    // Alice's own noise waits, Bob's does not.
    world_.engine().suspect_isolation(alice.vm_id);
    world_.engine().suspect_isolation(bob.vm_id);
    world_.run_for(std::chrono::seconds(2));
    ASSERT_EQ(looked.size(), 2u);
    EXPECT_THAT(looked.back(), ElementsAre("bob"));
    world_.run_for(std::chrono::seconds(10));
    ASSERT_GE(looked.size(), 3u) << "hers is looked into all the same";
    EXPECT_TRUE(looked[2].contains("alice"));
}

TEST_F(WatchedIsolation, AnEventTellsWhatChanged) {
    ASSERT_TRUE(world_.open());
    start("alice");
    world_.run_for(std::chrono::seconds(10));
    statuses_[1] = F::fail;
    world_.engine().suspect_isolation(std::nullopt);
    world_.run_for(std::chrono::seconds(2));
    std::vector<Event> events;
    world_.run(world_.engine().events({}), &events);
    ASSERT_EQ(events.back().type, "session.isolation.drifted");
    auto data = json::parse(events.back().data);
    ASSERT_EQ(data.at("changes").size(), 1u);
    EXPECT_EQ(data.at("changes")[0].at("check"), check_catalogue().at(1).id);
    EXPECT_EQ(data.at("changes")[0].at("to"), "fail");
    EXPECT_EQ(data.at("changes")[0].at("reason"), "not as it should be");
    EXPECT_EQ(data.at("verdict").at("to"), "not_isolated");
}

TEST_F(WatchedIsolation, WhereTheTemplateDemandsItDriftSuspendsAgainAfterEachResume) {
    on_drift_ = DriftAction::suspend;
    ASSERT_TRUE(world_.open());
    auto session = start("alice");
    world_.run_for(std::chrono::seconds(10));
    statuses_[0] = F::fail;
    world_.run_for(std::chrono::seconds(40));
    ASSERT_EQ(state_of(session.id), SessionState::suspended);
    world_.run(world_.engine().get(session.id), &session);
    EXPECT_EQ(session.last_change->reason, "isolation_failed");
    world_.run(world_.engine().resume(session.id, world_.call()));
    world_.run_for(std::chrono::seconds(40));
    EXPECT_EQ(state_of(session.id), SessionState::suspended) << "it fails still";
    statuses_[0] = F::pass;
    world_.run(world_.engine().resume(session.id, world_.call()));
    world_.run_for(std::chrono::seconds(40));
    EXPECT_EQ(state_of(session.id), SessionState::active);
    EXPECT_EQ(news().back(), "session.isolation.restored");
}

TEST_F(WatchedIsolation, AFailureFromTheBeginningSuspendsNobody) {
    on_drift_ = DriftAction::suspend;
    statuses_[0] = F::fail;
    ASSERT_TRUE(world_.open());
    auto session = start("alice");
    world_.run_for(std::chrono::minutes(2));
    EXPECT_EQ(state_of(session.id), SessionState::active) << "to start or not is what the gate decides";
}

TEST_F(WatchedIsolation, ALookThatFailsIsTriedAgain) {
    auto usual = world_.adjust;
    bool broken = true;
    world_.adjust = [&](SessionEngineOptions& options) {
        usual(options);
        auto look = options.isolation_reports;
        options.isolation_reports = [this, &broken, look](std::vector<Session> sessions,
                                                          Call call) -> Task<std::vector<IsolationReport>> {
            if (broken) throw Error(Errc::provider, "cannot look");
            co_return co_await look(sessions, call);
        };
    };
    ASSERT_TRUE(world_.open());
    start("alice");
    world_.run_for(std::chrono::seconds(20));
    EXPECT_THAT(news(), IsEmpty());
    broken = false;
    world_.run_for(std::chrono::seconds(31));
    EXPECT_THAT(news(), ElementsAre("session.isolation.checked"));
}

}  // namespace
}  // namespace infrastructure_sdk
