// The score by example: golden numbers, verdicts, age of evidence, confidence, coverage, advice; and how a finding is
// made.

#include <gtest/gtest.h>

#include <type_traits>

#include "isolation/facts.hpp"
#include "support/isolation_findings.hpp"

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;
using test::evidence_for;
using test::make_finding;
using Status = FindingStatus;

const WallTime now{std::chrono::hours(24 * 365 * 56)};

// One check of each severity in one layer with unrelated causes, and one of another layer.
const CheckDefinition critical{"RUN-91", Layer::runtime, Severity::critical, Strength::e3, "", "cause-c", "fix c", "",
                               {}};
const CheckDefinition high{"RUN-92", Layer::runtime, Severity::high, Strength::e3, "", "cause-h", "fix h", "", {}};
const CheckDefinition medium{"RUN-93", Layer::runtime, Severity::medium, Strength::e3, "", "cause-m", "fix m", "", {}};
const CheckDefinition low{"RUN-94", Layer::runtime, Severity::low, Strength::e3, "", "cause-l", "fix l", "", {}};
const CheckDefinition network{"NET-91", Layer::network, Severity::high, Strength::e2, "", "cause-n", "fix n", "", {}};
const CheckDefinition* const checks[] = {&critical, &high, &medium, &low};

Finding passed(const CheckDefinition& check) { return make_finding(check, Status::pass, now); }
Finding failed(const CheckDefinition& check) { return make_finding(check, Status::fail, now); }
Finding unseen(const CheckDefinition& check) { return make_finding(check, Status::unknown, now); }
Finding absent(const CheckDefinition& check) { return make_finding(check, Status::not_applicable, now); }

Finding pass_of(const CheckDefinition& check, Strength strength, const char* vantage, Duration age = {}) {
    auto item = evidence_for(check, now - age);
    item.strength = strength;
    item.vantage = vantage;
    return Finding::pass(check, {item}, "seen");
}

TEST(IsolationScoreExamples, GoldenNumbers) {
    struct Row {
        std::vector<Finding> findings;
        double lower, upper, coverage;
        Verdict verdict;
    };
    const Row rows[] = {
        {{passed(critical), passed(high), passed(medium), passed(low)}, 100, 100, 1, Verdict::isolated},
        {{failed(critical), passed(high), passed(network)}, 10, 10, 1, Verdict::not_isolated},
        {{passed(critical), failed(high), passed(network)}, 50, 50, 1, Verdict::not_isolated},
        {{failed(critical), failed(high)}, 5, 5, 1, Verdict::not_isolated},
        {{failed(medium), failed(low)}, 76, 76, 1, Verdict::degraded},
        {{failed(medium), failed(network)}, 50, 50, 1, Verdict::not_isolated},  // layers do not multiply
        {{passed(high), unseen(critical)}, 10, 100, 0.5 / 1.4, Verdict::unproven},
        {{unseen(high), failed(medium)}, 40, 80, 0.2 / 0.7, Verdict::unproven},
        {{failed(high), unseen(critical)}, 5, 50, 0.5 / 1.4, Verdict::not_isolated},
        {{passed(high), unseen(medium)}, 80, 100, 0.5 / 0.7, Verdict::degraded},  // an open question is not isolation
        {{unseen(low)}, 95, 100, 0, Verdict::unproven},
        {{passed(high), absent(critical)}, 100, 100, 1, Verdict::isolated},
        {{absent(critical)}, 0, 100, 0, Verdict::unproven},
    };
    for (std::size_t i = 0; i < std::size(rows); ++i) {
        auto result = score(rows[i].findings, now);
        EXPECT_NEAR(result.lower, rows[i].lower, 1e-9) << "row " << i;
        EXPECT_NEAR(result.upper, rows[i].upper, 1e-9) << "row " << i;
        EXPECT_NEAR(result.coverage, rows[i].coverage, 1e-9) << "row " << i;
        EXPECT_STREQ(name_of(result.verdict), name_of(rows[i].verdict)) << "row " << i;
    }
}

