#include "simulation/decision_counts.hpp"

namespace infrastructure_sdk {
namespace {

class BorrowedHost final : public PolicyHost {
public:
    explicit BorrowedHost(std::shared_ptr<PolicyHost> inner) : inner_(std::move(inner)) {}
    const PolicyIdentity& identity() const override { return inner_->identity(); }
    std::vector<DecisionPoint> points() const override { return inner_->points(); }
    std::optional<PolicyAnswer> decide_now(const PolicyRequest& request, const std::string& state) override {
        return inner_->decide_now(request, state);
    }
    Task<PolicyAnswer> decide(PolicyRequest request, std::string state, Call call) override {
        return inner_->decide(std::move(request), std::move(state), std::move(call));
    }
    std::vector<std::string> missing_protections() const override { return inner_->missing_protections(); }
    Task<void> close() override { co_return; }

private:
    std::shared_ptr<PolicyHost> inner_;
};

}  // namespace

void DecisionCounts::add(const PolicyJudgement& judged) {
    auto& entry = counts_[{judged.point, judged.answer}];
    entry.point = judged.point;
    entry.answer = judged.answer;
    using enum PolicyJudgement::Effect;
    auto& number = judged.effect == shadowed    ? entry.shadowed
                   : judged.effect == overruled ? entry.overruled
                                                : entry.count;
    ++number;
}

std::vector<DecisionCount> DecisionCounts::list() const {
    std::vector<DecisionCount> result;
    for (const auto& [key, entry] : counts_) result.push_back(entry);
    return result;
}

std::shared_ptr<PolicyHost> make_borrowed_host(std::shared_ptr<PolicyHost> inner) {
    return std::make_shared<BorrowedHost>(std::move(inner));
}

}  // namespace infrastructure_sdk
