#include "core/sleeper.hpp"

#include <list>
#include <mutex>
#include <optional>

#include "core/asio.hpp"

namespace infrastructure_sdk {
namespace {

using Handler = asio::async_result<asio::use_awaitable_t<>, void()>::handler_type;

/// Keeps the coroutines that sleep in one execution context, so that somebody destroys them when it ends.
class Dormitory final : public asio::execution_context::service {
public:
    using Place = std::list<Handler>::iterator;
    inline static asio::execution_context::id id;

    explicit Dormitory(asio::execution_context& context) : service(context) {}

    Place take_in(Handler handler) {
        const std::lock_guard lock(mutex_);
        return sleeping_.insert(sleeping_.end(), std::move(handler));
    }
    Handler let_out(Place place) {
        const std::lock_guard lock(mutex_);
        Handler handler = std::move(*place);
        sleeping_.erase(place);
        return handler;
    }

private:
    void shutdown() noexcept override {
        std::list<Handler> left;
        const std::lock_guard lock(mutex_);
        left.swap(sleeping_);
    }

    std::mutex mutex_;
    std::list<Handler> sleeping_;
};

}  // namespace

struct Sleeper::State {
    explicit State(Executor own)
        : executor(std::move(own)),
          dormitory(asio::use_service<Dormitory>(asio::query(executor, asio::execution::context))) {}

    void sleep(Handler handler) {
        if (woken) asio::post(executor, std::move(handler));
        else place = dormitory.take_in(std::move(handler));
    }
    void wake() {
        if (std::exchange(woken, true) || !place) return;
        auto handler = dormitory.let_out(*place);
        handler();
    }

    Executor executor;
    Dormitory& dormitory;
    bool woken = false;
    std::optional<Dormitory::Place> place;
};

Sleeper::Sleeper(Executor executor) : state_(std::make_shared<State>(std::move(executor))) {}

void Sleeper::wake() const {
    asio::post(state_->executor, [state = state_] { state->wake(); });
}

Task<void> Sleeper::sleep() const {
    auto begin = [state = state_](Handler handler) { state->sleep(std::move(handler)); };
    return asio::async_initiate<const asio::use_awaitable_t<>, void()>(std::move(begin), asio::use_awaitable);
}

}  // namespace infrastructure_sdk
