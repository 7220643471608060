#include "policy/policy_thread.hpp"

#include <thread>
#include <vector>

#include <cxxabi.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
namespace {

using namespace std::chrono_literals;
constexpr auto interrupt_pause = 10ms;        // between two interruptions of what swallows them
constexpr auto late_interrupt_pause = 500ms;  // of a thread that is lost
constexpr int interruptions_until_lost = 25;
constexpr auto end_patience = 1s;  // at the end of the interpreter

/// Every thread that lives, to end them before the interpreter does.
struct Registry {
    std::mutex mutex;
    std::vector<std::weak_ptr<PolicyThread>> threads;
};
Registry& registry() {
    static auto* kept = new Registry;  // threads may outlive static objects
    return *kept;
}

/// Called by Python's atexit, with the GIL.
void stop_all() {
    py::gil_scoped_release release;
    std::vector<std::weak_ptr<PolicyThread>> threads;
    {
        std::lock_guard lock(registry().mutex);
        threads.swap(registry().threads);
    }
    for (auto& each : threads)
        if (auto thread = each.lock()) thread->stop();
    for (auto& each : threads) {
        auto thread = each.lock();
        if (!thread) continue;
        std::mutex mutex;
        std::condition_variable_any ended;
        bool is_ended = false;
        std::stop_callback notify(thread->ended(), [&] {
            std::lock_guard lock(mutex);
            is_ended = true;
            ended.notify_all();
        });
        std::unique_lock lock(mutex);
        ended.wait_for(lock, end_patience, [&] { return is_ended; });
    }
}

/// GIL held.
void enlist(const std::shared_ptr<PolicyThread>& thread) {
    static bool hooked = false;
    if (!hooked) {
        hooked = true;
        py::module_::import("atexit").attr("register")(py::cpp_function(&stop_all));
    }
    std::lock_guard lock(registry().mutex);
    std::erase_if(registry().threads, [](const auto& each) { return each.expired(); });
    registry().threads.push_back(thread);
}

}  // namespace

PolicyThread::PolicyThread(std::shared_ptr<Clock> clock, Load load)
    : clock_(std::move(clock)), load_(std::move(load)) {}

void PolicyThread::start(std::shared_ptr<LoadedPolicy> loaded) {
    loaded_ = std::move(loaded);
    // Never joined: it may hang in a policy for ever.
    std::thread([self = shared_from_this()] {
        try {
            self->run();
        } catch (abi::__forced_unwind&) {
            rest_after_python();
        }
    }).detach();
}

const LoadedPolicy& PolicyThread::loaded() const {
    if (load_error_) std::rethrow_exception(load_error_);
    return *loaded_;
}

std::shared_ptr<LoadedPolicy> PolicyThread::share_loaded() const {
    std::lock_guard lock(mutex_);
    return loaded_;
}

void PolicyThread::load_here() {
    {
        std::lock_guard lock(mutex_);
        if (stopping_) return;
        busy_ = true;
    }
    std::shared_ptr<LoadedPolicy> loaded;
    try {
        loaded = load_();
    } catch (const Error&) {
        load_error_ = std::current_exception();
    } catch (const std::exception& error) {
        load_error_ =
            std::make_exception_ptr(Error(Errc::policy, std::string("the policy was not taken: ") + error.what()));
    }
    std::lock_guard lock(mutex_);
    loaded_ = std::move(loaded);
    busy_ = given_up_ = false;
    if (load_error_) stopping_ = true;
}

void PolicyThread::run() {
    auto gil = PyGILState_Ensure();
    enlist(shared_from_this());
    {
        std::lock_guard lock(mutex_);
        python_id_ = PyThread_get_thread_ident();
    }
    if (!loaded_) load_here();
    loading_.request_stop();
    PyThreadState_SetAsyncExc(python_id_, nullptr);
    auto* state = PyEval_SaveThread();
    while (wait_for_questions()) {
        PyEval_RestoreThread(state);
        answer_all();
        state = PyEval_SaveThread();
        tell_of_answers();
    }
    PyEval_RestoreThread(state);
    std::shared_ptr<LoadedPolicy> last;
    {
        std::lock_guard lock(mutex_);
        last = std::move(loaded_);
    }
    last.reset();
    PyGILState_Release(gil);
    finish_unanswered();
    watcher_wake_.notify_all();
    ended_.request_stop();
}

