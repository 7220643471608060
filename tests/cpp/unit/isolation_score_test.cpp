// The score is what is still proven. Every property of it is tried on seeded random worlds of findings.

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>

#include <nlohmann/json.hpp>

#include "isolation/facts.hpp"
#include "support/isolation_findings.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;
using test::evidence_for;
using test::make_finding;
using Status = FindingStatus;

const WallTime now{std::chrono::hours(24 * 365 * 56)};
constexpr int worlds = 2000;
constexpr double weights[] = {0.05, 0.20, 0.50, 0.90};  // low, medium, high, critical
constexpr Status decisions[] = {Status::pass, Status::fail, Status::unknown, Status::not_applicable};

/// Check definitions and findings upon them, at random.
struct World {
    explicit World(unsigned seed) : random(seed) {
        for (auto count = random() % 24; count > 0; --count) add(decisions[random() % 4]);
    }
    const CheckDefinition& define(Layer layer, Severity severity, const char* root_cause) {
        static const char* ids[] = {"CHK-00", "CHK-01", "CHK-02", "CHK-03", "CHK-04",
                                    "CHK-05", "CHK-06", "CHK-07", "CHK-08"};
        static const std::vector<std::string> fixes = [] {
            std::vector<std::string> texts;
            for (int i = 0; i < 64; ++i) texts.push_back("fix " + std::to_string(i) + ".");
            return texts;
        }();
        const char* fix = fixes[definitions.size() % fixes.size()].c_str();
        definitions.push_back(
            {ids[definitions.size() % 9], layer, severity, Strength::e3, "", root_cause, fix, "", {}});
        return definitions.back();
    }
    const CheckDefinition& define() {
        static const char* causes[] = {"seccomp", "uid", "network", "disk", "memory", "host", "template"};
        return define(static_cast<Layer>(random() % 5), static_cast<Severity>(random() % 4), causes[random() % 7]);
    }
    void add(Status status) { findings.push_back(make_finding(define(), status, now)); }
    Score score() const { return infrastructure_sdk::score(findings, now); }
    bool something_applies() const {
        return std::any_of(findings.begin(), findings.end(),
                           [](const auto& f) { return f.status() != Status::not_applicable; });
    }

    std::mt19937 random;
    std::deque<CheckDefinition> definitions;
    std::vector<Finding> findings;
};

/// The formula once more, written differently: per layer the worst of each root cause, then the weakest layer.
double bound(const std::vector<Finding>& findings, bool unknown_counts) {
    double weakest = 100;
    for (int layer = 0; layer < 5; ++layer) {
        std::map<std::string, double> kept;
        for (const auto& finding : findings) {
            if (static_cast<int>(finding.check().layer) != layer) continue;
            if (finding.status() != Status::fail && !(unknown_counts && finding.status() == Status::unknown)) continue;
            auto& factor = kept.try_emplace(finding.check().root_cause, 1.0).first->second;
            factor = std::min(factor, 1 - weights[static_cast<int>(finding.check().severity)]);
        }
        double value = 100;
        for (const auto& [cause, factor] : kept) value *= factor;
        weakest = std::min(weakest, value);
    }
    return weakest;
}

TEST(IsolationScore, IsNoisyOrOverRootCausesAndTheWeakestLayer) {
    for (unsigned seed = 0; seed < worlds; ++seed) {
        World world(seed);
        auto score = world.score();
        EXPECT_NEAR(score.lower, world.something_applies() ? bound(world.findings, true) : 0, 1e-9) << seed;
        EXPECT_NEAR(score.upper, bound(world.findings, false), 1e-9) << seed;
    }
}

TEST(IsolationScore, StaysInsideItsBounds) {
    for (unsigned seed = 0; seed < worlds; ++seed) {
        auto score = World(seed).score();
        EXPECT_TRUE(0 <= score.lower && score.lower <= score.upper && score.upper <= 100) << seed;
        EXPECT_TRUE(0 <= score.coverage && score.coverage <= 1 && 0 <= score.confidence && score.confidence <= 1)
            << seed;
    }
}

TEST(IsolationScore, OneCriticalFailureCapsAtTenAndOneHighAtFifty) {
    for (unsigned seed = 0; seed < worlds; ++seed) {
        World world(seed);
        auto layer = static_cast<Layer>(world.random() % 5);
        auto high = world.findings, critical = world.findings;
        high.push_back(make_finding(world.define(layer, Severity::high, "cap"), Status::fail, now));
        critical.push_back(make_finding(world.define(layer, Severity::critical, "cap"), Status::fail, now));
        EXPECT_LE(score(high, now).upper, 50 + 1e-9) << seed;
        EXPECT_LE(score(critical, now).upper, 10 + 1e-9) << seed;
        EXPECT_EQ(score(high, now).verdict, Verdict::not_isolated) << seed;
        EXPECT_EQ(score(critical, now).verdict, Verdict::not_isolated) << seed;
    }
}

