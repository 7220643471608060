#include <infrastructure_sdk/policy/python_host.hpp>

#include <algorithm>

#include <cxxabi.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <pybind11/stl.h>

#include "policy/waiting_room.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/policy/process_host.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
namespace {

constexpr Duration longest_budget = std::chrono::hours(24);

/// Until `finished` is requested, the deadline or the stop of the call.
Task<void> wait_for(Clock& clock, std::stop_source finished, Call call) {
    std::stop_callback cancelled(call.stop, [finished]() mutable { finished.request_stop(); });
    auto deadline = call.deadline.earlier(Deadline::after(clock, longest_budget));
    co_await clock.sleep_until(deadline.when(), finished.get_token());
}

/// A question that came late to its turn has its whole budget, although its caller waits no more.
Task<void> interrupt_when_overdue(std::shared_ptr<Clock> clock, std::shared_ptr<PolicyThread> thread,
                                  std::shared_ptr<Question> question) {
    for (auto when = thread->give_up(question); when; when = thread->give_up(question))
        co_await clock->sleep_until(*when, question->finished.get_token());
}

/// Asks on a thread of the policy's own.
class ThreadedHost final : public PolicyHost {
public:
    /// `thread` has loaded its policy.
    ThreadedHost(Environment environment, std::shared_ptr<PolicyThread> thread, unsigned fresh_threads)
        : environment_(std::move(environment)),
          fresh_threads_(fresh_threads),
          thread_(std::move(thread)),
          room_(std::make_shared<WaitingRoom>(environment_, thread_)) {
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
        if (closed_) co_return not_decided(refused, point, "the policy is closed");
        if (thread_->lost() && !replace_thread())
            co_return not_decided(refused, point, "its threads did not come back from earlier questions");
        if (thread_->overdue()) co_return not_decided(refused, point, "it still runs an earlier question");
        auto question = std::make_shared<Question>();
        question->request = std::move(request);
        question->state = std::move(state);
        question->budget = std::min(longest_budget, call.deadline.remaining(*environment_.clock));
        question->answer = not_decided(refused, point, "the policy was closed meanwhile");
        auto thread = thread_;
        co_await room_->ask(question, call);
        if (question->finished.stop_requested()) co_return std::move(question->answer);
        boost::asio::co_spawn(environment_.executor, interrupt_when_overdue(environment_.clock, thread, question),
                              boost::asio::detached);
        if (call.stop.stop_requested()) throw Error(Errc::cancelled, "the question to a policy was cancelled");
        co_return not_decided(timed_out, point, "no answer within the time budget");
    }

    std::size_t overdue() const override {
        auto still_runs = [](const auto& thread) { return !thread->ended().stop_requested(); };
        auto lost = std::count_if(lost_.begin(), lost_.end(), still_runs);
        return static_cast<std::size_t>(lost) + (thread_->overdue() ? 1 : 0);
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
        lost_.push_back(thread_);
        thread_ = std::make_shared<PolicyThread>(environment_.clock, nullptr);
        thread_->start(std::move(loaded));
        room_ = std::make_shared<WaitingRoom>(environment_, thread_);
        return true;
    }

    Environment environment_;
    unsigned fresh_threads_;
    std::shared_ptr<PolicyThread> thread_;
    std::shared_ptr<WaitingRoom> room_;
    std::vector<std::shared_ptr<PolicyThread>> lost_;  ///< replaced; what they run was given up
    PolicyIdentity identity_;
    std::vector<DecisionPoint> points_;
    bool closed_ = false;
};

/// Python's state of a thread that Python did not begin, from the first question there until the thread's end: one
/// for each question would be made and unmade with memory from the kernel.
class KeptThreadState {
public:
    /// Needs no lock of Python, and leaves it as it is.
    void keep() {
        if (PyGILState_GetThisThreadState()) return;
        PyGILState_Ensure();
        state_ = PyEval_SaveThread();
    }
    ~KeptThreadState() {
        // With its interpreter it is gone, and another one does not know it.
        if (!state_ || !Py_IsInitialized() || PyGILState_GetThisThreadState() != state_) return;
        try {
            PyEval_RestoreThread(state_);
            PyGILState_Release(PyGILState_UNLOCKED);
        } catch (abi::__forced_unwind&) {
            rest_after_python();
        }
    }

private:
    PyThreadState* state_ = nullptr;
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