TEST(IsolationScoreExamples, VerdictsTakePrecedenceForEveryCombination) {
    const Status statuses[] = {Status::pass, Status::fail, Status::unknown};
    for (int combination = 0; combination < 81; ++combination) {
        std::vector<Finding> findings;
        bool serious[3] = {}, minor[3] = {};
        for (int i = 0, rest = combination; i < 4; ++i, rest /= 3) {
            findings.push_back(make_finding(*checks[i], statuses[rest % 3], now));
            if (i < 2) serious[rest % 3] = true;
            else minor[rest % 3] = true;
        }
        auto expected = serious[1]             ? Verdict::not_isolated
                        : serious[2]           ? Verdict::unproven
                        : minor[1] || minor[2] ? Verdict::degraded
                                               : Verdict::isolated;
        EXPECT_STREQ(name_of(score(findings, now).verdict), name_of(expected)) << combination;
    }
}

TEST(IsolationScoreExamples, ShowsEveryLayerThatHasSomethingToSay) {
    auto layers = layer_scores({failed(high), unseen(network), absent({critical})}, now);
    ASSERT_EQ(layers.size(), 2u);
    EXPECT_EQ(layers[0].layer, Layer::network);
    EXPECT_NEAR(layers[0].lower, 50, 1e-9);
    EXPECT_NEAR(layers[0].upper, 100, 1e-9);
    EXPECT_EQ(layers[1].layer, Layer::runtime);
    EXPECT_NEAR(layers[1].upper, 50, 1e-9);
}

TEST(IsolationScoreExamples, EvidenceFadesFromItsTtlAndIsGoneAtTwiceIt) {
    auto confidence = [](Duration age) { return score({pass_of(high, Strength::e3, "node", age)}, now).confidence; };
    EXPECT_NEAR(confidence(0s), 0.9, 1e-9);
    EXPECT_NEAR(confidence(30s), 0.9, 1e-9);
    EXPECT_NEAR(confidence(45s), 0.45, 1e-9);
    EXPECT_NEAR(confidence(59s), 0.03, 1e-9);
    for (auto age : {60s, 61s, 100000s}) {
        auto stale = score({pass_of(high, Strength::e3, "node", age)}, now);
        EXPECT_NEAR(stale.lower, 50, 1e-9);
        EXPECT_NEAR(stale.upper, 100, 1e-9);
        EXPECT_EQ(stale.coverage, 0);
        EXPECT_EQ(stale.verdict, Verdict::unproven);
    }
}

TEST(IsolationScoreExamples, EvidenceFromTheFutureOrWithoutATtlIsAsGoodAsNone) {
    EXPECT_EQ(score({pass_of(high, Strength::e3, "node", -4s)}, now).verdict,
              Verdict::isolated);  // clocks differ a little
    EXPECT_EQ(score({pass_of(high, Strength::e3, "node", -6s)}, now).verdict, Verdict::unproven);
    auto item = evidence_for(high, now);
    item.ttl = Duration::zero();
    EXPECT_EQ(score({Finding::pass(high, {item}, "seen")}, now).verdict, Verdict::unproven);
}

TEST(IsolationScoreExamples, APassIsAsOldAsItsOldestEvidence) {
    auto old = evidence_for(high, now - 60s);
    EXPECT_EQ(score({Finding::pass(high, {evidence_for(high, now), old}, "seen")}, now).verdict, Verdict::unproven);
    auto guest = evidence_for(high, now);
    guest.vantage = "guest";
    EXPECT_EQ(score({Finding::pass(high, {guest, old}, "seen")}, now).verdict, Verdict::unproven);
}

TEST(IsolationScoreExamples, AStaleNotApplicableIsUnknownAndAStaleFailureStaysAFailure) {
    auto stale = make_finding(high, Status::not_applicable, now - 60s);
    EXPECT_EQ(score({passed(critical), stale}, now).verdict, Verdict::unproven);
    EXPECT_NEAR(score({passed(critical), stale}, now).lower, 50, 1e-9);
    auto failure = make_finding(high, Status::fail, now - 24h);
    EXPECT_EQ(score({failure}, now).verdict, Verdict::not_isolated);
    EXPECT_NEAR(score({failure}, now).upper, 50, 1e-9);
}

