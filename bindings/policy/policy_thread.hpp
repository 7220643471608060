#pragma once
// A thread that keeps its Python thread state and asks one policy one question after the other, and a watcher that
// interrupts a question which is overdue.

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "policy/loaded_policy.hpp"
#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk::bindings {

/// One question. Made and read by the engine; filled by the thread, before it requests `finished`.
struct Question {
    PolicyRequest request;
    std::string state;
    Duration budget{};  ///< from when it begins to run
    PolicyAnswer answer;
    std::stop_source finished;
    std::atomic<bool> abandoned{false};  ///< nobody waits for it any more
    void* waiter = nullptr;              ///< of the WaitingRoom
};
using Questions = std::vector<std::shared_ptr<Question>>;

/// Any method from any thread, without the GIL.
class PolicyThread : public std::enable_shared_from_this<PolicyThread> {
public:
    using Load = std::function<std::unique_ptr<LoadedPolicy>()>;

    PolicyThread(std::shared_ptr<Clock> clock, Load load);

    /// Begins with loading. `loaded` may be given by a thread that was lost.
    void start(std::shared_ptr<LoadedPolicy> loaded = nullptr);
    /// Requested when it is loaded, or could not be.
    std::stop_source loading() const { return loading_; }
    /// After that. @throws what loading threw
    const LoadedPolicy& loaded() const;
    std::shared_ptr<LoadedPolicy> share_loaded() const;

    /// They are answered in their order.
    void ask(const Questions& questions);
    /// Those that were finished since this was called last, by whatever.
    Questions take_answered();
    /// Requested when there are some and no question waits for its turn. Instead of what was given before.
    void tell(std::stop_source answered);
    /// Nobody waits for it any more. If it runs and has used up its budget it is interrupted.
    /// @return when it will have used it up, if it runs: to be called again then
    std::optional<MonotonicTime> give_up(const std::shared_ptr<Question>& question);
    /// A question runs that has used up its budget.
    bool overdue() const;
    /// It was interrupted again and again and did not come back.
    bool lost() const;

    /// No more questions; what runs is interrupted. `ended` is requested when its Python state is gone.
    void stop();
    std::stop_token ended() const { return ended_.get_token(); }

private:
    void run();
    void load_here();
    bool wait_for_questions();
    void answer_all();
    void answer(const std::shared_ptr<Question>& question);
    void tell_of_answers();
    void finish_unanswered();
    void watch();
    void start_watching();
    bool interrupt();

    std::shared_ptr<Clock> clock_;
    Load load_;
    std::stop_source loading_, ended_;
    std::exception_ptr load_error_;

    mutable std::mutex mutex_;
    std::condition_variable wake_, watcher_wake_;
    std::shared_ptr<LoadedPolicy> loaded_;
    std::deque<std::shared_ptr<Question>> waiting_;
    Questions answered_;
    std::stop_source tell_;
    std::shared_ptr<Question> running_;
    MonotonicTime begun_{};  ///< of what runs
    bool busy_ = false;      ///< Python runs: a question or the loading
    bool given_up_ = false;  ///< what runs is overdue
    bool watching_ = false;  ///< there is a watcher
    bool stopping_ = false, lost_ = false;
    unsigned long python_id_ = 0;
};

}  // namespace infrastructure_sdk::bindings
