#pragma once
// Policies for tests: what they answer, and how badly they behave.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/policy/policy_engine.hpp>

namespace infrastructure_sdk::test {

/// A host whose answers are a function. Behaviours apply to `decide`.
class ScriptedPolicy final : public PolicyHost {
public:
    using Rule = std::function<PolicyAnswer(const PolicyRequest&, const std::string& state)>;
    ScriptedPolicy(std::string name, std::vector<DecisionPoint> points, Rule rule)
        : identity_{std::move(name), "1", "tests", std::string(64, 'a')},
          points_(std::move(points)),
          rule_(std::move(rule)) {}

    const PolicyIdentity& identity() const override { return identity_; }
    std::vector<DecisionPoint> points() const override { return points_; }
    std::optional<PolicyAnswer> decide_now(const PolicyRequest& request, const std::string& state) override {
        if (clock || raises) return std::nullopt;
        return answer(request, state);
    }
    Task<PolicyAnswer> decide(PolicyRequest request, std::string state, Call call) override {
        if (raises) throw std::runtime_error("it raised");
        if (thinks) thinks();
        // The stop is not listened to: it is a bad policy.
        (void)call;
        co_await clock->sleep_until(clock->monotonic_now() + delay, {});
        co_return answer(request, state);
    }
    Task<void> close() override {
        ++closed;
        co_return;
    }
    std::vector<std::string> missing_protections() const override { return missing; }
    std::size_t overdue() const override { return given_up; }
    void set_sha256(std::string digest) { identity_.sha256 = std::move(digest); }

    std::shared_ptr<Clock> clock;  ///< set: it takes `delay` for an answer
    Duration delay{};
    bool raises = false;
    std::function<void()> thinks;  ///< called when it begins to take its time
    int asked = 0, closed = 0;
    std::size_t given_up = 0;  ///< what `overdue` says
    std::vector<PolicyRequest> requests;
    std::vector<std::string> missing;

private:
    PolicyAnswer answer(const PolicyRequest& request, const std::string& state) {
        ++asked;
        requests.push_back(request);
        return rule_(request, state);
    }
    PolicyIdentity identity_;
    std::vector<DecisionPoint> points_;
    Rule rule_;
};

inline PolicyAnswer answer_of(PolicyDecision decision, std::string state = {}) {
    PolicyAnswer answer;
    answer.decision = std::move(decision);
    answer.state = std::move(state);
    return answer;
}

inline std::shared_ptr<ScriptedPolicy> always(std::string name, DecisionPoint point, PolicyDecision decision) {
    auto rule = [decision](const PolicyRequest&, const std::string&) { return answer_of(decision); };
    return std::make_shared<ScriptedPolicy>(std::move(name), std::vector{point}, rule);
}

/// A source for each host, in order, and the factory that finds it.
inline PolicyEngineOptions options_of(std::vector<std::shared_ptr<PolicyHost>> hosts) {
    PolicyEngineOptions options;
    auto table = std::make_shared<std::map<std::string, std::shared_ptr<PolicyHost>>>();
    for (auto& host : hosts) {
        PolicySource source;
        source.source = "test:" + host->identity().name;
        options.sources.push_back(source);
        (*table)[source.source] = std::move(host);
    }
    options.make_hosts = [table](PolicySource source, Call) -> Task<std::vector<std::shared_ptr<PolicyHost>>> {
        std::vector<std::shared_ptr<PolicyHost>> found;
        if (auto host = table->find(source.source); host != table->end()) found.push_back(host->second);
        co_return found;
    };
    return options;
}

}  // namespace infrastructure_sdk::test