TEST(IsolationScoreExamples, ConfidenceIsStrengthTimesVantageWeightedBySeverity) {
    auto confidence = [](std::vector<Finding> findings) { return score(findings, now).confidence; };
    EXPECT_NEAR(confidence({pass_of(high, Strength::e4, "node")}), 1, 1e-9);
    EXPECT_NEAR(confidence({pass_of(high, Strength::e3, "control-plane")}), 0.9, 1e-9);
    EXPECT_NEAR(confidence({pass_of(high, Strength::e3, "pod-exec")}), 0.72, 1e-9);
    EXPECT_NEAR(confidence({pass_of(high, Strength::e4, "peer")}), 0.8, 1e-9);
    EXPECT_NEAR(confidence({pass_of(network, Strength::e2, "node")}), 0.6, 1e-9);
    EXPECT_NEAR(confidence({pass_of(critical, Strength::e4, "node"), pass_of(low, Strength::e3, "pod-exec")}),
                (0.9 * 1 + 0.05 * 0.72) / 0.95, 1e-9);
    EXPECT_EQ(confidence({failed(critical), unseen(high)}), 0);
}

template <class T>
concept CanBeSetToPass = requires(T finding) { finding.status() = Status::pass; };

TEST(IsolationFinding, APassCannotBeWrittenWithoutEvidence) {
    static_assert(!std::is_default_constructible_v<Finding> && !std::is_aggregate_v<Finding>);
    static_assert(!std::is_invocable_v<decltype(&Finding::pass), const CheckDefinition&, std::string>);
    static_assert(!CanBeSetToPass<Finding>);
    auto finding = Finding::pass(high, {}, "it looked fine");
    EXPECT_EQ(finding.status(), Status::unknown);
    EXPECT_EQ(finding.reason(), "no evidence was given");
    EXPECT_EQ(Finding::not_applicable(high, {}, "there is none").status(), Status::unknown);
}

TEST(IsolationFinding, IsUnknownWhenItsEvidenceIsTooWeakForAPassOrIncomplete) {
    auto status_with = [](auto change) {
        auto item = evidence_for(high, now);
        change(item);
        auto pass = Finding::pass(high, {item}, "seen");
        EXPECT_EQ(Finding::not_applicable(high, {item}, "none").status() == Status::unknown,
                  pass.status() == Status::unknown);
        EXPECT_EQ(pass.evidence().size(), 1u);
        return pass.status();
    };
    EXPECT_EQ(status_with([](Evidence&) {}), Status::pass);
    EXPECT_EQ(status_with([](Evidence& e) { e.strength = Strength::e2; }), Status::unknown);
    for (const char* vantage : {"guest", "", "moon"})
        EXPECT_EQ(status_with([&](Evidence& e) { e.vantage = vantage; }), Status::unknown) << vantage;
    EXPECT_EQ(status_with([](Evidence& e) { e.source.clear(); }), Status::unknown);
    EXPECT_EQ(status_with([](Evidence& e) { e.sha256.clear(); }), Status::unknown);
    EXPECT_EQ(status_with([](Evidence& e) { e.instance_epoch.clear(); }), Status::unknown);
    EXPECT_EQ(status_with([](Evidence& e) { e.check_id = "RUN-92b"; }), Status::unknown);
    EXPECT_EQ(Finding::pass(high, {Evidence{}}, "seen").status(), Status::unknown);
}

TEST(IsolationFinding, OurOwnIntentNeverSupportsAPassWhateverTheFloor) {
    CheckDefinition lenient = high;
    lenient.floor = Strength::e0;
    auto intent = evidence_for(lenient, now);
    intent.strength = Strength::e0;
    EXPECT_EQ(Finding::pass(lenient, {intent}, "we asked for it").status(), Status::unknown);
}

