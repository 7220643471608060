#include "simulation/counting_host.hpp"

namespace infrastructure_sdk {
namespace {

std::string answer_of(const PolicyDecision& decision) {
    if (const auto* admit = std::get_if<AdmitDecision>(&decision))
        return admit->action == AdmitDecision::Action::deny ? "deny" : "standard";
    if (const auto* place = std::get_if<PlaceDecision>(&decision))
        return place->candidate.empty() ? "standard" : "place";
    if (const auto* size = std::get_if<SizeDecision>(&decision))
        return size->cpu_cores || size->memory_bytes ? "size" : "standard";
    return name_of(std::get<SessionDecision>(decision).action);
}

class CountingHost final : public PolicyHost {
public:
    CountingHost(std::shared_ptr<PolicyHost> inner, DecisionCounts& counts)
        : inner_(std::move(inner)), counts_(counts) {}
    const PolicyIdentity& identity() const override { return inner_->identity(); }
    std::vector<DecisionPoint> points() const override { return inner_->points(); }
    std::optional<PolicyAnswer> decide_now(const PolicyRequest& request, const std::string& state) override {
        auto answer = inner_->decide_now(request, state);
        if (answer) counts_.add(request, *answer);
        return answer;
    }
    Task<PolicyAnswer> decide(PolicyRequest request, std::string state, Call call) override {
        auto answer = co_await inner_->decide(request, std::move(state), call);
        counts_.add(request, answer);
        co_return answer;
    }
    /// The host goes on to live with who gave it.
    Task<void> close() override { co_return; }

private:
    std::shared_ptr<PolicyHost> inner_;
    DecisionCounts& counts_;
};

}  // namespace

void DecisionCounts::add(const PolicyRequest& request, const PolicyAnswer& answer) {
    const bool decided = answer.outcome == PolicyAnswer::Outcome::decided;
    ++counts_[{point_of(request), decided ? answer_of(answer.decision) : name_of(answer.outcome)}];
}

std::vector<DecisionCount> DecisionCounts::list() const {
    std::vector<DecisionCount> result;
    for (const auto& [key, count] : counts_) result.push_back({key.first, key.second, count});
    return result;
}

std::shared_ptr<PolicyHost> make_counting_host(std::shared_ptr<PolicyHost> inner, DecisionCounts& counts) {
    return std::make_shared<CountingHost>(std::move(inner), counts);
}

}  // namespace infrastructure_sdk