TEST(IsolationScore, CannotBeDilutedByAddingPasses) {
    for (unsigned seed = 0; seed < worlds; ++seed) {
        World world(seed);
        if (!world.something_applies()) world.add(Status::unknown);
        auto before = world.score();
        for (auto more = 1 + world.random() % 20; more > 0; --more) world.add(Status::pass);
        auto after = world.score();
        EXPECT_EQ(after.lower, before.lower) << seed;
        EXPECT_EQ(after.upper, before.upper) << seed;
        if (before.verdict == Verdict::not_isolated) {
            EXPECT_EQ(after.verdict, before.verdict) << seed;
        }
    }
}

TEST(IsolationScore, NothingExaminedIsUnprovenAndNeverAHundred) {
    auto nothing = score({}, now);
    EXPECT_EQ(nothing.lower, 0);
    EXPECT_EQ(nothing.upper, 100);
    EXPECT_EQ(nothing.coverage, 0);
    EXPECT_EQ(nothing.confidence, 0);
    EXPECT_EQ(nothing.verdict, Verdict::unproven);
    EXPECT_TRUE(layer_scores({}, now).empty());
    for (unsigned seed = 0; seed < worlds; ++seed) {
        World world(seed);
        world.findings.clear();
        for (auto count = 1 + world.random() % 9; count > 0; --count) world.add(Status::unknown);
        auto blind = world.score();
        EXPECT_LT(blind.lower, 100) << seed;
        EXPECT_EQ(blind.upper, 100) << seed;
        EXPECT_EQ(blind.coverage, 0) << seed;
        EXPECT_EQ(blind.confidence, 0) << seed;
        EXPECT_EQ(blind.verdict, Verdict::unproven) << seed;
    }
}

TEST(IsolationScore, NeverRisesWhenAPassBecomesUnknownOrAFailure) {
    for (unsigned seed = 0; seed < worlds; ++seed) {
        World world(seed);
        world.add(Status::pass);
        auto index = world.random() % world.findings.size();
        const auto& check = world.findings[index].check();
        Score previous;
        bool first = true;
        for (auto status : {Status::pass, Status::unknown, Status::fail}) {
            world.findings[index] = make_finding(check, status, now);
            auto score = world.score();
            if (!first) {
                EXPECT_LE(score.lower, previous.lower) << seed;
                EXPECT_LE(score.upper, previous.upper) << seed;
                EXPECT_FALSE(score.verdict == Verdict::isolated) << seed;
            }
            previous = score;
            first = false;
        }
    }
}

TEST(IsolationScore, IsNotMovedByWhatDoesNotApply) {
    for (unsigned seed = 0; seed < worlds; ++seed) {
        World world(seed);
        auto before = world.score();
        auto layers = layer_scores(world.findings, now).size();
        for (auto more = 1 + world.random() % 5; more > 0; --more) world.add(Status::not_applicable);
        auto after = world.score();
        EXPECT_EQ(after.lower, before.lower) << seed;
        EXPECT_EQ(after.upper, before.upper) << seed;
        EXPECT_EQ(after.coverage, before.coverage) << seed;
        EXPECT_EQ(after.confidence, before.confidence) << seed;
        EXPECT_EQ(after.verdict, before.verdict) << seed;
        EXPECT_EQ(layer_scores(world.findings, now).size(), layers) << seed;
        EXPECT_FALSE(world.findings.back().evidence().empty()) << seed;
    }
}

TEST(IsolationScore, CountsOneRootCauseOnceAndCompoundsUnrelatedOnes) {
    for (unsigned seed = 0; seed < worlds; ++seed) {
        World world(seed);
        auto layer = static_cast<Layer>(world.random() % 5);
        auto severity = static_cast<Severity>(world.random() % 4);
        auto weight = weights[static_cast<int>(severity)];
        auto status = world.random() % 2 ? Status::fail : Status::unknown;
        auto of_layer = [&] {
            for (const auto& score : layer_scores(world.findings, now))
                if (score.layer == layer) return score.lower;
            return 100.0;
        };
        auto before = of_layer();
        world.findings.push_back(make_finding(world.define(layer, severity, "one cause"), status, now));
        EXPECT_NEAR(of_layer(), before * (1 - weight), 1e-9) << seed;
        for (int again = 0; again < 5; ++again)
            world.findings.push_back(make_finding(world.define(layer, severity, "one cause"), status, now));
        EXPECT_NEAR(of_layer(), before * (1 - weight), 1e-9) << seed;
        world.findings.push_back(make_finding(world.define(layer, severity, "another cause"), status, now));
        EXPECT_NEAR(of_layer(), before * (1 - weight) * (1 - weight), 1e-9) << seed;
    }
}