TEST(IsolationFinding, RefusesEvidenceOfTwoSubjects) {
    auto ours = evidence_for(high, now), restarted = ours, neighbour = ours;
    restarted.instance_epoch = "boot/4712/100/uuid";
    neighbour.session_id = "session-2";
    EXPECT_EQ(Finding::pass(high, {ours, ours}, "seen").status(), Status::pass);
    EXPECT_EQ(Finding::pass(high, {ours, restarted}, "seen").status(), Status::unknown);
    EXPECT_EQ(Finding::pass(high, {ours, neighbour}, "seen").status(), Status::unknown);
}

TEST(IsolationFinding, AWaiverCoversTheFailureItNamesUntilItEnds) {
    auto failure = failed(high);
    Waiver waiver{"w-1", high.id, "", "the lab needs it", "an admin", now + 1h};
    auto waived = Finding::waived(failure, waiver, now);
    EXPECT_EQ(waived.status(), Status::waived);
    EXPECT_EQ(waived.evidence().size(), failure.evidence().size());
    EXPECT_NE(waived.reason().find("accepted by an admin (w-1): the lab needs it"), std::string::npos);
    // The score counts what is, not what was accepted.
    EXPECT_EQ(score({waived}, now).lower, score({failure}, now).lower);
    EXPECT_EQ(score({waived}, now).verdict, Verdict::not_isolated);
    EXPECT_EQ(Finding::waived(failure, waiver, now + 1h).status(), Status::fail);
    auto refused = [&](auto change) {
        auto other = waiver;
        change(other);
        return Finding::waived(failure, other, now).status() == Status::fail;
    };
    EXPECT_TRUE(refused([](Waiver& w) { w.id.clear(); }));
    EXPECT_TRUE(refused([](Waiver& w) { w.reason.clear(); }));
    EXPECT_TRUE(refused([](Waiver& w) { w.approved_by.clear(); }));
    EXPECT_TRUE(refused([](Waiver& w) { w.check_id = "RUN-91"; }));
    EXPECT_TRUE(refused([](Waiver& w) { w.session_id = "session-2"; }));
    EXPECT_FALSE(refused([](Waiver& w) { w.session_id = "session-1"; }));
    for (auto other : {passed(high), unseen(high), absent(high)})
        EXPECT_EQ(Finding::waived(other, waiver, now).status(), other.status());
}

TEST(IsolationRecommendations, PutWhatRaisesTheLowerBoundMostFirst) {
    auto texts = isolation::recommendations({failed(low), failed(network), unseen(critical), passed(medium)}, now);
    ASSERT_EQ(texts.size(), 3u);
    EXPECT_EQ(texts[0], "RUN-91 (unknown): fix c");  // 9.5 to 50
    EXPECT_EQ(texts[1], "RUN-94 (fail): fix l");     // 9.5 to 10
    EXPECT_EQ(texts[2], "NET-91 (fail): fix n");     // stays at 9.5
    EXPECT_TRUE(isolation::recommendations({passed(high), absent(low)}, now).empty());
}

TEST(IsolationRecommendations, PreferTheGreaterGainOfALayerWhenTheBoundDoesNotMove) {
    const CheckDefinition disk{"STO-91", Layer::storage, Severity::medium, Strength::e3, "", "cause-d", "fix d", "",
                               {}};
    const CheckDefinition other{"STO-92", Layer::storage, Severity::high, Strength::e3, "", "cause-o", "fix o", "", {}};
    // The network layer has this one finding and gains 50; the storage layer gains 20.
    auto texts = isolation::recommendations({failed(disk), passed(other), failed(network), failed(critical)}, now);
    ASSERT_EQ(texts.size(), 3u);
    EXPECT_EQ(texts[0], "RUN-91 (fail): fix c");
    EXPECT_EQ(texts[1], "NET-91 (fail): fix n");
    EXPECT_EQ(texts[2], "STO-91 (fail): fix d");
}

}  // namespace
}  // namespace infrastructure_sdk
