#include <infrastructure_sdk/policy/python_host.hpp>

#include <condition_variable>
#include <mutex>

#include "policy/policy_thread.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
namespace {

PolicyAnswer not_asked(PolicyAnswer::Outcome outcome, DecisionPoint point, std::string detail) {
    PolicyAnswer answer;
    answer.outcome = outcome;
    answer.decision = standard_decision(point);
    answer.detail = std::move(detail);
    return answer;
}

/// Waits on the calling thread. False = it took longer.
bool wait_for(std::stop_token token, Duration most) {
    std::mutex mutex;
    std::condition_variable done;
    bool is_done = false;
    std::stop_callback notify(token, [&] {
        std::lock_guard lock(mutex);
        is_done = true;
        done.notify_all();
    });
    std::unique_lock lock(mutex);
    return done.wait_for(lock, most, [&] { return is_done; });
}

/// Asks on a thread of the policy's own.
class ThreadedHost final : public PolicyHost {
public:
    ThreadedHost(Environment environment, PolicyText text, const PythonPolicyOptions& options)
        : environment_(std::move(environment)), fresh_threads_(options.fresh_threads) {
        thread_ = std::make_shared<PolicyThread>(
            environment_.clock, [text = std::move(text), options] { return load_policy(text, options); });
        thread_->start();
        if (!wait_for(thread_->load_finished(), options.load_budget)) {
            thread_->give_up(nullptr);
            thread_->stop();
            throw Error(Errc::timeout, "the policy was not loaded in time: does it wait or loop?",
                        {{"field", "policy"}});
        }
        const auto& loaded = thread_->loaded();
        identity_ = loaded.identity;
        points_ = loaded.points;
    }
    ~ThreadedHost() override { thread_->stop(); }

    const PolicyIdentity& identity() const override { return identity_; }
    std::vector<DecisionPoint> points() const override { return points_; }

    Task<PolicyAnswer> decide(PolicyRequest request, std::string state, Call call) override {
        using enum PolicyAnswer::Outcome;
        auto point = point_of(request);
        if (closed_) co_return not_asked(refused, point, "the policy is closed");
        if (thread_->lost() && !replace_thread())
            co_return not_asked(refused, point, "its threads did not come back from earlier questions");
        if (thread_->overdue()) co_return not_asked(refused, point, "it still runs an earlier question");
        auto question = std::make_shared<Question>();
        question->request = std::move(request);
        question->state = std::move(state);
        question->answer = not_asked(refused, point, "the policy was closed meanwhile");
        auto thread = thread_;
        thread->ask(question);
        {
            std::stop_callback cancelled(call.stop, [question] { question->finished.request_stop(); });
            co_await environment_.clock->sleep_until(call.deadline.when(), question->finished.get_token());
        }
        if (call.stop.stop_requested()) {
            thread->give_up(question);
            throw Error(Errc::cancelled, "the question to a policy was cancelled");
        }
        if (question->finished.stop_requested()) co_return question->answer;
        thread->give_up(question);
        co_return not_asked(timed_out, point, "no answer within the time budget");
    }

    Task<void> close() override {
        closed_ = true;
        thread_->stop();
        auto patience = Deadline::after(*environment_.clock, std::chrono::seconds(2));
        co_await environment_.clock->sleep_until(patience.when(), thread_->ended());
    }

private:
    bool replace_thread() {
        auto loaded = thread_->share_loaded();
        if (fresh_threads_ == 0 || !loaded) return false;
        --fresh_threads_;
        // The lost one ends if it ever comes back.
        thread_->stop();
        thread_ = std::make_shared<PolicyThread>(environment_.clock, nullptr);
        thread_->start(std::move(loaded));
        return true;
    }

    Environment environment_;
    unsigned fresh_threads_;
    std::shared_ptr<PolicyThread> thread_;
    PolicyIdentity identity_;
    std::vector<DecisionPoint> points_;
    bool closed_ = false;
};

/// Asks on the caller's thread.
class InlineHost final : public PolicyHost {
public:
    InlineHost(const PolicyText& text, const PythonPolicyOptions& options) {
        py::gil_scoped_acquire gil;
        loaded_ = load_policy(text, options);
    }
    ~InlineHost() override {
        // After the interpreter there is nothing to give back to.
        if (!Py_IsInitialized()) {
            (void)loaded_.release();
            return;
        }
        py::gil_scoped_acquire gil;
        loaded_.reset();
    }

    const PolicyIdentity& identity() const override { return loaded_->identity; }
    std::vector<DecisionPoint> points() const override { return loaded_->points; }

    Task<PolicyAnswer> decide(PolicyRequest request, std::string state, Call) override {
        py::gil_scoped_acquire gil;
        co_return ask(*loaded_, std::move(request), state);
    }
    Task<void> close() override { co_return; }

private:
    std::unique_ptr<LoadedPolicy> loaded_;
};

}  // namespace
}  // namespace infrastructure_sdk::bindings

namespace infrastructure_sdk {

std::shared_ptr<PolicyHost> make_python_policy(Environment environment, PolicyText text, PythonPolicyOptions options) {
    if (options.inline_calls) return std::make_shared<bindings::InlineHost>(text, options);
    return std::make_shared<bindings::ThreadedHost>(std::move(environment), std::move(text), options);
}

}  // namespace infrastructure_sdk