TEST(IsolationRecommendations, AreOrderedByTheLowerBoundThatMendingOneReaches) {
    for (unsigned seed = 0; seed < worlds; ++seed) {
        World world(seed);
        std::size_t open = 0;
        for (const auto& finding : world.findings)
            open += finding.status() == Status::fail || finding.status() == Status::unknown;
        auto texts = isolation::recommendations(world.findings, now);
        ASSERT_EQ(texts.size(), open) << seed;
        double previous = 101;
        for (const auto& text : texts) {
            auto mended = std::find_if(world.findings.begin(), world.findings.end(), [&](const auto& f) {
                return text.ends_with(std::string(": ") + f.check().fix);
            });
            ASSERT_NE(mended, world.findings.end()) << seed << " " << text;
            std::vector<Finding> left;
            for (const auto& finding : world.findings)
                if (std::string(finding.check().root_cause) != mended->check().root_cause) left.push_back(finding);
            auto reached = bound(left, true);
            EXPECT_LE(reached, previous + 1e-9) << seed << " " << text;
            EXPECT_GE(reached, bound(world.findings, true) - 1e-9) << seed << " " << text;
            previous = reached;
        }
    }
}

/// What a verifier does with a report: reads the findings back and judges nothing by itself.
std::vector<Finding> read_back(const nlohmann::json& document, const std::deque<CheckDefinition>& definitions) {
    std::vector<Finding> findings;
    for (std::size_t i = 0; i < document.size(); ++i) {
        const auto& check = definitions[i];
        EXPECT_EQ(document[i]["check_id"], check.id);
        std::vector<Evidence> evidence;
        for (const auto& item : document[i]["evidence"]) {
            auto read = evidence_for(check, parse_rfc3339(item["collected_at"]));
            read.session_id = item["session_id"];
            read.instance_epoch = item["instance_epoch"];
            read.source = item["source"];
            read.vantage = item["vantage"];
            read.sha256 = item["sha256"];
            read.ttl = parse_duration(item["ttl"].get<std::string>());
            for (auto strength : {Strength::e0, Strength::e1, Strength::e2, Strength::e3, Strength::e4})
                if (item["strength"] == name_of(strength)) read.strength = strength;
            evidence.push_back(read);
        }
        for (auto status : decisions)
            if (document[i]["status"] == name_of(status)) findings.push_back(make_finding(check, status, evidence));
    }
    return findings;
}

TEST(IsolationScore, IsAPureFunctionOfTheFindingsAndCanBeRecomputedFromTheReport) {
    for (unsigned seed = 0; seed < worlds / 10; ++seed) {
        World world(seed);
        for (auto& finding : world.findings) {
            auto evidence = finding.evidence();
            for (auto& item : evidence) item.collected_at -= Duration(world.random() % 70 * 1s);
            finding = make_finding(finding.check(), finding.status(), evidence);
        }
        auto first = world.score();
        auto text = nlohmann::json(world.findings).dump();
        auto again = score(read_back(nlohmann::json::parse(text), world.definitions), now);
        EXPECT_EQ(again.lower, first.lower) << seed;
        EXPECT_EQ(again.upper, first.upper) << seed;
        EXPECT_EQ(again.coverage, first.coverage) << seed;
        EXPECT_EQ(again.confidence, first.confidence) << seed;
        EXPECT_EQ(again.verdict, first.verdict) << seed;

        std::shuffle(world.findings.begin(), world.findings.end(), world.random);
        auto shuffled = world.score();
        EXPECT_EQ(shuffled.lower, first.lower) << seed;
        EXPECT_EQ(shuffled.upper, first.upper) << seed;
        EXPECT_EQ(shuffled.verdict, first.verdict) << seed;
        EXPECT_NEAR(shuffled.coverage, first.coverage, 1e-12) << seed;
        EXPECT_NEAR(shuffled.confidence, first.confidence, 1e-12) << seed;
    }
}

}  // namespace
}  // namespace infrastructure_sdk
