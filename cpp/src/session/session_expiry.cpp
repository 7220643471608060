// Ends sessions whose time is up.
#include "session/session_engine_impl.hpp"

#include <algorithm>

namespace infrastructure_sdk {

/// Ends sessions whose time is up; sleeps until the next one is due.
Task<void> SessionEngine::Impl::expire() {
    auto self = shared_from_this();
    auto stop = tasks.stop_source().get_token();
    Call expiry;
    while (!stop.stop_requested()) {
        auto retry = Deadline();
        auto due = expiries.due(now());
        for (const auto& id : due) {
            std::function<void(Session&)> reason = [](Session& session) {
                session.termination_reason = TerminationReason::ttl;
            };
            try {
                co_await begin(id, SessionInput::terminate, std::string("terminated"), expiry, reason);
            } catch (const Error& error) {
                env.logger->log(LogLevel::error, "session", "an expired session could not be ended",
                                {{"session", id}, {"detail", error.message()}});
                retry = Deadline::after(*env.clock, std::chrono::seconds(10));
            }
        }
        // The wall clock may jump: the next deadline is looked at again at least this often.
        constexpr Duration longest = std::chrono::seconds(30);
        auto next = expiries.next();
        auto until = retry;
        if (next && retry.is_never())
            until = Deadline::after(*env.clock, std::clamp<Duration>(*next - now(), Duration::zero(), longest));
        Call pause{until, stop, std::string()};
        co_await clock_changed.wait(*env.clock, pause);
    }
}

}  // namespace infrastructure_sdk
