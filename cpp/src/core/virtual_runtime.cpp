#include <infrastructure_sdk/virtual_runtime.hpp>

#include <map>

#include "core/asio.hpp"
#include "core/seeded_random.hpp"
#include "core/sleeper.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

class VirtualClock final : public Clock {
public:
    explicit VirtualClock(WallTime start) : wall_offset_(start.time_since_epoch()) {}

    WallTime wall_now() const override { return WallTime(now_.time_since_epoch() + wall_offset_); }
    MonotonicTime monotonic_now() const override { return now_; }

    Task<void> sleep_until(MonotonicTime when, std::stop_token stop) override {
        auto executor = co_await asio::this_coro::executor;
        if (when <= now_ || stop.stop_requested()) co_return;
        Sleeper sleeper(executor);
        const auto timer = timers_.emplace(std::pair(when, ++sequence_), sleeper).first;
        std::stop_callback wake(stop, [sleeper] { sleeper.wake(); });
        co_await sleeper.sleep();
        timers_.erase(timer);
    }

    /// Fires the timers of the next due time, if that is not after `limit`.
    bool advance(MonotonicTime limit) {
        if (timers_.empty()) return false;
        auto next = timers_.begin()->first.first;
        if (next > limit || next == MonotonicTime::max()) return false;
        now_ = std::max(now_, next);
        for (const auto& [key, sleeper] : timers_) {
            if (key.first > now_) break;
            sleeper.wake();
        }
        return true;
    }
    void set(MonotonicTime now) { now_ = std::max(now_, now); }
    void set_wall(WallTime time) { wall_offset_ = time.time_since_epoch() - now_.time_since_epoch(); }

private:
    MonotonicTime now_{};
    Duration wall_offset_;
    std::uint64_t sequence_ = 0;
    std::map<std::pair<MonotonicTime, std::uint64_t>, Sleeper> timers_;
};

}  // namespace

struct VirtualRuntime::Impl {
    explicit Impl(VirtualRuntimeOptions options) : clock(std::make_shared<VirtualClock>(options.start)) {
        environment.clock = clock;
        environment.random = std::make_shared<SeededRandom>(options.seed);
        auto sink = options.sink ? options.sink : make_null_sink();
        environment.logger = std::make_shared<const Logger>(std::move(sink), environment.clock, options.level);
        environment.executor = environment.blocking = io.get_executor();
    }
    ~Impl() { io.stop(); }

    std::shared_ptr<VirtualClock> clock;
    Environment environment;
    asio::io_context io{1};  // goes first: what it still holds may use the others
    bool halted = false;
};

VirtualRuntime::VirtualRuntime(VirtualRuntimeOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
VirtualRuntime::~VirtualRuntime() = default;

const Environment& VirtualRuntime::environment() const noexcept { return impl_->environment; }
bool VirtualRuntime::halted() const noexcept { return impl_->halted; }
void VirtualRuntime::set_wall_time(WallTime time) { impl_->clock->set_wall(time); }

void VirtualRuntime::halt() noexcept {
    impl_->halted = true;
    impl_->io.stop();
}

bool VirtualRuntime::step() {
    if (impl_->halted) return false;
    impl_->io.restart();
    if (impl_->io.poll() > 0) return true;
    return !impl_->halted && impl_->clock->advance(MonotonicTime::max());
}

void VirtualRuntime::run_until(MonotonicTime when) {
    while (!impl_->halted) {
        impl_->io.restart();
        // Until nothing is ready.
        impl_->io.poll();
        if (!impl_->halted && !impl_->clock->advance(when)) break;
    }
    impl_->clock->set(when);
}

void VirtualRuntime::run_for(Duration length) { run_until(impl_->clock->monotonic_now() + length); }

void VirtualRuntime::refuse() const {
    if (impl_->halted) throw Error(Errc::cancelled, "the runtime was halted");
    throw Error(Errc::timeout, "nothing is left to run: the task waits for something that never comes");
}

void VirtualRuntime::run(Task<void> task) {
    auto work = [](Task<void> inner) -> Task<bool> {
        co_await std::move(inner);
        co_return true;
    };
    run(work(std::move(task)));
}

}  // namespace infrastructure_sdk
