#include "policy/waiting_room.hpp"

#include <algorithm>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace infrastructure_sdk::bindings {
namespace asio = boost::asio;
namespace {

using namespace std::chrono_literals;
constexpr auto longest_wait = 24h;
/// The thread tells of its answers when nobody waits for his turn any more. Behind a question that takes long, earlier
/// answers are found by looking.
constexpr auto look_interval = 1ms;
/// How long who serves stays in an empty room: the next one seldom lets wait for himself.
constexpr auto lingering = 1s;

}  // namespace

struct WaitingRoom::Waiter {
    explicit Waiter(const Executor& executor) : turn(executor, asio::steady_timer::time_point::max()) {}
    asio::steady_timer turn;  ///< never rings: it is cancelled
    Waiting::iterator place;
    bool waits = true;
};

/// In the room while it lives, and with the question.
class WaitingRoom::Place {
public:
    Place(std::shared_ptr<WaitingRoom> room, std::shared_ptr<Waiter> waiter, std::shared_ptr<Question> question,
          MonotonicTime deadline)
        : room_(std::move(room)), waiter_(std::move(waiter)), question_(std::move(question)) {
        waiter_->place = room_->waiting_.emplace_hint(room_->waiting_.end(), deadline, waiter_.get());
        question_->waiter = waiter_.get();
    }
    ~Place() {
        question_->waiter = nullptr;
        if (std::exchange(waiter_->waits, false)) room_->waiting_.erase(waiter_->place);
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

private:
    std::shared_ptr<WaitingRoom> room_;
    std::shared_ptr<Waiter> waiter_;
    std::shared_ptr<Question> question_;
};

WaitingRoom::WaitingRoom(Environment environment, std::shared_ptr<PolicyThread> thread)
    : environment_(std::move(environment)), thread_(std::move(thread)) {}

Task<void> WaitingRoom::ask(std::shared_ptr<Question> question, Call call) {
    auto self = shared_from_this();
    auto waiter = std::make_shared<Waiter>(environment_.executor);
    auto latest = environment_.clock->monotonic_now() + longest_wait;
    Place place(self, waiter, question, std::min(call.deadline.when(), latest));
    asked_.push_back(std::move(question));
    call_server();
    // The callback may run on any thread; the room is touched on the executor only.
    auto go = [self, waiter] {
        if (waiter->waits) self->let_go(*waiter);
    };
    auto post = [go, executor = environment_.executor] { asio::post(executor, go); };
    std::stop_callback stopped(call.stop, post);
    boost::system::error_code ignored;
    if (waiter->waits) co_await waiter->turn.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

void WaitingRoom::let_go(Waiter& waiter) {
    waiter.waits = false;
    waiting_.erase(waiter.place);
    waiter.turn.cancel();
}

void WaitingRoom::call_server() {
    if (is_served_) {
        wake_.request_stop();
        return;
    }
    is_served_ = true;
    asio::co_spawn(environment_.executor, serve(shared_from_this()), asio::detached);
}

/// Until nobody has waited for a while.
Task<void> WaitingRoom::serve(std::shared_ptr<WaitingRoom> self) {
    auto& clock = *self->environment_.clock;
    auto until = MonotonicTime::min();
    for (;;) {
        std::stop_source wake;
        self->wake_ = wake;
        self->thread_->tell(wake);
        self->hand_over();
        self->let_go_of_the_answered();
        auto now = clock.monotonic_now();
        self->let_go_of_the_overdue(now);
        if (!self->waiting_.empty()) until = self->next_look(now);
        else if (until = std::min<MonotonicTime>(until, now + lingering); now >= until) break;
        co_await clock.sleep_until(until, wake.get_token());
    }
    self->is_served_ = false;
}

MonotonicTime WaitingRoom::next_look(MonotonicTime now) const {
    auto first = waiting_.begin()->first;
    return waiting_.size() > 1 ? std::min<MonotonicTime>(first, now + look_interval) : first;
}

void WaitingRoom::hand_over() {
    if (asked_.empty()) return;
    thread_->ask(asked_);
    asked_.clear();
}

void WaitingRoom::let_go_of_the_answered() {
    for (const auto& question : thread_->take_answered())
        if (auto* waiter = static_cast<Waiter*>(question->waiter); waiter && waiter->waits) let_go(*waiter);
}

void WaitingRoom::let_go_of_the_overdue(MonotonicTime now) {
    while (!waiting_.empty() && waiting_.begin()->first <= now) let_go(*waiting_.begin()->second);
}

}  // namespace infrastructure_sdk::bindings
