#include <algorithm>
#include <map>
#include <string_view>

#include "isolation/facts.hpp"

namespace infrastructure_sdk {
namespace {

double weight(Severity severity) {
    switch (severity) {
        case Severity::critical: return 0.90;
        case Severity::high: return 0.50;
        case Severity::medium: return 0.20;
        case Severity::low: return 0.05;
    }
    return 0.90;
}

/// 1 up to the ttl, falling to 0 at twice the ttl. Evidence from the future is as good as none.
double freshness(const Evidence& evidence, WallTime now) {
    auto age = now - evidence.collected_at;
    if (age < -std::chrono::seconds(5) || evidence.ttl <= Duration::zero()) return 0;
    if (age <= evidence.ttl) return 1;
    return std::max(0.0, 2.0 - static_cast<double>(age.count()) / static_cast<double>(evidence.ttl.count()));
}

double strength_factor(Strength strength) {
    switch (strength) {
        case Strength::e0: return 0;
        case Strength::e1: return 0.5;
        case Strength::e2: return 0.6;
        case Strength::e3: return 0.9;
        case Strength::e4: return 1.0;
    }
    return 0;
}

double confidence_of(const Finding& finding, WallTime now) {
    double best = 0;
    for (const auto& item : finding.evidence())
        best = std::max(
            best, strength_factor(item.strength) * isolation::vantage_factor(item.vantage) * freshness(item, now));
    return best;
}

/// What rests on evidence of which any part has gone stale is not known any more. A failure stays one until the next
/// look.
FindingStatus status_at(const Finding& finding, WallTime now) {
    if (finding.status() == FindingStatus::pass || finding.status() == FindingStatus::not_applicable) {
        bool stale = std::any_of(finding.evidence().begin(), finding.evidence().end(),
                                 [&](const Evidence& item) { return freshness(item, now) <= 0; });
        if (stale) return FindingStatus::unknown;
    }
    // A waiver accepts a failure; the raw score still counts it.
    return finding.status() == FindingStatus::waived ? FindingStatus::fail : finding.status();
}

/// Failures with one root cause count once, by the worst of them; unrelated ones compound.
double surviving(const std::map<std::string_view, double>& losses) {
    double left = 100;
    for (const auto& loss : losses) left *= 1 - loss.second;
    return left;
}

constexpr Layer all_layers[] = {Layer::compute, Layer::network, Layer::storage, Layer::runtime, Layer::memory};

}  // namespace

std::vector<LayerScore> layer_scores(const std::vector<Finding>& findings, WallTime now) {
    std::vector<const Finding*> all;
    for (const auto& finding : findings) all.push_back(&finding);
    return isolation::layer_scores_of(all, now);
}

std::vector<LayerScore> isolation::layer_scores_of(const std::vector<const Finding*>& findings, WallTime now) {
    std::vector<LayerScore> scores;
    for (auto layer : all_layers) {
        std::map<std::string_view, double> failed, open;
        bool any = false;
        for (const auto* each : findings) {
            const auto& finding = *each;
            if (finding.check().layer != layer) continue;
            auto status = status_at(finding, now);
            if (status == FindingStatus::not_applicable) continue;
            any = true;
            auto loss = weight(finding.check().severity);
            if (status == FindingStatus::fail) {
                auto& worst = failed[finding.check().root_cause];
                worst = std::max(worst, loss);
            }
            if (status == FindingStatus::fail || status == FindingStatus::unknown) {
                auto& worst = open[finding.check().root_cause];
                worst = std::max(worst, loss);
            }
        }
        if (any) scores.push_back({layer, surviving(open), surviving(failed)});
    }
    return scores;
}

Score score(const std::vector<Finding>& findings, WallTime now) {
    Score result;
    double decided = 0, applicable = 0, passed = 0, confidence = 0;
    bool serious_fail = false, serious_unknown = false, other = false;
    for (const auto& finding : findings) {
        auto status = status_at(finding, now);
        if (status == FindingStatus::not_applicable) continue;
        auto loss = weight(finding.check().severity);
        bool serious = finding.check().severity >= Severity::high;
        applicable += loss;
        if (status != FindingStatus::unknown) decided += loss;
        if (status == FindingStatus::pass) {
            passed += loss;
            confidence += loss * confidence_of(finding, now);
        }
        if (status == FindingStatus::fail) (serious ? serious_fail : other) = true;
        if (status == FindingStatus::unknown) (serious ? serious_unknown : other) = true;
    }
    auto layers = layer_scores(findings, now);
    result.lower = layers.empty() ? 0 : 100;
    result.upper = 100;
    for (const auto& layer : layers) {
        result.lower = std::min(result.lower, layer.lower);
        result.upper = std::min(result.upper, layer.upper);
    }
    result.coverage = applicable > 0 ? decided / applicable : 0;
    result.confidence = passed > 0 ? confidence / passed : 0;
    result.verdict = serious_fail                      ? Verdict::not_isolated
                     : serious_unknown || decided == 0 ? Verdict::unproven
                     : other                           ? Verdict::degraded
                                                       : Verdict::isolated;
    return result;
}

}  // namespace infrastructure_sdk
