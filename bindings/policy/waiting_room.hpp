#pragma once
// Those who wait for the answers of a policy's thread. What they ask is handed over together, and what was answered
// meanwhile is taken back together: to wake a thread costs more than many answers.

#include <map>
#include <memory>
#include <stop_token>
#include <vector>

#include "policy/policy_thread.hpp"
#include <infrastructure_sdk/environment.hpp>

namespace infrastructure_sdk::bindings {

/// Used on the Environment's executor only.
class WaitingRoom : public std::enable_shared_from_this<WaitingRoom> {
public:
    WaitingRoom(Environment environment, std::shared_ptr<PolicyThread> thread);

    /// Asks, and completes when there is an answer, at the deadline or at the stop of the call.
    Task<void> ask(std::shared_ptr<Question> question, Call call);

private:
    struct Waiter;
    class Place;
    using Waiting = std::multimap<MonotonicTime, Waiter*>;

    static Task<void> serve(std::shared_ptr<WaitingRoom> self);
    void call_server();
    void hand_over();
    void let_go_of_the_answered();
    void let_go_of_the_overdue(MonotonicTime now);
    void let_go(Waiter& waiter);
    MonotonicTime next_look(MonotonicTime now) const;

    Environment environment_;
    std::shared_ptr<PolicyThread> thread_;
    Waiting waiting_;  ///< by their deadlines
    std::vector<std::shared_ptr<Question>> asked_;
    bool is_served_ = false;
    std::stop_source wake_;  ///< of what serves
};

}  // namespace infrastructure_sdk::bindings