    std::optional<PolicyAnswer> decide_now(const PolicyRequest& request, const std::string& state) override {
        thread_local KeptThreadState thread;
        thread.keep();
        py::gil_scoped_acquire gil;
        return ask(*loaded_, request, state);
    }
    Task<PolicyAnswer> decide(PolicyRequest request, std::string state, Call) override {
        co_return *decide_now(request, state);
    }
    Task<void> close() override { co_return; }

private:
    std::unique_ptr<LoadedPolicy> loaded_;
};

/// The text of a file or of a package's policy. Runs where it may block; takes Python's lock.
Task<PolicyText> read_text(std::string source) {
    py::gil_scoped_acquire gil;
    try {
        auto found = py::module_::import("infrastructure_sdk.policy.loader").attr("read_source")(py::str(source));
        auto pair = found.cast<std::pair<std::string, std::string>>();
        co_return PolicyText{pair.first, pair.second};
    } catch (const py::error_already_set& error) {
        std::string what = py::str(error.value());
        throw Error(Errc::policy, what, {{"field", "source"}, {"value", source}});
    }
}

Task<std::shared_ptr<PolicyHost>> load_source(Environment environment, PolicyWorkerPlace place, PolicySource source,
                                              Call call) {
    auto text =
        co_await boost::asio::co_spawn(environment.blocking, read_text(source.source), boost::asio::use_awaitable);
    auto budget = static_cast<std::size_t>(source.memory_budget_bytes);
    if (!source.untrusted) {
        PythonPolicyOptions options;
        options.memory_budget = budget;
        co_return co_await load_python_policy(environment, std::move(text), options, call);
    }
    if (place.package.empty())
        throw Error(Errc::policy, "an untrusted policy needs the Python package, which this program does not know of",
                    {{"field", "untrusted"}, {"value", source.source}});
    ProcessPolicyOptions options;
    options.interpreter = place.interpreter;
    options.package = place.package;
    options.memory_budget = budget;
    co_return co_await load_process_policy(environment, text.source, text.origin, options, call);
}

Task<std::vector<std::shared_ptr<PolicyHost>>> load_all(Environment environment, PolicyWorkerPlace place,
                                                        PolicySource source, Call call) {
    Call within = call.within(Deadline::after(*environment.clock, std::chrono::seconds(10)));
    std::vector<std::shared_ptr<PolicyHost>> hosts;
    auto host = co_await load_source(environment, std::move(place), std::move(source), within);
    hosts.push_back(std::move(host));
    co_return hosts;
}

}  // namespace
}  // namespace infrastructure_sdk::bindings

namespace infrastructure_sdk {

PolicyHostFactory make_python_policy_factory(Environment environment, PolicyWorkerPlace place) {
    return [environment = std::move(environment), place = std::move(place)](PolicySource source, Call call) {
        return bindings::load_all(environment, place, std::move(source), std::move(call));
    };
}

Task<std::shared_ptr<PolicyHost>> load_python_policy(Environment environment, PolicyText text,
                                                     PythonPolicyOptions options, Call call) {
    using bindings::PolicyThread;
    PolicyThread::Load load = [text = std::move(text), options] { return bindings::load_policy(text, options); };
    auto thread = std::make_shared<PolicyThread>(environment.clock, std::move(load));
    thread->start();
    co_await bindings::wait_for(*environment.clock, thread->loading(), call);
    // After a stop of the call it counts as finished although it may not be.
    if (call.stop.stop_requested()) {
        thread->stop();
        throw Error(Errc::cancelled, "the loading of a policy was cancelled");
    }
    if (!thread->loading().stop_requested()) {
        thread->stop();
        throw Error(Errc::timeout, "the policy was not loaded in time: does it wait or loop?", {{"field", "policy"}});
    }
    co_return std::make_shared<bindings::ThreadedHost>(std::move(environment), std::move(thread),
                                                       options.fresh_threads);
}

std::shared_ptr<PolicyHost> make_inline_python_policy(PolicyText text, PythonPolicyOptions options) {
    return std::make_shared<bindings::InlineHost>(text, options);
}

}  // namespace infrastructure_sdk