/// False = it is to end.
bool PolicyThread::wait_for_questions() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    return !stopping_;
}

/// Python's lock is kept from one to the next: it gives way to other threads while a policy runs.
void PolicyThread::answer_all() {
    for (;;) {
        std::shared_ptr<Question> question;
        {
            std::lock_guard lock(mutex_);
            if (stopping_ || waiting_.empty()) return;
            question = std::move(waiting_.front());
            waiting_.pop_front();
            if (question->abandoned) continue;
            running_ = question;
            begun_ = clock_->monotonic_now();
            busy_ = true;
        }
        answer(question);
    }
}

void PolicyThread::tell_of_answers() {
    std::stop_source answered(std::nostopstate);
    {
        std::lock_guard lock(mutex_);
        answered = tell_;
    }
    answered.request_stop();
}

void PolicyThread::finish_unanswered() {
    {
        std::lock_guard lock(mutex_);
        for (auto& each : waiting_) each->finished.request_stop();
        answered_.insert(answered_.end(), waiting_.begin(), waiting_.end());
        waiting_.clear();
    }
    tell_of_answers();
}

void PolicyThread::answer(const std::shared_ptr<Question>& question) {
    auto found = bindings::ask(*loaded_, question->request, question->state);
    found.took = clock_->monotonic_now() - begun_;
    // Until here it may be interrupted; the GIL keeps the watcher away from what comes next.
    PyThreadState_SetAsyncExc(python_id_, nullptr);
    question->answer = std::move(found);
    // Before anybody can take it.
    question->finished.request_stop();
    std::lock_guard lock(mutex_);
    running_.reset();
    busy_ = given_up_ = lost_ = false;
    answered_.push_back(question);
}

void PolicyThread::ask(const Questions& questions) {
    {
        std::lock_guard lock(mutex_);
        waiting_.insert(waiting_.end(), questions.begin(), questions.end());
        if (!stopping_) {
            wake_.notify_one();
            return;
        }
    }
    finish_unanswered();
}

Questions PolicyThread::take_answered() {
    std::lock_guard lock(mutex_);
    return std::exchange(answered_, {});
}

void PolicyThread::tell(std::stop_source answered) {
    std::lock_guard lock(mutex_);
    tell_ = std::move(answered);
}

std::optional<MonotonicTime> PolicyThread::give_up(const std::shared_ptr<Question>& question) {
    std::lock_guard lock(mutex_);
    question->abandoned = true;
    if (!busy_ || running_ != question) return std::nullopt;
    auto overdue = begun_ + question->budget;
    if (clock_->monotonic_now() < overdue) return overdue;
    given_up_ = true;
    start_watching();
    return std::nullopt;
}

bool PolicyThread::overdue() const {
    std::lock_guard lock(mutex_);
    return given_up_;
}

bool PolicyThread::lost() const {
    std::lock_guard lock(mutex_);
    return lost_;
}

void PolicyThread::stop() {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
    if (!busy_) return;
    given_up_ = true;
    start_watching();
}

/// The mutex is held.
void PolicyThread::start_watching() {
    watcher_wake_.notify_all();
    if (std::exchange(watching_, true)) return;
    std::thread([self = shared_from_this()] {
        try {
            self->watch();
        } catch (abi::__forced_unwind&) {
            rest_after_python();
        }
    }).detach();
}

/// False = nothing is overdue.
bool PolicyThread::interrupt() {
    auto gil = PyGILState_Ensure();
    bool found = false;
    {
        std::lock_guard lock(mutex_);
        found = busy_ && given_up_;
        if (found) PyThreadState_SetAsyncExc(python_id_, overdue_exception());
    }
    PyGILState_Release(gil);
    return found;
}

void PolicyThread::watch() {
    for (int times = 0;; ++times) {
        // The process may end while this one waits: it must not ask for the GIL of an interpreter that is gone.
        if (!Py_IsInitialized()) return;
        bool found = interrupt();
        std::unique_lock lock(mutex_);
        if (!found && !(busy_ && given_up_)) {
            watching_ = false;
            return;
        }
        lost_ = times >= interruptions_until_lost && busy_ && given_up_;
        watcher_wake_.wait_for(lock, lost_ ? late_interrupt_pause : interrupt_pause,
                               [&] { return !(busy_ && given_up_); });
    }
}

}  // namespace infrastructure_sdk::bindings
